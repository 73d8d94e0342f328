//! Mixtral: Mistral with a mixture of experts in every layer.

use super::config::Config;
use super::mixture::{ExpertNames, ExpertsSpec};
use super::{Family, Spec, dense_spec, sliding_window};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "mixtral", spec };

const NAMES: ExpertNames = ExpertNames { module: "block_sparse_moe", parts: ["w1", "w3", "w2"] };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let dense = dense_spec(config, 1e6)?;
    let count = ExpertsSpec::count_in(config, "num_local_experts", 8)?;
    let per_token = config.count("num_experts_per_tok")?.unwrap_or(2);
    if config.float("router_jitter_noise")?.is_some_and(|noise| noise > 0.0) {
        tracing::warn!("router_jitter_noise is not applied: training sees the router's own scores");
    }
    let experts = ExpertsSpec::read(config, NAMES, dense.layers, [count, per_token], dense.intermediate)?;
    // Unlike Mistral's, an absent window means none.
    let window = sliding_window(config, None)?;
    Ok(Spec {
        eps: config.float("rms_norm_eps")?.unwrap_or(1e-5) as f32,
        windows: vec![window; dense.layers],
        experts: Some(experts),
        ..dense
    })
}
