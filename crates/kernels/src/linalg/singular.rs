//! Singular values of a bidiagonal matrix by implicit QR (Demmel and Kahan, 1990).

use super::rotations::{RotatedRows, Rotation, Sweep};
use crate::{Error, Result};

/// Error that a superdiagonal element may leave, relative to the singular values it joins.
const TOLERANCE: f64 = 1e-14;

/// Rotations of a step from both sides, by row; of the block's left and right vectors.
struct Step {
    left: Vec<Rotation>,
    right: Vec<Rotation>,
}

/// Makes an upper bidiagonal matrix diagonal, and takes the rows of left and right vectors through the rotations.
/// The diagonal may have any sign and order.
pub(super) fn diagonalise(
    d: &mut [f64],
    e: &mut [f64],
    left: &mut RotatedRows,
    right: &mut RotatedRows,
) -> Result<()> {
    let n = d.len();
    let floor = floor(d, e);
    let mut patience = 6 * n * n + 100;
    // The block that was worked on last, and whether it was turned round.
    let (mut last, mut flipped) = ((n, n), false);
    let mut end = n;
    while end > 1 {
        let bottom = end - 1;
        let Some(start) = block_start(d, e, bottom, floor) else {
            end -= 1;
            continue;
        };
        // A step carries what is large towards the top: turn the block where its large end is below.
        if start >= last.1 || bottom <= last.0 {
            flipped = d[start].abs() < d[bottom].abs();
        }
        last = (start, bottom);
        let (mut block_d, mut block_e) = (d[start..=bottom].to_vec(), e[start..bottom].to_vec());
        if flipped {
            block_d.reverse();
            block_e.reverse();
        }
        let step = step(&mut block_d, &mut block_e, floor, n);
        if flipped {
            block_d.reverse();
            block_e.reverse();
        }
        d[start..=bottom].copy_from_slice(&block_d);
        e[start..bottom].copy_from_slice(&block_e);
        let Some(step) = step else { continue };
        if flipped {
            // Turned round, the block is the transpose of another: left and right change places.
            left.rotate(turned(step.right, start));
            right.rotate(turned(step.left, start));
        } else {
            left.rotate(Sweep { first: start, upwards: false, rotations: step.left });
            right.rotate(Sweep { first: start, upwards: false, rotations: step.right });
        }
        patience = patience.saturating_sub(bottom - start);
        if patience == 0 {
            return Err(Error::invalid("singular vectors: no convergence"));
        }
    }
    Ok(())
}

/// Below this an element is nothing beside the smallest singular value.
fn floor(d: &[f64], e: &[f64]) -> f64 {
    let n = d.len();
    let Some(&first) = d.first() else { return 0.0 };
    let (mut mu, mut smallest) = (first.abs(), first.abs());
    for i in 1..n {
        if smallest == 0.0 {
            break;
        }
        mu = d[i].abs() * (mu / (mu + e[i - 1].abs()));
        smallest = smallest.min(mu);
    }
    (TOLERANCE * smallest / (n as f64).sqrt()).max(n as f64 * n as f64 * f64::MIN_POSITIVE)
}

/// First row of the block that ends at `bottom`; `None` where that row stands alone. Cuts what is negligible.
fn block_start(d: &[f64], e: &mut [f64], bottom: usize, floor: f64) -> Option<usize> {
    debug_assert!(bottom < d.len());
    for i in (0..bottom).rev() {
        if e[i].abs() <= floor {
            e[i] = 0.0;
            return (i + 1 < bottom).then_some(i + 1);
        }
    }
    Some(0)
}

fn turned(mut rotations: Vec<Rotation>, first: usize) -> Sweep {
    rotations.reverse();
    rotations.iter_mut().for_each(|r| r.s = -r.s);
    Sweep { first, upwards: true, rotations }
}

