//! Matrices as views of f32 slices.

use std::ops::Range;

/// A read-only matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    /// The elements, starting with (0, 0).
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements between two rows.
    pub row_stride: usize,
    /// Elements between two columns.
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A contiguous row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Mat { data, rows, cols, row_stride: cols, col_stride: 1 }.checked()
    }

    /// A row-major matrix whose rows lie `row_stride` elements apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Mat { data, rows, cols, row_stride, col_stride: 1 }.checked()
    }

    /// The transpose of the same elements.
    pub fn t(self) -> Self {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The view itself, after making sure that every element lies in the slice.
    ///
    /// # Panics
    /// When it does not.
    pub(super) fn checked(self) -> Self {
        if self.rows > 0 && self.cols > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride;
            assert!(
                last < self.data.len(),
                "a [{}, {}] matrix with strides ({}, {}) needs {} elements, the slice has {}",
                self.rows,
                self.cols,
                self.row_stride,
                self.col_stride,
                last + 1,
                self.data.len()
            );
        }
        self
    }

    pub(super) fn rows(self, range: Range<usize>) -> Self {
        let data = &self.data[(range.start * self.row_stride).min(self.data.len())..];
        Mat { data, rows: range.len(), ..self }
    }

    pub(super) fn columns(self, range: Range<usize>) -> Self {
        let data = &self.data[(range.start * self.col_stride).min(self.data.len())..];
        Mat { data, cols: range.len(), ..self }
    }
}

/// A writable row-major matrix: element (i, j) is `data[i * row_stride + j]`.
#[derive(Debug)]
pub struct MatMut<'a> {
    /// The elements, starting with (0, 0).
    pub data: &'a mut [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements between two rows, at least `cols`.
    pub row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A contiguous matrix.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows lie `row_stride` elements apart.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        MatMut { data, rows, cols, row_stride }
    }

    /// The same matrix as a pointer, after making sure that every element lies in the slice and
    /// that rows do not overlap.
    pub(super) fn into_out(self) -> Out {
        Mat { data: self.data, rows: self.rows, cols: self.cols, row_stride: self.row_stride, col_stride: 1 }
            .checked();
        assert!(self.rows < 2 || self.row_stride >= self.cols, "rows of an output matrix overlap");
        Out { ptr: self.data.as_mut_ptr(), rows: self.rows, cols: self.cols, row_stride: self.row_stride }
    }
}

/// A rectangle of an output matrix that one task owns, although its rows interleave with those
/// of other tasks, which a slice cannot say.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) ptr: *mut f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
}

// SAFETY: an `Out` is only ever written by the task that owns its rectangle.
unsafe impl Send for Out {}
// SAFETY: as above; sharing the value itself writes nothing.
unsafe impl Sync for Out {}

impl Out {
    /// The rectangle `rows` × `cols` of this one.
    pub(super) fn part(self, rows: Range<usize>, cols: Range<usize>) -> Out {
        assert!(rows.end <= self.rows && cols.end <= self.cols);
        let offset = rows.start * self.row_stride + cols.start;
        Out {
            ptr: self.ptr.wrapping_add(offset),
            rows: rows.len(),
            cols: cols.len(),
            row_stride: self.row_stride,
        }
    }

    /// Sets every element to zero.
    ///
    /// # Safety
    /// The rectangle is valid memory and nobody else uses it.
    pub(super) unsafe fn fill_zero(self) {
        for i in 0..self.rows {
            // SAFETY: row i of the rectangle, see above.
            unsafe { self.ptr.add(i * self.row_stride).write_bytes(0, self.cols) };
        }
    }
}
