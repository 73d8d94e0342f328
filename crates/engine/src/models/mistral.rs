//! Mistral: Llama with a sliding window in every layer (where the config gives one).

use super::config::Config;
use super::{Family, Spec, dense_spec, sliding_window, windows};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "mistral", spec };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let dense = dense_spec(config, 10_000.0)?;
    // An absent key means the first release's window; an explicit null means none.
    let window = sliding_window(config, Some(4096))?;
    Ok(Spec { windows: windows(config, dense.layers, window, |_| true)?, ..dense })
}
