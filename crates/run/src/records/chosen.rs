//! The records that a recipe means: a file, or some of what is in it.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Filter;
use crate::RecipePath;

/// Records as a recipe names them: `"facts.jsonl"`, or `{ path = "facts.jsonl", where = 'author = "Ann"' }`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Chosen {
    /// All of a file.
    All(RecipePath),
    /// Those of a file that the filter means.
    Some(Part),
}

/// A part of a file's records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The file.
    pub path: RecipePath,
    /// Which of its records: `author = "Ann" and year >= 1950`, `topic in [sea, ships]`, `record <= 20`.
    pub r#where: Filter,
}

/// By hand: what is wrong with a filter is said, and where, instead of that no variant matches.
impl<'de> Deserialize<'de> for Chosen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Chosen;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a file, or { path, where }")
            }

            fn visit_str<E>(self, path: &str) -> Result<Chosen, E> {
                Ok(Chosen::All(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Chosen, A::Error> {
                Part::deserialize(MapAccessDeserializer::new(map)).map(Chosen::Some)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Chosen {
    /// The file.
    pub fn path(&self) -> &RecipePath {
        match self {
            Chosen::All(path) => path,
            Chosen::Some(part) => &part.path,
        }
    }

    /// Which of its records, where not all.
    pub fn filter(&self) -> Option<&Filter> {
        match self {
            Chosen::All(_) => None,
            Chosen::Some(part) => Some(&part.r#where),
        }
    }

    /// The file to open, given the recipe's folder.
    pub fn resolve(&self, base: &Path) -> std::path::PathBuf {
        self.path().resolve(base)
    }
}

impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Chosen::All(path) => path.fmt(f),
            Chosen::Some(part) => write!(f, "{} where {}", part.path, part.r#where),
        }
    }
}
