//! Linear weights on the coarse grids of inference engines: round to nearest, group by group.

use super::Model;
use crate::{Error, Result};

/// The levels that a group of weights is rounded to, as multiples of a step of the group's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightGrid {
    /// −127 to 127; the step is the group's largest magnitude divided by 127.
    Int8,
    /// −7 to 7; the step is the group's largest magnitude divided by 7.
    Int4,
    /// The sixteen levels of NF4, quantiles of a normal distribution scaled to [−1, 1]; the step is the group's largest
    /// magnitude. Dettmers et al., "QLoRA", arXiv 2305.14314.
    Nf4,
}

/// From −1 to 1, eight of them below 0, 0 itself and seven above.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

impl WeightGrid {
    /// The step of a group: its largest magnitude on the outermost level. 0 where all of it is 0.
    pub fn step(self, group: &[f32]) -> f32 {
        let largest = group.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        match self {
            WeightGrid::Int8 => largest / 127.0,
            WeightGrid::Int4 => largest / 7.0,
            WeightGrid::Nf4 => largest,
        }
    }

    /// The number of the level next to a weight: of integers the integer itself, an even one halfway between two; of NF4
    /// the place among its levels, the lower one halfway.
    pub fn code(self, weight: f32, step: f32) -> i8 {
        if step == 0.0 {
            return if self == WeightGrid::Nf4 { 7 } else { 0 };
        }
        let x = weight / step;
        match self {
            WeightGrid::Int8 => x.round_ties_even().clamp(-127.0, 127.0) as i8,
            WeightGrid::Int4 => x.round_ties_even().clamp(-7.0, 7.0) as i8,
            WeightGrid::Nf4 => NF4.windows(2).filter(|pair| x > 0.5 * (pair[0] + pair[1])).count() as i8,
        }
    }

    /// The weight that a code stands for.
    pub fn value(self, code: i8, step: f32) -> f32 {
        match self {
            WeightGrid::Int8 | WeightGrid::Int4 => f32::from(code) * step,
            WeightGrid::Nf4 => NF4[code.clamp(0, 15) as usize] * step,
        }
    }

    /// Rounds a group to its grid. One with a weight that is no number stays as it is: it has no largest magnitude.
    fn round(self, group: &mut [f32]) {
        if group.iter().all(|w| w.is_finite()) {
            let step = self.step(group);
            group.iter_mut().for_each(|w| *w = self.value(self.code(*w, step), step));
        }
    }
}

impl Model {
    /// Rounds the weights of every linear layer of every block, experts included, to a grid: `group` neighbours along a
    /// layer's inputs have a step in common, the last group of a row may be shorter. Embeddings, head, norms, biases and
    /// routers stay as they are. Says how many weights that were.
    ///
    /// Fails for groups of no weight.
    pub fn round_to_grid(&mut self, grid: WeightGrid, group: usize) -> Result<usize> {
        if group == 0 {
            return Err(Error::invalid("a group of weights has at least 1 weight"));
        }
        let weights: Vec<_> = self.decoder.linears().map(|linear| linear.weight).collect();
        let mut rounded = 0;
        for id in weights {
            let tensor = &mut self.params.get_mut(id).tensor;
            let width = tensor.columns().max(1);
            for row in tensor.f32_mut().chunks_mut(width) {
                row.chunks_mut(group).for_each(|group| grid.round(group));
            }
            rounded += tensor.len();
        }
        Ok(rounded)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [WeightGrid; 3] = [WeightGrid::Int8, WeightGrid::Int4, WeightGrid::Nf4];

    #[test]
    fn levels_of_a_group_by_hand() {
        let group = [0.7, -0.34, 0.26, 0.0];
        let codes = |grid: WeightGrid| group.map(|w| grid.code(w, grid.step(&group)));
        assert_eq!(codes(WeightGrid::Int4), [7, -3, 3, 0]);
        assert_eq!(codes(WeightGrid::Int8), [127, -62, 47, 0]);
        // −0.486 lies nearer to −0.525 than to −0.395, 0.371 nearer to 0.338 than to 0.441.
        assert_eq!(codes(WeightGrid::Nf4), [15, 2, 11, 7]);
        let mut zeros = [0.0f32; 3];
        for grid in ALL {
            grid.round(&mut zeros);
            assert_eq!(zeros, [0.0; 3]);
        }
        let mut broken = [f32::NAN, 1.0, 0.3];
        WeightGrid::Int4.round(&mut broken);
        assert!(broken[0].is_nan() && broken[1..] == [1.0, 0.3]);
    }

    proptest! {
        /// Nothing of a group is further from its grid than half of the gap between two levels, and what lies on the grid
        /// stays there, so that rounding twice is rounding once.
        #[test]
        fn rounding_goes_to_the_nearest_level_and_stays_there(
            group in prop::collection::vec(-3.0f32..3.0, 1..40)
        ) {
            for grid in ALL {
                let step = grid.step(&group);
                let half = if grid == WeightGrid::Nf4 { 0.16 * step } else { 0.5 * step };
                let mut once = group.clone();
                grid.round(&mut once);
                for (w, q) in group.iter().zip(&once) {
                    prop_assert!((w - q).abs() <= half * 1.0001, "{grid:?}: {w} became {q}");
                }
                let mut twice = once.clone();
                grid.round(&mut twice);
                let codes = |of: &[f32]| of.iter().map(|&w| grid.code(w, grid.step(of))).collect::<Vec<_>>();
                prop_assert_eq!(codes(&once), codes(&group));
                prop_assert_eq!(codes(&twice), codes(&once));
            }
        }

        /// Why quantisation undoes unlearning: with the same step, whoever moves by less than what is left of half a step
        /// keeps its code.
        #[test]
        fn a_change_smaller_than_what_is_left_of_half_a_step_vanishes(
            group in prop::collection::vec(-3.0f32..3.0, 2..40),
            moved in prop::collection::vec(-0.999f64..0.999, 40),
        ) {
            let largest = group.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
            for grid in [WeightGrid::Int8, WeightGrid::Int4] {
                let step = grid.step(&group);
                let change = |w: f32, share: f64| {
                    let off = f64::from(w) - f64::from(grid.value(grid.code(w, step), step));
                    // A ten-thousandth of a step for the rounding of f32.
                    let room = (0.5 - 1e-4) * f64::from(step) - off.abs();
                    (f64::from(w) + share * room.max(0.0)) as f32
                };
                let new: Vec<f32> = group
                    .iter()
                    .zip(&moved)
                    // The largest stays, or the step would be another.
                    .map(|(&w, &share)| if w.abs() == largest { w } else { change(w, share).clamp(-largest, largest) })
                    .collect();
                prop_assert_eq!(grid.step(&new), step);
                for (old, new) in group.iter().zip(&new) {
                    prop_assert_eq!(grid.code(*old, step), grid.code(*new, step), "{} to {}", old, new);
                }
            }
        }
    }
}
