//! Baselines: what is normal for one measure of one series, in constant memory.
//!
//! ```text
//!  Standard  mean, variance                  exact for the first 64 windows, then exponentially forgetting
//!  Robust    median, MAD  first 32 windows kept and exact ──▶ tracked by small steps, two numbers remain
//! ```
//!
//! A baseline forgets nothing at once and nothing for ever: after [`MEMORY_WINDOWS`] windows each new one weighs 1/64.
//! Nothing here decides whether a window may be learnt; [`super::Detector`] does. No value makes a baseline infinite or NaN,
//! because only numbers within [`MAGNITUDE_MAX`] are learnt.

use serde::{Deserialize, Serialize};

use super::exact::Exact;

/// After this many windows a baseline forgets as fast as it learns: the gain of every estimator is 1/64 from then on.
/// More is steadier and follows a changed normal more slowly. At 64 the tracked median of normal noise errs by about 0.1
/// standard deviations, and the tracked MAD by about 10 %, as exact ones over the last 128 windows (512 bytes) would.
pub const MEMORY_WINDOWS: u64 = 64;

/// How many windows a robust baseline keeps, to start its tracking from an exact median and MAD.
pub const SEED_WINDOWS: usize = 32;

/// Measures beyond this are taken for missing: their squares must stay finite.
pub const MAGNITUDE_MAX: f64 = 1e100;

/// The MAD of a normal distribution times this is its standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// A tracked deviation never shrinks below this share of the median, nor below [`DEVIATION_MIN`]: it moves by factors, so from nothing
/// it could not grow again after a flat time.
const DEVIATION_SHARE_MIN: f64 = 1e-3;

/// The least deviation of a median of zero. From here it takes about 900 windows (64 ln 1e6) to learn a spread of one.
const DEVIATION_MIN: f64 = 1e-6;

/// Which estimator a rule compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Standard,
    Robust,
}

/// What a baseline has learnt: a centre and a spread, the spread in standard deviations and without any floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Normal {
    pub(super) center: f64,
    pub(super) spread: f64,
    pub(super) windows: u64,
    /// True if a negative value was ever learnt; else the normal band ends at zero.
    pub(super) signed: bool,
}

/// The memory of one measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    windows: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    signed: bool,
    #[serde(flatten)]
    estimator: Estimator,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Estimator {
    Standard { mean: Exact, variance: Exact },
    Seeding(Vec<Exact>),
    Robust { median: Exact, deviation: Exact },
}

impl Baseline {
    pub(super) fn new(kind: Kind) -> Self {
        let estimator = match kind {
            Kind::Standard => Estimator::Standard { mean: Exact(0.0), variance: Exact(0.0) },
            Kind::Robust => Estimator::Seeding(Vec::new()),
        };
        Baseline { windows: 0, signed: false, estimator }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.estimator {
            Estimator::Standard { .. } => Kind::Standard,
            Estimator::Seeding(_) | Estimator::Robust { .. } => Kind::Robust,
        }
    }

    /// What is normal so far; `None` before the first window.
    pub(super) fn normal(&self) -> Option<Normal> {
        let (center, spread) = match &self.estimator {
            _ if self.windows == 0 => return None,
            Estimator::Standard { mean, variance } => (mean.0, variance.0.sqrt()),
            Estimator::Seeding(values) => {
                let (median, deviation) = median_and_deviation(values);
                (median, deviation * MAD_TO_SIGMA)
            }
            Estimator::Robust { median, deviation } => (median.0, deviation.0 * MAD_TO_SIGMA),
        };
        Some(Normal { center, spread, windows: self.windows, signed: self.signed })
    }

    /// Learns one window. `value` is finite and within [`MAGNITUDE_MAX`].
    pub(super) fn learn(&mut self, value: f64) {
        self.windows += 1;
        self.signed |= value < 0.0;
        let gain = 1.0 / self.windows.min(MEMORY_WINDOWS) as f64;
        match &mut self.estimator {
            Estimator::Standard { mean, variance } => learn_moments(&mut mean.0, &mut variance.0, value, gain),
            Estimator::Seeding(values) => {
                values.push(Exact(value));
                if values.len() >= SEED_WINDOWS {
                    let (median, deviation) = median_and_deviation(values);
                    self.estimator = Estimator::Robust { median: Exact(median), deviation: Exact(deviation) };
                }
            }
            Estimator::Robust { median, deviation } => track(&mut median.0, &mut deviation.0, value, gain),
        }
    }
}

/// Mean and variance with a gain (West 1979; Finch 2009, "Incremental calculation of weighted mean and variance"):
/// with a gain of 1/n the exact mean and population variance of n values, with a constant gain exponential forgetting.
fn learn_moments(mean: &mut f64, variance: &mut f64, value: f64, gain: f64) {
    let delta = value - *mean;
    *mean += gain * delta;
    *variance = (1.0 - gain) * (*variance + gain * delta * delta);
}

