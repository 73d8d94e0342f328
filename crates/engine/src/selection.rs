//! Which entries of a tensor may change.

use std::ops::Range;

use crate::{Error, Result, Tensor};

/// Every row, or every column, however many there are.
const ALL: Range<usize> = 0..usize::MAX;

/// Entries of a matrix that may change: the one mask that gradients, the optimiser's state, weight decay,
/// norm clipping and the checkpoints of training honour. A vector is a matrix of one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// From the first row to the last; no row is in two of them.
    bands: Vec<Band>,
}

/// Rows in which the same columns are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Band {
    rows: Range<usize>,
    /// From the first to the last, none touching the next.
    columns: Vec<Range<usize>>,
}

impl Selection {
    /// Every entry.
    pub fn all() -> Self {
        Self::of([(ALL, ALL)])
    }

    /// Whole rows.
    pub fn rows(rows: Range<usize>) -> Self {
        Self::of([(rows, ALL)])
    }

    /// Whole columns.
    pub fn columns(columns: Range<usize>) -> Self {
        Self::of([(ALL, columns)])
    }

    /// The entries of any of these blocks of `(rows, columns)`, which may overlap.
    pub fn of(blocks: impl IntoIterator<Item = (Range<usize>, Range<usize>)>) -> Self {
        let mut blocks: Vec<_> = blocks.into_iter().filter(|(r, c)| !r.is_empty() && !c.is_empty()).collect();
        blocks.sort_by_key(|(_, columns)| columns.start);
        let mut edges: Vec<usize> = blocks.iter().flat_map(|(rows, _)| [rows.start, rows.end]).collect();
        edges.sort_unstable();
        edges.dedup();
        let mut bands: Vec<Band> = Vec::new();
        for rows in edges.windows(2).map(|edge| edge[0]..edge[1]) {
            let mut columns: Vec<Range<usize>> = Vec::new();
            for (_, own) in blocks.iter().filter(|(of, _)| of.contains(&rows.start)) {
                match columns.last_mut() {
                    Some(last) if own.start <= last.end => last.end = last.end.max(own.end),
                    _ => columns.push(own.clone()),
                }
            }
            match bands.last_mut() {
                Some(last) if last.rows.end == rows.start && last.columns == columns => {
                    last.rows.end = rows.end;
                }
                _ if columns.is_empty() => {}
                _ => bands.push(Band { rows, columns }),
            }
        }
        Selection { bands }
    }

    /// What either selects.
    pub fn union(&self, other: &Selection) -> Self {
        let bands = self.bands.iter().chain(&other.bands);
        Self::of(bands.flat_map(|band| band.columns.iter().map(|c| (band.rows.clone(), c.clone()))))
    }

    /// Calls `visit` with every contiguous run of selected elements of a `rows` × `columns` matrix, from the
    /// first to the last.
    pub fn for_each_run(&self, rows: usize, columns: usize, mut visit: impl FnMut(Range<usize>)) {
        for band in &self.bands {
            let own = band.rows.start.min(rows)..band.rows.end.min(rows);
            if own.is_empty() {
                continue;
            }
            if band.columns.iter().any(|c| c.start == 0 && c.end >= columns) {
                visit(own.start * columns..own.end * columns);
                continue;
            }
            for row in own {
                for range in band.columns.iter().filter(|range| range.start < columns) {
                    visit(row * columns + range.start..row * columns + range.end.min(columns));
                }
            }
        }
    }

    /// Number of selected entries of a tensor.
    pub fn count(&self, tensor: &Tensor) -> usize {
        let mut count = 0;
        self.for_each_run(tensor.rows(), tensor.columns(), |run| count += run.len());
        count
    }

    /// The selected entries of a tensor, one after the other: [`count`](Selection::count).
    pub fn gather(&self, tensor: &Tensor) -> Tensor {
        let mut at = 0;
        Tensor::build(&[self.count(tensor)], |out| {
            self.for_each_run(tensor.rows(), tensor.columns(), |run| {
                out[at..at + run.len()].copy_from_slice(&tensor.f32()[run.clone()]);
                at += run.len();
            });
        })
    }

    /// Writes the selected entries of a tensor, as [`Selection::gather`] gives them.
    ///
    /// Fails where there are more or fewer.
    pub fn scatter(&self, values: &Tensor, into: &mut Tensor) -> Result<()> {
        let count = self.count(into);
        if values.len() != count {
            return Err(Error::shape("selected entries", &[count], values.shape()));
        }
        let (rows, columns, out, mut at) = (into.rows(), into.columns(), into.f32_mut(), 0);
        self.for_each_run(rows, columns, |run| {
            let length = run.len();
            out[run].copy_from_slice(&values.f32()[at..at + length]);
            at += length;
        });
        Ok(())
    }

    /// Sets every entry of a tensor that is not selected to zero.
    pub fn keep_only(&self, tensor: &mut Tensor) {
        let (rows, columns, out, mut done) = (tensor.rows(), tensor.columns(), tensor.f32_mut(), 0);
        self.for_each_run(rows, columns, |run| {
            out[done..run.start].fill(0.0);
            done = run.end;
        });
        out[done..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(selection: &Selection, rows: usize, columns: usize) -> Vec<bool> {
        let mut marks = vec![false; rows * columns];
        let mut last = 0;
        selection.for_each_run(rows, columns, |run| {
            assert!(run.start >= last, "runs ascend and do not overlap");
            last = run.end;
            marks[run].fill(true);
        });
        marks
    }

    fn range() -> impl Strategy<Value = Range<usize>> {
        (0usize..9, 0usize..5).prop_map(|(start, length)| start..start + length)
    }

    proptest! {
        #[test]
        fn a_selection_is_the_union_of_its_blocks(
            blocks in prop::collection::vec((range(), range()), 0..5),
            others in prop::collection::vec((range(), range()), 0..3),
        ) {
            let inside = |blocks: &[(Range<usize>, Range<usize>)], i: usize| {
                blocks.iter().any(|(r, c)| r.contains(&(i / 10)) && c.contains(&(i % 10)))
            };
            let selection = Selection::of(blocks.clone());
            let expected: Vec<bool> = (0..70).map(|i| inside(&blocks, i)).collect();
            prop_assert_eq!(marked(&selection, 7, 10), expected);
            let both = selection.union(&Selection::of(others.clone()));
            let expected: Vec<bool> = (0..70).map(|i| inside(&blocks, i) || inside(&others, i)).collect();
            prop_assert_eq!(marked(&both, 7, 10), &expected[..]);
            let tensor = Tensor::build(&[7, 10], |out| (0..70).for_each(|i| out[i] = 1.0 + i as f32));
            let (own, mut kept, mut filled) =
                (both.gather(&tensor), tensor.clone(), Tensor::zeros(&[7, 10], crate::DType::F32));
            both.keep_only(&mut kept);
            both.scatter(&own, &mut filled).unwrap();
            prop_assert_eq!(kept.f32(), filled.f32());
            let nonzero: Vec<bool> = kept.f32().iter().map(|&x| x != 0.0).collect();
            prop_assert_eq!(nonzero, expected);
        }
    }

    #[test]
    fn rows_and_columns_reach_to_the_end_of_any_matrix() {
        let selection = Selection::rows(1..2).union(&Selection::columns(2..3));
        assert_eq!(marked(&selection, 2, 3), [false, false, true, true, true, true]);
        assert!(
            selection
                .scatter(
                    &Tensor::zeros(&[3], crate::DType::F32),
                    &mut Tensor::zeros(&[2, 3], crate::DType::F32)
                )
                .is_err()
        );
    }
}
