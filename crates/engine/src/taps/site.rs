//! The names of the places in a forward pass, in both spellings their users know.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A place in a decoder's forward pass. Shapes are of one packed batch of T rows.
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

/// A place inside one decoder block.
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
    /// Queries after rotation, where the family rotates: [T, heads·head_dim].
    RotQ,
    /// Keys after rotation, where the family rotates: [T, kv_heads·head_dim].
    RotK,
    /// Attention scores before softmax, one row per (token, head): [T·heads, keys].
    Scores,
    /// Attention probabilities: [T·heads, keys].
    Pattern,
    /// Every head's mix of values: [T, heads·head_dim].
    Z,
    /// Every head's share of the attention output: [T, heads·d].
    HeadResult,
    /// Gate before its activation, or what is activated where there is no gate: [T, f].
    MlpPre,
    /// Up projection beside a gate: [T, f].
    MlpPreLinear,
    /// Coefficients entering the down projection: [T, f].
    MlpPost,
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

/// Site, circuit-style name, module path where one exists.
const BLOCK_NAMES: &[(BlockSite, &str, Option<&str>)] = &[
    (ResidPre, "hook_resid_pre", Some("input")),
    (ResidMid, "hook_resid_mid", None),
    (ResidPost, "hook_resid_post", Some("")),
    (AttnOut, "hook_attn_out", Some("self_attn")),
    (MlpOut, "hook_mlp_out", Some("mlp")),
    (Q, "attn.hook_q", Some("self_attn.q_proj")),
    (K, "attn.hook_k", Some("self_attn.k_proj")),
    (V, "attn.hook_v", Some("self_attn.v_proj")),
    (RotQ, "attn.hook_rot_q", None),
    (RotK, "attn.hook_rot_k", None),
    (Scores, "attn.hook_attn_scores", None),
    (Pattern, "attn.hook_pattern", None),
    (Z, "attn.hook_z", Some("self_attn.o_proj.input")),
    (HeadResult, "attn.hook_result", None),
    (MlpPre, "mlp.hook_pre", Some("mlp.gate_proj")),
    (MlpPreLinear, "mlp.hook_pre_linear", Some("mlp.up_proj")),
    (MlpPost, "mlp.hook_post", Some("mlp.down_proj.input")),
    (Ln1Scale, "ln1.hook_scale", None),
    (Ln1Normalized, "ln1.hook_normalized", None),
    (Ln2Scale, "ln2.hook_scale", None),
    (Ln2Normalized, "ln2.hook_normalized", None),
];

/// Sites outside the blocks, likewise.
const OUTER_NAMES: &[(Site, &str, Option<&str>)] = &[
    (Site::Embed, "hook_embed", Some("model.embed_tokens")),
    (Site::PosEmbed, "hook_pos_embed", Some("model.embed_positions")),
    (Site::FinalScale, "ln_final.hook_scale", None),
    (Site::FinalNormalized, "ln_final.hook_normalized", None),
    (Site::Logits, "unembed.hook_out", Some("lm_head")),
];

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Site::Block(layer, site) = self
            && let Some((_, name, _)) = BLOCK_NAMES.iter().find(|(s, ..)| s == site)
        {
            return write!(f, "blocks.{layer}.{name}");
        }
        let name = OUTER_NAMES.iter().find(|(s, ..)| s == self).map_or("?", |(_, name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Site {
    type Err = Error;

    /// Reads `blocks.3.hook_resid_post` as well as `model.layers.3.mlp`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some((site, ..)) = OUTER_NAMES.iter().find(|(_, a, b)| *a == text || *b == Some(text)) {
            return Ok(*site);
        }
        let unknown = || {
            Error::invalid(format!(
                "unknown site {text:?}; sites are called blocks.0.hook_resid_post or model.layers.0.mlp; \
                 inside a block: {}",
                BLOCK_NAMES.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ")
            ))
        };
        let circuit = text.strip_prefix("blocks.");
        let rest = circuit.or_else(|| text.strip_prefix("model.layers.")).ok_or_else(unknown)?;
        let (layer, inner) = rest.split_once('.').unwrap_or((rest, ""));
        let layer = layer.parse().map_err(|_| unknown())?;
        BLOCK_NAMES
            .iter()
            .find(|(_, name, path)| if circuit.is_some() { *name == inner } else { *path == Some(inner) })
            .map(|(site, ..)| Site::Block(layer, *site))
            .ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_in_both_spellings() {
        for (site, name, path) in BLOCK_NAMES {
            let expected = Site::Block(7, *site);
            assert_eq!(format!("blocks.7.{name}").parse::<Site>().unwrap(), expected);
            assert_eq!(expected.to_string().parse::<Site>().unwrap(), expected);
            if let Some(path) = path {
                let dotted = format!("model.layers.7.{path}");
                assert_eq!(dotted.trim_end_matches('.').parse::<Site>().unwrap(), expected);
            }
        }
        assert!("blocks.x.hook_q".parse::<Site>().is_err());
    }
}
