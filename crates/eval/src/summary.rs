//! The figures of an evaluation.

use amend_run::Figure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What an evaluation comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Figures by name, in the order in which they are shown; those of a set are called `set/figure`.
    pub figures: Vec<(String, Figure)>,
    /// Figures that cannot be computed, by name, with the reason.
    pub missing: Vec<(String, String)>,
}

impl Summary {
    /// Adds a figure, or the reason why there is none.
    pub fn add(&mut self, name: impl Into<String>, figure: Result<Figure, String>) {
        match figure {
            Ok(figure) => self.figures.push((name.into(), figure)),
            Err(reason) => self.missing.push((name.into(), reason)),
        }
    }

    /// The figure of this name.
    pub fn figure(&self, name: &str) -> Option<Figure> {
        self.figures.iter().find(|(other, _)| other == name).map(|(_, figure)| *figure)
    }

    /// Both as JSON, by name.
    pub fn to_json(&self) -> Map<String, Value> {
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, f)| (name.clone(), json!(f))).collect();
        let missing: Map<String, Value> =
            self.missing.iter().map(|(name, why)| (name.clone(), json!(why))).collect();
        Map::from_iter([("figures".to_owned(), figures.into()), ("missing".to_owned(), missing.into())])
    }
}
