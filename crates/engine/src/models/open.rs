//! Opening a model: which tensor of a checkpoint is which of the model's.

use std::collections::HashSet;
use std::path::Path;

use serde_json::json;

use super::config::Config;
use super::decoder::Decoder;
use super::mixture::{ExpertsSpec, FusedPart};
use super::model::Model;
use super::source::{Source, Taken, Wanted};
use super::{Spec, spec_of};
use crate::checkpoint::{Checkpoint, StoredType};
use crate::params::Params;
use crate::{DType, Error, Result};

/// Ends of names of what some checkpoints hold though it follows from the config: rotary frequencies, masks.
const DERIVED: [&str; 5] =
    ["rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias"];

impl Model {
    /// Opens a Hugging Face folder or a GGUF file. Values become f32 in memory; the type that each was stored in is kept
    /// for writing.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_checkpoint(&Checkpoint::open(dir)?)
    }

    // Not generic, so that it is compiled once and not in every crate that opens a model.
    fn open_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let mut config = checkpoint.config().clone();
        let mut spec = spec_of(&Config::new(&config, checkpoint.config_place()))?;
        let names = spec.names;
        let find = |name: &str| stored_name(checkpoint, names.base, name);
        let [embedding, head] = [names.embedding, names.head].map(|module| format!("{module}.weight"));
        let tied = is_tied(checkpoint, spec.tied, [&embedding, &head], &find)?;
        if tied != spec.tied {
            spec.tied = tied;
            config.insert("tie_word_embeddings".into(), json!(tied));
        }
        let used: HashSet<String> = find(&head).into_iter().collect();
        let mut source = Stored {
            checkpoint,
            base: names.base,
            tied: tied.then_some([embedding.clone(), head]),
            experts: spec.experts.clone(),
            used,
        };
        let dtype = match source.find(&embedding).and_then(|n| checkpoint.dtype(&n)) {
            Some(StoredType::Native(dtype)) => dtype,
            _ => DType::F32,
        };
        let mut params = Params::default();
        let decoder = Decoder::build(spec, &mut params, &mut source)?;
        let mut unused = checkpoint.unused(&source.used);
        unused.retain(|name| !DERIVED.iter().any(|end| name.ends_with(end)));
        if let Some(first) = unused.first() {
            let place = checkpoint.path().display();
            tracing::warn!("{place}: {} tensors are not used, such as {first}", unused.len());
        }
        tracing::info!(
            "{}: {} of {} parameters, stored as {dtype}",
            checkpoint.path().display(),
            config.get("model_type").and_then(|family| family.as_str()).unwrap_or("model"),
            params.count().0
        );
        let generation_config = checkpoint.generation_config().cloned();
        Ok(Model::of(params, decoder, config, generation_config, dtype))
    }
}

impl Spec {
    /// What a checkpoint's model is made of, as its config says; no weight is read.
    ///
    /// # Errors
    /// A config that is not understood.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        spec_of(&Config::new(checkpoint.config(), checkpoint.config_place()))
    }
}

/// A decoder's tensors in a checkpoint.
struct Stored<'a> {
    checkpoint: &'a Checkpoint,
    /// What some checkpoints leave out at the start of every name but the head's.
    base: &'static str,
    /// Names of embedding and head, where both are one.
    tied: Option<[String; 2]>,
    experts: Option<ExpertsSpec>,
    /// Names that were taken.
    used: HashSet<String>,
}

impl Stored<'_> {
    fn find(&self, name: &str) -> Option<String> {
        let find = |name: &str| stored_name(self.checkpoint, self.base, name);
        // Where both are one, some writers keep the head's name.
        let other = || match &self.tied {
            Some([embedding, head]) if embedding == name => find(head),
            _ => None,
        };
        find(name).or_else(other)
    }
}

impl Source for Stored<'_> {
    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn take(&mut self, wanted: &Wanted<'_>) -> Result<Taken> {
        let fused =
            |experts: &ExpertsSpec| experts.fused_part(wanted.name, wanted.shape, &|name| self.find(name));
        if let Some(FusedPart { name, shape, rows }) = self.experts.as_ref().and_then(fused) {
            let tensor = self.checkpoint.rows_f32(&name, &shape, rows)?;
            let stored = self.checkpoint.own_type(&name);
            self.used.insert(name);
            return Ok(Taken { tensor, stored });
        }
        let name = self.find(wanted.name).unwrap_or_else(|| wanted.name.to_owned());
        let tensor = match *wanted.shape {
            [rows, columns] if wanted.transposed => {
                self.checkpoint.tensor_f32(&name, &[columns, rows])?.transposed()
            }
            _ => self.checkpoint.tensor_f32(&name, wanted.shape)?,
        };
        let stored = self.checkpoint.own_type(&name);
        self.used.insert(name);
        Ok(Taken { tensor, stored })
    }
}

/// The name under which a checkpoint holds a tensor: some leave the base model's prefix out, and newer
/// files call every family's head `lm_head`.
fn stored_name(checkpoint: &Checkpoint, base: &str, name: &str) -> Option<String> {
    let short = name.strip_prefix(base);
    let head = short.is_none().then_some("lm_head.weight");
    [Some(name), short, head].into_iter().flatten().find(|n| checkpoint.contains(n)).map(str::to_owned)
}

/// Whether the head is the embedding matrix. Where the config says so and the checkpoint has both, it is the
/// checkpoint that knows, as in the reference.
fn is_tied(
    checkpoint: &Checkpoint,
    promised: bool,
    [embedding, head]: [&str; 2],
    find: &dyn Fn(&str) -> Option<String>,
) -> Result<bool> {
    match (promised, find(embedding), find(head)) {
        (false, Some(_), None) => Err(Error::missing_tensor(
            checkpoint.path(),
            format!(
                "there is no tensor {head}, and \"tie_word_embeddings\" does not say that it is the embedding; \
                 without its head the model predicts nothing"
            ),
        )),
        (true, Some(embedding), Some(head)) => checkpoint.same(&embedding, &head),
        (promised, ..) => Ok(promised),
    }
}
