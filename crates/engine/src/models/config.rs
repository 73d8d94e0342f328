//! Reading `config.json`: typed lookups whose errors name the key.

use serde_json::{Map, Value};

use crate::{Error, Result};

/// A `config.json` under its folder's name.
pub(crate) struct Config<'a> {
    values: &'a Map<String, Value>,
    place: String,
}

impl<'a> Config<'a> {
    /// Errors where a flag is set that asks for something unsupported.
    pub(crate) fn refuse(&self, key: &str, what: &str) -> Result<()> {
        match self.flag(key, false)? {
            true => Err(self.unsupported(format!("\"{key}\" is set, but {what} is not supported"))),
            false => Ok(()),
        }
    }

    pub(crate) fn new(values: &'a Map<String, Value>, place: impl Into<String>) -> Self {
        Config { values, place: place.into() }
    }

    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::Config { place: self.place.clone(), message: message.to_string() }
    }

    pub(crate) fn unsupported(&self, message: impl std::fmt::Display) -> Error {
        Error::Unsupported { place: self.place.clone(), message: message.to_string() }
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    /// Whether it says nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Errors where the weights are stored in a form that only the library that made it can read: some of
    /// them have the shapes and types of plain weights, and would be taken for such.
    pub(crate) fn refuse_quantized(&self) -> Result<()> {
        let Some(how) = self.object("quantization_config")? else { return Ok(()) };
        let method = how.text("quant_method")?.unwrap_or("an unnamed method");
        Err(self.unsupported(format!(
            "\"quantization_config\" says that the weights are quantised ({method}), which is not supported; \
             dequantise the model in Python, or use its unquantised or GGUF version"
        )))
    }

    /// Whether the key is there at all, null included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.value(key) {
            None => Ok(None),
            Some(v) => match read(v) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(format!("\"{key}\" must be {wanted}, found {v}"))),
            },
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        match self.typed(key, "a whole number", Value::as_u64)? {
            // A lying size would otherwise surface as an overflow deep inside an allocation.
            Some(n) if n > 1 << 32 => Err(self.error(format!("\"{key}\" is {n}, which no model has"))),
            n => Ok(n.map(|n| n as usize)),
        }
    }

    /// A count that must be there and not be zero.
    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        match self.count(key)? {
            Some(0) => Err(self.error(format!("\"{key}\" must not be 0"))),
            Some(n) => Ok(n),
            None => Err(self.error(format!("\"{key}\" is missing"))),
        }
    }

    /// A count that is not 0; `default` where the config does not say.
    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.value(key).is_some() { self.size(key) } else { Ok(default) }
    }

    /// A nested object, read with the same manners.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Config<'a>>> {
        let object = self.typed(key, "an object", Value::as_object)?;
        Ok(object.map(|o| Config::new(o, format!("{}: {key}", self.place))))
    }

    /// A list of whole numbers.
    pub(crate) fn counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.typed(key, "a list of whole numbers", |v| {
            v.as_array()?.iter().map(|n| n.as_u64().map(|n| n as usize)).collect()
        })
    }

    /// A list of numbers.
    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |v| v.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.typed(key, "a list of strings", |v| v.as_array()?.iter().map(Value::as_str).collect())
    }
}
