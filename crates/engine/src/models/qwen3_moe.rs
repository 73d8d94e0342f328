//! Qwen 3 with mixtures of experts in all or some layers.

use super::config::Config;
use super::mixture::{ExpertNames, ExpertsSpec};
use super::{Family, QkNorm, Spec, dense_spec, sliding_window};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "qwen3_moe", spec };

const NAMES: ExpertNames = ExpertNames { module: "mlp", parts: ["gate_proj", "up_proj", "down_proj"] };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let dense = dense_spec(config, 10_000.0)?;
    let bias = config.flag("attention_bias", false)?;
    let window = match config.flag("use_sliding_window", false)? {
        true => sliding_window(config, Some(4096))?,
        false => None,
    };
    Ok(Spec {
        qkv_bias: bias,
        output_bias: bias,
        qk_norm: Some(QkNorm::PerHead),
        // One window for all layers: the family takes no notice of `max_window_layers`.
        windows: vec![window; dense.layers],
        experts: experts(config, dense.layers)?,
        ..dense
    })
}

/// The mixtures, or `None` where the options leave no layer to be one.
fn experts(config: &Config<'_>, layers: usize) -> Result<Option<ExpertsSpec>> {
    let count = ExpertsSpec::count_in(config, "num_experts", 128)?;
    let step = config.count("decoder_sparse_step")?.unwrap_or(1);
    if step == 0 {
        return Err(config.error("\"decoder_sparse_step\" must not be 0"));
    }
    let dense = config.counts("mlp_only_layers")?.unwrap_or_default();
    let sparse: Vec<bool> =
        (0..layers).map(|l| (l + 1).is_multiple_of(step) && !dense.contains(&l)).collect();
    if count == 0 || !sparse.contains(&true) {
        return Ok(None);
    }
    let per_token = config.count("num_experts_per_tok")?.unwrap_or(8);
    let width = config.count("moe_intermediate_size")?.unwrap_or(768);
    if width == 0 {
        return Err(config.error("\"moe_intermediate_size\" must not be 0"));
    }
    let experts = ExpertsSpec::read(config, NAMES, layers, [count, per_token], width)?;
    let renormalise = config.flag("norm_topk_prob", false)?;
    Ok(Some(ExpertsSpec { renormalise, layers: sparse, ..experts }))
}
