//! What differs between two models, to the byte.

use std::ops::Range;

use super::Model;
use crate::{Error, Result, Tensor};

/// How much one tensor differs between two models. Rows and columns are those of the tensor in memory, as in
/// [`Part`](super::Part).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct TensorChange {
    /// The tensor's name.
    pub name: String,
    /// ‖ΔW‖ (Frobenius).
    pub change: f64,
    /// ‖ΔW‖ / ‖W‖.
    pub relative: f64,
    /// Largest |ΔW| of an entry.
    pub largest: f64,
    /// Share of entries that differ at all.
    pub changed: f64,
    /// Number of bytes that differ, of four per entry.
    pub bytes: usize,
    /// Rows in which anything differs; a vector is one row. Not written.
    #[serde(skip)]
    pub rows: Vec<Range<usize>>,
    /// Columns in which anything differs. Not written.
    #[serde(skip)]
    pub columns: Vec<Range<usize>>,
}

impl TensorChange {
    fn between(name: &str, old: &Tensor, new: &Tensor) -> Self {
        let (mut square, mut base, mut largest, mut entries, mut bytes) = (0.0, 0.0, 0.0f64, 0usize, 0);
        let (mut rows, mut columns) = (vec![false; new.rows()], vec![false; new.columns()]);
        for (i, (&new, &old)) in new.f32().iter().zip(old.f32()).enumerate() {
            let difference = f64::from(new - old);
            square += difference.powi(2);
            base += f64::from(old).powi(2);
            if new.to_bits() != old.to_bits() {
                largest = largest.max(difference.abs());
                entries += 1;
                bytes += new.to_le_bytes().iter().zip(old.to_le_bytes()).filter(|&(&a, b)| a != b).count();
                rows[i / columns.len()] = true;
                let width = columns.len();
                columns[i % width] = true;
            }
        }
        let change = f64::sqrt(square);
        TensorChange {
            name: name.to_owned(),
            change,
            relative: if base > 0.0 { change / base.sqrt() } else { change },
            largest,
            changed: entries as f64 / new.len().max(1) as f64,
            bytes,
            rows: ranges(&rows),
            columns: ranges(&columns),
        }
    }
}

/// Where marks are set, as ranges.
fn ranges(marks: &[bool]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for i in (0..marks.len()).filter(|&i| marks[i]) {
        match ranges.last_mut() {
            Some(last) if last.end == i => last.end += 1,
            _ => ranges.push(i..i + 1),
        }
    }
    ranges
}

impl Model {
    /// What changed between `before` and this model, per tensor, largest relative change first.
    pub fn changes_since(&self, before: &Model) -> Result<Vec<TensorChange>> {
        let mut changes = Vec::new();
        for (_, param) in self.params.iter() {
            let Some(id) = before.params.find(&param.name) else { continue };
            let old = &before.params.get(id).tensor;
            if old.shape() != param.tensor.shape() {
                return Err(Error::shape(&param.name, old.shape(), param.tensor.shape()));
            }
            changes.push(TensorChange::between(&param.name, old, &param.tensor));
        }
        changes.sort_by(|a, b| b.relative.total_cmp(&a.relative));
        Ok(changes)
    }
}
