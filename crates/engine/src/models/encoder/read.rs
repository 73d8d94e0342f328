//! What the families read from their configs the same way.

use super::entry::Grid;
use crate::Result;
use crate::kernels::{Activation, Compute};
use crate::models::builder::Builder;
use crate::models::config::Config;
use crate::models::norm::NormKind;
use crate::models::spec::{BlockNames, BlockSpec};
use crate::tape::{AttentionKind, Linear};

/// The class the checkpoint was written by, such as `BertForMaskedLM`; empty where the config does not say.
pub(super) fn architecture<'a>(config: &Config<'a>) -> Result<&'a str> {
    Ok(config.texts("architectures")?.and_then(|names| names.first().copied()).unwrap_or_default())
}

/// Number of classes: as many as have names, otherwise as many as are counted, otherwise two.
pub(super) fn classes(config: &Config<'_>) -> Result<usize> {
    if let Some(names) = config.value("id2label").and_then(serde_json::Value::as_object) {
        return Ok(names.len().max(1));
    }
    config.size_or("num_labels", 2)
}

/// Attention with as many key as query heads.
pub(super) fn attention(config: &Config<'_>, hidden: usize, default_heads: usize) -> Result<AttentionKind> {
    let heads = config.size_or("num_attention_heads", default_heads)?;
    if !hidden.is_multiple_of(heads) && !config.has("head_dim") {
        return Err(config.error(format!("{heads} attention heads do not share a width of {hidden} evenly")));
    }
    let head_dim = config.size_or("head_dim", hidden / heads)?;
    Ok(AttentionKind {
        heads,
        kv_heads: heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window: None,
        softcap: None,
        compute: Compute::F32,
    })
}

/// What the blocks of encoders have in common: layer norms, biases, a plain feed-forward.
pub(super) fn block<'a>(
    names: &'a BlockNames,
    [hidden, intermediate]: [usize; 2],
    attention: AttentionKind,
    activation: Activation,
    eps: f32,
) -> BlockSpec<'a> {
    BlockSpec {
        names,
        hidden,
        intermediate,
        attention,
        norm: NormKind::Layer,
        eps,
        activation,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: None,
        parallel: false,
        experts: None,
    }
}

/// [height, width]: a list of the two, or one number for both.
pub(super) fn extent(config: &Config<'_>, key: &str, default: usize) -> Result<[usize; 2]> {
    let Some(list) = config.value(key).and_then(serde_json::Value::as_array) else {
        return Ok([config.size_or(key, default)?; 2]);
    };
    let size = |i: usize| {
        let size = list.get(i).and_then(serde_json::Value::as_u64).filter(|n| (1..=1 << 16).contains(n));
        size.ok_or_else(|| config.error(format!("\"{key}\" must be a number of pixels or two of them")))
    };
    Ok([size(0)? as usize, size(1)? as usize])
}

/// The convolution over patches, held as the matrix [d, channels·height·width] it multiplies by.
pub(super) fn patch_projection(
    b: &mut Builder<'_>,
    name: &str,
    grid: &Grid,
    d: usize,
    bias: bool,
) -> Result<Linear> {
    let stored = [d, grid.channels, grid.patch[0], grid.patch[1]];
    let weight = b.reshaped(&format!("{name}.weight"), &stored, &[d, grid.patch_len()])?;
    let bias = bias.then(|| b.bias(&format!("{name}.bias"), d)).transpose()?;
    Ok(Linear { weight, bias, adapter: None })
}

/// The sizes of image and patches. An image must hold at least one patch.
pub(super) fn grid(config: &Config<'_>, default_patch: usize) -> Result<Grid> {
    let grid = Grid {
        channels: config.size_or("num_channels", 3)?,
        image: extent(config, "image_size", 224)?,
        patch: extent(config, "patch_size", default_patch)?,
    };
    if grid.patches(grid.image).contains(&0) {
        return Err(config.error(format!(
            "a patch of {}×{} pixels does not fit into an image of {}×{}",
            grid.patch[0], grid.patch[1], grid.image[0], grid.image[1]
        )));
    }
    Ok(grid)
}
