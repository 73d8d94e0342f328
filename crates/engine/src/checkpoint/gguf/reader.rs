//! The header of a GGUF file, checked in full before any weight is looked at.
//!
//! A file is: the magic `GGUF`, a version, the numbers of tensors and of metadata entries, the
//! entries, name, shape, type and offset of each tensor, padding, and the tensors. The format is
//! described at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Every count in it is
//! compared with the bytes that are there before anything is allocated for it.

use std::collections::HashMap;
use std::ops::Range;

use super::metadata::{Metadata, Value};
use super::types::GgufType;

/// The first four bytes of every file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// The alignment of tensors where the file does not say another.
pub(super) const ALIGNMENT: usize = 32;

/// Arrays of arrays of arrays … are refused beyond this depth.
const DEEPEST: usize = 4;

/// The most dimensions ggml has.
const MOST_DIMENSIONS: u32 = 4;

/// What the header says about one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorEntry {
    pub(super) name: String,
    /// Extents, the slowest first (the file has the fastest first).
    pub(super) shape: Vec<usize>,
    pub(super) kind: GgufType,
    /// Where its bytes are, counted from the start of the file.
    pub(super) range: Range<usize>,
}

/// A header that has passed every check.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorEntry>,
    /// Position in `tensors` by name.
    pub(super) index: HashMap<String, usize>,
}

/// Parses and checks the header of a file whose bytes are `file`.
pub(super) fn parse(file: &[u8]) -> Result<Header, String> {
    let mut at = Cursor { bytes: file, position: 0 };
    check_start(&mut at)?;
    let (tensors, entries) = (at.u64()?, at.u64()?);
    // A tensor takes at least 24 bytes and an entry 13, so these also bound the work.
    at.afford(tensors, 24, "tensors")?;
    at.afford(entries, 13, "metadata entries")?;
    let mut header = Header::default();
    for _ in 0..entries {
        let key = at.string().map_err(|e| format!("the name of a metadata entry: {e}"))?;
        let value = at.value(0).map_err(|e| format!("metadata {key}: {e}"))?;
        header.metadata.insert(key, value)?;
    }
    let alignment = alignment(&header.metadata)?;
    let mut offsets = Vec::new();
    for number in 0..tensors {
        let name = at.string().map_err(|e| format!("the name of tensor {number}: {e}"))?;
        let (entry, offset) = tensor(&mut at, &name).map_err(|e| format!("tensor {name}: {e}"))?;
        if header.index.insert(name.clone(), header.tensors.len()).is_some() {
            return Err(format!("tensor {name} is listed twice"));
        }
        header.tensors.push(entry);
        offsets.push(offset);
    }
    let data = at.position.next_multiple_of(alignment);
    for (entry, offset) in header.tensors.iter_mut().zip(offsets) {
        entry.range = place(entry, offset, data, alignment, file.len())
            .map_err(|e| format!("tensor {}: {e}", entry.name))?;
    }
    check_overlap(&header.tensors)?;
    Ok(header)
}

