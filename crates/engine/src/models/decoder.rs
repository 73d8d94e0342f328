//! The decoder: what Llama, Mistral, Mixtral and Qwen models share. Families differ in their [`Spec`].

use std::sync::{Arc, Mutex, PoisonError};

use super::cache::KvCache;
use super::experts::{Experts, ExpertsSpec};
use super::rope::Rope;
use crate::kernels::Activation;
use crate::params::{ParamId, Params};
use crate::tape::{AttentionKind, Graph, Keys, Layout, Linear, RotaryTable, Var};
use crate::taps::{BlockSite, Site, Taps};
use crate::{Error, Result, Tensor};

/// Positions whose rotation angles are made when a model is opened.
const FIRST_POSITIONS: usize = 512;

/// Everything that tells one dense decoder from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Residual width d.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width f of the dense feed-forwards.
    pub intermediate: usize,
    /// Vocabulary size V.
    pub vocabulary: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Activation of the gate.
    pub activation: Activation,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalised per head before rotation.
    pub qk_norm: bool,
    /// Sliding window of every layer, in tokens.
    pub windows: Vec<Option<usize>>,
    /// Rotary embedding.
    pub rope: Rope,
    /// Mixtures of experts, where the model has any.
    pub experts: Option<ExpertsSpec>,
}

/// Makes or loads one named tensor of the given shape.
pub(super) type TensorSource<'a> = dyn FnMut(&str, &[usize]) -> Result<Tensor> + 'a;

#[derive(Debug, Clone)]
pub(super) struct Block {
    input_layernorm: ParamId,
    pub(super) self_attn: Attention,
    post_attention_layernorm: ParamId,
    pub(super) mlp: FeedForward,
}

/// What a block does to each token by itself.
#[derive(Debug, Clone)]
pub(super) enum FeedForward {
    Dense(Mlp),
    Experts(Experts),
}

#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) q_proj: Linear,
    pub(super) k_proj: Linear,
    pub(super) v_proj: Linear,
    pub(super) o_proj: Linear,
    q_norm: Option<ParamId>,
    k_norm: Option<ParamId>,
    kind: AttentionKind,
}

#[derive(Debug, Clone)]
pub(super) struct Mlp {
    pub(super) gate_proj: Linear,
    pub(super) up_proj: Linear,
    pub(super) down_proj: Linear,
}

/// A dense decoder: handles into the model's parameters, and the forward pass.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(super) spec: Spec,
    embed_tokens: ParamId,
    pub(super) blocks: Vec<Block>,
    norm: ParamId,
    head: ParamId,
    rotary: Arc<Mutex<RotaryTable>>,
}

