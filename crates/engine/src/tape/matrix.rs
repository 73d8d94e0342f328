//! General matrix operations: products, softmax, gathers and slices, for probes and opened attention.

use super::{Edge, Graph, Var};
use crate::kernels::{self, Compute, Mat, MatMut};
use crate::params::ParamId;
use crate::{DType, Error, Result, Tensor};

impl<'m> Graph<'m> {
    /// A parameter as a value of the graph.
    pub fn parameter(&mut self, id: ParamId) -> Var {
        let learns = self.learns(id);
        self.push(self.param(id).tensor.clone(), learns, move |back, gradient| {
            kernels::axpy(1.0, gradient.f32(), back.param(id));
            Ok(())
        })
    }

    /// `a · b`: [m, k] · [k, n] → [m, n].
    pub fn matmul(&mut self, a: &Var, b: &Var) -> Result<Var> {
        let (m, k, n) = (a.value.rows(), a.value.columns(), b.value.columns());
        if b.value.rows() != k {
            return Err(Error::shape("right factor of a product", &[k, n], b.shape()));
        }
        let value = Tensor::build(&[m, n], |out| {
            let (a, b) = (Mat::new(a.value.f32(), m, k), Mat::new(b.value.f32(), k, n));
            kernels::gemm(a, b, MatMut::new(out, m, n), false);
        });
        let (a, b) = (a.clone(), b.clone());
        Ok(self.push(value, a.needs_gradient() || b.needs_gradient(), move |back, gradient| {
            let gradient = Mat::new(gradient.f32(), m, n);
            back.add_product(Compute::F32, &a, gradient, Mat::new(b.value.f32(), k, n).t());
            back.add_product(Compute::F32, &b, Mat::new(a.value.f32(), m, k).t(), gradient);
            Ok(())
        }))
    }

    /// The transpose of a matrix.
    pub fn transpose(&mut self, x: &Var) -> Result<Var> {
        let value = x.value.transposed();
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| back.add(&x, gradient.transposed())))
    }

    /// Softmax of every row.
    pub fn softmax(&mut self, x: &Var) -> Result<Var> {
        let columns = x.value.columns();
        let mut value = x.value.clone();
        kernels::softmax_rows(value.f32_mut(), columns);
        let (x, p) = (x.clone(), value.clone());
        Ok(self.push(value, x.needs_gradient(), move |back, mut gradient| {
            // dx = p ∘ (g − ⟨g, p⟩), row by row
            for (g, p) in gradient.f32_mut().chunks_exact_mut(columns).zip(p.f32().chunks_exact(columns)) {
                let inner = kernels::dot(g, p) as f32;
                g.iter_mut().zip(p).for_each(|(g, &p)| *g = p * (*g - inner));
            }
            back.add(&x, gradient)
        }))
    }

    /// Selected rows of a matrix, in the order given: [T, d] → [rows.len(), d].
    pub fn gather_rows(&mut self, x: &Var, rows: &[usize]) -> Result<Var> {
        let width = x.value.columns();
        if let Some(row) = rows.iter().find(|&&r| r >= x.value.rows()) {
            return Err(Error::invalid(format!("row {row} of a matrix that has {}", x.value.rows())));
        }
        let value = Tensor::build(&[rows.len(), width], |out| {
            for (out, &r) in out.chunks_exact_mut(width).zip(rows) {
                out.copy_from_slice(&x.value.f32()[r * width..(r + 1) * width]);
            }
        });
        let (x, rows) = (x.clone(), rows.to_vec());
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                for (g, &r) in gradient.f32().chunks_exact(width).zip(&rows) {
                    kernels::axpy(1.0, g, &mut dx[r * width..(r + 1) * width]);
                }
            });
            Ok(())
        }))
    }

    /// Ranges of columns, one after the other: x [T, n] → [T, Σ lengths].
    pub fn gather_columns(&mut self, x: &Var, columns: &[std::ops::Range<usize>]) -> Result<Var> {
        let (rows, width) = (x.value.rows(), x.value.columns());
        if let Some(range) = columns.iter().find(|range| range.end > width) {
            return Err(Error::shape("columns", &[rows, range.end], x.shape()));
        }
        let total: usize = columns.iter().map(ExactSizeIterator::len).sum();
        let value = Tensor::build(&[rows, total], |out| {
            for (out, x) in out.chunks_exact_mut(total).zip(x.value.f32().chunks_exact(width)) {
                let mut at = 0;
                for range in columns {
                    out[at..at + range.len()].copy_from_slice(&x[range.clone()]);
                    at += range.len();
                }
            }
        });
        let (needs, x, columns) = (x.needs_gradient(), Edge::from(x), columns.to_vec());
        Ok(self.push(value, needs, move |back, gradient| {
            back.add_within(x, &[rows, width], |dx| {
                for (g, dx) in gradient.f32().chunks_exact(total).zip(dx.chunks_exact_mut(width)) {
                    let mut at = 0;
                    for range in &columns {
                        kernels::axpy(1.0, &g[at..at + range.len()], &mut dx[range.clone()]);
                        at += range.len();
                    }
                }
            });
            Ok(())
        }))
    }

    /// The block of a matrix at these rows and columns.
    pub fn slice(
        &mut self,
        x: &Var,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Result<Var> {
        let width = x.value.columns();
        if rows.end > x.value.rows() || columns.end > width {
            return Err(Error::shape("slice", &[rows.end, columns.end], x.shape()));
        }
        let value = Tensor::build(&[rows.len(), columns.len()], |out| {
            copy_block(x.value.f32(), width, &rows, &columns, out, |out, x| out.copy_from_slice(x));
        });
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                for (g, r) in gradient.f32().chunks_exact(columns.len()).zip(rows) {
                    let start = r * width;
                    kernels::axpy(1.0, g, &mut dx[start + columns.start..start + columns.end]);
                }
            });
            Ok(())
        }))
    }

    /// Blocks laid into a larger matrix of zeros: `(block, first row, first column)` each.
    pub fn assemble(&mut self, shape: [usize; 2], blocks: &[(Var, usize, usize)]) -> Result<Var> {
        let width = shape[1];
        let mut value = Tensor::zeros(&shape, DType::F32);
        for (block, row, column) in blocks {
            let columns = block.value.columns();
            if row + block.value.rows() > shape[0] || column + columns > width {
                return Err(Error::shape("block", &shape, block.shape()));
            }
            for (i, source) in block.value.f32().chunks_exact(columns).enumerate() {
                let start = (row + i) * width + column;
                value.f32_mut()[start..start + columns].copy_from_slice(source);
            }
        }
        let blocks = blocks.to_vec();
        let needs = blocks.iter().any(|(b, ..)| b.needs_gradient());
        Ok(self.push(value, needs, move |back, gradient| {
            for (block, row, column) in blocks {
                let (rows, columns) = (row..row + block.value.rows(), column..column + block.value.columns());
                let piece = Tensor::build(block.shape(), |out| {
                    copy_block(gradient.f32(), width, &rows, &columns, out, |out, x| out.copy_from_slice(x));
                });
                back.add(&block, piece)?;
            }
            Ok(())
        }))
    }
}

/// Calls `write(out row, x row)` for every row of the block of x at these rows and columns.
fn copy_block(
    x: &[f32],
    width: usize,
    rows: &std::ops::Range<usize>,
    columns: &std::ops::Range<usize>,
    out: &mut [f32],
    write: impl Fn(&mut [f32], &[f32]),
) {
    for (out, r) in out.chunks_exact_mut(columns.len()).zip(rows.clone()) {
        write(out, &x[r * width + columns.start..r * width + columns.end]);
    }
}
