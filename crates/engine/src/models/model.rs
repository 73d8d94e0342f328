//! A model: parameters, forward pass, and the folder they came from.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::adapters::AdapterKind;
use super::config::Config;
use super::decoder::{Decoder, TOWER};
use super::source::Drawn;
use super::stack::ForwardContext;
use super::tokens::Tokens;
use super::{KvCache, Spec, spec_of, tower_sites};
use crate::batch::Batch;
use crate::checkpoint::{ModelFiles, write_model};
use crate::params::{Param, Params};
use crate::tape::{Graph, Head, Layout, Linear, Var};
use crate::taps::{Site, Taps};
use crate::{DType, Error, Gradients, Result, Tensor};

/// A language model. Cloning shares every tensor until one side changes it, so a frozen reference
/// costs nothing but what training then changes.
#[derive(Debug, Clone)]
pub struct Model {
    /// Named parameters.
    pub params: Params,
    pub(super) decoder: Decoder,
    pub(super) config: Map<String, Value>,
    pub(super) generation_config: Option<Map<String, Value>>,
    pub(super) dtype: DType,
    /// The kinds of adapters that are attached.
    pub(super) adapters: Vec<Arc<dyn AdapterKind>>,
    /// Keep only every block's input during training and recompute the rest: slower by a forward
    /// pass, but memory grows with one block instead of all.
    pub recompute: bool,
}

impl Model {
    /// A model with random weights: matrices normal with the config's `initializer_range`
    /// (default 0.02), norms neutral, biases zero. The same seed gives the same weights.
    pub fn random(config: Map<String, Value>, seed: u64) -> Result<Self> {
        let reader = Config::new(&config, "config");
        let spec = spec_of(&reader)?;
        let deviation = reader.float("initializer_range")?.unwrap_or(0.02);
        let mut params = Params::default();
        let decoder = Decoder::build(spec, &mut params, &mut Drawn { deviation, seed })?;
        Ok(Model::of(params, decoder, config, None, DType::F32))
    }

    pub(super) fn of(
        params: Params,
        decoder: Decoder,
        config: Map<String, Value>,
        generation_config: Option<Map<String, Value>>,
        dtype: DType,
    ) -> Self {
        let adapters = Vec::new();
        Model { params, decoder, config, generation_config, dtype, adapters, recompute: false }
    }

    /// Rounds every weight to `dtype`, which the model is then written in; computing stays f32.
    pub fn round_to(&mut self, dtype: DType) {
        for (_, param) in self.params.iter_mut() {
            param.tensor = param.tensor.to_dtype(dtype).to_f32();
            param.stored = None;
        }
        self.dtype = dtype;
    }

    /// What the model is made of.
    pub fn spec(&self) -> &Spec {
        &self.decoder.spec
    }

    /// The `config.json` it came with.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The `generation_config.json` it came with.
    pub fn generation_config(&self) -> Option<&Map<String, Value>> {
        self.generation_config.as_ref()
    }

    /// Sets the token ids that start and end a text, in config and generation config.
    pub fn set_special_tokens(&mut self, bos: Option<u32>, eos: Option<u32>, pad: Option<u32>) {
        let mut generation = Map::new();
        for (key, id) in [("bos_token_id", bos), ("eos_token_id", eos), ("pad_token_id", pad)] {
            self.config.insert(key.into(), json!(id));
            generation.insert(key.into(), json!(id));
        }
        self.generation_config = Some(generation);
    }

    /// Number type the model is written in, but for tensors that were read in another one.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of its weights when written in `dtype` (default: every tensor in the type it was read in).
    pub fn written_bytes(&self, dtype: Option<DType>) -> usize {
        let size = |param: &Param| dtype.or(param.stored).unwrap_or(self.dtype).size();
        self.params.iter().map(|(_, param)| param.tensor.len() * size(param)).sum()
    }

    /// Writes a Hugging Face folder in `dtype` (default: every tensor in the type it was read in), copying
    /// tokenizer files from `tokenizer_from`. An attached adapter must be merged or written apart.
    pub fn save(&self, dir: &Path, tokenizer_from: Option<&Path>, dtype: Option<DType>) -> Result<()> {
        if self.is_adapted() {
            return Err(Error::invalid(
                "merge the adapter before writing the whole model, or write the adapter apart",
            ));
        }
        let mut tensors: Vec<_> =
            self.params.iter().map(|(_, p)| (p.name.clone(), p.tensor.clone())).collect();
        if self.spec().names.block.transposed {
            for linear in self.decoder.linears() {
                let (_, tensor) = &mut tensors[linear.weight.0];
                *tensor = tensor.transposed();
            }
        }
        write_model(
            dir,
            &ModelFiles {
                generation_config: self.generation_config.clone().map(Value::Object),
                dtype: Some(dtype.unwrap_or(self.dtype)),
                exceptions: if dtype.is_none() { self.params.stored_types() } else { HashMap::new() },
                tokenizer_from,
                ..ModelFiles::new(Value::Object(self.config.clone()), tensors)
            },
        )
    }

