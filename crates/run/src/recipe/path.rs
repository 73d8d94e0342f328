//! Paths written in a recipe.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A path in a recipe. A relative one starts from the recipe's own folder, so that a recipe works from anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct RecipePath(pub String);

impl RecipePath {
    /// The path to open, given the recipe's folder. `~/` is the user's home, as in a shell.
    pub fn resolve(&self, base: &Path) -> PathBuf {
        match (self.0.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => base.join(&self.0),
        }
    }

    /// The path as the recipe says it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RecipePath {
    fn from(path: &str) -> Self {
        Self(path.to_owned())
    }
}

impl fmt::Display for RecipePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_from_the_recipe() {
        let base = Path::new("recipes");
        assert_eq!(RecipePath::from("data/a.json").resolve(base), Path::new("recipes/data/a.json"));
        assert_eq!(RecipePath::from("/data/a.json").resolve(base), Path::new("/data/a.json"));
    }
}
