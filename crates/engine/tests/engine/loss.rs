//! The two ways to a weighted likelihood, whose backward pass finds the logits or makes them again.

use amend_engine::tape::Head;
use amend_engine::{Gradients, Graph, LeafId, ParamId, Params, Tensor, Var};

const VOCABULARY: usize = 40_000;

fn matrix(shape: [usize; 2], phase: f32) -> Tensor {
    let value = |i: usize| (i as f32 * 0.7 + phase).sin();
    Tensor::build(&shape, |out| out.iter_mut().enumerate().for_each(|(i, out)| *out = value(i)))
}

/// What a loss sends back to the head's weight and to the hidden states.
fn gradients(
    params: &Params,
    hidden: &Tensor,
    loss: impl Fn(&mut Graph<'_>, &Var) -> Var,
) -> (Gradients, LeafId) {
    let mut g = Graph::recording(params);
    let (hidden, leaf) = g.input(hidden.clone());
    let loss = loss(&mut g, &hidden);
    (g.backward(&loss).unwrap(), leaf)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.f32().to_vec()
}

/// 300 rows are few enough to be kept, 450 are not; with the bound on logits or without.
#[test]
fn logits_that_are_kept_and_logits_made_again_give_the_gradients_of_known_weights() {
    let mut params = Params::default();
    let weight: ParamId = params.add("head", matrix([VOCABULARY, 8], 0.3)).unwrap();
    for (rows, softcap) in [(300, None), (450, None), (300, Some(2.0)), (450, Some(2.0))] {
        let head = Head { weight, softcap };
        let hidden = matrix([rows, 8], 0.1);
        let targets: Vec<u32> = (0..rows as u32).map(|i| i * 83 % VOCABULARY as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| (i as f32 * 0.37).cos()).collect();
        let negative: Vec<f32> = weights.iter().map(|w| -w).collect();
        let (known, known_leaf) = gradients(&params, &hidden, |g, hidden| {
            g.cross_entropy(hidden, head, &targets, &weights).unwrap()
        });
        let (later, later_leaf) = gradients(&params, &hidden, |g, hidden| {
            let logprobs = g.token_logprobs(hidden, head, &targets).unwrap();
            g.weighted_sum(&logprobs, &negative).unwrap()
        });
        assert_eq!(values(known.get(weight).unwrap()), values(later.get(weight).unwrap()), "{rows} rows");
        let [known, later] = [(known, known_leaf), (later, later_leaf)]
            .map(|(mut gradients, leaf)| values(&gradients.take_leaf(leaf).unwrap()));
        assert!(known.iter().any(|&x| x != 0.0));
        assert_eq!(known, later, "{rows} rows");
    }
}