/// Median and MAD by stochastic approximation (Robbins and Monro 1951; Tierney 1983 for quantiles): each value moves the median
/// a share of the deviation towards itself, never past itself, and the deviation by a factor towards the value's own distance.
/// An outlier, however far, therefore moves both no more than any other value.
fn track(median: &mut f64, deviation: &mut f64, value: f64, gain: f64) {
    let distance = (value - *median).abs();
    let step = (gain * *deviation).min(distance);
    *median += step.copysign(value - *median);
    if distance > *deviation {
        *deviation *= gain.exp();
    } else if distance < *deviation {
        *deviation *= (-gain).exp();
    }
    *deviation = deviation.max(DEVIATION_SHARE_MIN * median.abs()).max(DEVIATION_MIN);
}

/// The exact median and MAD of the windows kept so far; zeros if there are none.
fn median_and_deviation(values: &[Exact]) -> (f64, f64) {
    let mut values: Vec<f64> = values.iter().map(|value| value.0).collect();
    let median = median_of(&mut values);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    (median, median_of(&mut distances))
}

fn median_of(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(0.0);
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
    lower + (upper - lower) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn learnt(kind: Kind, values: impl IntoIterator<Item = f64>) -> Normal {
        let mut baseline = Baseline::new(kind);
        values.into_iter().for_each(|value| baseline.learn(value));
        baseline.normal().unwrap()
    }

    /// Normal noise without a random source: the quantiles of the distribution in a scrambled, repeatable order.
    fn noise(windows: u64) -> impl Iterator<Item = f64> {
        use statrs::distribution::{ContinuousCDF, Normal};
        let normal = Normal::standard();
        (1..=windows).map(move |window| {
            let mut bits = window.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            normal.inverse_cdf(((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64)
        })
    }

    #[test]
    fn the_first_windows_give_the_exact_mean_and_variance() {
        let normal = learnt(Kind::Standard, [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert!((normal.center - 5.0).abs() < 1e-12 && (normal.spread - 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_first_windows_give_the_exact_median_and_mad() {
        let normal = learnt(Kind::Robust, [1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]);
        assert_eq!((normal.center, normal.spread), (2.0, MAD_TO_SIGMA));
    }

    #[test]
    fn tracking_errs_on_normal_noise_no_more_than_the_head_says() {
        let mut baseline = Baseline::new(Kind::Robust);
        let (mut squares, mut log_squares, mut count) = (0.0, 0.0, 0.0);
        for (window, value) in noise(20_000).enumerate() {
            baseline.learn(100.0 + 5.0 * value);
            if window >= 200 {
                let normal = baseline.normal().unwrap();
                squares += ((normal.center - 100.0) / 5.0).powi(2);
                log_squares += (normal.spread / 5.0).ln().powi(2);
                count += 1.0;
            }
        }
        let (center, spread) = (f64::sqrt(squares / count), f64::sqrt(log_squares / count));
        println!("robust baseline, root mean square error: centre {center:.3} sigma, spread {:.1} %", spread * 100.0);
        assert!(center < 0.11 && spread < 0.12, "centre {center}, spread {spread}");
    }

    #[test]
    fn one_window_in_ten_a_thousand_times_too_high_moves_a_robust_baseline_little() {
        let values = noise(5_000).enumerate().map(|(i, z)| if i % 10 == 0 { 1e5 } else { 100.0 + 5.0 * z });
        let normal = learnt(Kind::Robust, values);
        assert!((normal.center - 100.0).abs() < 3.0 && normal.spread < 10.0, "{normal:?}");
    }

    #[test]
    fn a_robust_baseline_follows_a_new_normal() {
        let normal = learnt(Kind::Robust, noise(500).map(|z| 100.0 + z).chain(noise(1_000).map(|z| 200.0 + z)));
        assert!((normal.center - 200.0).abs() < 2.0 && normal.spread < 4.0, "{normal:?}");
    }

    #[test]
    fn a_deviation_grows_again_after_a_flat_time() {
        let normal =
            learnt(Kind::Robust, std::iter::repeat_n(50.0, 100_000).chain(noise(1_500).map(|z| 50.0 + 5.0 * z)));
        assert!((3.0..8.0).contains(&normal.spread), "{normal:?}");
    }

    proptest! {
        #[test]
        fn no_values_make_a_baseline_infinite(values in prop::collection::vec(-MAGNITUDE_MAX..MAGNITUDE_MAX, 1..200)) {
            for kind in [Kind::Standard, Kind::Robust] {
                let normal = learnt(kind, values.iter().copied());
                prop_assert!(normal.center.is_finite() && normal.spread.is_finite() && normal.spread >= 0.0);
            }
        }
    }
}
