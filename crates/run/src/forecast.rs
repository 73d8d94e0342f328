//! What a run is going to do and what that takes, found out before it is done.

use serde::Serialize;

/// What is known of a run beforehand. Memory and time are estimates.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// The records, set by set.
    pub sets: Vec<SetForecast>,
    /// What is trained, arm by arm.
    pub arms: Vec<ArmForecast>,
    /// What is done, in its order.
    pub stages: Vec<PlannedStage>,
    /// Memory of the process, in bytes, where most is needed.
    pub memory: u64,
    /// What the run leaves in its folder.
    pub leaves: Vec<Written>,
    /// Bytes that checkpoints take while it lasts, at most.
    pub checkpoints: u64,
    /// What one should think about before starting it.
    pub warnings: Vec<String>,
}

/// One set of records as token sequences. Lengths are those before anything is cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SetForecast {
    /// What the set is for.
    pub name: String,
    /// How many records it has.
    pub records: usize,
    /// Tokens of the record in the middle.
    pub median: usize,
    /// Tokens of the longest record.
    pub longest: usize,
    /// Tokens of all records.
    pub tokens: usize,
    /// Records that are longer than the model's context, whose ends are cut off.
    pub cut: usize,
}

impl SetForecast {
    /// A set of sequences of these lengths, of which a model reads `context` tokens.
    pub fn of(name: &str, lengths: impl IntoIterator<Item = usize>, context: usize) -> Self {
        let mut lengths: Vec<usize> = lengths.into_iter().collect();
        lengths.sort_unstable();
        SetForecast {
            name: name.to_owned(),
            records: lengths.len(),
            median: lengths.get(lengths.len() / 2).copied().unwrap_or(0),
            longest: lengths.last().copied().unwrap_or(0),
            tokens: lengths.iter().sum(),
            cut: lengths.iter().filter(|length| **length > context).count(),
        }
    }
}

/// What one arm of a run trains.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ArmForecast {
    /// The arm.
    pub name: String,
    /// Weights of its model, an adapter's included.
    pub weights: usize,
    /// Those of them that may change.
    pub changing: usize,
    /// Memory of the process while it trains, in bytes.
    pub memory: u64,
    /// Seconds of one step.
    pub step_seconds: f64,
}

/// A stage that is to come.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Its name, which its activity has too.
    pub name: String,
    /// Which part of the run it belongs to, such as `seed 1 of 3, arm 2 of 3`; empty where there is but one.
    pub part: String,
    /// How long it takes, in seconds: an estimate, and for what may end early the most.
    pub seconds: f64,
}

/// Files of one kind that a run writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Written {
    /// What one of them is.
    pub what: String,
    /// How many of them there are.
    pub count: u64,
    /// Bytes of one.
    pub bytes: u64,
}

impl Forecast {
    /// What is left of it where some stages are done.
    pub fn without(mut self, done: impl Fn(&str) -> bool) -> Self {
        self.stages.retain(|stage| !done(&stage.name));
        self
    }

    /// How long the run takes, in seconds: at most, where arms may end early.
    pub fn seconds(&self) -> f64 {
        self.stages.iter().map(|stage| stage.seconds).sum()
    }

    /// Bytes that the run leaves in its folder.
    pub fn disk(&self) -> u64 {
        self.leaves.iter().map(|written| written.count * written.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_summed_up() {
        let set = SetForecast::of("to forget", [7, 3, 12, 5], 8);
        assert_eq!((set.records, set.median, set.longest, set.tokens, set.cut), (4, 7, 12, 27, 1));
        assert_eq!(SetForecast::of("", [], 8), SetForecast::default());
    }
}