fn check_start(at: &mut Cursor<'_>) -> Result<(), String> {
    if at.bytes.starts_with(b"version ") {
        return Err("a git-lfs pointer instead of the model; run `git lfs pull` in its folder".into());
    }
    if !at.bytes.starts_with(MAGIC) {
        return Err("does not begin with GGUF, so it is no such file; the download may have failed".into());
    }
    at.position = MAGIC.len();
    match at.u32()? {
        2 | 3 => Ok(()),
        1 => Err("GGUF version 1, which was used for a few weeks of 2023; take a newer file".into()),
        version if version.swap_bytes() <= 3 => {
            Err("a big-endian GGUF file; convert it with gguf_convert_endian.py".into())
        }
        version => Err(format!("GGUF version {version} is not known; known are 2 and 3")),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize, String> {
    match metadata.count("general.alignment")? {
        None => Ok(ALIGNMENT),
        Some(n) if n.is_power_of_two() && n <= 1 << 20 => Ok(n),
        Some(n) => Err(format!("general.alignment is {n}, but must be a power of two")),
    }
}

/// Shape, type and offset of one tensor; its place in the file is not known yet.
fn tensor(at: &mut Cursor<'_>, name: &str) -> Result<(TensorEntry, u64), String> {
    let dimensions = at.u32()?;
    if dimensions > MOST_DIMENSIONS {
        return Err(format!(
            "it claims {dimensions} dimensions, but {MOST_DIMENSIONS} is the most there can be"
        ));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let n = at.u64()?;
        shape.push(usize::try_from(n).map_err(|_| format!("an extent of {n} is larger than any memory"))?);
    }
    shape.reverse();
    let kind = GgufType::from_number(at.u32()?)?;
    let offset = at.u64()?;
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.block()) {
        return Err(format!(
            "rows of {row} values are no whole blocks of {kind}, which has {} each",
            kind.block()
        ));
    }
    Ok((TensorEntry { name: name.to_owned(), shape, kind, range: 0..0 }, offset))
}

/// The bytes of a tensor: `offset` into the data, which begin at `data` in a file of `length` bytes.
fn place(
    entry: &TensorEntry,
    offset: u64,
    data: usize,
    alignment: usize,
    length: usize,
) -> Result<Range<usize>, String> {
    // Zeros count as ones so that no product over a part of the shape can overflow later, and every
    // value as four bytes since it becomes an f32.
    let fits = entry.shape.iter().try_fold(4usize, |product, &n| product.checked_mul(n.max(1)));
    let bytes = fits.and_then(|_| entry.kind.bytes(entry.shape.iter().product()));
    let Some(bytes) = bytes else {
        return Err(format!("shape {:?} is larger than any memory", entry.shape));
    };
    let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
    let end = start.and_then(|start| start.checked_add(bytes)).filter(|&end| end <= length);
    let (Some(start), Some(end)) = (start, end) else {
        return Err(format!(
            "its {bytes} bytes at offset {offset} reach beyond the file's {length}; the file is cut short"
        ));
    };
    if !offset.is_multiple_of(alignment as u64) {
        return Err(format!(
            "its offset {offset} is no multiple of the alignment {alignment}; the file is damaged"
        ));
    }
    Ok(start..end)
}

/// Two tensors on the same bytes would be one weight under two names.
fn check_overlap(tensors: &[TensorEntry]) -> Result<(), String> {
    let mut sorted: Vec<_> = tensors.iter().filter(|t| !t.range.is_empty()).collect();
    sorted.sort_unstable_by_key(|t| (t.range.start, t.range.end));
    match sorted.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
        Some(pair) => Err(format!("tensors {} and {} overlap", pair[0].name, pair[1].name)),
        None => Ok(()),
    }
}

/// Reads little-endian numbers and strings, never beyond the end.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn take(&mut self, n: usize) -> Result<&[u8], String> {
        if n > self.rest() {
            return Err(format!("{n} bytes are needed at byte {}, where the file ends", self.position));
        }
        let start = self.position;
        self.position += n;
        Ok(&self.bytes[start..self.position])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Fails where `count` things of at least `size` bytes cannot be in the rest of the file.
    fn afford(&self, count: u64, size: usize, what: &str) -> Result<usize, String> {
        match usize::try_from(count).ok().filter(|n| n.checked_mul(size).is_some_and(|b| b <= self.rest())) {
            Some(count) => Ok(count),
            None => Err(format!(
                "it claims {count} {what}, which cannot be in the {} bytes that follow; the file is cut short or damaged",
                self.rest()
            )),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        let length = self.afford(length, 1, "bytes of text")?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| format!("not UTF-8 text: {e}"))
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        let kind = self.u32()?;
        self.value_of(kind, depth)
    }

    /// A value of the type the format numbers `kind`.
    fn value_of(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0..=5 | 10 | 11 => Value::Int(self.integer(kind)?),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.truth()?),
            8 => Value::Text(self.string()?),
            9 => self.list(depth)?,
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            other => {
                return Err(format!("unknown value type {other}; the file is damaged or newer than known"));
            }
        })
    }

    fn integer(&mut self, kind: u32) -> Result<i128, String> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            10 => self.u64()?.into(),
            _ => i64::from_le_bytes(self.array()?).into(),
        })
    }

    fn truth(&mut self) -> Result<bool, String> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("a truth value is {other}; the file is damaged")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        if depth == DEEPEST {
            return Err("lists within lists within lists; the file is damaged".into());
        }
        let (kind, count) = (self.u32()?, self.u64()?);
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            other => return Err(format!("a list of unknown value type {other}")),
        };
        let count = self.afford(count, size, "list elements")?;
        Ok(match kind {
            6 => Value::Floats(self.each(count, |c| Ok(f32::from_le_bytes(c.array()?)))?),
            12 => Value::Floats(self.each(count, |c| Ok(f64::from_le_bytes(c.array()?) as f32))?),
            7 => Value::Bools(self.each(count, Self::truth)?),
            8 => Value::Texts(self.each(count, Self::string)?),
            9 => {
                for _ in 0..count {
                    self.list(depth + 1)?;
                }
                Value::Nested
            }
            // No list of integers that is read here has values beyond the signed ones.
            _ => Value::Ints(self.each(count, |c| Ok(i64::try_from(c.integer(kind)?).unwrap_or(i64::MAX)))?),
        })
    }

    fn each<T>(
        &mut self,
        count: usize,
        read: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }
}
