//! The places in a forward pass, and their names in the spelling of circuits.
//!
//! Under the paths of their modules they are known to a model: see [`Model::site`](crate::Model::site).

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A place in the forward pass of a decoder or an encoder's tower. Shapes are of one packed batch of T rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings, scaled where the family scales them: [T, d].
    Embed,
    /// Learned position embeddings, where the family has them: [T, d].
    PosEmbed,
    /// A place inside block `.0`.
    Block(usize, BlockSite),
    /// `1 / scale` is what the final norm multiplies by; this is the scale: [T, 1].
    FinalScale,
    /// Final residual divided by its scale: [T, d].
    FinalNormalized,
    /// Logits: [scored rows, V].
    Logits,
}

/// A place inside one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockSite {
    /// Residual stream entering the block: [T, d].
    ResidPre,
    /// Residual stream between attention and feed-forward: [T, d].
    ResidMid,
    /// Residual stream leaving the block: [T, d].
    ResidPost,
    /// What attention adds to the residual stream: [T, d].
    AttnOut,
    /// What the feed-forward adds to the residual stream: [T, d].
    MlpOut,
    /// Queries before rotation: [T, heads·head_dim].
    Q,
    /// Keys before rotation: [T, kv_heads·head_dim].
    K,
    /// Values: [T, kv_heads·head_dim].
    V,
    /// Queries after rotation, and as they were where nothing rotates: [T, heads·head_dim].
    RotQ,
    /// Keys after rotation, and as they were where nothing rotates: [T, kv_heads·head_dim].
    RotK,
    /// Attention scores before softmax, one row per (token, head): [T·heads, keys].
    Scores,
    /// Attention probabilities: [T·heads, keys].
    Pattern,
    /// Every head's mix of values: [T, heads·head_dim].
    Z,
    /// Every head's share of the attention output, adapted as that is: [T, heads·d].
    HeadResult,
    /// Gate before its activation, or what is activated where there is no gate: [T, f]. In a mixture of
    /// experts, here and at the next two, one row per token and chosen expert: [T·k, f].
    MlpPre,
    /// Up projection beside a gate, where there is one: [T, f].
    MlpPreLinear,
    /// Coefficients entering the down projection: [T, f].
    MlpPost,
    /// Router's scores in a mixture of experts: [T, E]. Changing them changes the choice and the weights;
    /// −∞ shuts an expert out.
    RouterLogits,
    /// Chosen experts, best first: [T, k], whole numbers in f32. Replacing them sends tokens elsewhere,
    /// with the probabilities that the router gave those experts.
    RouterIndices,
    /// Weights of the chosen experts, in the same order: [T, k].
    RouterWeights,
    /// Scale of the norm before attention (of the one after it where there is none before): [T, 1].
    Ln1Scale,
    /// What that norm reads (less its mean, where the norm takes it off) divided by that scale: [T, d].
    Ln1Normalized,
    /// Scale of the norm before the feed-forward (of the one after it where there is none before): [T, 1].
    Ln2Scale,
    /// What that norm reads, likewise divided: [T, d].
    Ln2Normalized,
}

use BlockSite::*;

/// Sites within a block.
const BLOCK_NAMES: &[(BlockSite, &str)] = &[
    (ResidPre, "hook_resid_pre"),
    (ResidMid, "hook_resid_mid"),
    (ResidPost, "hook_resid_post"),
    (AttnOut, "hook_attn_out"),
    (MlpOut, "hook_mlp_out"),
    (Q, "attn.hook_q"),
    (K, "attn.hook_k"),
    (V, "attn.hook_v"),
    (RotQ, "attn.hook_rot_q"),
    (RotK, "attn.hook_rot_k"),
    (Scores, "attn.hook_attn_scores"),
    (Pattern, "attn.hook_pattern"),
    (Z, "attn.hook_z"),
    (HeadResult, "attn.hook_result"),
    (MlpPre, "mlp.hook_pre"),
    (MlpPreLinear, "mlp.hook_pre_linear"),
    (MlpPost, "mlp.hook_post"),
    (RouterLogits, "mlp.hook_router_logits"),
    (RouterIndices, "mlp.hook_expert_indices"),
    (RouterWeights, "mlp.hook_expert_weights"),
    (Ln1Scale, "ln1.hook_scale"),
    (Ln1Normalized, "ln1.hook_normalized"),
    (Ln2Scale, "ln2.hook_scale"),
    (Ln2Normalized, "ln2.hook_normalized"),
];

/// Sites outside the blocks.
const OUTER_NAMES: &[(Site, &str)] = &[
    (Site::Embed, "hook_embed"),
    (Site::PosEmbed, "hook_pos_embed"),
    (Site::FinalScale, "ln_final.hook_scale"),
    (Site::FinalNormalized, "ln_final.hook_normalized"),
    (Site::Logits, "unembed.hook_out"),
];

impl BlockSite {
    /// Every place inside a block, of whatever kind.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        BLOCK_NAMES.iter().map(|(site, _)| *site)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Site::Block(layer, site) = self
            && let Some((_, name)) = BLOCK_NAMES.iter().find(|(s, _)| s == site)
        {
            return write!(f, "blocks.{layer}.{name}");
        }
        let name = OUTER_NAMES.iter().find(|(s, _)| s == self).map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Site {
    type Err = Error;

    /// Reads `blocks.3.hook_resid_post` and the like.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some((site, _)) = OUTER_NAMES.iter().find(|(_, name)| *name == text) {
            return Ok(*site);
        }
        let unknown = || {
            Error::invalid(format!(
                "unknown site {text:?}; sites are called blocks.0.hook_resid_post; inside a block: {}",
                BLOCK_NAMES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
            ))
        };
        let (layer, inner) =
            text.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let layer = layer.parse().map_err(|_| unknown())?;
        let found = BLOCK_NAMES.iter().find(|(_, name)| *name == inner);
        found.map(|(site, _)| Site::Block(layer, *site)).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        let inner =
            BLOCK_NAMES.iter().map(|(site, name)| (Site::Block(7, *site), format!("blocks.7.{name}")));
        let outer = OUTER_NAMES.iter().map(|(site, name)| (*site, (*name).to_owned()));
        for (site, name) in inner.chain(outer) {
            assert_eq!(name.parse::<Site>().unwrap(), site);
            assert_eq!(site.to_string(), name);
        }
        for wrong in ["blocks.x.attn.hook_q", "blocks.1", "blocks.1.attn.hook_w", "model.layers.1"] {
            assert!(wrong.parse::<Site>().is_err());
        }
    }
}