impl Decoder {
    /// Builds the decoder, taking every tensor from `source` under the name the checkpoint uses.
    pub(super) fn build(spec: Spec, params: &mut Params, source: &mut TensorSource<'_>) -> Result<Self> {
        let mut add = |name: String, shape: &[usize]| -> Result<ParamId> {
            let tensor = source(&name, shape)?;
            params.add(name, tensor)
        };
        let (d, f) = (spec.hidden, spec.intermediate);
        let (q, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let embed_tokens = add("model.embed_tokens.weight".into(), &[spec.vocabulary, d])?;
        let mut blocks = Vec::with_capacity(spec.layers);
        for (l, &window) in spec.windows.iter().enumerate() {
            let at = |part: &str| format!("model.layers.{l}.{part}.weight");
            let mut linear = |part: &str, out: usize, inner: usize, bias: bool| -> Result<Linear> {
                let weight = add(at(part), &[out, inner])?;
                let bias = bias.then(|| add(format!("model.layers.{l}.{part}.bias"), &[out])).transpose()?;
                Ok(Linear { weight, bias, low_rank: None })
            };
            let q_proj = linear("self_attn.q_proj", q, d, spec.qkv_bias)?;
            let k_proj = linear("self_attn.k_proj", kv, d, spec.qkv_bias)?;
            let v_proj = linear("self_attn.v_proj", kv, d, spec.qkv_bias)?;
            let o_proj = linear("self_attn.o_proj", d, q, spec.output_bias)?;
            let mlp = match &spec.experts {
                Some(experts) if experts.layers[l] => {
                    let mut linear = |part: &str, out, inner| linear(part, out, inner, false);
                    FeedForward::Experts(Experts::build(experts, d, &mut linear)?)
                }
                _ => FeedForward::Dense(Mlp {
                    gate_proj: linear("mlp.gate_proj", f, d, spec.mlp_bias)?,
                    up_proj: linear("mlp.up_proj", f, d, spec.mlp_bias)?,
                    down_proj: linear("mlp.down_proj", d, f, spec.mlp_bias)?,
                }),
            };
            let mut head_norm =
                |part: &str| spec.qk_norm.then(|| add(at(part), &[spec.head_dim])).transpose();
            let (q_norm, k_norm) = (head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?);
            let kind = AttentionKind {
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                scale: 1.0 / (spec.head_dim as f32).sqrt(),
                causal: true,
                window,
                softcap: None,
            };
            blocks.push(Block {
                input_layernorm: add(at("input_layernorm"), &[d])?,
                self_attn: Attention { q_proj, k_proj, v_proj, o_proj, q_norm, k_norm, kind },
                post_attention_layernorm: add(at("post_attention_layernorm"), &[d])?,
                mlp,
            });
        }
        let norm = add("model.norm.weight".into(), &[d])?;
        let head =
            if spec.tied { embed_tokens } else { add("lm_head.weight".into(), &[spec.vocabulary, d])? };
        let rotary = Arc::new(Mutex::new(spec.rope.table(FIRST_POSITIONS.min(spec.context))));
        Ok(Decoder { spec, embed_tokens, blocks, norm, head, rotary })
    }

    /// Rotation angles of at least the first `positions` positions.
    ///
    /// Made as far as sequences reach: a config may promise a context far longer than anybody uses.
    fn rotary(&self, positions: usize) -> RotaryTable {
        let mut table = self.rotary.lock().unwrap_or_else(PoisonError::into_inner);
        if table.positions < positions {
            *table = self.spec.rope.table(positions.next_power_of_two().min(self.spec.context));
        }
        table.clone()
    }

    /// The head's weight [V, d].
    pub fn head(&self) -> ParamId {
        self.head
    }

    /// Final hidden states after the last norm: ids [T] → [T, d].
    ///
    /// With caches, one per sequence, the rows continue what those hold and are appended to them.
    /// `recompute` keeps only every block's input for the backward pass.
    pub fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        ids: &[u32],
        layout: &'m Layout,
        mut caches: Option<&mut [KvCache]>,
        taps: &'m Taps,
        recompute: bool,
    ) -> Result<Var> {
        let longest = layout.positions.iter().max().map_or(0, |&p| p as usize + 1);
        if longest > self.spec.context {
            return Err(Error::invalid(format!(
                "a sequence of {longest} tokens is longer than the model's context of {}",
                self.spec.context
            )));
        }
        let rotary = self.rotary(longest);
        let x = g.embed(ids, self.embed_tokens)?;
        let mut x = taps.at(g, Site::Embed, x, layout)?;
        for (l, block) in self.blocks.iter().enumerate() {
            x = match &mut caches {
                Some(caches) => block.forward(self, g, l, &x, layout, &rotary, Some(caches), taps)?,
                None if recompute => {
                    let rotary = rotary.clone();
                    g.checkpoint(&x, move |g, x| block.forward(self, g, l, x, layout, &rotary, None, taps))?
                }
                None => block.forward(self, g, l, &x, layout, &rotary, None, taps)?,
            };
        }
        let sites = [Site::FinalScale, Site::FinalNormalized];
        tapped_norm(g, &x, self.norm, self.spec.eps, sites, layout, taps)
    }
}

impl Block {
    #[expect(clippy::too_many_arguments, reason = "a forward pass names what it reads")]
    fn forward<'m>(
        &'m self,
        decoder: &'m Decoder,
        g: &mut Graph<'m>,
        l: usize,
        x: &Var,
        layout: &Layout,
        rotary: &RotaryTable,
        caches: Option<&mut [KvCache]>,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let eps = decoder.spec.eps;
        let at = |site| Site::Block(l, site);
        let x = taps.at(g, at(ResidPre), x.clone(), layout)?;
        let sites = [at(Ln1Scale), at(Ln1Normalized)];
        let h = tapped_norm(g, &x, self.input_layernorm, eps, sites, layout, taps)?;
        let a = self.self_attn.forward(decoder, g, l, &h, layout, rotary, caches, taps)?;
        let a = taps.at(g, at(AttnOut), a, layout)?;
        let x = g.add(&x, &a)?;
        let x = taps.at(g, at(ResidMid), x, layout)?;
        let sites = [at(Ln2Scale), at(Ln2Normalized)];
        let h = tapped_norm(g, &x, self.post_attention_layernorm, eps, sites, layout, taps)?;
        let m = match &self.mlp {
            FeedForward::Dense(mlp) => mlp.forward(decoder, g, l, &h, layout, taps)?,
            FeedForward::Experts(experts) => experts.forward(&decoder.spec, g, l, &h, layout, taps)?,
        };
        let m = taps.at(g, at(MlpOut), m, layout)?;
        let x = g.add(&x, &m)?;
        taps.at(g, at(ResidPost), x, layout)
    }
}

