//! Judging: what one window says about one level.
//!
//! ```text
//!   above:      recovered        near            breach (or unproven)
//!          ──────────────────┤─────────────┤──────────────────────────▶ measure
//!                       recovery limit    limit
//! ```
//!
//! Limits are brought into the measure's own unit first, so that every technique is judged, explained and drawn alike.
//! `judge` knows one window and one baseline; it remembers nothing.

use std::sync::LazyLock;

use statrs::distribution::{ContinuousCDF, Normal as NormalDistribution};

use crate::model::detection::BaselineSummary;
use crate::model::pipeline::{Direction, Level, Rule, Technique};

use super::baseline::Normal;

/// The spread that a score is measured in is never less than this share of the baseline's centre: a flat series is not infinitely
/// sensitive.
const SPREAD_SHARE_MIN: f64 = 0.01;

/// No floor is smaller than this, whatever `min_effect` and limit say: scores stay finite.
const FLOOR_MIN: f64 = 1e-9;

/// The normal band that a baseline's summary states: the centre, and this many spreads to either side.
const BAND_SPREADS: f64 = 3.0;

/// The normal quantile of the Wilson bounds: the ends of the customary two-sided 95 % interval, so a true rate at the limit passes for
/// proof in one window of 40. (One-sided 95 % would be one in 20: 72 windows a day at one minute.)
static WILSON_Z: LazyLock<f64> = LazyLock::new(|| NormalDistribution::standard().inverse_cdf(0.975));

/// What one window says about one level. The order is from worst to best: of two sides the worse counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Beyond the limit, and proven to be.
    Breach,
    /// Beyond the limit, but by too few samples to be sure: says nothing either way.
    Unproven,
    /// Within the limit, but not within the recovery limit.
    Near,
    /// Within the recovery limit.
    Recovered,
}

/// One window's evidence for one rule: a finite measure, with enough samples, and the baseline from before it, warm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) value: f64,
    pub(super) samples: Option<f64>,
    pub(super) normal: Option<Normal>,
}

/// Which sides of the normal may be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// The window is closed: both.
    Closed,
    /// The window is still filling: only above, because a count is low as long as it is still growing.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

/// One side's limits in the measure's own unit.
#[derive(Clone, Copy, Debug)]
struct Edge {
    side: Side,
    limit: f64,
    recovery: f64,
    /// True if a value equal to the limit is a breach: `above = 1` means more than one, "ten times" means at least ten times.
    inclusive: bool,
}

impl Edge {
    fn is_beyond(&self, value: f64) -> bool {
        let distance = if self.side == Side::Above { value - self.limit } else { self.limit - value };
        distance > 0.0 || (self.inclusive && distance == 0.0)
    }

    fn is_recovered(&self, value: f64) -> bool {
        if self.side == Side::Above { value <= self.recovery } else { value >= self.recovery }
    }

    fn verdict(&self, rule: &Rule, reading: &Reading) -> Verdict {
        if self.is_beyond(reading.value) {
            let is_proven = !rule.rate || self.is_beyond(self.proven(reading));
            return if is_proven { Verdict::Breach } else { Verdict::Unproven };
        }
        if self.is_recovered(reading.value) { Verdict::Recovered } else { Verdict::Near }
    }

    /// The least extreme rate that the samples still allow. Without samples nothing is proven: the limit's far side.
    fn proven(&self, reading: &Reading) -> f64 {
        let (lower, upper) = wilson(reading.value, reading.samples.unwrap_or(0.0));
        if self.side == Side::Above { lower } else { upper }
    }
}

/// What a window says about a level.
pub(super) fn verdict(rule: &Rule, level: &Level, reading: &Reading, fill: Fill) -> Verdict {
    let sides: &[Side] = match (rule.direction, fill) {
        (Direction::Above, _) | (Direction::Both, Fill::Open) => &[Side::Above],
        (Direction::Below, Fill::Closed) => &[Side::Below],
        (Direction::Both, Fill::Closed) => &[Side::Above, Side::Below],
        (Direction::Below, Fill::Open) => return Verdict::Unproven,
    };
    sides
        .iter()
        .filter_map(|side| edge(rule, level, reading, *side))
        .map(|edge| edge.verdict(rule, reading))
        .min()
        .unwrap_or(Verdict::Unproven)
}

/// The limit in the measure's own unit, on the side where the value is. `None` where limits do not apply.
pub(super) fn threshold(rule: &Rule, level: &Level, reading: &Reading) -> Option<f64> {
    let side = match rule.direction {
        Direction::Above => Side::Above,
        Direction::Below => Side::Below,
        Direction::Both if reading.normal.is_some_and(|normal| reading.value < normal.center) => Side::Below,
        Direction::Both => Side::Above,
    };
    match rule.technique {
        Technique::NewFingerprint => None,
        _ => edge(rule, level, reading, side).map(|edge| edge.limit),
    }
}

