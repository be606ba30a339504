//! The records of a schedule, made while it runs: each partition goes through event time at its own pace.

use maturion::model::pipeline::Micros;
use rand::Rng;
use rand::rngs::StdRng;

use super::pipelines::{LATENESS, SECOND};

/// 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000 * SECOND;
/// How far behind everything the last records of a schedule are: far enough to close every window.
const CLOSING: Micros = 75 * SECOND;

/// A record that becomes a row.
#[derive(Clone, Debug)]
pub struct Sample {
    pub time: Micros,
    pub organisation: String,
    pub module: &'static str,
    pub duration: f64,
}

impl Sample {
    pub fn bytes(&self) -> Vec<u8> {
        let Sample { time, organisation, module, duration } = self;
        let record = format!(
            r#"{{"timestamp":{time},"organisation_id":"{organisation}","module":"{module}","duration_ms":{duration}}}"#
        );
        record.into_bytes()
    }
}

/// What was appended, and what comes next.
pub struct Records {
    /// How far each input partition is in event time.
    now: Vec<Micros>,
    /// Records still to be made before the closing ones.
    pub left: usize,
    /// Every partition keeps its disorder within the lateness.
    is_strict: bool,
    pub good: Vec<Sample>,
    pub closing: Vec<Sample>,
    pub bad: Vec<Vec<u8>>,
}

impl Records {
    pub fn new(partitions: usize, left: usize, is_strict: bool) -> Records {
        let now = vec![START; partitions];
        Records { now, left, is_strict, good: Vec::new(), closing: Vec::new(), bad: Vec::new() }
    }

    /// A partition appears: its records begin where the others are.
    pub fn grow(&mut self) {
        self.now.push(self.latest());
    }

    fn latest(&self) -> Micros {
        self.now.iter().max().copied().unwrap_or(START)
    }

    pub fn partitions(&self) -> usize {
        self.now.len()
    }

    /// The next record of a partition; `None` is a tombstone.
    pub fn next(&mut self, partition: usize, chance: &mut StdRng) -> Option<Vec<u8>> {
        self.left = self.left.saturating_sub(1);
        match chance.random_range(0..40) {
            0 => return None,
            1 | 2 => {
                let bad = format!("{{\"bad\":{}", self.bad.len()).into_bytes();
                self.bad.push(bad.clone());
                return Some(bad);
            }
            _ => {}
        }
        let now = self.now[partition] + chance.random_range(0..3 * SECOND);
        self.now[partition] = now;
        let behind = if self.is_strict { LATENESS } else { 3 * LATENESS };
        let sample = Sample {
            time: now - if chance.random_bool(0.5) { 0 } else { chance.random_range(0..behind) },
            organisation: format!("org_{}", chance.random_range(0..2)),
            module: ["billing", "search"][chance.random_range(0..2)],
            duration: f64::from(chance.random_range(0..100_000)) * 0.1,
        };
        self.good.push(sample.clone());
        Some(sample.bytes())
    }

    /// The last record of each partition, each in a window of its own.
    pub fn close(&mut self) -> Vec<(usize, Vec<u8>)> {
        let latest = self.latest() + CLOSING;
        let closing = |partition: usize| Sample {
            time: latest + partition as Micros * 10 * SECOND,
            organisation: "closing".to_owned(),
            module: "closing",
            duration: 1.0,
        };
        self.closing = (0..self.partitions()).map(closing).collect();
        self.closing.iter().map(Sample::bytes).enumerate().collect()
    }
}
