//! Adapter folders: `adapter_config.json` and `adapter_model.safetensors`, as PEFT names them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::atomic::StagedFolder;
use super::safetensors::SafetensorsFile;
use super::write::{Entry, write_file};
use crate::json::{read_object, to_pretty_bytes};
use crate::{Error, Result, Tensor};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Path and content of an adapter folder's config.
pub(crate) fn adapter_config(dir: &Path) -> Result<(PathBuf, Map<String, Value>)> {
    let path = dir.join(CONFIG);
    if !path.exists() {
        return Err(Error::format(dir, format!("there is no {CONFIG}, so this is not an adapter folder")));
    }
    let config = read_object(&path)?;
    Ok((path, config))
}

/// An adapter folder's tensors.
pub(crate) fn adapter_weights(dir: &Path) -> Result<SafetensorsFile> {
    let path = dir.join(WEIGHTS);
    if path.exists() {
        return SafetensorsFile::open(path);
    }
    Err(Error::format(
        dir,
        if dir.join("adapter_model.bin").exists() {
            "adapter_model.bin is a pickle file, which is never opened because reading one executes it; \
             load it in Python and save it again with safe_serialization=True"
                .into()
        } else {
            format!("there is no {WEIGHTS}")
        },
    ))
}

/// Writes an adapter folder in one step. Fails where `dir` is not empty.
pub(crate) fn write_adapter(dir: &Path, config: &Value, tensors: &BTreeMap<String, &Tensor>) -> Result<()> {
    let folder = StagedFolder::new(dir)?;
    folder.write(CONFIG, &to_pretty_bytes(config))?;
    let entries: Vec<_> =
        tensors.iter().map(|(name, tensor)| Entry { name, tensor, dtype: tensor.dtype() }).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    folder.write_with(WEIGHTS, |sink| write_file(sink, &entries, &metadata, |_, e| Ok(e.tensor.clone())))?;
    folder.commit()
}
