//! Random numbers by counter: a draw depends on its coordinates, not on how many came before.
//!
//! `(seed, step, group, sample, token)` names a draw, so results do not move with batch size,
//! thread count or a resumed run. The mixing function is SplitMix64's finaliser, applied per
//! coordinate.

/// A source of random numbers for one place in a computation.
#[derive(Debug, Clone)]
pub struct Rng {
    key: u64,
    counter: u64,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream at these coordinates, e.g. `&[seed, step, sample]`.
    pub fn at(coordinates: &[u64]) -> Self {
        let key = coordinates
            .iter()
            .fold(0x9e37_79b9_7f4a_7c15, |key, &c| mix(key ^ mix(c.wrapping_add(0x9e37_79b9_7f4a_7c15))));
        Rng { key, counter: 0 }
    }

    /// The stream of a named purpose, so that two uses of one seed never share numbers.
    pub fn named(seed: u64, purpose: &str) -> Self {
        let name = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self::at(&[seed, name])
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key.wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`, without bias.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "there is no number below zero");
        let n = n as u64;
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let x = self.next_u64();
            if x < limit {
                return (x % n) as usize;
            }
        }
    }

    /// Standard normal (Box–Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher–Yates shuffle in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_name_the_draw() {
        let draw = |c: &[u64]| Rng::at(c).next_u64();
        assert_eq!(draw(&[1, 2, 3]), draw(&[1, 2, 3]));
        assert_ne!(draw(&[1, 2, 3]), draw(&[1, 3, 2]));
        assert_ne!(draw(&[0]), draw(&[0, 0]));
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut rng = Rng::named(0, "test");
        let n = 100_000;
        let mean: f64 = (0..n).map(|_| rng.uniform()).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let variance: f64 = (0..n).map(|_| rng.normal().powi(2)).sum::<f64>() / n as f64;
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }
}