/// How extreme the value is, in the unit of the level's limit: spreads for z-scores, multiples for ratios.
pub(super) fn score(rule: &Rule, level: &Level, reading: &Reading) -> Option<f64> {
    let normal = reading.normal?;
    match rule.technique {
        Technique::Threshold | Technique::NewFingerprint => None,
        Technique::Ratio => Some(reading.value / normal.center.max(floor(rule, level, reading))),
        Technique::Zscore { .. } => {
            let signed = (reading.value - normal.center) / spread(rule, level, reading, normal);
            Some(match rule.direction {
                Direction::Above => signed,
                Direction::Below => -signed,
                Direction::Both => signed.abs(),
            })
        }
    }
}

/// The baseline as the remediation topic states it.
pub(super) fn summary(rule: &Rule, level: &Level, reading: &Reading) -> Option<BaselineSummary> {
    let normal = reading.normal?;
    let spread = spread(rule, level, reading, normal);
    let lower = normal.center - BAND_SPREADS * spread;
    Some(BaselineSummary {
        center: normal.center,
        spread,
        lower: if normal.signed { lower } else { lower.max(0.0) },
        upper: normal.center + BAND_SPREADS * spread,
        windows: normal.windows,
    })
}

/// A level's limits on one side, in the measure's own unit. `None` if the technique needs a baseline that is not there.
fn edge(rule: &Rule, level: &Level, reading: &Reading, side: Side) -> Option<Edge> {
    match rule.technique {
        Technique::Threshold => {
            let recovery = eased(side, level.limit, rule.recovery);
            Some(Edge { side, limit: level.limit, recovery, inclusive: false })
        }
        Technique::NewFingerprint => Some(Edge { side: Side::Above, limit: 0.0, recovery: 0.0, inclusive: false }),
        Technique::Ratio => Some(ratio_edge(rule, level, reading, side, reading.normal?)),
        Technique::Zscore { .. } => Some(zscore_edge(rule, level, reading, side, reading.normal?)),
    }
}

/// Recovery never asks for more than the centre itself: a limit of 1.1 times normal recovers at normal, not at 0.88 of it.
fn ratio_edge(rule: &Rule, level: &Level, reading: &Reading, side: Side, normal: Normal) -> Edge {
    let center = normal.center;
    match side {
        Side::Above => {
            let base = center.max(floor(rule, level, reading));
            let limit = (level.limit * base).max(center + rule.min_effect);
            let recovery = eased(side, limit, rule.recovery).max(center).min(limit);
            Edge { side, limit, recovery, inclusive: true }
        }
        Side::Below => {
            let share = if rule.direction == Direction::Both { 1.0 / level.limit } else { level.limit };
            let limit = (share * center).min(center - rule.min_effect.max(floor(rule, level, reading)));
            let recovery = eased(side, limit, rule.recovery).min(center).max(limit);
            Edge { side, limit, recovery, inclusive: true }
        }
    }
}

fn zscore_edge(rule: &Rule, level: &Level, reading: &Reading, side: Side, normal: Normal) -> Edge {
    let distance = level.limit * spread(rule, level, reading, normal);
    let signed = if side == Side::Above { distance } else { -distance };
    let (limit, recovery) = (normal.center + signed, normal.center + rule.recovery * signed);
    Edge { side, limit, recovery, inclusive: true }
}

/// A limit moved towards the good side: to 80 % of an `above`, to 125 % of a `below`, by as much if it is negative.
fn eased(side: Side, limit: f64, recovery: f64) -> f64 {
    match side {
        Side::Above => limit - (1.0 - recovery) * limit.abs(),
        Side::Below => limit + (1.0 / recovery - 1.0) * limit.abs(),
    }
}

/// The spread that is judged with: what was learnt, but at least 1 % of the centre and the floor.
fn spread(rule: &Rule, level: &Level, reading: &Reading, normal: Normal) -> f64 {
    normal.spread.max(SPREAD_SHARE_MIN * normal.center.abs()).max(floor(rule, level, reading))
}

/// The least spread of a z-score and the least centre of a ratio: what makes `min_effect` just reach the limit; without a `min_effect`
/// one count, which of a rate is one sample's share and of anything else one unit.
fn floor(rule: &Rule, level: &Level, reading: &Reading) -> f64 {
    let floor = match reading.samples {
        _ if rule.min_effect > 0.0 => rule.min_effect / level.limit,
        Some(samples) if rule.rate => 1.0 / samples.max(1.0),
        _ => 1.0,
    };
    floor.max(FLOOR_MIN)
}

/// The Wilson score interval of a rate (Wilson 1927), two-sided 95 %. No samples allow every rate.
fn wilson(rate: f64, samples: f64) -> (f64, f64) {
    if samples < 1.0 {
        return (0.0, 1.0);
    }
    let rate = rate.clamp(0.0, 1.0);
    let z2 = *WILSON_Z * *WILSON_Z;
    let center = rate + z2 / (2.0 * samples);
    let half = *WILSON_Z * (rate * (1.0 - rate) / samples + z2 / (4.0 * samples * samples)).sqrt();
    let scale = 1.0 + z2 / samples;
    ((center - half) / scale, (center + half) / scale)
}
