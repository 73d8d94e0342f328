//! The stages of a run and what they are called: in `run.json`, in `metrics.jsonl`, beside progress bars.

/// The names of one seed's stages.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    /// What they start with: nothing, where the seed is the only one of a run.
    tag: String,
}

impl Stages {
    /// The stages of `seed` in a run of so many seeds.
    pub(crate) fn of(seed: u64, seeds: usize) -> Self {
        Stages { tag: if seeds > 1 { format!("seed{seed}-") } else { String::new() } }
    }

    /// The stage, and the folder, of what belongs to one model.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}{name}", self.tag)
    }

    /// The model that is to forget is made.
    pub(crate) fn base(&self) -> String {
        self.named("base")
    }

    /// The model that never knew is made.
    pub(crate) fn gold(&self) -> String {
        self.named("gold")
    }

    /// A model is measured.
    pub(crate) fn eval(&self, model: &str) -> String {
        format!("{}{model}-eval", self.tag)
    }

    /// The watched figure before the first step.
    pub(crate) fn watched(&self) -> String {
        self.named("base-watched")
    }

    /// An arm unlearns.
    pub(crate) fn unlearn(&self, arm: &str) -> String {
        format!("{}{arm}-unlearn", self.tag)
    }

    /// A model is attacked.
    pub(crate) fn attack(&self, model: &str, attack: &str) -> String {
        format!("{}{model}-{attack}", self.tag)
    }
}
