//! The header of a safetensors file, checked in full before any weight is looked at.
//!
//! A file is: the header's length as a little-endian u64, that many bytes of JSON naming each
//! tensor's type, shape and byte range, and the tensors without a gap. The format is described at
//! <https://huggingface.co/docs/safetensors>. We parse it ourselves because each kind of damage
//! deserves its own sentence with the tensor's name in it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::stored::StoredType;

/// The format's own limit, so that a damaged length cannot ask for all memory.
const MAX_HEADER: u64 = 100_000_000;

/// What the header says about one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Number type.
    pub dtype: StoredType,
    /// Extent of every dimension.
    pub shape: Vec<usize>,
    /// Where its bytes are, counted from the start of the file.
    pub(super) range: Range<usize>,
}

/// A header that has passed every check.
#[derive(Debug)]
pub(super) struct Header {
    /// Tensors in the order the header lists them.
    pub(super) tensors: Vec<(String, TensorInfo)>,
    /// Position in `tensors` by name.
    pub(super) index: HashMap<String, usize>,
    /// The free strings under `__metadata__`.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Length of the JSON part, from the first eight bytes of a file of `file_length` bytes.
pub(super) fn header_length(start: &[u8], file_length: usize) -> Result<usize, String> {
    let Some((prefix, _)) = start.split_first_chunk::<8>() else {
        return Err(format!(
            "{file_length} bytes long, but a safetensors file starts with an 8-byte header length; \
             the download may have failed"
        ));
    };
    if start.starts_with(b"version ") {
        return Err("a git-lfs pointer instead of the weights; run `git lfs pull` in its folder".into());
    }
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER {
        return Err(format!(
            "oversized header: it claims {length} bytes, the format allows {MAX_HEADER}; \
             this is not a safetensors file, or its start is damaged"
        ));
    }
    if length > file_length as u64 - 8 {
        return Err(format!(
            "the header claims {length} bytes but only {} follow; the file is cut short",
            file_length - 8
        ));
    }
    Ok(length as usize)
}

/// Parses and checks the JSON part; the tensors occupy `data` of the file.
pub(super) fn parse(json: &[u8], data: Range<usize>) -> Result<Header, String> {
    let text = std::str::from_utf8(json).map_err(|e| format!("the header is not UTF-8 text: {e}"))?;
    let Entries(entries) =
        serde_json::from_str(text).map_err(|e| format!("the header is not valid JSON: {e}"))?;
    let mut header = Header {
        tensors: Vec::with_capacity(entries.len()),
        index: HashMap::new(),
        metadata: BTreeMap::new(),
    };
    for (name, value) in entries {
        if name == "__metadata__" {
            header.metadata = serde_json::from_value(value)
                .map_err(|e| format!("__metadata__ must map strings to strings: {e}"))?;
            continue;
        }
        let info = tensor_info(value, &data).map_err(|e| format!("tensor {name}: {e}"))?;
        if header.index.insert(name.clone(), header.tensors.len()).is_some() {
            return Err(format!("tensor {name} is listed twice"));
        }
        header.tensors.push((name, info));
    }
    check_tiling(&header.tensors, &data)?;
    Ok(header)
}

#[derive(Deserialize)]
struct RawInfo {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

fn tensor_info(value: Value, data: &Range<usize>) -> Result<TensorInfo, String> {
    let raw: RawInfo = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let dtype = StoredType::parse(&raw.dtype).ok_or_else(|| {
        format!(
            "unknown number type {:?}; supported are F32, F16, BF16, and F64, I64, I32, I16, I8, U64, U32, \
             U16, U8, BOOL by conversion",
            raw.dtype
        )
    })?;
    let (start, end) = raw.data_offsets;
    if end < start {
        return Err(format!("its data ends at byte {end}, before it starts at {start}"));
    }
    if end > data.len() {
        return Err(format!(
            "its data ends at byte {end}, but only {} bytes of data are in the file; the file is cut short",
            data.len()
        ));
    }
    // Zeros count as ones here so that no product over a part of the shape can overflow later.
    raw.shape
        .iter()
        .try_fold(dtype.size(), |product, &n| product.checked_mul(n.max(1)))
        .ok_or_else(|| format!("shape {:?} is larger than any memory", raw.shape))?;
    let needed = raw.shape.iter().product::<usize>() * dtype.size();
    if needed != end - start {
        return Err(format!(
            "shape {:?} of {dtype} needs {needed} bytes, but its data offsets span {}",
            raw.shape,
            end - start
        ));
    }
    Ok(TensorInfo { dtype, shape: raw.shape, range: data.start + start..data.start + end })
}

/// The tensors must cover the data exactly once: an overlap would alias two weights, a gap hides bytes.
fn check_tiling(tensors: &[(String, TensorInfo)], data: &Range<usize>) -> Result<(), String> {
    let mut sorted: Vec<_> =
        tensors.iter().map(|(name, info)| (info.range.start, info.range.end, name)).collect();
    sorted.sort_unstable();
    let mut covered = data.start;
    let mut previous = "the header";
    for (start, end, name) in sorted {
        if start < covered {
            return Err(format!("tensors {previous} and {name} overlap"));
        }
        if start > covered {
            return Err(format!("{} unused bytes between {previous} and tensor {name}", start - covered));
        }
        covered = end;
        previous = name;
    }
    if covered != data.end {
        return Err(format!("{} unused bytes after {previous}, the last tensor", data.end - covered));
    }
    Ok(())
}

/// A JSON object as a list, so that a name listed twice is noticed instead of overwritten.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that maps tensor names to their type, shape and offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str, data: usize) -> String {
        parse(json.as_bytes(), 8 + json.len()..8 + json.len() + data).unwrap_err()
    }

    fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    }

    #[test]
    fn every_damage_has_its_own_sentence() {
        let pair = |a: &str, b: &str| {
            format!(r#"{{"a":{},"b":{}}}"#, entry("F32", "[2]", a), entry("F32", "[1]", b))
        };
        let one =
            |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"w":{}}}"#, entry(dtype, shape, offsets));
        let cases = [
            ("[1]".to_string(), 0, "not valid JSON"),
            ("{\"w\":".to_string(), 0, "not valid JSON"),
            (r#"{"w":{"dtype":"F32","shape":[1]}}"#.to_string(), 4, "tensor w: missing field `data_offsets`"),
            (one("F32", "[-1]", "[0,4]"), 4, "tensor w: invalid value"),
            (one("F99", "[1]", "[0,4]"), 4, "unknown number type \"F99\"; supported are F32"),
            (one("F32", "[1]", "[4,0]"), 4, "ends at byte 0, before it starts at 4"),
            (one("F32", "[2]", "[0,8]"), 4, "cut short"),
            (one("F32", "[2]", "[0,4]"), 4, "needs 8 bytes, but its data offsets span 4"),
            (one("F32", "[9223372036854775807,9]", "[0,4]"), 4, "larger than any memory"),
            (pair("[0,8]", "[4,8]"), 8, "tensors a and b overlap"),
            (pair("[0,8]", "[12,16]"), 16, "4 unused bytes between a and tensor b"),
            (pair("[0,8]", "[8,12]"), 16, "4 unused bytes after b"),
            (format!(r#"{{"w":{0},"w":{0}}}"#, entry("F32", "[0]", "[0,0]")), 0, "tensor w is listed twice"),
            (r#"{"__metadata__":{"a":1}}"#.to_string(), 0, "__metadata__ must map strings to strings"),
        ];
        for (json, data, expected) in cases {
            let message = refusal(&json, data);
            assert!(message.contains(expected), "{json}\n{message}");
        }
        assert!(parse(b"\xff\xfe", 10..10).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn empty_tensors_and_scalars_are_fine() {
        let json = format!(
            r#"{{"none":{},"scalar":{},"late":{}}}"#,
            entry("BF16", "[0,7]", "[0,0]"),
            entry("F32", "[]", "[0,4]"),
            entry("I64", "[0]", "[4,4]")
        );
        let header = parse(json.as_bytes(), 100..104).unwrap();
        assert_eq!(header.tensors[1].1.range, 100..104);
        assert_eq!(header.index["late"], 2);
    }

    #[test]
    fn the_length_prefix_is_checked_against_format_and_file() {
        assert!(header_length(b"short", 5).unwrap_err().contains("8-byte header length"));
        assert!(header_length(&u64::MAX.to_le_bytes(), 8).unwrap_err().contains("oversized header"));
        assert!(header_length(&[9, 0, 0, 0, 0, 0, 0, 0], 16).unwrap_err().contains("cut short"));
        assert!(header_length(b"version https://git-lfs", 130).unwrap_err().contains("git lfs pull"));
        assert_eq!(header_length(&[8, 0, 0, 0, 0, 0, 0, 0], 16), Ok(8));
    }
}
