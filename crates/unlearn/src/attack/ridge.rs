//! Ridge regression on classes, with its penalty chosen by leaving every row out once.

use amend_engine::Result;
use amend_engine::kernels::linalg::{Matrix, solve_spd};

/// Penalties to choose from, for rows whose mean squared distance from their mean is 1.
const PENALTIES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// A ridge regression of rows on one column per class, ready for labels.
pub(super) struct Ridge {
    rows: Matrix,
    mean: Vec<f64>,
    scale: f64,
    /// (K + λ)⁻¹, K the products of rows.
    inverse: Matrix,
    classes: usize,
}

impl Ridge {
    /// Takes the penalty with which most rows are told right by all the others, the larger of equals. In its dual form, so
    /// that rows may be wider than there are many of them: with α = (K + λ)⁻¹Y, what row i is told without itself is
    /// yᵢ − αᵢ/((K + λ)⁻¹)ᵢᵢ.
    pub(super) fn fit(states: &Matrix, labels: &[usize], classes: usize) -> Result<Self> {
        let (mean, scale) = spread(states);
        let rows = standardised(states, &mean, scale);
        let products = kernel(&rows, &rows)?;
        let mut best: Option<(usize, Matrix)> = None;
        for penalty in PENALTIES {
            let mut penalised = products.clone();
            (0..rows.rows()).for_each(|i| penalised.row_mut(i)[i] += penalty);
            let inverse = solve_spd(&penalised, &Matrix::identity(rows.rows(), rows.rows()))?;
            let alpha = inverse.times(&one_hot(labels, classes))?;
            let right = (0..rows.rows()).filter(|&i| {
                let own = |class: usize| f64::from(u8::from(labels[i] == class));
                let told = (0..classes).map(|class| own(class) - alpha.at(i, class) / inverse.at(i, i));
                largest(&told.collect::<Vec<_>>()) == labels[i]
            });
            let right = right.count();
            if best.as_ref().is_none_or(|(known, _)| right >= *known) {
                best = Some((right, inverse));
            }
        }
        let inverse = best.map_or_else(|| Matrix::zeros(0, 0), |(_, inverse)| inverse);
        Ok(Ridge { rows, mean, scale, inverse, classes })
    }

    /// The classes of other rows, after these labels of the rows that were fitted.
    pub(super) fn classes_of(&self, states: &Matrix, labels: &[usize]) -> Result<Vec<usize>> {
        let alpha = self.inverse.times(&one_hot(labels, self.classes))?;
        let told = kernel(&standardised(states, &self.mean, self.scale), &self.rows)?.times(&alpha)?;
        Ok((0..told.rows()).map(|i| largest(told.row(i))).collect())
    }
}

/// The mean of rows, and the root of their mean squared distance from it.
fn spread(states: &Matrix) -> (Vec<f64>, f64) {
    let n = states.rows().max(1) as f64;
    let mut mean = vec![0.0; states.columns()];
    for i in 0..states.rows() {
        mean.iter_mut().zip(states.row(i)).for_each(|(mean, x)| *mean += x / n);
    }
    let square = |i: usize| states.row(i).iter().zip(&mean).map(|(x, mean)| (x - mean).powi(2)).sum::<f64>();
    let scale = ((0..states.rows()).map(square).sum::<f64>() / n).sqrt();
    (mean, if scale > 0.0 { scale } else { 1.0 })
}

fn standardised(states: &Matrix, mean: &[f64], scale: f64) -> Matrix {
    let mut rows = states.clone();
    for i in 0..rows.rows() {
        rows.row_mut(i).iter_mut().zip(mean).for_each(|(x, mean)| *x = (*x - mean) / scale);
    }
    rows
}

/// Products of rows, and one more for the intercept.
fn kernel(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    let mut products = a.times(&b.transposed())?;
    products.values_mut().iter_mut().for_each(|x| *x += 1.0);
    Ok(products)
}

fn one_hot(labels: &[usize], classes: usize) -> Matrix {
    let mut columns = Matrix::zeros(labels.len(), classes);
    labels.iter().enumerate().for_each(|(i, &class)| columns.row_mut(i)[class] = 1.0);
    columns
}

/// The place of the largest value, the first of equals.
fn largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use amend_engine::Rng;

    use super::*;

    /// Rows around a corner of their class's own.
    fn corners(seed: u64, classes: usize, per_class: usize, width: usize) -> (Matrix, Vec<usize>) {
        let mut rng = Rng::named(seed, "corners");
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for i in 0..classes * per_class {
            let class = i % classes;
            values.extend((0..width).map(|j| if j == class { 3.0 } else { 0.0 } + 0.3 * rng.normal()));
            labels.push(class);
        }
        (Matrix::new(labels.len(), width, values).unwrap(), labels)
    }

    #[test]
    fn classes_that_lie_apart_are_told_apart_and_shuffled_ones_are_not() {
        let ((train, labels), (test, wanted)) = (corners(1, 4, 8, 50), corners(2, 4, 8, 50));
        let ridge = Ridge::fit(&train, &labels, 4).unwrap();
        assert_eq!(ridge.classes_of(&test, &labels).unwrap(), wanted);
        let mut shuffled = labels.clone();
        Rng::named(3, "shuffled").shuffle(&mut shuffled);
        let told = ridge.classes_of(&test, &shuffled).unwrap();
        let right = told.iter().zip(&wanted).filter(|(told, wanted)| told == wanted).count();
        assert!(right < wanted.len() / 2, "{right} of {}", wanted.len());
    }

    /// The short cut for leaving a row out gives what leaving it out does.
    #[test]
    fn leaving_a_row_out_by_formula_is_leaving_it_out() {
        let (rows, labels) = corners(5, 3, 4, 6);
        let (k, y) = (kernel(&rows, &rows).unwrap(), one_hot(&labels, 3));
        let penalised = |k: &Matrix| {
            let mut k = k.clone();
            (0..k.rows()).for_each(|i| k.row_mut(i)[i] += 0.1);
            k
        };
        let inverse = solve_spd(&penalised(&k), &Matrix::identity(12, 12)).unwrap();
        let alpha = inverse.times(&y).unwrap();
        for out in 0..12 {
            let others: Vec<usize> = (0..12).filter(|&i| i != out).collect();
            let of = |m: &Matrix, is: &[usize], js: &[usize]| {
                let values =
                    is.iter().flat_map(|&i| js.iter().map(move |&j| (i, j))).map(|(i, j)| m.at(i, j));
                Matrix::new(is.len(), js.len(), values.collect()).unwrap()
            };
            let weights =
                solve_spd(&penalised(&of(&k, &others, &others)), &of(&y, &others, &[0, 1, 2])).unwrap();
            let told = of(&k, &[out], &others).times(&weights).unwrap();
            for class in 0..3 {
                let short = y.at(out, class) - alpha.at(out, class) / inverse.at(out, out);
                assert!((told.at(0, class) - short).abs() < 1e-9, "{} and {short}", told.at(0, class));
            }
        }
    }
}
