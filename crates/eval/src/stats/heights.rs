//! How high a curve lies: its mean, and its highest stretch.

/// The mean height of a curve through these points, by trapezoids: its area divided by its width. Of one point its own
/// height; `None` without points.
pub fn mean_height(points: &[(f64, f64)]) -> Option<f64> {
    let ((first, height), (last, _)) = (points.first()?, points.last()?);
    let width = last - first;
    if width <= 0.0 {
        return Some(*height);
    }
    let area: f64 = points.windows(2).map(|two| (two[1].0 - two[0].0) * (two[0].1 + two[1].1) / 2.0).sum();
    Some(area / width)
}

/// The largest mean of `window` neighbours, of all where there are fewer: the highest a curve stays for a while. `None`
/// without values, or for a window of 0.
pub fn highest_stretch(values: &[f64], window: usize) -> Option<f64> {
    let window = window.min(values.len());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / window as f64;
    (window > 0).then(|| values.windows(window).map(mean).fold(f64::NEG_INFINITY, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_heights() {
        assert_eq!(mean_height(&[(0.0, 0.0), (2.0, 1.0), (4.0, 1.0)]), Some(0.75));
        // Looks that come closer together count no more than others.
        assert_eq!(mean_height(&[(0.0, 1.0), (9.0, 1.0), (10.0, 0.0)]), Some(0.95));
        assert_eq!((mean_height(&[(3.0, 0.5)]), mean_height(&[])), (Some(0.5), None));
        assert_eq!(highest_stretch(&[0.0, 1.0, 0.5, 0.0], 2), Some(0.75));
        assert_eq!(highest_stretch(&[0.0, 1.0], 1), Some(1.0));
        assert_eq!(highest_stretch(&[0.0, 1.0], 5), Some(0.5));
        assert_eq!((highest_stretch(&[], 2), highest_stretch(&[1.0], 0)), (None, None));
    }
}
