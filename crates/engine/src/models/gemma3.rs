//! Gemma 3 (text): Gemma 2 with normalised queries and keys, no bound on scores, and one rotation for
//! layers with a window, another for those without.

use super::config::Config;
use super::gemma2::gemma_spec;
use super::{Family, Positions, QkNorm, Rope, RopeScaling, Spec, sliding_window, softcap, windows};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "gemma3_text", spec };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let gemma = gemma_spec(config, 1_000_000.0)?;
    let window = sliding_window(config, Some(4096))?;
    let pattern = match config.count("sliding_window_pattern")? {
        Some(pattern) => pattern,
        None => config.count("_sliding_window_pattern")?.unwrap_or(6),
    };
    if pattern == 0 {
        return Err(config.error("\"sliding_window_pattern\" must not be 0"));
    }
    // Whether a layer slides decides its rotation too, even where the window's width is null.
    let slides = windows(config, gemma.layers, Some(1), |layer| !(layer + 1).is_multiple_of(pattern))?;
    let (global, local) = ropes(config, gemma.head_dim)?;
    let rope_of = |slides: &Option<usize>| if slides.is_some() { local.clone() } else { global.clone() };
    Ok(Spec {
        windows: slides.iter().map(|slides| slides.and(window)).collect(),
        positions: Positions::Rotary(slides.iter().map(rope_of).collect()),
        qk_norm: Some(QkNorm::PerHead),
        logit_softcap: softcap(config, "final_logit_softcapping", None)?,
        context: global.context(config.size("max_position_embeddings")?),
        ..gemma
    })
}

/// The rotations of full and of sliding layers. Scaling is the full ones' alone, unless the newer keys,
/// which describe each kind of layer by itself, say otherwise.
fn ropes(config: &Config<'_>, head_dim: usize) -> Result<(Rope, Rope)> {
    let theta = config.float("rope_theta")?.unwrap_or(1_000_000.0);
    let local_theta = config.float("rope_local_base_freq")?.unwrap_or(10_000.0);
    let (global, local) = match (config.object("rope_parameters")?, config.object("rope_scaling")?) {
        (Some(_), Some(_)) => {
            return Err(
                config.error("\"rope_parameters\" and \"rope_scaling\" are both there; keep the first")
            );
        }
        (Some(by_kind), None) => (by_kind.object("full_attention")?, by_kind.object("sliding_attention")?),
        (None, scaling) => (scaling, None),
    };
    let rope = |parameters, theta| -> Result<Rope> {
        let mut rope = Rope::with(config, parameters, head_dim, theta, 1.0)?;
        // The reference looks for this option beside the kinds of layers, so it is always at its default.
        if let RopeScaling::Yarn { truncate, .. } = &mut rope.scaling {
            *truncate = true;
        }
        Ok(rope)
    };
    Ok((rope(global, theta)?, rope(local, local_theta)?))
}
