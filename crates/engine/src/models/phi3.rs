//! Phi 3, 3.5 and 4: Llama with fused projections, LongRoPE, and heads that may rotate in part.

use super::config::Config;
use super::{
    BlockNames, Family, InnerNames, LLAMA_BLOCK, LLAMA_NAMES, Names, QkvNames, Spec, dense_spec,
    sliding_window, windows,
};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "phi3", spec };

const NAMES: Names = Names {
    block: BlockNames {
        qkv: QkvNames::Fused("self_attn.qkv_proj"),
        inner: InnerNames::GatedFused("mlp.gate_up_proj"),
        ..LLAMA_BLOCK
    },
    ..LLAMA_NAMES
};

fn spec(config: &Config<'_>) -> Result<Spec> {
    let dense = dense_spec(config, 10_000.0)?;
    let window = sliding_window(config, None)?;
    Ok(Spec {
        names: &NAMES,
        eps: config.float("rms_norm_eps")?.unwrap_or(1e-5) as f32,
        windows: windows(config, dense.layers, window, |_| true)?,
        ..dense
    })
}
