//! One effective batch in pieces that fit into memory, with the gradient of the whole.

use std::ops::Range;

use amend_engine::{Batch, Example, Gradients, Graph, Params, Var, split_by_tokens};

use crate::{Error, Result};

/// What counts the same in the mean over an effective batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeanOver {
    /// Every scored token, whichever sequence it is in.
    Tokens,
    /// Every sequence, and within a sequence every scored token.
    Sequences,
}

/// A piece of an effective batch.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    /// Which of the effective batch's sequences it holds.
    pub items: Range<usize>,
    /// These sequences, packed.
    pub batch: Batch,
    /// The weight of every scored token in the mean over the *effective* batch, in the order of `batch.targets`.
    /// Over all pieces they add up to one. Sums weighted so may be added up piece by piece; a mean per piece would
    /// weigh the tokens of small pieces more.
    pub weights: Vec<f32>,
}

/// Splits an effective batch into pieces of at most `tokens` tokens (and at least one sequence). Pieces in which no
/// token is scored are left out.
///
/// # Errors
/// Where no token is scored, so that there is nothing to take a mean over; or a sequence is empty.
pub fn micro_batches(examples: &[&Example], mean: MeanOver, tokens: usize) -> Result<Vec<MicroBatch>> {
    let scored: Vec<usize> = examples.iter().map(|e| e.scored_len()).collect();
    let all: usize = scored.iter().sum();
    if all == 0 {
        return Err(Error::invalid("the batch has no token to learn from"));
    }
    // A sequence without a scored token has no mean of its own and does not count.
    let sequences = scored.iter().filter(|&&n| n > 0).count();
    let weight = |item: usize| match mean {
        MeanOver::Tokens => 1.0 / all as f64,
        MeanOver::Sequences => 1.0 / (sequences * scored[item]) as f64,
    };
    let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    let piece = |items: Range<usize>| {
        let batch = Batch::new(examples[items.clone()].iter().copied())?;
        let weights = batch.sequence.iter().map(|&s| weight(items.start + s) as f32).collect();
        Ok(MicroBatch { items, batch, weights })
    };
    // A piece without a scored token would add nothing.
    let learns = |items: &Range<usize>| scored[items.clone()].iter().any(|&n| n > 0);
    split_by_tokens(&lengths, tokens).into_iter().filter(learns).map(piece).collect()
}

/// Loss and gradient of an effective batch, added up piece by piece in their order.
#[derive(Debug)]
pub struct Accumulated {
    /// The sum of the pieces' losses.
    pub loss: f64,
    /// The sum of their gradients.
    pub gradients: Gradients,
}

impl Accumulated {
    /// Nothing yet.
    pub fn none(params: &Params) -> Self {
        Accumulated { loss: 0.0, gradients: Gradients::none(params) }
    }

    /// Adds a piece's part of the loss, a scalar on `graph`, and its gradient.
    ///
    /// # Errors
    /// Where the loss is no finite scalar.
    pub fn add(&mut self, graph: Graph<'_>, loss: &Var) -> Result<()> {
        graph.backward_into(loss, &mut self.gradients)?;
        self.loss += f64::from(loss.scalar());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use amend_engine::optim::nll_gradients;
    use amend_engine::{Model, SCORING_TOKENS, Taps};
    use serde_json::json;

    use super::*;

    fn model() -> Model {
        let config = json!({
            "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 24, "vocab_size": 40, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.2,
        });
        Model::random(config.as_object().unwrap().clone(), 3).unwrap()
    }

    /// Sequences of very different lengths, the third of them without a token to learn.
    fn examples() -> Vec<Example> {
        let sequence = |scored: usize, length: usize| {
            let ids: Vec<u32> = (0..length).map(|i| (i * 7 + scored * 3) as u32 % 40).collect();
            Example::answer(&ids[..length - scored], &ids[length - scored..])
        };
        vec![sequence(1, 4), sequence(20, 24), sequence(0, 5), sequence(3, 9), sequence(2, 12)]
    }

    fn whole(model: &Model, examples: &[&Example], mean: MeanOver, tokens: usize) -> Accumulated {
        let taps = Taps::none();
        let mut sum = Accumulated::none(&model.params);
        for piece in micro_batches(examples, mean, tokens).unwrap() {
            let mut g = Graph::recording(&model.params);
            let loss = model.weighted_nll(&mut g, &piece.batch, &piece.weights, &taps).unwrap();
            sum.add(g, &loss).unwrap();
        }
        sum
    }

    #[test]
    fn the_loss_of_an_effective_batch_does_not_depend_on_its_pieces() {
        let (model, examples) = (model(), examples());
        let examples: Vec<&Example> = examples.iter().collect();
        let mut losses = Vec::new();
        for mean in [MeanOver::Tokens, MeanOver::Sequences] {
            let at_once = whole(&model, &examples, mean, usize::MAX);
            for tokens in [1, 20, 30] {
                let mut pieces = whole(&model, &examples, mean, tokens);
                assert!(
                    (pieces.loss - at_once.loss).abs() < 1e-6 * at_once.loss,
                    "{mean:?}, {tokens} tokens"
                );
                pieces.gradients.axpy(-1.0, &at_once.gradients);
                assert!(
                    pieces.gradients.norm() < 1e-5 * at_once.gradients.norm(),
                    "{mean:?}, {tokens} tokens"
                );
            }
            losses.push(at_once.loss);
        }
        let (nll, _) = nll_gradients(&model, &examples, SCORING_TOKENS).unwrap();
        assert!((f64::from(nll) - losses[0]).abs() < 1e-6);
        assert!((losses[0] - losses[1]).abs() > 1e-3, "the two means are not the same thing");
    }

    #[test]
    fn weights_add_up_to_one_and_follow_the_mean() {
        let examples = examples();
        let examples: Vec<&Example> = examples.iter().collect();
        for (mean, of_second) in [(MeanOver::Tokens, 20.0 / 26.0), (MeanOver::Sequences, 0.25)] {
            let pieces = micro_batches(&examples, mean, 1).unwrap();
            assert_eq!(pieces.iter().map(|p| p.items.start).collect::<Vec<_>>(), [0, 1, 3, 4]);
            let sums: Vec<f32> = pieces.iter().map(|p| p.weights.iter().sum()).collect();
            assert!((sums.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{sums:?}");
            assert!((sums[1] - of_second).abs() < 1e-6, "{sums:?}");
        }
        assert!(micro_batches(&examples[2..3], MeanOver::Tokens, 1).is_err(), "nothing to learn from");
    }
}
