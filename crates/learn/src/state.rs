//! What a learner needs to go on after an interruption, by name: tensors, and everything else as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use amend_engine::Tensor;
use amend_engine::checkpoint::{SafetensorsFile, write_tensors};
use amend_run::file::write_atomic;
use amend_run::stored;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

const TENSORS: &str = "tensors.safetensors";
const VALUES: &str = "values.json";

/// Collects a learner's state. Names are its own; a dot parts what belongs to different things.
#[derive(Debug, Default)]
pub struct StateWriter {
    tensors: Vec<(String, Tensor)>,
    values: Map<String, Value>,
}

impl StateWriter {
    /// Keeps a tensor, of any type and shape, bit for bit.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) {
        self.tensors.push((name.to_owned(), tensor.clone()));
    }

    /// Keeps anything that JSON can say: a multiplier, a counter, a buffer of token ids. Numbers keep all their
    /// bits; NaN and infinities come back as NaN.
    ///
    /// # Errors
    /// Where JSON cannot say it.
    pub fn value(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = stored::to_value(value)
            .map_err(|e| Error::invalid(format!("state {name} cannot be kept: {e}")))?;
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// Writes everything into the folder `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        write_tensors(dir.join(TENSORS), &self.tensors, &BTreeMap::new())?;
        let mut text = Value::Object(self.values.clone()).to_string();
        text.push('\n');
        Ok(write_atomic(&dir.join(VALUES), text.as_bytes())?)
    }
}

/// Gives a learner's state back by the same names.
pub struct StateReader {
    tensors: SafetensorsFile,
    values: Map<String, Value>,
}

impl StateReader {
    /// Opens what a [`StateWriter`] wrote to the folder `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(VALUES);
        let text =
            std::fs::read_to_string(&path).map_err(|e| amend_engine::Error::io(&path, "cannot read", e))?;
        let values = serde_json::from_str(&text).map_err(|e| damaged(&path, &e))?;
        Ok(StateReader { tensors: SafetensorsFile::open(dir.join(TENSORS))?, values })
    }

    /// The tensor of this name, as it was kept.
    ///
    /// # Errors
    /// Where there is none.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.tensors.tensor(name)?)
    }

    /// The tensor of this name in f32; it must have the shape `expected`.
    ///
    /// # Errors
    /// Where there is none, or it has another shape.
    pub fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Tensor> {
        Ok(self.tensors.tensor_f32(name, expected)?)
    }

    /// The tensor of this name, where one was kept.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn tensor_if_any(&self, name: &str) -> amend_engine::Result<Option<Tensor>> {
        self.tensors.info(name).map(|_| self.tensors.tensor(name)).transpose()
    }

    /// The value of this name, where one was kept.
    ///
    /// # Errors
    /// Where it is of another kind.
    pub fn value_if_any<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.values.contains_key(name).then(|| self.value(name)).transpose()
    }

    /// The value of this name.
    ///
    /// # Errors
    /// Where there is none, or it is of another kind.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.tensors.path().with_file_name(VALUES);
        let value = self.values.get(name).cloned();
        let value = value.ok_or_else(|| damaged(&path, &format!("{name} is missing")))?;
        stored::from_value(value).map_err(|e| damaged(&path, &format!("{name}: {e}")))
    }
}

fn damaged(path: &Path, what: &dyn std::fmt::Display) -> Error {
    let path = path.display();
    Error::invalid(format!(
        "{path}: not what this stage kept ({what}); remove its folder to begin the stage anew"
    ))
}
