//! What the tasks about rewritten facts share: nearly everything but where their facts are from.

use std::path::Path;

use amend_learn::Result;

use super::Task;
use crate::item::{Item, Items, Sample, Scores};
use crate::request::{Answer, Request};
use crate::rewrite::Rewrites;
use crate::summary::Summary;

/// A benchmark of rewritten facts.
pub(super) trait OfRewrites: Sync {
    /// The file of the data folder, how many of its edits are asked about at most (absent: all), and how they are.
    fn asked(&self) -> (&str, Option<usize>, Rewrites);
}

impl<T: OfRewrites> Task for T {
    fn items(&self, data: &Path) -> Result<Items> {
        let (file, limit, rewrites) = self.asked();
        let mut items = rewrites.items(&data.join(file))?;
        items.items.truncate(limit.unwrap_or(usize::MAX));
        Ok(items)
    }

    fn requests(&self, item: &Item) -> Result<Vec<Request>> {
        self.asked().2.requests(item)
    }

    fn score(&self, item: &Item, answers: &[Answer]) -> Result<Scores> {
        self.asked().2.score(item, answers)
    }

    fn aggregate(&self, samples: &[Sample], reference: Option<&[Sample]>) -> Summary {
        self.asked().2.aggregate(samples, reference)
    }

    fn uses_reference(&self) -> bool {
        true
    }
}
