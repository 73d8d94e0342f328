//! The metadata of a GGUF file: named values, and typed lookups whose errors name the key.

use std::collections::HashMap;

/// One value. The file's eleven number types are kept as what they mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// An integer of any width.
    Int(i128),
    /// An f32 or f64; the former is kept in `f32` so that it can be shown in its own digits.
    Float(f64),
    F32(f32),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
    /// An array of arrays, which nothing here has a use for.
    Nested,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "an integer",
            Value::Float(_) | Value::F32(_) => "a float",
            Value::Bool(_) => "a truth value",
            Value::Text(_) => "a string",
            Value::Ints(_) => "a list of integers",
            Value::Floats(_) => "a list of floats",
            Value::Bools(_) => "a list of truth values",
            Value::Texts(_) => "a list of strings",
            Value::Nested => "a list of lists",
        }
    }
}

/// All named values, in the file's order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Adds a value. Fails where the key is there already.
    pub(crate) fn insert(&mut self, key: impl Into<String>, value: Value) -> Result<(), String> {
        let key = key.into();
        if self.index.insert(key.clone(), self.entries.len()).is_some() {
            return Err(format!("the key {key} is there twice"));
        }
        self.entries.push((key, value));
        Ok(())
    }

    /// Every key with its value.
    pub(crate) fn entries(&self) -> &[(String, Value)] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(format!("{key} must be {wanted}, but is {}", value.kind())),
            },
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.typed(key, "a string", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>, String> {
        self.typed(key, "a list of strings", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            Value::Ints(none) if none.is_empty() => Some(&[][..]),
            _ => None,
        })
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A number that is not negative and that some machine could count to.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, String> {
        let count = self.typed(key, "a whole number", |value| match value {
            // Some writers give a number that is the same in every layer once per layer.
            Value::Ints(all) => match all.as_slice() {
                [first, rest @ ..] if rest.iter().all(|n| n == first) => Some(i128::from(*first)),
                _ => None,
            },
            Value::Int(n) => Some(*n),
            _ => None,
        })?;
        match count {
            // Small enough that no product of two overflows.
            Some(n) if !(0..=1 << 31).contains(&n) => Err(format!("{key} is {n}, which no model has")),
            Some(n) => Ok(Some(n as usize)),
            None => Ok(None),
        }
    }

    /// A count that must be there and not be zero.
    pub(crate) fn size(&self, key: &str) -> Result<usize, String> {
        match self.count(key)? {
            Some(0) => Err(format!("{key} must not be 0")),
            Some(n) => Ok(n),
            None => Err(format!("the key {key} is missing")),
        }
    }

    /// A number. An f32 becomes the f64 with the same shortest decimal digits: 1e-5 and not
    /// 0.000009999999747378752, which is how configurations write it.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, String> {
        self.typed(key, "a number", |value| match value {
            Value::F32(x) => x.to_string().parse().ok(),
            Value::Float(x) => Some(*x),
            Value::Int(n) => Some(*n as f64),
            _ => None,
        })
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<&[f32]>, String> {
        self.typed(key, "a list of floats", |value| match value {
            Value::Floats(floats) => Some(floats.as_slice()),
            _ => None,
        })
    }

    pub(crate) fn ints(&self, key: &str) -> Result<Option<&[i64]>, String> {
        self.typed(key, "a list of integers", |value| match value {
            Value::Ints(ints) => Some(ints.as_slice()),
            _ => None,
        })
    }

    /// A token id below `tokens`; ids beyond, such as −1, are how some writers say "none".
    pub(crate) fn token(&self, key: &str, tokens: usize) -> Result<Option<u32>, String> {
        let id = self.typed(key, "a whole number", |value| match value {
            Value::Int(n) => Some(*n),
            _ => None,
        })?;
        Ok(id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < tokens))
    }
}
