//! Proof: what closed windows say about an incident, and whether they may say it.
//!
//! A window counts for an attempt only if all of it lies after the attempt's effect: a window that began before still holds
//! the outage, and would prove that the fix did not work, or, later, that a second one did.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::claim::RuleFacts;
use super::{Incident, label};
use crate::model::detection::BaselineSummary;
use crate::model::pipeline::{Direction, Micros, Technique};
use crate::model::series::Series;
use crate::model::time::{read_time, rfc3339};

/// Windows in a row within the recovery limit that are a proof. One may be luck; more make every verification longer.
pub const PROOF_WINDOWS: u32 = 2;

/// The windows that an attempt has seen since its effect had time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Windows that begin earlier say nothing.
    #[serde(with = "rfc3339")]
    pub counts_from: Micros,
    /// In a row, the newest included.
    pub good_windows: u32,
    pub bad_windows: u32,
    /// The start of the newest window that counted.
    #[serde(with = "rfc3339")]
    pub counted_to: Micros,
    pub value: Option<f64>,
    pub samples: Option<u64>,
}

/// One closed window of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedWindow {
    pub pipeline: String,
    pub window_start: Micros,
    pub window_end: Micros,
    /// False if it holds one part of the truth.
    pub is_complete: bool,
    row: Map<String, Value>,
}

/// What a window says about an incident's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// Beyond the limit.
    Bad,
    /// Within the recovery limit.
    Good,
    /// In between, too few samples, no number, or not all of it.
    Nothing,
}

impl ClosedWindow {
    /// Reads a message of `maturion.windows`. None: it is no window.
    pub fn read(value: &[u8], is_complete: bool) -> Option<ClosedWindow> {
        let row: Map<String, Value> = serde_json::from_slice(value).ok()?;
        let time = |name: &str| read_time(row.get(name)?.as_str()?).ok();
        let (window_start, window_end) = (time("window_start")?, time("window_end")?);
        let pipeline = row.get("pipeline")?.as_str()?.to_owned();
        Some(ClosedWindow { pipeline, window_start, window_end, is_complete, row })
    }

    /// The module that it is about, if it is about one.
    pub fn module(&self) -> Option<&str> {
        self.row.get("module")?.as_str()
    }

    /// The organisation that it is about, if it is about one.
    pub fn organisation(&self) -> Option<&str> {
        self.row.get("organisation_id")?.as_str()
    }

    /// The series of these labels that it is a window of.
    pub fn series(&self, labels: &[String]) -> Option<Series> {
        let of = |name: &String| Some((name.clone(), label(self.row.get(name)?)?));
        labels.iter().map(of).collect::<Option<_>>().map(Series)
    }

    fn number(&self, column: &str) -> Option<f64> {
        self.row.get(column)?.as_f64().filter(|number| number.is_finite())
    }

    /// What it says about the rule: with the rule's own limit, or else with that which the incident's newest numbers name.
    pub fn says(&self, incident: &Incident, facts: &RuleFacts) -> (Saying, Option<f64>, Option<u64>) {
        let rule = &facts.rule;
        let value = self.number(&rule.measure);
        let samples = rule.samples.as_deref().and_then(|column| self.number(column)).map(|samples| samples as u64);
        // What a message says of a limit that the rule itself knows could be anything.
        let saying = match (value, limit_of(incident, facts).or(incident.numbers.threshold)) {
            _ if !self.is_complete || (rule.samples.is_some() && samples.unwrap_or(0) < rule.min_samples) => {
                Saying::Nothing
            }
            (Some(value), Some(limit)) if rule.technique != Technique::NewFingerprint => {
                judge(value, limit, rule.direction, rule.recovery, incident.numbers.baseline.as_ref())
            }
            _ => Saying::Nothing,
        };
        (saying, value, samples)
    }
}

fn limit_of(incident: &Incident, facts: &RuleFacts) -> Option<f64> {
    let level = facts.rule.levels.iter().find(|level| level.severity == incident.rule_severity)?;
    matches!(facts.rule.technique, Technique::Threshold).then_some(level.limit)
}

fn judge(value: f64, limit: f64, direction: Direction, recovery: f64, baseline: Option<&BaselineSummary>) -> Saying {
    let (is_bad, is_good) = match direction {
        Direction::Above => (value > limit, value <= limit * recovery),
        Direction::Below => (value < limit, value >= limit / recovery),
        // Only the limit of the side that fired is known, so the normal band judges both.
        Direction::Both => {
            let is_normal = baseline.map(|normal| (normal.lower..=normal.upper).contains(&value));
            (is_normal == Some(false), is_normal == Some(true))
        }
    };
    match (is_bad, is_good) {
        (true, _) => Saying::Bad,
        (false, true) => Saying::Good,
        (false, false) => Saying::Nothing,
    }
}

impl Proof {
    /// Takes a window's word, if the window may say it. True if it counted.
    pub fn take(
        &mut self,
        window: &ClosedWindow,
        (saying, value, samples): (Saying, Option<f64>, Option<u64>),
    ) -> bool {
        let is_new = window.window_start > self.counted_to;
        if window.window_start < self.counts_from || !is_new || saying == Saying::Nothing {
            return false;
        }
        self.counted_to = window.window_start;
        (self.value, self.samples) = (value, samples);
        if saying == Saying::Good {
            self.good_windows += 1;
        } else {
            self.good_windows = 0;
            self.bad_windows += 1;
        }
        true
    }

    /// What was seen, in words.
    pub fn words(&self) -> String {
        match (self.value, self.good_windows, self.bad_windows) {
            (None, ..) => "no window from after the action had enough samples".to_owned(),
            (Some(value), good, bad) => {
                format!("good windows in a row since it took effect: {good}, bad ones: {bad}, the newest {value:.4}")
            }
        }
    }

    /// True if it helped.
    pub fn is_complete(&self) -> bool {
        self.good_windows >= PROOF_WINDOWS
    }
}
