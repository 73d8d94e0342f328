//! The two-sample, two-sided Kolmogorov–Smirnov test, with p-values far below what a float holds.
//!
//! TOFU's *forget quality* is this test's p-value between the truth ratios of the unlearned model
//! and of a model that never saw the forget set (Maini et al. 2024, arXiv 2401.06121). Models
//! that were damaged give values such as 1e-239, so everything is computed as a logarithm.

use serde::{Deserialize, Serialize};

use super::{StatsError, checked};

/// Largest sample for which unequal sizes are counted exactly, as SciPy's `ks_2samp` does.
const LARGEST_COUNTED: usize = 10_000;

/// How a p-value was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KsMethod {
    /// By the permutation distribution of D without ties.
    Exact,
    /// By Kolmogorov's limit, for unequal samples of which one has more than 10,000 values.
    Asymptotic,
}

/// The outcome of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KsTest {
    /// D = supₓ |F₁(x) − F₂(x)|.
    pub statistic: f64,
    /// P(D at least this large) if both samples come from one distribution. May underflow to 0,
    /// where `log10_p` still tells.
    pub p_value: f64,
    /// log₁₀ of the p-value.
    pub log10_p: f64,
    /// Natural logarithm of the p-value.
    pub ln_p: f64,
    /// Size of the first sample.
    pub n: usize,
    /// Size of the second sample.
    pub m: usize,
    /// How the p-value was obtained.
    pub method: KsMethod,
}

/// Tests whether two samples come from one distribution.
///
/// The p-value is the one of samples without ties, as everywhere in the field; with ties it is
/// conservative. Equal sizes n use, with h = nD,
/// `p = 2 Σ_{k≥1} (−1)^{k−1} C(2n, n−kh) / C(2n, n)`
/// (Gnedenko and Korolyuk 1951); unequal sizes count lattice paths (Hodges 1958).
///
/// # Errors
/// When a sample is empty or has a NaN.
pub fn ks_two_sample(first: &[f64], second: &[f64]) -> Result<KsTest, StatsError> {
    let (n, m) = (checked("first", first)?.len(), checked("second", second)?.len());
    let divisor = greatest_common_divisor(n, m);
    let lattice = Lattice { n: n as i64, m: m as i64, up: (m / divisor) as i64, right: (n / divisor) as i64 };
    let h = largest_gap(first, second, &lattice);
    let statistic = h as f64 / (lattice.up * lattice.n) as f64;
    let (ln_p, method) = if h == 0 {
        (0.0, KsMethod::Exact)
    } else if n == m {
        (equal_sizes_ln_p(n, h as usize), KsMethod::Exact)
    } else if n.max(m) <= LARGEST_COUNTED {
        (lattice.ln_p(h), KsMethod::Exact)
    } else {
        let effective = n as f64 * m as f64 / (n + m) as f64;
        (kolmogorov_ln_p(effective.sqrt() * statistic), KsMethod::Asymptotic)
    };
    let ln_p = ln_p.min(0.0);
    Ok(KsTest { statistic, p_value: ln_p.exp(), log10_p: ln_p / std::f64::consts::LN_10, ln_p, n, m, method })
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// D times the least common multiple of the sizes: an integer, so that D carries no rounding.
///
/// Both distribution functions step past all copies of a value before they are compared; a
/// difference taken in the middle of a tie is not a difference of the functions.
fn largest_gap(first: &[f64], second: &[f64], lattice: &Lattice) -> i64 {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (first, second) = (sorted(first), sorted(second));
    let (mut i, mut j, mut largest) = (0, 0, 0);
    while i < first.len() && j < second.len() {
        let value = first[i].min(second[j]);
        while i < first.len() && first[i] <= value {
            i += 1;
        }
        while j < second.len() && second[j] <= value {
            j += 1;
        }
        largest = largest.max(lattice.gap(i as i64, j as i64));
    }
    largest
}

/// ln p for two samples of n values each and D = h/n.
///
/// The alternating series in nested form: with q_k = Π_{j<h} (n−kh−j)/(n+kh+j+1),
/// p = 2·q₀(1 − q₁(1 − q₂(1 − …))). Every inner term lies in [0, 1], so underflow there is
/// harmless, and only the outermost factor needs a logarithm.
fn equal_sizes_ln_p(n: usize, h: usize) -> f64 {
    let factor = |k: usize, j: usize| (n - k * h - j) as f64 / (n + k * h + j + 1) as f64;
    let mut inner = 0.0;
    for k in (1..=n / h).rev() {
        // Where fewer than h values are left, a factor of the product is zero.
        let q = if n - k * h < h { 0.0 } else { (0..h).map(|j| factor(k, j)).product() };
        inner = q * (1.0 - inner);
    }
    let outermost: f64 = (0..h).map(|j| factor(0, j).ln()).sum();
    std::f64::consts::LN_2 + outermost + (-inner).ln_1p()
}

/// The grid on which the two samples, merged in order, draw a path from (0, 0) to (n, m).
struct Lattice {
    n: i64,
    m: i64,
    /// m over the greatest common divisor of n and m.
    up: i64,
    /// n over the greatest common divisor.
    right: i64,
}

impl Lattice {
    /// |i/n − j/m| times the least common multiple of n and m.
    fn gap(&self, i: i64, j: i64) -> i64 {
        (i * self.up - j * self.right).abs()
    }

    /// ln of the share of paths that anywhere leave the band `gap < h`.
    ///
    /// The uniform path is walked as a Markov chain, and the mass that leaves the band is summed
    /// where it leaves. All terms are positive, so a tiny p keeps its digits; counting the paths
    /// that stay inside and subtracting from 1 would lose them all.
    fn ln_p(&self, h: i64) -> f64 {
        let (n, m) = (self.n, self.m);
        let ln: Vec<f64> = (0..=n + m).map(|k| (k as f64).ln()).collect();
        let mut mass = vec![f64::NEG_INFINITY; m as usize + 1];
        mass[0] = 0.0;
        let mut left = f64::NEG_INFINITY;
        for i in 0..=n {
            let first = ((i * self.up - h).div_euclid(self.right) + 1).max(0);
            let last = ((i * self.up + h - 1).div_euclid(self.right)).min(m);
            for j in first..=last {
                let here = mass[j as usize];
                let remaining = ln[(n + m - i - j) as usize];
                if j < m {
                    let moved = here + ln[(m - j) as usize] - remaining;
                    let target = if self.gap(i, j + 1) < h { &mut mass[j as usize + 1] } else { &mut left };
                    *target = ln_add(*target, moved);
                }
                mass[j as usize] = f64::NEG_INFINITY;
                if i < n {
                    let moved = here + ln[(n - i) as usize] - remaining;
                    if self.gap(i + 1, j) < h {
                        mass[j as usize] = moved;
                    } else {
                        left = ln_add(left, moved);
                    }
                }
            }
        }
        left
    }
}

/// ln(eᵃ + eᵇ).
fn ln_add(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() }
}

