//! Counted operations of a round: matrix products and attention, a multiply-add being two.
//!
//! With n weights in the linear layers, V·d in the head, T tokens of which S are scored, P pairs of a
//! query and a key it sees (summed over layers) and q = heads · head width:
//!
//! - forward: 2·n·T + 2·V·d·S + 4·P·q (scores, and weighted values);
//! - backward: 2 per weight and token for the gradient of the layer's input and 2 for that of the
//!   weight, unless it is frozen; 8·P·q in attention.
//!
//! What an implementation computes again in its backward pass is not counted, so that nobody's rate
//! gains from recomputing.

use amend_engine::Model;
use amend_engine::models::{InnerNames, QkvNames, Spec};

use super::modes::Workload;

/// Operations of one round.
pub(super) struct Counted {
    /// Linear layers and head.
    pub(super) products: f64,
    /// Attention's forward pass.
    pub(super) attention: f64,
    /// Attention's backward pass.
    pub(super) attention_backward: f64,
}

impl Counted {
    pub(super) fn total(&self) -> f64 {
        self.products + self.attention + self.attention_backward
    }
}

/// Counts a round; `None` where a token does not meet every weight, as with experts.
pub(super) fn count(model: &Model, workload: &Workload) -> Option<Counted> {
    let spec = model.spec();
    let (tokens, head_rows) = (workload.tokens() as f64, workload.head_rows() as f64);
    let (mut products, mut head_learns) = (0.0, false);
    let first = reads_the_embedding(spec);
    for (_, param) in model.params.iter() {
        if param.name.contains("experts") {
            return None;
        }
        if is_embedding(&param.name) {
            // Looking up rows is no product. A tied head is this matrix, counted below.
            head_learns |= spec.tied && param.trainable;
        } else if is_head(&param.name) {
            head_learns |= param.trainable;
        } else if param.tensor.shape().len() == 2 {
            let passes = 1.0 + passes_back(workload, &first, &param.name, param.trainable);
            products += 2.0 * param.tensor.len() as f64 * passes * tokens;
        }
    }
    let head = 2.0 * (spec.vocabulary * spec.hidden) as f64 * head_rows;
    let head_passes = if workload.learns() { 2.0 + f64::from(u8::from(head_learns)) } else { 1.0 };
    let pairs: usize = spec.windows.iter().map(|&window| pairs(workload, window)).sum();
    let attention = 4.0 * (pairs * spec.heads * spec.head_dim) as f64;
    let attention_backward = if workload.learns() { 2.0 * attention } else { 0.0 };
    Some(Counted { products: products + head * head_passes, attention, attention_backward })
}

fn is_embedding(name: &str) -> bool {
    ["embed_tokens.", "embed_in.", "wte.", "wpe."].iter().any(|part| name.contains(part))
}

fn is_head(name: &str) -> bool {
    ["lm_head.", "embed_out."].iter().any(|part| name.starts_with(part))
}

/// The layers of the first block that read what comes from the embedding: its query, key and value projections, and
/// where attention and feed-forward are side by side, the feed-forward's own.
fn reads_the_embedding(spec: &Spec) -> Vec<String> {
    let block = &spec.names.block;
    let mut modules = match block.qkv {
        QkvNames::Separate(all) => all.to_vec(),
        QkvNames::Fused(one) | QkvNames::FusedPerHead(one) => vec![one],
    };
    if spec.parallel {
        match block.inner {
            InnerNames::Gated(both) => modules.extend(both),
            InnerNames::GatedFused(one) | InnerNames::Plain(one) => modules.push(one),
        }
    }
    modules.into_iter().map(|module| format!("{}.0.{module}.", block.blocks)).collect()
}

/// Products of a layer's backward pass.
fn passes_back(workload: &Workload, first: &[String], name: &str, trainable: bool) -> f64 {
    if !workload.learns() {
        return 0.0;
    }
    // With an adapter nothing below the first block learns, so nothing flows out of its projections.
    let reads = first.iter().any(|layer| name.contains(layer));
    let frozen_below = reads && workload.mode == super::Mode::Lora && !name.contains(".lora_B.");
    f64::from(u8::from(trainable)) + f64::from(u8::from(!frozen_below))
}

