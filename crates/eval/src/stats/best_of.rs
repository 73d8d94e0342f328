//! The best of k draws, estimated from more of them.

/// The expectation of the largest of `k` values drawn without replacement from these: what k draws give at best, without
/// bias. Of zeros and ones it is pass@k. Σ_i C(i−1, k−1)/C(n, k)·x₍ᵢ₎ over the values in ascending order.
///
/// `None` where there are fewer than `k`, or `k` is 0. Source: Chen et al. 2021, arXiv 2107.03374.
pub fn best_of(values: &[f64], k: usize) -> Option<f64> {
    let n = values.len();
    if k == 0 || k > n {
        return None;
    }
    let mut ascending = values.to_vec();
    ascending.sort_by(f64::total_cmp);
    // The share of draws whose largest is the i-th value, from the last down: C(n−1, k−1)/C(n, k) = k/n.
    let (mut weight, mut expected) = (k as f64 / n as f64, 0.0);
    for i in (k..=n).rev() {
        expected += weight * ascending[i - 1];
        if i > 1 {
            weight *= (i - k) as f64 / (i - 1) as f64;
        }
    }
    Some(expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_cases() {
        let of = |values: &[f64], k| best_of(values, k).unwrap();
        // Two of four are right: one draw finds one in half of the cases, two in 1 − C(2,2)/C(4,2) = 5/6, three always.
        let half = [0.0, 1.0, 0.0, 1.0];
        assert!((of(&half, 1) - 0.5).abs() < 1e-12 && (of(&half, 2) - 5.0 / 6.0).abs() < 1e-12);
        assert!((of(&half, 3) - 1.0).abs() < 1e-12 && (of(&half, 4) - 1.0).abs() < 1e-12);
        // Pairs of 1, 2, 4: 2, 4, 4.
        assert!((of(&[4.0, 1.0, 2.0], 2) - 10.0 / 3.0).abs() < 1e-12);
        assert_eq!((best_of(&[1.0], 2), best_of(&[1.0], 0), best_of(&[], 1)), (None, None, None));
    }

    proptest! {
        #[test]
        fn one_draw_is_the_mean_all_are_the_largest_and_more_are_never_worse(
            values in prop::collection::vec(0.0f64..1.0, 1..30)
        ) {
            let n = values.len();
            let of = |k| best_of(&values, k).unwrap();
            prop_assert!((of(1) - values.iter().sum::<f64>() / n as f64).abs() < 1e-9);
            prop_assert!((of(n) - values.iter().copied().fold(0.0, f64::max)).abs() < 1e-9);
            for k in 1..n {
                prop_assert!(of(k + 1) >= of(k) - 1e-9);
            }
        }
    }
}
