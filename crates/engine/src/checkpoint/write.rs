//! Writing safetensors files.
//!
//! The bytes are those the Python library writes for the same tensors: sorted by number type,
//! widest first, then by name, with the header padded to eight bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::atomic::{Sink, write_atomic_with};
use crate::{DType, Error, Result, Tensor};

/// A tensor and the number type to write it in.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) tensor: &'a Tensor,
    pub(super) dtype: DType,
}

impl Entry<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.tensor.len() * self.dtype.size()
    }
}

/// Writes `tensors` to the safetensors file `path` in one step, each in its own number type.
///
/// Meant for optimiser state and other exact copies: values are not checked, every bit is kept.
pub fn write_tensors(
    path: impl AsRef<Path>,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    let entries: Vec<_> =
        tensors.iter().map(|(name, tensor)| Entry { name, tensor, dtype: tensor.dtype() }).collect();
    check_names(path, &entries)?;
    write_atomic_with(path, |sink| write_file(sink, &entries, metadata, |_, entry| Ok(entry.tensor.clone())))
}

/// Fails where two tensors share a name or one has the name the format reserves.
pub(super) fn check_names(path: &Path, entries: &[Entry<'_>]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for entry in entries {
        if entry.name == "__metadata__" {
            return Err(Error::format(path, "a tensor cannot be named __metadata__, the format reserves it"));
        }
        if !seen.insert(entry.name) {
            return Err(Error::format(path, format!("two tensors to be written are named {}", entry.name)));
        }
    }
    Ok(())
}

/// Writes a whole file; `convert` gives each tensor in the number type of its entry, one at a time
/// so that a converted model is never in memory as a whole.
pub(super) fn write_file(
    sink: &mut Sink<'_>,
    entries: &[Entry<'_>],
    metadata: &BTreeMap<String, String>,
    convert: impl Fn(&Path, &Entry<'_>) -> Result<Tensor>,
) -> Result<()> {
    let mut entries = entries.to_vec();
    entries.sort_by_key(|e| (std::cmp::Reverse(rank(e.dtype)), e.name));
    let header = header(&entries, metadata);
    sink.write(&(header.len() as u64).to_le_bytes())?;
    sink.write(header.as_bytes())?;
    for entry in &entries {
        let tensor = convert(sink.path(), entry)?;
        sink.write(tensor.bytes())?;
    }
    Ok(())
}

/// Place of a type in the order of the reference library.
fn rank(dtype: DType) -> usize {
    match dtype {
        DType::F16 => 0,
        DType::BF16 => 1,
        DType::I32 => 2,
        DType::U32 => 3,
        DType::F32 => 4,
    }
}

fn header(entries: &[Entry<'_>], metadata: &BTreeMap<String, String>) -> String {
    let mut parts = Vec::with_capacity(entries.len() + 1);
    if !metadata.is_empty() {
        parts.push(format!("\"__metadata__\":{}", json!(metadata)));
    }
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes();
        parts.push(format!(
            "{}:{}",
            json!(entry.name),
            json!({
                "dtype": entry.dtype.safetensors_name(),
                "shape": entry.tensor.shape(),
                "data_offsets": [offset, end],
            })
        ));
        offset = end;
    }
    let text = format!("{{{}}}", parts.join(","));
    // Spaces up to a multiple of eight keep the data aligned for whoever maps the file.
    let padding = text.len().next_multiple_of(8) - text.len();
    text + &" ".repeat(padding)
}