    /// Final hidden states of a batch, after the last norm: [T, d]. Taps at a site that the model has not are refused,
    /// here and wherever a pass begins.
    pub fn hidden<'m>(&'m self, g: &mut Graph<'m>, batch: &Batch, taps: &'m Taps) -> Result<Var> {
        self.hidden_of(g, Tokens::from(&batch.ids), &batch.layout, taps)
    }

    /// The same of tokens in the place of some of which stand rows of embeddings: [T, d].
    ///
    /// ```no_run
    /// # use amend_engine::{Batch, Graph, Model, Result, Taps, Var};
    /// # use amend_engine::models::{SoftTokens, Tokens};
    /// # fn loss<'m>(model: &'m Model, g: &mut Graph<'m>, batch: &Batch, memory: &Var, taps: &'m Taps) -> Result<Var> {
    /// // The first rows of the batch are placeholders for what a compressor has made of a document.
    /// let rows: Vec<usize> = (0..memory.value().rows()).collect();
    /// let soft = Some(SoftTokens { rows: &rows, embeddings: memory });
    /// let hidden = model.hidden_of(g, Tokens { ids: &batch.ids, soft }, &batch.layout, taps)?;
    /// let hidden = g.gather_rows(&hidden, &batch.rows)?;
    /// let weights = vec![1.0 / batch.targets.len() as f32; batch.targets.len()];
    /// g.cross_entropy(&hidden, model.head(), &batch.targets, &weights)
    /// # }
    /// ```
    pub fn hidden_of<'m>(
        &'m self,
        g: &mut Graph<'m>,
        tokens: Tokens<'_>,
        layout: &Layout,
        taps: &'m Taps,
    ) -> Result<Var> {
        self.check_taps(taps)?;
        let recompute = self.recompute && g.is_recording() && !taps.holds();
        let context = ForwardContext { tower: TOWER, layout, caches: None, taps, recompute };
        self.decoder.forward(g, tokens, context)
    }

    /// The residual stream after block `layer`, counted from 0, of a batch: [T, d]. It can be differentiated; the blocks
    /// behind it are not run.
    ///
    /// # Errors
    /// Where there is no such block, and as [`hidden`](Self::hidden).
    pub fn residual<'m>(
        &'m self,
        g: &mut Graph<'m>,
        batch: &Batch,
        layer: usize,
        taps: &'m Taps,
    ) -> Result<Var> {
        let layers = self.spec().layers;
        if layer >= layers {
            return Err(Error::invalid(format!(
                "layer {layer} of a model whose layers are 0 to {}",
                layers - 1
            )));
        }
        self.check_taps(taps)?;
        let recompute = self.recompute && g.is_recording() && !taps.holds();
        let context = ForwardContext { tower: TOWER, layout: &batch.layout, caches: None, taps, recompute };
        self.decoder.residual(g, Tokens::from(&batch.ids), context, layer + 1)
    }

    /// The site of a name: `blocks.3.hook_resid_post`, or the path that a checkpoint of the family has for a
    /// module, such as `transformer.h.3.attn`, for that module's output; with `.input` behind it, its input. The
    /// model's one tower may be named: `text.blocks.3.hook_resid_post`.
    ///
    /// Fails for a site that the model has not, such as a router's in a dense model, with the nearest that it has.
    pub fn site(&self, name: &str) -> Result<Site> {
        Ok(tower_sites::find(&[self.decoder.sites()], name)?.site)
    }

    /// Fails where taps reach for a site that the model has not.
    pub(crate) fn check_taps(&self, taps: &Taps) -> Result<()> {
        if taps.sites().next().is_none() {
            return Ok(());
        }
        tower_sites::check_taps(&[self.decoder.sites()], taps)
    }

    /// The last norm of any rows of a residual stream, for those who read it before its end: [n, d] → [n, d].
    pub fn final_norm<'m>(&'m self, g: &mut Graph<'m>, rows: &Var) -> Result<Var> {
        self.decoder.final_norm(g, rows)
    }

    /// Rows of what a layer's attention makes as they are added to the residual stream: through the norm behind attention, where
    /// the family has one: [n, d] → [n, d].
    ///
    /// # Errors
    /// Where there is no such layer.
    pub fn behind_attention<'m>(&'m self, g: &mut Graph<'m>, layer: usize, rows: &Var) -> Result<Var> {
        self.check_layer(layer)?;
        self.decoder.block(layer).behind_attention(g, rows)
    }

    /// How hidden states become logits.
    pub fn head(&self) -> Head {
        self.decoder.head()
    }

    /// Hidden states of the rows that predict a scored token: [n, d].
    pub fn scored_hidden<'m>(&'m self, g: &mut Graph<'m>, batch: &Batch, taps: &'m Taps) -> Result<Var> {
        if taps.touches(TOWER.at(Site::Logits)) {
            return Err(Error::invalid("logits are not held while scoring; tap them with Model::logits"));
        }
        let hidden = self.hidden(g, batch, taps)?;
        g.gather_rows(&hidden, &batch.rows)
    }

    /// Log-probability of every scored token: `[n]`, in the batch's order.
    pub fn token_logprobs<'m>(&'m self, g: &mut Graph<'m>, batch: &Batch, taps: &'m Taps) -> Result<Var> {
        let hidden = self.scored_hidden(g, batch, taps)?;
        g.token_logprobs(&hidden, self.head(), &batch.targets)
    }

    /// Of every scored token its log-probability and whether it is the model's first choice: [n] each, in the
    /// batch's order.
    pub(crate) fn scored_targets(&self, batch: &Batch) -> Result<(Tensor, Vec<bool>)> {
        let taps = Taps::none();
        let mut g = Graph::inference(&self.params);
        let hidden = self.scored_hidden(&mut g, batch, &taps)?;
        g.scored_targets(&hidden, self.decoder.head(), &batch.targets)
    }

    /// `Σ weight_t · (−log p_t)` over the scored tokens, with the gradient made in the same pass.
    pub fn weighted_nll<'m>(
        &'m self,
        g: &mut Graph<'m>,
        batch: &Batch,
        weights: &[f32],
        taps: &'m Taps,
    ) -> Result<Var> {
        let hidden = self.scored_hidden(g, batch, taps)?;
        g.cross_entropy(&hidden, self.head(), &batch.targets, weights)
    }

    /// Logits of the given rows of hidden states that lie as `layout` says: [rows.len(), V].
    pub fn logits<'m>(
        &'m self,
        g: &mut Graph<'m>,
        hidden: &Var,
        layout: &Layout,
        rows: &[usize],
        taps: &Taps,
    ) -> Result<Var> {
        let hidden = g.gather_rows(hidden, rows)?;
        let Head { weight, softcap } = self.head();
        let logits = g.linear(&hidden, &Linear { weight, bias: None, adapter: None })?;
        let logits = match softcap {
            Some(cap) => g.softcap(&logits, cap)?,
            None => logits,
        };
        match taps.touches(TOWER.at(Site::Logits)) {
            true => taps.at(g, TOWER.at(Site::Logits), logits, &layout.of_rows(rows)),
            false => Ok(logits),
        }
    }

    /// Mean negative log-likelihood of the scored tokens, and its gradient; where the model asks for
    /// router losses in training, these are part of both.
    pub fn loss_and_gradients(&self, batch: &Batch, taps: &Taps) -> Result<(f32, Gradients)> {
        let mut g = Graph::recording(&self.params);
        let weights = vec![1.0 / batch.targets.len().max(1) as f32; batch.targets.len()];
        let loss = self.weighted_nll(&mut g, batch, &weights, taps)?;
        let loss = self.with_router_losses(&mut g, loss, 1.0)?;
        Ok((loss.scalar(), g.backward(&loss)?))
    }

    /// Hidden states of new tokens that continue cached sequences: ids `[T]`, or [`Tokens`] → [T, d].
    pub fn continue_hidden<'m, 't>(
        &'m self,
        g: &mut Graph<'m>,
        tokens: impl Into<Tokens<'t>>,
        layout: &Layout,
        caches: &mut [KvCache],
        taps: &'m Taps,
    ) -> Result<Var> {
        self.check_taps(taps)?;
        let context = ForwardContext { tower: TOWER, layout, caches: Some(caches), taps, recompute: false };
        self.decoder.forward(g, tokens.into(), context)
    }

    /// An empty cache for one sequence.
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(self.spec().layers, self.spec().kv_heads, self.spec().head_dim)
    }

    /// Whether the cache of a sequence of `held` tokens serves when the sequence grows to `total`: some
    /// rotations (LongRoPE) change for every position once a sequence is long, and then all of its tokens
    /// have to be fed again to an empty cache.
    pub fn cache_serves(&self, held: usize, total: usize) -> bool {
        self.decoder.continues(held, total)
    }

    /// Whether a prompt of `total` tokens gives the same bits when it is read in pieces: not where
    /// rotations depend on its length.
    pub fn reads_in_pieces(&self, total: usize) -> bool {
        self.decoder.reads_in_pieces(total)
    }

    /// KL(reference ‖ model) of every scored row: `[n]`, in nats.
    pub fn divergence_from<'m>(
        &'m self,
        g: &mut Graph<'m>,
        batch: &Batch,
        reference: &Model,
        taps: &'m Taps,
    ) -> Result<Var> {
        let none = Taps::none();
        let theirs = reference.scored_hidden(&mut Graph::inference(&reference.params), batch, &none)?;
        let ours = self.scored_hidden(g, batch, taps)?;
        let head = reference.head();
        let weight = &reference.params.get(head.weight).tensor;
        g.divergence_from(&ours, self.head(), theirs.value(), (weight, head.softcap))
    }
}
