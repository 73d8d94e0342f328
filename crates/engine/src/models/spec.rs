//! Everything that tells one decoder from another, and one block from another, as data.

use super::mixture::ExpertsSpec;
use super::norm::NormKind;
use super::rope::Rope;
use crate::kernels::{Activation, Compute};
use crate::tape::AttentionKind;

/// What a decoder is made of. Families differ in this and in nothing else.
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
    /// What the checkpoint calls its tensors, which of them are fused, and where norms stand.
    pub names: &'static Names,
    /// Kind of the norms.
    pub norm: NormKind,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Activation of the gate, or of the whole feed-forward where there is no gate.
    pub activation: Activation,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward's projections have biases.
    pub mlp_bias: bool,
    /// Whether and how queries and keys are normalised before rotation.
    pub qk_norm: Option<QkNorm>,
    /// Whether attention and feed-forward read the same residual stream, side by side.
    pub parallel: bool,
    /// Sliding window of every layer, in tokens.
    pub windows: Vec<Option<usize>>,
    /// What every layer multiplies its attention scores by.
    pub scales: Vec<f32>,
    /// Bound c on attention scores: `c · tanh(score / c)`.
    pub score_softcap: Option<f32>,
    /// Bound c on logits: `c · tanh(logit / c)`.
    pub logit_softcap: Option<f32>,
    /// What token embeddings are multiplied by.
    pub embedding_scale: Option<f32>,
    /// How tokens know where they stand.
    pub positions: Positions,
    /// Mixtures of experts, where the model has any.
    pub experts: Option<ExpertsSpec>,
}

/// How tokens know where they stand.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// Queries and keys are rotated; one way per layer.
    Rotary(Vec<Rope>),
    /// A learned vector per position is added to the token embedding; the tensor's name.
    Learned(&'static str),
}

/// What a norm of queries and keys goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself.
    PerHead,
    /// All heads together.
    Whole,
}

/// What a block is made of. Blocks of decoders and of encoders differ in this and in nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSpec<'a> {
    pub(super) names: &'a BlockNames,
    /// Residual width d.
    pub(super) hidden: usize,
    /// Width f of a dense feed-forward.
    pub(super) intermediate: usize,
    pub(super) attention: AttentionKind,
    pub(super) norm: NormKind,
    pub(super) eps: f32,
    pub(super) activation: Activation,
    pub(super) qkv_bias: bool,
    pub(super) output_bias: bool,
    pub(super) mlp_bias: bool,
    pub(super) qk_norm: Option<QkNorm>,
    pub(super) parallel: bool,
    /// The mixture that stands in the place of a dense feed-forward.
    pub(super) experts: Option<&'a ExpertsSpec>,
}

impl Spec {
    /// Whether a norm stands between what feed-forwards give and the residual stream.
    pub fn has_norm_after_feed_forward(&self) -> bool {
        let names = &self.names.block;
        names.after_mlp.is_some() || names.after_mlp_sum.is_some()
    }

    /// What block `l` is made of.
    pub(super) fn block(&self, l: usize) -> BlockSpec<'_> {
        BlockSpec {
            names: &self.names.block,
            hidden: self.hidden,
            intermediate: self.intermediate,
            attention: AttentionKind {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                scale: self.scales[l],
                window: self.windows[l],
                softcap: self.score_softcap,
                compute: Compute::F32,
            },
            norm: self.norm,
            eps: self.eps,
            activation: self.activation,
            qkv_bias: self.qkv_bias,
            output_bias: self.output_bias,
            mlp_bias: self.mlp_bias,
            qk_norm: self.qk_norm,
            parallel: self.parallel,
            experts: self.experts.as_ref().filter(|experts| experts.layers[l]),
        }
    }
}

/// Paths of a decoder's modules (`.weight` and `.bias` left out).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// What some checkpoints leave out at the start of every name but the head's.
    pub base: &'static str,
    /// Token embedding.
    pub embedding: &'static str,
    /// The blocks.
    pub block: BlockNames,
    /// Norm before the head.
    pub final_norm: &'static str,
    /// Head, where it is not tied.
    pub head: &'static str,
}

/// Paths of the modules of a family's blocks, within the block but for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockNames {
    /// Blocks, before their number.
    pub blocks: &'static str,
    /// Norm of what attention reads.
    pub before_attention: Option<&'static str>,
    /// Norm of what attention adds.
    pub after_attention: Option<&'static str>,
    /// Norm of the residual stream with what attention has added.
    pub after_attention_sum: Option<&'static str>,
    /// Norm of what the feed-forward reads.
    pub before_mlp: Option<&'static str>,
    /// Norm of what the feed-forward adds.
    pub after_mlp: Option<&'static str>,
    /// Norm of the residual stream with what the feed-forward has added.
    pub after_mlp_sum: Option<&'static str>,
    /// Query, key and value projections.
    pub qkv: QkvNames,
    /// Norms of queries and of keys.
    pub qk_norm: [&'static str; 2],
    /// Attention's output projection.
    pub output: &'static str,
    /// The feed-forward's projections into its inner width.
    pub inner: InnerNames,
    /// The feed-forward's projection back.
    pub down: &'static str,
    /// Whether the blocks' matrices are stored [in, out]. In memory all are [out, in].
    pub transposed: bool,
}

/// Query, key and value projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkvNames {
    /// Three matrices.
    Separate([&'static str; 3]),
    /// One matrix: all queries, then all keys, then all values.
    Fused(&'static str),
    /// One matrix: query, key and value of the first head, then of the second, and so on.
    FusedPerHead(&'static str),
}

/// The feed-forward's projections into its inner width f.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerNames {
    /// Gate and up projection: `act(gate) · up`.
    Gated([&'static str; 2]),
    /// The same in one matrix, gate first.
    GatedFused(&'static str),
    /// A single projection: `act(up)`.
    Plain(&'static str),
}

impl InnerNames {
    /// The first of them.
    pub(super) fn first(self) -> &'static str {
        match self {
            InnerNames::Gated([first, _]) | InnerNames::GatedFused(first) | InnerNames::Plain(first) => first,
        }
    }
}

/// The names that Llama introduced and most families kept.
pub const LLAMA_NAMES: Names = Names {
    base: "model.",
    embedding: "model.embed_tokens",
    block: LLAMA_BLOCK,
    final_norm: "model.norm",
    head: "lm_head",
};

/// Those of Llama's blocks.
pub const LLAMA_BLOCK: BlockNames = BlockNames {
    blocks: "model.layers",
    before_attention: Some("input_layernorm"),
    after_attention: None,
    after_attention_sum: None,
    before_mlp: Some("post_attention_layernorm"),
    after_mlp: None,
    after_mlp_sum: None,
    qkv: QkvNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norm: ["self_attn.q_norm", "self_attn.k_norm"],
    output: "self_attn.o_proj",
    inner: InnerNames::Gated(["mlp.gate_proj", "mlp.up_proj"]),
    down: "mlp.down_proj",
    transposed: false,
};
