//! A small model made on the spot: tokenizer and weights from nothing but the records.

use std::path::{Path, PathBuf};

use amend_engine::tokenizer::{Tokenizer, train_bpe};
use amend_engine::{Example, Model};
use amend_run::Run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::computing::Computing;
use crate::fine_tuning::FineTuning;
use crate::optimizer::{Optimizer, ScheduleName};
use crate::trainer::train;

/// Shape and training of a model made on the spot. It is a Llama with tied embeddings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pretrain {
    /// Residual width.
    #[schemars(range(min = 1))]
    pub hidden: usize,
    /// Number of blocks.
    #[schemars(range(min = 1))]
    pub layers: usize,
    /// Attention heads.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Key/value heads.
    #[schemars(range(min = 1))]
    pub kv_heads: usize,
    /// Feed-forward width.
    #[schemars(range(min = 1))]
    pub intermediate: usize,
    /// Most tokens the byte-level BPE tokenizer may have.
    #[schemars(range(min = 1))]
    pub vocabulary: usize,
    /// Longest sequence, in tokens.
    #[schemars(range(min = 1))]
    pub context: usize,
    /// Passes over the records.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Records per step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Whether the question's tokens are learnt too, not only the answer's.
    pub learn_prompts: bool,
    /// Optimiser.
    pub optimizer: Optimizer,
}

impl Default for Pretrain {
    fn default() -> Self {
        Pretrain {
            hidden: 128,
            layers: 4,
            heads: 4,
            kv_heads: 4,
            intermediate: 352,
            vocabulary: 1024,
            context: 256,
            epochs: 20,
            batch_size: 32,
            learn_prompts: true,
            optimizer: Optimizer {
                lr: 2e-3,
                beta2: 0.98,
                schedule: ScheduleName::Cosine,
                warmup_steps: 50,
                ..Default::default()
            },
        }
    }
}

impl Pretrain {
    /// The tokenizer of these texts.
    pub fn tokenizer<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Result<Tokenizer> {
        Ok(train_bpe(texts, self.vocabulary, &[])?)
    }

    /// The model before its first step: random weights, the tokenizer's special tokens.
    ///
    /// # Errors
    /// Sizes that make no model.
    pub fn untrained(&self, tokenizer: &Tokenizer, seed: u64) -> Result<Model> {
        let mut model = Model::random(self.config(tokenizer), seed)?;
        model.set_special_tokens(tokenizer.bos(), tokenizer.eos(), tokenizer.pad());
        Ok(model)
    }

    /// How many steps it learns so many records in.
    pub fn steps(&self, records: usize) -> u64 {
        self.epochs.saturating_mul(records.div_ceil(self.batch_size) as u64)
    }

    fn config(&self, tokenizer: &Tokenizer) -> Map<String, Value> {
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden / self.heads.max(1),
            "intermediate_size": self.intermediate,
            "vocab_size": tokenizer.vocab_size(),
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": true,
            "attention_bias": false,
            "mlp_bias": false,
            "initializer_range": 0.02,
            "torch_dtype": "float32",
            "use_cache": true,
        });
        match config {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// Trains a model from random weights on `examples` as stage `name`, writes it with its tokenizer to
/// `models/<name>` of the run folder, and returns that path. Done once in the life of a run.
pub fn pretrain(
    run: &mut Run<'_>,
    name: &str,
    options: &Pretrain,
    computing: &Computing,
    tokenizer: &Tokenizer,
    examples: &[Example],
    seed: u64,
) -> Result<PathBuf> {
    let dir = run.folder.path().join("models").join(name);
    run.once(name, |run| {
        let mut model = options.untrained(tokenizer, seed)?;
        computing.apply(&mut model);
        model.params.interrupt_by(run.stop.flag());
        let examples: Vec<Example> = match options.learn_prompts {
            true => examples.iter().map(|e| Example::text(e.ids.clone())).collect(),
            false => examples.to_vec(),
        };
        let total = options.steps(examples.len());
        let mut learner = FineTuning {
            batch_size: options.batch_size,
            seed,
            purpose: "pretrain",
            ..FineTuning::new(model, &options.optimizer, total, &examples)?
        };
        train(run, total, &mut learner)?;
        save_model(&learner.model, tokenizer, &dir)
    })?;
    Ok(dir)
}

/// Writes model and tokenizer into one folder, replacing what an interrupted attempt left.
fn save_model(model: &Model, tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    let staging = dir.with_extension("tokenizer");
    for stale in [dir, &staging] {
        if stale.exists() {
            std::fs::remove_dir_all(stale)
                .map_err(|e| amend_engine::Error::io(stale, "cannot replace", e))?;
        }
    }
    tokenizer.save(&staging)?;
    model.save(dir, Some(&staging), None)?;
    std::fs::remove_dir_all(&staging).map_err(|e| amend_engine::Error::io(&staging, "cannot remove", e))?;
    Ok(())
}