/// Pairs of a query and a key that it sees, over all sequences of one layer.
fn pairs(workload: &Workload, window: Option<usize>) -> usize {
    let before = workload.before();
    let seen = |position: usize| (position + 1).min(window.unwrap_or(usize::MAX));
    let of = |&length: &usize| (before..before + length).map(seen).sum::<usize>();
    workload.lengths().iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::super::shapes::Shape;
    use super::super::{Mode, Workload};
    use super::*;

    fn counted(mode: Mode, batch: usize, length: usize) -> (Counted, Workload) {
        let mut config = Shape::A.config();
        config.insert("vocab_size".into(), 100.into());
        let model = Model::random(config, 0).unwrap();
        let workload = Workload::new(&model, mode, batch, length).unwrap();
        let (model, _) = workload.prepare(model).unwrap();
        (count(&model, &workload).unwrap(), workload)
    }

    /// Six layers of four 288 × 288 and three 288 × 768.
    const LINEAR: f64 = 6.0 * (4.0 * 288.0 * 288.0 + 3.0 * 288.0 * 768.0);

    #[test]
    fn a_forward_pass_and_a_step_count_what_the_formula_says() {
        let (forward, _) = counted(Mode::Prefill, 2, 10);
        assert_eq!(forward.products, 2.0 * LINEAR * 20.0 + 2.0 * 100.0 * 288.0 * 2.0);
        // 1 + 2 + … + 10 pairs per sequence.
        assert_eq!(forward.attention, 4.0 * 288.0 * 6.0 * 55.0 * 2.0);
        let (step, _) = counted(Mode::Train, 2, 10);
        assert_eq!(step.products, 3.0 * (2.0 * LINEAR * 20.0 + 2.0 * 100.0 * 288.0 * 18.0));
        assert_eq!(step.attention_backward, 2.0 * forward.attention);
    }

    #[test]
    fn frozen_weights_need_no_gradient_and_the_first_block_hands_none_down() {
        let (lora, _) = counted(Mode::Lora, 1, 10);
        let head = 2.0 * 2.0 * 100.0 * 288.0 * 9.0;
        let base = 2.0 * 10.0 * (2.0 * LINEAR - 3.0 * 288.0 * 288.0);
        let adapters = 16.0 * 6.0 * (4.0 * 576.0 + 3.0 * 1056.0);
        let low_rank = 2.0 * 10.0 * (3.0 * adapters - 3.0 * 16.0 * 288.0);
        assert_eq!(lora.products, head + base + low_rank);
    }

    /// GPT-2 has one projection for all three, and GPT-NeoX a feed-forward that reads what attention reads. Gradients
    /// that nobody computes were counted there.
    #[test]
    fn the_first_block_hands_none_down_under_other_names() {
        let lora = |config: serde_json::Value| {
            let model = Model::random(config.as_object().unwrap().clone(), 0).unwrap();
            let workload = Workload::new(&model, Mode::Lora, 1, 10).unwrap();
            let (model, _) = workload.prepare(model).unwrap();
            count(&model, &workload).unwrap().products
        };
        let gpt2 = lora(serde_json::json!({
            "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 100,
        }));
        let neox = lora(serde_json::json!({
            "model_type": "gpt_neox", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 128, "max_position_embeddings": 64, "vocab_size": 100,
        }));
        let d = 32.0;
        let (linear, adapters) = (2.0 * 12.0 * d * d, 2.0 * 16.0 * (4.0 + 2.0 + 5.0 + 5.0) * d);
        let head = 2.0 * 2.0 * 100.0 * d * 9.0;
        // Each layer but those that read the embedding gives its input a gradient; so does each half of an adapter.
        let counted =
            |frozen: f64, halves: f64| head + 2.0 * 10.0 * (2.0 * linear - frozen + 3.0 * adapters - halves);
        assert_eq!(gpt2, counted(3.0 * d * d, 16.0 * d));
        assert_eq!(neox, counted(7.0 * d * d, 2.0 * 16.0 * d));
    }

    #[test]
    fn decoding_sees_the_prompt_and_what_was_said() {
        let (decode, workload) = counted(Mode::Decode, 3, 2);
        assert_eq!(decode.attention, 4.0 * 288.0 * 6.0 * 3.0 * (17.0 + 18.0));
        assert_eq!((workload.tokens(), workload.head_rows()), (6, 6));
        assert_eq!(pairs(&workload, Some(4)), 3 * 8);
    }

    #[test]
    fn scored_lengths_are_mixed_and_within_bounds() {
        let (_, workload) = counted(Mode::Score, 1000, 128);
        let lengths = workload.lengths();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&8), Some(&128)));
        let mean = lengths.iter().sum::<usize>() as f64 / 1000.0;
        assert!((mean - 68.0).abs() < 1.0, "{mean}");
        assert_ne!(lengths[0] + 1, lengths[1]);
    }
}