/// ln of Kolmogorov's limit Q(λ) = 2 Σ_{k≥1} (−1)^{k−1} exp(−2k²λ²).
fn kolmogorov_ln_p(lambda: f64) -> f64 {
    let square = lambda * lambda;
    if lambda > 1.0 {
        let tail: f64 = (2..20)
            .map(f64::from)
            .map(|k| if k % 2.0 == 0.0 { -1.0 } else { 1.0 } * (-2.0 * square * (k * k - 1.0)).exp())
            .sum();
        return std::f64::consts::LN_2 - 2.0 * square + tail.ln_1p();
    }
    // The same function by Jacobi's transformation, which converges where the series above does not.
    let below: f64 = (1..20)
        .map(|k| f64::from(2 * k - 1))
        .map(|odd| (-(odd * std::f64::consts::PI).powi(2) / (8.0 * square)).exp())
        .sum();
    (-(std::f64::consts::TAU.sqrt() / lambda * below)).ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64, relative: f64) -> bool {
        (a - b).abs() <= relative * b.abs()
    }

    #[test]
    fn textbook_case() {
        let test = ks_two_sample(&[1.0, 2.0, 3.0, 4.0], &[3.5, 4.5, 5.5, 6.5]).unwrap();
        assert_eq!(test.statistic, 0.75);
        assert!(close(test.p_value, 16.0 / 70.0, 1e-12), "{test:?}");
        assert_eq!(test.method, KsMethod::Exact);
    }

    #[test]
    fn identical_samples_have_p_one() {
        let test = ks_two_sample(&[3.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((test.statistic, test.p_value, test.log10_p), (0.0, 1.0, 0.0));
    }

    #[test]
    fn ties_are_passed_together() {
        let test = ks_two_sample(&[1.0, 1.0, 1.0, 2.0], &[1.0, 2.0, 2.0, 2.0]).unwrap();
        assert_eq!(test.statistic, 0.5);
    }

    /// (sizes, h, p) by rational arithmetic over the path counts; SciPy's exact method agrees.
    #[test]
    fn exact_values_over_many_magnitudes() {
        for (n, h, p) in EQUAL {
            assert!(close(equal_sizes_ln_p(n, h).exp(), p, 1e-10), "n {n}, h {h}: {p}");
        }
        for (n, m, h, p) in UNEQUAL {
            let divisor = greatest_common_divisor(n, m);
            let lattice =
                Lattice { n: n as i64, m: m as i64, up: (m / divisor) as i64, right: (n / divisor) as i64 };
            assert!(close(lattice.ln_p(h).exp(), p, 1e-10), "n {n}, m {m}, h {h}: {p}");
        }
    }

    const EQUAL: [(usize, usize, f64); 11] = [
        (1, 1, 1.0),
        (5, 1, 1.0),
        (7, 3, 0.5751748251748252),
        (10, 10, 1.082508822446903e-05),
        (50, 7, 0.7166468440414823),
        (300, 6, 0.9999999905275543),
        (300, 104, 2.1942743021891257e-16),
        (300, 106, 5.1003566155609306e-17),
        (400, 119, 5.137999089404317e-16),
        (400, 300, 3.628050828094651e-110),
        (500, 2, 1.0),
    ];
    const UNEQUAL: [(usize, usize, i64, f64); 8] = [
        (3, 5, 8, 0.4642857142857143),
        (3, 5, 15, 0.03571428571428571),
        (4, 6, 5, 0.6952380952380952),
        (30, 20, 25, 0.02435120690367748),
        (100, 117, 2500, 0.011871367239663054),
        (300, 400, 500, 3.7120873208936214e-27),
        (300, 400, 1200, 1.6183255230278435e-206),
        (297, 300, 10000, 1.6123867955623055e-15),
    ];

    #[test]
    fn separated_samples_of_400_reach_1e_minus_239() {
        let first: Vec<f64> = (0..400).map(f64::from).collect();
        let second: Vec<f64> = (1000..1400).map(f64::from).collect();
        let test = ks_two_sample(&first, &second).unwrap();
        // p = 2 / C(800, 400).
        let ln_binomial: f64 = (1..=400).map(|k| (f64::from(400 + k) / f64::from(k)).ln()).sum();
        assert!(close(test.ln_p, 2f64.ln() - ln_binomial, 1e-12));
        assert!((-240.0..-238.0).contains(&test.log10_p), "{}", test.log10_p);
        // Below what a float holds, the logarithm still tells.
        let first: Vec<f64> = (0..2000).map(f64::from).collect();
        let second: Vec<f64> = (5000..6000).map(f64::from).collect();
        let test = ks_two_sample(&first, &second).unwrap();
        let ln_binomial: f64 = (1..=1000).map(|k| (f64::from(2000 + k) / f64::from(k)).ln()).sum();
        assert_eq!(test.p_value, 0.0);
        assert!(close(test.ln_p, 2f64.ln() - ln_binomial, 1e-9), "{}", test.ln_p);
    }

    #[test]
    fn kolmogorov_limit_is_continuous_and_near_the_exact_value() {
        assert!(close(kolmogorov_ln_p(0.999_999), kolmogorov_ln_p(1.000_001), 1e-4));
        // Q(1.3581) = 0.05 (table of Smirnov 1948).
        assert!(close(kolmogorov_ln_p(1.3581).exp(), 0.05, 1e-3));
        let exact = equal_sizes_ln_p(10_000, 200);
        assert!(close(kolmogorov_ln_p(200.0 / 10_000.0 * 5000f64.sqrt()), exact, 0.01));
    }

    #[test]
    fn large_unequal_samples_use_the_limit() {
        let first: Vec<f64> = (0..12_000).map(f64::from).collect();
        let second: Vec<f64> = (0..6_000).map(|x| 2.0 * f64::from(x) + 200.0).collect();
        let test = ks_two_sample(&first, &second).unwrap();
        assert_eq!(test.method, KsMethod::Asymptotic);
        assert!(test.p_value > 0.0 && test.p_value < 1.0);
    }

    proptest! {
        #[test]
        fn counting_paths_agrees_with_the_series(n in 1usize..40, part in 0.0f64..1.0) {
            let h = 1 + (part * (n - 1) as f64) as usize;
            let lattice = Lattice { n: n as i64, m: n as i64, up: 1, right: 1 };
            prop_assert!((lattice.ln_p(h as i64) - equal_sizes_ln_p(n, h)).abs() < 1e-9);
        }

        #[test]
        fn symmetric_and_blind_to_monotone_maps(
            first in prop::collection::vec(-3i32..20, 1..30),
            second in prop::collection::vec(-3i32..20, 1..30),
        ) {
            let map = |xs: &[i32], f: &dyn Fn(f64) -> f64| xs.iter().map(|&x| f(f64::from(x))).collect::<Vec<_>>();
            let plain = |x: f64| x;
            let (a, b) = (map(&first, &plain), map(&second, &plain));
            let test = ks_two_sample(&a, &b).unwrap();
            let swapped = ks_two_sample(&b, &a).unwrap();
            prop_assert_eq!(test.statistic, swapped.statistic);
            prop_assert!((test.ln_p - swapped.ln_p).abs() < 1e-9);
            // 1/eˣ turns the order round, as the two official ways to write a truth ratio do.
            let inverse = |x: f64| 1.0 / x.exp();
            let mapped = ks_two_sample(&map(&first, &inverse), &map(&second, &inverse)).unwrap();
            prop_assert_eq!(test.statistic, mapped.statistic);
            prop_assert_eq!(test.ln_p, mapped.ln_p);
            prop_assert!((0.0..=1.0).contains(&test.statistic) && test.ln_p <= 0.0);
        }
    }
}
