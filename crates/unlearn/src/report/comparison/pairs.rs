//! What of two runs can be paired: the same seeds, and in these the same questions put to descendants of one model.

use amend_learn::{Error, Result};
use amend_run::recipe::differences;

use super::Side;
use crate::answers::Row;

/// What pairs a run has with the baseline.
pub(super) struct Pairs {
    /// Keys of the recipe under which the two have different models.
    pub(super) other_models: Vec<String>,
    /// Keys under which they have different data.
    pub(super) other_data: Vec<String>,
    /// The places of the same seeds, in the run and in the baseline.
    seeds: Vec<(usize, usize)>,
    /// The seeds of the run.
    ours: Vec<u64>,
    /// Those of the baseline.
    theirs: Vec<u64>,
}

impl Pairs {
    /// Those of a run.
    pub(super) fn of(side: &Side<'_>, baseline: &Side<'_>) -> Result<Self> {
        let recipes = [side.run.recipe.as_str(), baseline.run.recipe.as_str()];
        let unlike = differences(&recipes).map_err(|(_, problem)| Error::invalid(problem.message))?;
        // What is made on the spot has no hash: it is what the recipe says.
        let made = |section: &str| {
            let keys = unlike.iter().map(|difference| difference.key.clone());
            keys.filter(|key| key.starts_with(section)).collect::<Vec<_>>()
        };
        let or_made = |read: Vec<String>, section| if read.is_empty() { made(section) } else { read };
        let [ours, theirs] = [side, baseline]
            .map(|side| side.shown.outcome.seeds.iter().map(|seed| seed.seed).collect::<Vec<_>>());
        let place = |(index, seed): (usize, &u64)| Some((index, theirs.iter().position(|s| s == seed)?));
        Ok(Pairs {
            other_models: or_made(side.run.other_models(baseline.run), "model.scratch"),
            other_data: or_made(side.run.other_data(baseline.run), "data.world"),
            seeds: ours.iter().enumerate().filter_map(place).collect(),
            ours,
            theirs,
        })
    }

    /// The places of the same seeds.
    ///
    /// # Errors
    /// Says why nothing can be paired, by seed or by question.
    pub(super) fn seeds(&self) -> std::result::Result<&[(usize, usize)], String> {
        for (what, keys) in [("model", &self.other_models), ("data", &self.other_data)] {
            if !keys.is_empty() {
                return Err(format!("the {what} is another ({})", keys.join(", ")));
            }
        }
        if self.seeds.is_empty() {
            return Err(format!(
                "no seed is the same ({} against {})",
                words(&self.ours),
                words(&self.theirs)
            ));
        }
        Ok(&self.seeds)
    }

    /// The seeds that are the same, where there are some and one of the two has others as well.
    pub(super) fn partly(&self) -> Option<String> {
        let shared: Vec<u64> = self.seeds().ok()?.iter().map(|pair| self.ours[pair.0]).collect();
        let all = self.ours.len().max(self.theirs.len());
        (shared.len() < all).then(|| {
            let seeds = if shared.len() == 1 { "seed" } else { "seeds" };
            format!("{seeds} {}", words(&shared))
        })
    }
}

/// `0, 1`.
fn words(seeds: &[u64]) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks that two arms were asked the same questions of a set, seed by seed.
///
/// # Errors
/// Says what is not the same.
pub(super) fn same_questions(
    set: &str,
    ours: &[&[Row]],
    theirs: &[&[Row]],
) -> std::result::Result<(), String> {
    let asked = |rows: &[Row]| {
        let of_set = rows.iter().filter(|row| row.set == set);
        of_set.map(|row| (row.index, row.question.clone(), row.expected.clone())).collect::<Vec<_>>()
    };
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (ours, theirs) = (asked(ours), asked(theirs));
        if ours.is_empty() || theirs.is_empty() {
            return Err(format!("no answers of the {set} set were kept"));
        }
        if ours.len() != theirs.len() {
            let (ours, theirs) = (ours.len(), theirs.len());
            return Err(format!("{ours} questions of the {set} set were asked instead of {theirs}"));
        }
        if ours != theirs {
            return Err(format!("the questions of the {set} set are not the same"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_questions_are_pairs() {
        let rows = |count| (0..count).map(|i| Row::tried("retain", i, 0.1 * i as f64)).collect::<Vec<_>>();
        let (three, four) = (rows(3), rows(4));
        let same = |ours: &[Row], theirs: &[Row]| same_questions("retain", &[ours], &[theirs]);
        assert_eq!(same(&three, &three), Ok(()));
        assert!(
            same(&three, &four)
                .unwrap_err()
                .starts_with("3 questions of the retain set were asked instead of 4")
        );
        assert!(same(&three, &[]).unwrap_err().contains("no answers of the retain set"));
        assert!(same_questions("forget", &[&three], &[&three]).is_err(), "that set has none");
        let mut other = rows(3);
        other[1].expected = "another".into();
        assert!(same(&three, &other).unwrap_err().contains("not the same"));
        // Every seed has to agree.
        assert!(same_questions("retain", &[&three, &three], &[&three, &other]).is_err());
    }
}
