//! Qwen 2 and 2.5: biases on queries, keys and values; optional windows in the upper layers.

use super::config::Config;
use super::{Family, Spec, dense_spec, sliding_window, windows};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "qwen2", spec };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let dense = dense_spec(config, 10_000.0)?;
    Ok(Spec { qkv_bias: true, windows: upper_windows(config, dense.layers)?, ..dense })
}

/// Layers from `max_window_layers` on slide, if `use_sliding_window` says so at all.
pub(super) fn upper_windows(config: &Config<'_>, layers: usize) -> Result<Vec<Option<usize>>> {
    let window = match config.flag("use_sliding_window", false)? {
        true => sliding_window(config, Some(4096))?,
        false => None,
    };
    let first = config.count("max_window_layers")?.unwrap_or(28);
    windows(config, layers, window, |layer| layer >= first)
}
