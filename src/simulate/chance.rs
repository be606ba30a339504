//! Seeded chance: the same numbers on every machine and in every version.

use crate::model::pipeline::Micros;

/// One record in so many arrives late.
const ONE_LATE_IN: u64 = 4;
/// From this mean on, a Poisson count is drawn from the normal distribution: the difference cannot be seen in traffic.
const POISSON_AS_NORMAL: f64 = 30.0;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): one addition and three
/// multiplications a number, and any two streams of one seed are unrelated.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// The chance of one `stream` under a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed).wrapping_add(mix(stream ^ 0x5851_F42D_4C95_7F2D)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A whole number below `bound`; 0 if the bound is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 inclusive to 1 exclusive.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub(super) fn hits(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A standard normal number (Box and Muller, 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A Poisson count with this mean.
    pub(super) fn poisson(&mut self, mean: f64) -> i64 {
        if mean >= POISSON_AS_NORMAL {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as i64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// How late a record arrives: most at once, some up to `jitter` later.
    pub(super) fn delay(&mut self, jitter: Micros) -> Micros {
        if self.below(ONE_LATE_IN) > 0 { 0 } else { self.below(jitter.max(0) as u64 + 1) as Micros }
    }
}

/// A fixed, well spread number for a number.
pub(super) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_mean_they_were_asked_for() {
        for mean in [0.3, 5.0, 29.9, 400.0] {
            let mut chance = Chance::new(7, 0);
            let total: i64 = (0..20_000).map(|_| chance.poisson(mean)).sum();
            let found = total as f64 / 20_000.0;
            assert!((found - mean).abs() < 5.0 * (mean / 20_000.0).sqrt(), "{found} for {mean}");
        }
    }

    #[test]
    fn streams_of_one_seed_differ() {
        assert_ne!(Chance::new(1, 0).next(), Chance::new(1, 1).next());
        assert_ne!(Chance::new(1, 0).next(), Chance::new(2, 0).next());
    }
}
