//! Reading one safetensors file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::header::{self, Header, TensorInfo};
use super::mmap::MappedFile;
use super::stored::StoredType;
use rayon::prelude::*;

use crate::{Error, Result, Tensor};

/// A safetensors file, mapped into memory, whose header has passed every check.
pub struct SafetensorsFile {
    file: MappedFile,
    header: Header,
}

impl SafetensorsFile {
    /// Opens `path` and checks that its header is well formed and describes exactly the bytes there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(path.as_ref())
    }

    fn open_file(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let header = Self::read_header(&file)?;
        Ok(SafetensorsFile { file, header })
    }

    fn read_header(file: &MappedFile) -> Result<Header> {
        let damaged = |message| Error::format(file.path(), message);
        let start = file.bytes(0..file.len().min(8))?;
        let length = header::header_length(start, file.len()).map_err(damaged)?;
        header::parse(file.bytes(8..8 + length)?, 8 + length..file.len()).map_err(damaged)
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Names of all tensors, in the header's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Type and shape of the named tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.index.get(name).map(|&i| &self.header.tensors[i].1)
    }

    /// The free strings the writer left under `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The named tensor, copied out of the file in its own number type (or the nearest the engine has).
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.decoded(name, StoredType::decode)
    }

    fn decoded(
        &self,
        name: &str,
        decode: impl FnOnce(StoredType, &[u8], &[usize]) -> std::result::Result<Tensor, String>,
    ) -> Result<Tensor> {
        let Some(info) = self.info(name) else {
            return Err(Error::missing_tensor(self.path(), format!("there is no tensor {name} in the file")));
        };
        let bytes = self.file.bytes(info.range.clone())?;
        decode(info.dtype, bytes, &info.shape)
            .map_err(|e| Error::format(self.path(), format!("tensor {name}: {e}")))
    }

    /// The named tensor in f32, of exactly the expected shape and with finite values only.
    pub fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Tensor> {
        if let Some(info) = self.info(name)
            && info.shape != expected
        {
            return Err(Error::shape(self.label(name), expected, &info.shape));
        }
        let tensor = self.decoded(name, StoredType::decode_f32)?;
        check_finite(&self.label(name), &tensor)?;
        Ok(tensor)
    }

    /// These rows of the named tensor in f32: [rows, columns], of a tensor of exactly the expected shape,
    /// with finite values only. Rows are what all dimensions but the last count.
    pub fn rows_f32(&self, name: &str, expected: &[usize], rows: Range<usize>) -> Result<Tensor> {
        let Some(info) = self.info(name) else {
            return Err(Error::missing_tensor(self.path(), format!("there is no tensor {name} in the file")));
        };
        let total = expected.iter().rev().skip(1).product();
        if info.shape != expected || rows.start > rows.end || rows.end > total {
            return Err(Error::shape(self.label(name), expected, &info.shape));
        }
        let shape = [rows.len(), expected.last().copied().unwrap_or(1)];
        let width = shape[1] * info.dtype.size();
        let start = info.range.start + rows.start * width;
        let bytes = self.file.bytes(start..start + rows.len() * width)?;
        let tensor = info
            .dtype
            .decode_f32(bytes, &shape)
            .map_err(|e| Error::format(self.path(), format!("tensor {name}: {e}")))?;
        check_finite(&format!("{}, rows {rows:?}", self.label(name)), &tensor)?;
        Ok(tensor)
    }

    fn label(&self, name: &str) -> String {
        format!("{}: tensor {name}", self.path().display())
    }
}

impl std::fmt::Debug for SafetensorsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SafetensorsFile({}, {} tensors)", self.path().display(), self.header.tensors.len())
    }
}

/// Fails where an f32 tensor holds NaN or an infinity, naming the first place and how many there are.
pub(super) fn check_finite(what: &str, tensor: &Tensor) -> Result<()> {
    let values = tensor.f32();
    // Counting without an early exit is a loop the compiler turns into vector code.
    let count: usize =
        values.par_chunks(1 << 18).map(|part| part.iter().filter(|x| !x.is_finite()).count()).sum();
    if count == 0 {
        return Ok(());
    }
    let first = values.iter().position(|x| !x.is_finite()).unwrap_or_default();
    let noun = if count == 1 { "value is" } else { "values are" };
    Err(Error::NotFinite {
        what: format!("{what}, index {:?}", coordinates(first, tensor.shape())),
        value: values[first].into(),
        hint: format!("; {count} of its {} {noun} NaN or infinite", values.len()),
    })
}

fn coordinates(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (out, &n) in place.iter_mut().zip(shape).rev() {
        *out = flat % n;
        flat /= n;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_value_is_named_with_its_place() {
        let tensor = Tensor::from_f32(&[0.0, 1.0, 2.0, f32::NEG_INFINITY, f32::NAN, 5.0], &[2, 3]).unwrap();
        let message = check_finite("tensor w", &tensor).unwrap_err().to_string();
        assert_eq!(
            message,
            "tensor w, index [1, 0]: -inf where a finite number is needed; 2 of its 6 values are NaN or infinite"
        );
    }
}
