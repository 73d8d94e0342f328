//! Linear algebra in f64: eigenvectors, singular vectors, least squares, linear systems.
//!
//! Methods that look at the geometry of activations and weights need these, and their results decide what is
//! trained or projected away. So the bits depend on neither threads nor processor: products are rounded before they
//! are added (no fused multiply-add), every sum has one order, and of the functions of a mathematics library only the
//! square root is used, which IEEE 754 fixes.
//!
//! Matrices are row-major, and *vectors are rows*: row i of [`Eigen::vectors`], [`Svd::left`] or [`Svd::right`] is
//! the i-th vector. A vector's sign is such that its largest entry is positive ([`Svd`] says which of the two).

mod bidiagonal;
mod cholesky;
mod eigen;
mod lu;
mod matrix;
mod principal;
mod product;
mod qr;
mod reflectors;
mod rotations;
mod singular;
mod svd;
#[cfg(test)]
mod tests;
mod triangular;
mod tridiagonal;
mod vector;

pub use cholesky::{cholesky, solve_factored, solve_spd};
pub use eigen::{Eigen, symmetric_eigen};
pub use lu::solve;
pub use matrix::Matrix;
pub use principal::{Moments, Principal, away_from, orthonormalised};
pub use qr::{Qr, least_squares, qr};
pub use svd::{Svd, svd};
