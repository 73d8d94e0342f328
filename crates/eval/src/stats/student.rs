//! When a difference is larger than chance makes it.

/// How many standard errors a mean of `n` values lies from zero by chance only once in twenty: the two-sided 5 % limit of
/// Student's t with n − 1 degrees of freedom. Few values tell little of their own spread, so for two it is 12.7, and only
/// for many 1.96. Infinite below two values.
pub fn chance_limit(n: usize) -> f64 {
    /// For 1 to 10 degrees of freedom.
    const FEW: [f64; 10] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281];
    const NORMAL: f64 = 1.959_963_985;
    match n {
        0 | 1 => f64::INFINITY,
        n if n - 2 < FEW.len() => FEW[n - 2],
        // The first terms of the expansion around the normal distribution.
        n => {
            let (z, freedom) = (NORMAL, (n - 1) as f64);
            let first = (z.powi(3) + z) / 4.0;
            let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
            z + first / freedom + second / freedom.powi(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::chance_limit;

    #[test]
    fn limits_are_those_of_the_tables() {
        // Degrees of freedom, limit.
        for (freedom, limit) in [(1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (30, 2.042), (120, 1.980)]
        {
            assert!(
                (chance_limit(freedom + 1) - limit).abs() < 0.003,
                "{freedom}: {}",
                chance_limit(freedom + 1)
            );
        }
        assert!(chance_limit(1).is_infinite() && chance_limit(0).is_infinite());
        assert!((2..200).all(|n| chance_limit(n) > chance_limit(n + 1)));
    }
}
