//! One effective batch in pieces that fit into memory, which together have the loss and the gradient of the whole.

use std::ops::Range;

use crate::batch::{Batch, Example, split_by_tokens};
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
    /// The part of the effective batch's tokens that it holds, scored or not: the weight of what counts every token,
    /// as the losses of routers do.
    pub share: f32,
}

/// Splits an effective batch into pieces of at most `tokens` tokens (and at least one sequence). A piece in which no
/// token is scored has its share all the same.
///
/// Fails where no token is scored, so that there is nothing to take a mean over, and where a sequence is empty.
pub fn micro_batches(examples: &[&Example], mean: MeanOver, tokens: usize) -> Result<Vec<MicroBatch>> {
    let scored: Vec<usize> = examples.iter().map(|e| e.scored_len()).collect();
    let all_scored: usize = scored.iter().sum();
    if all_scored == 0 {
        return Err(Error::invalid("the batch has no token to learn from"));
    }
    // A sequence without a scored token has no mean of its own and does not count.
    let sequences = scored.iter().filter(|&&n| n > 0).count();
    let weight = |item: usize| match mean {
        MeanOver::Tokens => 1.0 / all_scored as f64,
        MeanOver::Sequences => 1.0 / (sequences * scored[item]) as f64,
    };
    let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    let all: usize = lengths.iter().sum();
    let piece = |items: Range<usize>| {
        let batch = Batch::new(examples[items.clone()].iter().copied())?;
        let weights = batch.sequence.iter().map(|&s| weight(items.start + s) as f32).collect();
        let share = batch.ids.len() as f32 / all as f32;
        Ok(MicroBatch { items, batch, weights, share })
    };
    split_by_tokens(&lengths, tokens)?.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::optim::nll_gradients;
    use crate::{Gradients, Graph, Model, SCORING_TOKENS, Taps};

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

    fn whole(model: &Model, examples: &[&Example], mean: MeanOver, tokens: usize) -> (f64, Gradients) {
        let taps = Taps::none();
        let (mut sum, mut gradients) = (0.0, Gradients::none(&model.params));
        for piece in micro_batches(examples, mean, tokens).unwrap() {
            let mut g = Graph::recording(&model.params);
            let loss = model.weighted_nll(&mut g, &piece.batch, &piece.weights, &taps).unwrap();
            sum += f64::from(loss.scalar());
            g.backward_into(&loss, &mut gradients).unwrap();
        }
        (sum, gradients)
    }

    #[test]
    fn the_loss_of_an_effective_batch_does_not_depend_on_its_pieces() {
        let (model, examples) = (model(), examples());
        let examples: Vec<&Example> = examples.iter().collect();
        let mut losses = Vec::new();
        for mean in [MeanOver::Tokens, MeanOver::Sequences] {
            let (at_once, gradients) = whole(&model, &examples, mean, usize::MAX);
            for tokens in [1, 20, 30] {
                let (loss, mut difference) = whole(&model, &examples, mean, tokens);
                assert!((loss - at_once).abs() < 1e-6 * at_once, "{mean:?}, {tokens} tokens");
                difference.axpy(-1.0, &gradients);
                assert!(difference.norm() < 1e-5 * gradients.norm(), "{mean:?}, {tokens} tokens");
            }
            losses.push(at_once);
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
            assert_eq!(pieces.iter().map(|p| p.items.start).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            // Routers see the tokens of the third, too.
            assert!((pieces.iter().map(|p| p.share).sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(pieces[2].weights.is_empty() && pieces[2].share > 0.0);
            let sums: Vec<f32> = pieces.iter().map(|p| p.weights.iter().sum()).collect();
            assert!((sums.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{sums:?}");
            assert!((sums[1] - of_second).abs() < 1e-6, "{sums:?}");
        }
        assert!(micro_batches(&examples[2..3], MeanOver::Tokens, 1).is_err(), "nothing to learn from");
    }
}
