//! What runs read, and by what and where they were made.

use std::collections::BTreeMap;

use super::FinishedRun;
use crate::recipe::{Difference, leaves, unlike};

impl FinishedRun {
    /// SHA-256 of the models that the run read, each under the key of the recipe that names it: `model.path`.
    pub fn models(&self) -> Vec<(String, String)> {
        self.by_key(&self.state.info.model)
    }

    /// The same of the data files: `data.forget`.
    pub fn data(&self) -> Vec<(String, String)> {
        self.by_key(&self.state.info.data)
    }

    /// Hashes by path as hashes by key: the same file may have another path in another recipe.
    fn by_key(&self, hashes: &BTreeMap<String, String>) -> Vec<(String, String)> {
        // A recipe that cannot be read is told of where recipes are compared.
        let leaves = leaves(&self.recipe).unwrap_or_default();
        let mut found: Vec<(String, String)> = Vec::new();
        for (path, hash) in hashes {
            let keys = leaves.iter().filter(|(_, value)| value == path).map(|(key, _)| key.clone());
            let before = found.len();
            found.extend(keys.map(|key| (key, hash.clone())));
            if found.len() == before {
                found.push((path.clone(), hash.clone()));
            }
        }
        found
    }

    /// The keys under which two runs read models with different content. What only one of them reads is no other model.
    pub fn other_models(&self, other: &Self) -> Vec<String> {
        other_content(&self.models(), &other.models())
    }

    /// The keys under which two runs read data with different content. What only one of them reads is no other data.
    pub fn other_data(&self, other: &Self) -> Vec<String> {
        other_content(&self.data(), &other.data())
    }

    /// What differs between runs besides their recipes: the program, the machine, and the SHA-256 of what they read.
    pub fn setup_differences(runs: &[Self]) -> Vec<Difference> {
        let facts = |run: &Self| {
            let programs: Vec<String> = run.state.programs().iter().map(ToString::to_string).collect();
            let hashes = run.models().into_iter().chain(run.data());
            let mut facts = vec![
                ("version".to_owned(), programs.join(", then ")),
                ("machine".to_owned(), run.state.machine.to_string()),
            ];
            facts.extend(hashes.map(|(key, hash)| (format!("SHA-256 of {key}"), hash)));
            facts
        };
        unlike(&runs.iter().map(facts).collect::<Vec<_>>())
    }
}

/// The keys that both have, with different hashes. Models of arms are what is compared, not what it rests on.
fn other_content(ours: &[(String, String)], theirs: &[(String, String)]) -> Vec<String> {
    let other = |(key, hash): &&(String, String)| {
        !key.starts_with("compare.") && theirs.iter().any(|(k, h)| k == key && h != hash)
    };
    ours.iter().filter(other).map(|(key, _)| key.clone()).collect()
}