impl Attention {
    #[expect(clippy::too_many_arguments, reason = "a forward pass names what it reads")]
    fn forward<'m>(
        &'m self,
        decoder: &'m Decoder,
        g: &mut Graph<'m>,
        l: usize,
        h: &Var,
        layout: &Layout,
        rotary: &RotaryTable,
        caches: Option<&mut [KvCache]>,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let at = |site| Site::Block(l, site);
        let (head_dim, eps) = (self.kind.head_dim, decoder.spec.eps);
        let project = |g: &mut Graph<'m>, layer: &'m Linear, norm: Option<ParamId>, site| -> Result<Var> {
            let x = g.linear(h, layer)?;
            let x = match norm {
                Some(norm) => g.rms_norm(&x, norm, eps)?,
                None => x,
            };
            taps.at(g, at(site), x, layout)
        };
        let q = project(g, &self.q_proj, self.q_norm, Q)?;
        let k = project(g, &self.k_proj, self.k_norm, K)?;
        let v = project(g, &self.v_proj, None, V)?;
        let q = g.rotate(&q, head_dim, &layout.positions, rotary)?;
        let q = taps.at(g, at(RotQ), q, layout)?;
        let k = g.rotate(&k, head_dim, &layout.positions, rotary)?;
        let k = taps.at(g, at(RotK), k, layout)?;
        let opened = taps.touches(at(Scores)) || taps.touches(at(Pattern));
        let z = match caches {
            Some(caches) => {
                for (cache, rows) in caches.iter_mut().zip(&layout.sequences) {
                    cache.append(l, rows.clone(), k.value(), v.value());
                }
                let keys: Vec<_> = caches.iter().map(|c| c.layer(l)).map(|(k, v)| Keys { k, v }).collect();
                if opened {
                    super::opened::cached_attention(g, l, &q, &keys, layout, &self.kind, taps)?
                } else {
                    g.cached_attention(&q, &keys, layout, &self.kind)
                }
            }
            None if opened => super::opened::attention(g, l, [&q, &k, &v], layout, &self.kind, taps)?,
            None => g.attention(&q, &k, &v, layout, &self.kind)?,
        };
        let z = taps.at(g, at(Z), z, layout)?;
        let out = g.linear(&z, &self.o_proj)?;
        if taps.touches(at(HeadResult)) {
            return super::opened::per_head_result(g, l, &z, out, &self.o_proj, layout, &self.kind, taps);
        }
        Ok(out)
    }
}

impl Mlp {
    fn forward<'m>(
        &'m self,
        decoder: &'m Decoder,
        g: &mut Graph<'m>,
        l: usize,
        h: &Var,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let gate = g.linear(h, &self.gate_proj)?;
        let gate = taps.at(g, Site::Block(l, MlpPre), gate, layout)?;
        let up = g.linear(h, &self.up_proj)?;
        let up = taps.at(g, Site::Block(l, MlpPreLinear), up, layout)?;
        let a = g.gated(decoder.spec.activation, &gate, &up)?;
        let a = taps.at(g, Site::Block(l, MlpPost), a, layout)?;
        g.linear(&a, &self.down_proj)
    }
}

/// RMSNorm, taken apart into scale, division and gain only where somebody looks inside.
fn tapped_norm<'m>(
    g: &mut Graph<'m>,
    x: &Var,
    weight: ParamId,
    eps: f32,
    [scale_site, normalized_site]: [Site; 2],
    layout: &Layout,
    taps: &Taps,
) -> Result<Var> {
    if !taps.touches(scale_site) && !taps.touches(normalized_site) {
        return g.rms_norm(x, weight, eps);
    }
    super::opened::norm(g, x, weight, eps, [scale_site, normalized_site], layout, taps)
}