/// One QR step on a block from its top to its bottom; `None` where an element could be cut instead.
fn step(d: &mut [f64], e: &mut [f64], floor: f64, n: usize) -> Option<Step> {
    let m = d.len() - 1;
    if e[m - 1].abs() <= TOLERANCE * d[m].abs() {
        e[m - 1] = 0.0;
        return None;
    }
    let (mut mu, mut smallest) = (d[0].abs(), d[0].abs());
    for i in 0..m {
        if e[i].abs() <= TOLERANCE * mu {
            e[i] = 0.0;
            return None;
        }
        mu = d[i + 1].abs() * (mu / (mu + e[i].abs()));
        smallest = smallest.min(mu);
    }
    let largest = d.iter().chain(e.iter()).fold(0.0_f64, |m, x| m.max(x.abs()));
    let mut shift = 0.0;
    if n as f64 * TOLERANCE * (smallest / largest) > (0.01 * TOLERANCE).max(f64::EPSILON / 2.0) {
        shift = smaller_of_two(d[m - 1], e[m - 1], d[m]);
        let share = shift / d[0].abs();
        if share * share < f64::EPSILON / 2.0 {
            shift = 0.0;
        }
    }
    let step = if shift == 0.0 { unshifted(d, e) } else { shifted(d, e, shift) };
    if e[m - 1].abs() <= floor {
        e[m - 1] = 0.0;
    }
    Some(step)
}

/// A step with shift zero, which loses no relative accuracy however small a singular value is.
fn unshifted(d: &mut [f64], e: &mut [f64]) -> Step {
    let m = d.len() - 1;
    let (mut right, mut left) = (Vec::with_capacity(m), Vec::with_capacity(m));
    let (mut turn, mut old) = (Rotation { c: 1.0, s: 0.0 }, Rotation { c: 1.0, s: 0.0 });
    for i in 0..m {
        let r;
        (turn, r) = Rotation::zeroing(d[i] * turn.c, e[i]);
        if i > 0 {
            e[i - 1] = old.s * r;
        }
        (old, d[i]) = Rotation::zeroing(old.c * r, d[i + 1] * turn.s);
        right.push(turn);
        left.push(old);
    }
    let h = d[m] * turn.c;
    d[m] = h * old.c;
    e[m - 1] = h * old.s;
    Step { left, right }
}

/// A step with a shift: chases the bulge from the top to the bottom.
fn shifted(d: &mut [f64], e: &mut [f64], shift: f64) -> Step {
    let m = d.len() - 1;
    let (mut right, mut left) = (Vec::with_capacity(m), Vec::with_capacity(m));
    let mut f = (d[0].abs() - shift) * (1.0_f64.copysign(d[0]) + shift / d[0]);
    let mut g = e[0];
    for i in 0..m {
        let (turn, r) = Rotation::zeroing(f, g);
        if i > 0 {
            e[i - 1] = r;
        }
        f = turn.c * d[i] + turn.s * e[i];
        e[i] = turn.c * e[i] - turn.s * d[i];
        g = turn.s * d[i + 1];
        d[i + 1] *= turn.c;
        right.push(turn);
        let (turn, r) = Rotation::zeroing(f, g);
        d[i] = r;
        f = turn.c * e[i] + turn.s * d[i + 1];
        d[i + 1] = turn.c * d[i + 1] - turn.s * e[i];
        if i + 1 < m {
            g = turn.s * e[i + 1];
            e[i + 1] *= turn.c;
        }
        left.push(turn);
    }
    e[m - 1] = f;
    Step { left, right }
}

/// The smaller singular value of [[f, g], [0, h]].
fn smaller_of_two(f: f64, g: f64, h: f64) -> f64 {
    let (f, g, h) = (f.abs(), g.abs(), h.abs());
    let (small, large) = (f.min(h), f.max(h));
    if small == 0.0 {
        return 0.0;
    }
    let (sum, difference) = (1.0 + small / large, (large - small) / large);
    if g < large {
        let ratio = (g / large) * (g / large);
        return small * 2.0 / ((sum * sum + ratio).sqrt() + (difference * difference + ratio).sqrt());
    }
    let ratio = large / g;
    if ratio == 0.0 {
        return small * large / g;
    }
    let (sum, difference) = (sum * ratio, difference * ratio);
    2.0 * small * ratio / ((1.0 + sum * sum).sqrt() + (1.0 + difference * difference).sqrt())
}
