//! Experts that choose their tokens: a token may have any number of experts, or none.

use std::sync::Arc;

use amend_engine::kernels::Activation;
use amend_engine::tape::{Dispatch, Expert, Linear};
use amend_engine::{Graph, ParamId, Params, Rng, Tensor, Var};

const TOKENS: usize = 11;
const EXPERTS: usize = 4;
const D: usize = 6;
const F: usize = 10;

struct Mixture {
    params: Params,
    x: ParamId,
    router: Linear,
    experts: Vec<Expert>,
}

fn mixture() -> Mixture {
    let mut params = Params::default();
    let mut add = |name: String, shape: &[usize]| {
        let mut rng = Rng::named(2, &name);
        let tensor = Tensor::build(shape, |out| out.iter_mut().for_each(|w| *w = rng.normal() as f32));
        params.add(name, tensor).unwrap()
    };
    let x = add("x".into(), &[TOKENS, D]);
    let mut linear =
        |name: String, shape: &[usize]| Linear { weight: add(name, shape), bias: None, adapter: None };
    let router = linear("router".into(), &[EXPERTS, D]);
    let experts = (0..EXPERTS)
        .map(|e| Expert {
            gate: linear(format!("{e}.gate"), &[F, D]),
            up: linear(format!("{e}.up"), &[F, D]),
            down: linear(format!("{e}.down"), &[D, F]),
        })
        .collect();
    Mixture { params, x, router, experts }
}

impl Mixture {
    fn logits(&self) -> Tensor {
        let mut g = Graph::inference(&self.params);
        let x = g.parameter(self.x);
        g.linear(&x, &self.router).unwrap().value().clone()
    }

    /// Two sequences, of 7 and 4 tokens; every expert takes a third of each, rounded up.
    fn choice(&self) -> Arc<Dispatch> {
        Arc::new(Dispatch::expert_choice(&self.logits(), &[0..7, 7..11], |n| n.div_ceil(3)).unwrap())
    }

    fn output<'m>(&'m self, g: &mut Graph<'m>, dispatch: &Arc<Dispatch>, one_by_one: bool) -> Var {
        let x = g.parameter(self.x);
        let logits = g.linear(&x, &self.router).unwrap();
        let probs = g.softmax(&logits).unwrap();
        let weights = g.routing_weights(&probs, dispatch, true).unwrap();
        if !one_by_one {
            return g.experts(&x, &weights, dispatch, &self.experts, Activation::Silu).unwrap();
        }
        let mut rows = Vec::new();
        for (pair, (&token, &e)) in dispatch.token_of().iter().zip(dispatch.chosen()).enumerate() {
            let expert = &self.experts[e as usize];
            let own = g.gather_rows(&x, &[token]).unwrap();
            let (gate, up) = (g.linear(&own, &expert.gate).unwrap(), g.linear(&own, &expert.up).unwrap());
            let inner = g.gated(Activation::Silu, &gate, &up).unwrap();
            rows.push((g.linear(&inner, &expert.down).unwrap(), pair, 0));
        }
        let y = g.assemble([rows.len(), D], &rows).unwrap();
        g.mix_experts(&y, &weights, dispatch).unwrap()
    }

    fn loss<'m>(&'m self, g: &mut Graph<'m>, dispatch: &Arc<Dispatch>, one_by_one: bool) -> Var {
        let y = self.output(g, dispatch, one_by_one);
        let weights: Vec<f32> = (0..TOKENS * D).map(|i| (1.3 * i as f32).sin()).collect();
        g.weighted_sum(&y, &weights).unwrap()
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.f32().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn the_fused_mixture_has_the_bits_of_pairs_computed_one_by_one() {
    let mixture = mixture();
    let dispatch = mixture.choice();
    let counts: Vec<_> = (0..TOKENS).map(|t| dispatch.of_token(t).len()).collect();
    assert!(counts.contains(&0) && counts.iter().any(|&n| n > 1), "the choice is no test: {counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), EXPERTS * (3 + 2));
    let mut g = Graph::inference(&mixture.params);
    let (fused, plain) = (mixture.output(&mut g, &dispatch, false), mixture.output(&mut g, &dispatch, true));
    assert_eq!(bits(fused.value()), bits(plain.value()));
    for (row, count) in fused.value().f32().chunks(D).zip(counts) {
        assert_eq!(row.iter().all(|&x| x == 0.0), count == 0);
    }
}

#[test]
fn gradients_of_any_number_of_experts_agree_with_differences() {
    let mixture = mixture();
    let dispatch = mixture.choice();
    for one_by_one in [false, true] {
        let mut g = Graph::recording(&mixture.params);
        let loss = mixture.loss(&mut g, &dispatch, one_by_one);
        let gradients = g.backward(&loss).unwrap();
        for (id, gradient) in gradients.iter() {
            let norm = gradient.f32().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-3, "{} has no gradient", mixture.params.get(id).name);
            let step = 1e-3;
            let moved = |by: f64| {
                let (mut params, experts) = (mixture.params.clone(), mixture.experts.clone());
                let values = params.get_mut(id).tensor.f32_mut().iter_mut().zip(gradient.f32());
                values.for_each(|(v, &g)| *v += (by * f64::from(g) / norm) as f32);
                let moved = Mixture { params, experts, router: mixture.router.clone(), x: mixture.x };
                let mut g = Graph::inference(&moved.params);
                f64::from(moved.loss(&mut g, &dispatch, one_by_one).scalar())
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            let name = &mixture.params.get(id).name;
            assert!((slope - norm).abs() < 0.01 * norm + 5e-3, "{name}: {slope} instead of {norm}");
        }
    }
}
