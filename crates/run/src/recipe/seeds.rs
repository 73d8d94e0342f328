//! The seeds that a recipe is run with.

use schemars::JsonSchema;
use serde::de;
use serde::{Deserialize, Deserializer, Serialize};

/// How often a recipe is run, each time with another seed: a number, or the seeds themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Seeds {
    /// So many, counting up from the recipe's `seed`.
    Count(#[schemars(range(min = 1, max = 10000))] u64),
    /// These, each of them once.
    These(#[schemars(length(min = 1))] Vec<u64>),
}

impl Default for Seeds {
    fn default() -> Self {
        Seeds::Count(1)
    }
}

impl Seeds {
    /// The seeds, the first of which is `first` where they are counted.
    pub fn from(&self, first: u64) -> Vec<u64> {
        match self {
            Seeds::Count(count) => (0..*count).map(|i| first.wrapping_add(i)).collect(),
            Seeds::These(seeds) => seeds.clone(),
        }
    }
}

/// By hand, so that a list in which a seed stands twice is refused where it stands: the second would be no repetition.
impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Count(u64),
            These(Vec<u64>),
        }

        match Given::deserialize(deserializer)? {
            Given::Count(count) => Ok(Seeds::Count(count)),
            Given::These(seeds) if seeds.is_empty() => Err(de::Error::custom("at least one seed is needed")),
            Given::These(seeds) => match (1..seeds.len()).find(|&i| seeds[..i].contains(&seeds[i])) {
                Some(i) => Err(de::Error::custom(format!("seed {} stands twice", seeds[i]))),
                None => Ok(Seeds::These(seeds)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Recipe {
        seeds: Seeds,
    }

    fn read(text: &str) -> Result<Vec<u64>, String> {
        toml::from_str::<Recipe>(text).map(|recipe| recipe.seeds.from(5)).map_err(|e| e.to_string())
    }

    #[test]
    fn seeds_are_counted_or_listed() {
        assert_eq!(read("seeds = 3").unwrap(), [5, 6, 7]);
        assert_eq!(read("seeds = [1, 7, 42]").unwrap(), [1, 7, 42]);
        assert!(read("seeds = [1, 7, 1]").unwrap_err().contains("seed 1 stands twice"));
        assert!(read("seeds = []").unwrap_err().contains("at least one seed"));
    }
}
