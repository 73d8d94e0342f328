//! Seeded batches. A batch depends on seed, purpose and step alone, so a resumed run draws the same ones.

use amend_engine::Rng;

/// The items of one step when `items` are gone through in a new order every epoch, `batch` at a time.
/// The last batch of an epoch is filled up from the start of the same order, so all have equal size. A batch is never
/// larger than the set: no item is in it twice.
pub fn epoch_batches(seed: u64, purpose: &str, items: usize, batch: usize, step: u64) -> Vec<usize> {
    let batch = batch.min(items);
    let per_epoch = items.div_ceil(batch.max(1)) as u64;
    let (epoch, index) = (step / per_epoch, (step % per_epoch) as usize);
    let mut order: Vec<usize> = (0..items).collect();
    Rng::named(seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15), purpose).shuffle(&mut order);
    (index * batch..(index + 1) * batch).map(|i| order[i % items]).collect()
}

/// One retain item, uniformly drawn, for every forget item of a step; each item once where there are fewer.
pub fn partner(seed: u64, purpose: &str, items: usize, batch: usize, step: u64) -> Vec<usize> {
    if items < batch {
        return (0..items).collect();
    }
    let mut rng = Rng::named(seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15), purpose);
    (0..batch).map(|_| rng.below(items)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_everything_once() {
        let mut seen: Vec<_> = (0..4).flat_map(|step| epoch_batches(3, "x", 12, 3, step)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
        assert_ne!(epoch_batches(3, "x", 12, 12, 0), epoch_batches(3, "x", 12, 12, 1));
    }

    /// Ten records in batches of 32 were computed three times over in every step.
    #[test]
    fn of_few_items_a_batch_has_each_once() {
        for drawn in [epoch_batches(0, "x", 2, 5, 7), partner(0, "x", 2, 5, 7)] {
            let mut drawn = drawn;
            drawn.sort_unstable();
            assert_eq!(drawn, [0, 1]);
        }
        assert_eq!(partner(0, "x", 5, 5, 7).len(), 5);
    }
}
