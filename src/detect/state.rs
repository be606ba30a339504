//! State: what is remembered about one series of one pipeline, between windows and across restarts.
//!
//! It goes to a compacted topic each time it changes, so it holds no window, no text and nothing of a healthy series but its baselines.
//! Baselines are found by measure, rule states by rule name and levels by severity: a changed pipeline keeps what did not change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::pipeline::{Level, Micros, Severity};

use super::baseline::{Baseline, Kind};
use super::judge::Verdict;

/// A series without a row for this long, and without an open detection, is forgotten: seven days, so that a weekly job's rest does not
/// count. More keeps the state of series that ended for longer.
pub const FORGET_AFTER_US: Micros = 7 * 24 * 3_600 * 1_000_000;

/// The version of the state's form. A change that older state cannot be read as takes the next number.
const VERSION: u8 = 1;

/// Everything remembered about one series of one pipeline. `default()` is a series never seen.
///
/// Written with serde and read with [`SeriesState::read`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesState {
    version: Version,
    /// The end of the last closed window that had a row. Only kept up to date while something is remembered.
    last_row_end: Micros,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    baselines: Vec<Learnt>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) rules: BTreeMap<String, RuleState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Learnt {
    measure: String,
    /// What the measure was computed from, as a short hash; what was learnt of something else is not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    of: String,
    #[serde(flatten)]
    baseline: Baseline,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Version;

impl Default for Version {
    fn default() -> Self {
        Version
    }
}

impl From<Version> for u8 {
    fn from(_: Version) -> u8 {
        VERSION
    }
}

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(version: u8) -> Result<Self, Self::Error> {
        match version {
            VERSION => Ok(Version),
            _ => Err(format!("this is series state of version {version}, and this program reads version {VERSION}")),
        }
    }
}

/// State that this program cannot read.
#[derive(Debug, Error)]
pub enum StateError {
    /// A downgrade must not lose open incidents.
    #[error(
        "it was written by a newer program (version {found}, this one reads {VERSION}); run that program, or a newer one"
    )]
    Newer { found: u64 },
    #[error("it was written by an older program, or is damaged: {0}")]
    Unreadable(String),
}

impl SeriesState {
    /// Reads what was written.
    pub fn read(bytes: &[u8]) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice::<Head>(bytes) {
            Ok(head) if head.version > u64::from(VERSION) => StateError::Newer { found: head.version },
            _ => StateError::Unreadable(error.to_string()),
        })
    }

    /// True when nothing must be remembered: a tombstone may take the state's place.
    pub fn is_idle(&self) -> bool {
        self.baselines.is_empty() && self.rules.is_empty()
    }

    /// The rules with an open detection on this series.
    pub fn firing(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|(_, state)| state.told.is_some()).map(|(name, _)| name.as_str())
    }

    /// The open detections of this series: rule, severity as last told, and onset.
    pub fn open(&self) -> impl Iterator<Item = (&str, Severity, Micros)> {
        self.rules.iter().filter_map(|(name, state)| Some((name.as_str(), state.told?.severity, state.onset)))
    }

    /// The severity of a rule's open detection on this series, as it was last told.
    pub fn severity_of(&self, rule: &str) -> Option<Severity> {
        self.rules.get(rule)?.told.map(|told| told.severity)
    }

    pub(super) fn baseline(&self, measure: &str, kind: Kind) -> Option<&Baseline> {
        self.baselines.iter().find(|learnt| learnt.is(measure, kind)).map(|learnt| &learnt.baseline)
    }

    pub(super) fn learn(&mut self, measure: &str, of: &str, kind: Kind, value: f64) {
        match self.baselines.iter_mut().find(|learnt| learnt.is(measure, kind)) {
            Some(learnt) => learnt.baseline.learn(value),
            None => {
                let mut baseline = Baseline::new(kind);
                baseline.learn(value);
                self.baselines.push(Learnt { measure: measure.to_owned(), of: of.to_owned(), baseline });
            }
        }
    }

    /// Drops what the pipeline no longer has: its baselines and rules. Returns the rules that had an open detection.
    pub(super) fn retain(
        &mut self,
        is_baseline: impl Fn(&str, &str, Kind) -> bool,
        is_rule: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, RuleState> {
        self.baselines.retain(|learnt| is_baseline(&learnt.measure, &learnt.of, learnt.baseline.kind()));
        if self.rules.keys().all(|name| is_rule(name)) {
            return BTreeMap::new();
        }
        let (kept, removed) = std::mem::take(&mut self.rules).into_iter().partition(|(name, _)| is_rule(name));
        self.rules = kept;
        removed
    }

    pub(super) fn row_seen(&mut self, window_end: Micros) {
        self.last_row_end = self.last_row_end.max(window_end);
    }

    /// Forgets a series that has ended. True if it did.
    pub(super) fn forget_if_gone(&mut self, window_end: Micros) -> bool {
        let is_gone = window_end.saturating_sub(self.last_row_end) >= FORGET_AFTER_US;
        let forgets = is_gone && !self.is_idle() && self.firing().next().is_none();
        if forgets {
            *self = SeriesState::default();
        }
        forgets
    }
}

impl Learnt {
    fn is(&self, measure: &str, kind: Kind) -> bool {
        self.measure == measure && self.baseline.kind() == kind
    }
}

/// One rule on one series, from the first breach until nothing is left of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RuleState {
    /// The start of the first window of the breach; with pipeline, rule and series it is the detection's identity.
    pub(super) onset: Micros,
    /// What the remediation topic was last told; `None` while nothing was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<Told>,
    /// Found during the warm-up of a `new_fingerprint` rule: part of the normal until it was gone once, so never spoken of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_known: bool,
    /// In the order of the rule's levels: from the most to the least severe.
    levels: Vec<LevelState>,
}

/// The last message about a detection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) severity: Severity,
    pub(super) update: u32,
}

/// One level's latch: set by a breach that lasts, released by a recovery that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LevelState {
    severity: Severity,
    is_firing: bool,
    /// Event time with proof of a breach, since the last proof of none.
    breached_us: Micros,
    /// Event time with proof of recovery, since the last proof of none.
    recovered_us: Micros,
}

impl LevelState {
    fn new(level: &Level) -> Self {
        LevelState { severity: level.severity, is_firing: false, breached_us: 0, recovered_us: 0 }
    }

    fn is_idle(&self) -> bool {
        !self.is_firing && self.breached_us == 0
    }

    fn close(&mut self, level: &Level, verdict: Verdict, step: Micros, clear_for: Micros) {
        match verdict {
            Verdict::Breach => {
                self.breached_us = self.breached_us.saturating_add(step);
                self.recovered_us = 0;
                self.is_firing |= self.breached_us >= level.for_;
            }
            Verdict::Unproven => {}
            Verdict::Near => (self.breached_us, self.recovered_us) = (0, 0),
            Verdict::Recovered => {
                self.breached_us = 0;
                self.recovered_us = self.recovered_us.saturating_add(step);
                self.is_firing &= self.recovered_us < clear_for;
            }
        }
    }
}

impl RuleState {
    pub(super) fn new(onset: Micros, levels: &[Level]) -> Self {
        RuleState { onset, told: None, is_known: false, levels: levels.iter().map(LevelState::new).collect() }
    }

    /// Brings the level states in line with a rule whose levels may have changed since the state was written.
    pub(super) fn align(&mut self, levels: &[Level]) {
        let is_aligned = self.levels.iter().map(|state| state.severity).eq(levels.iter().map(|level| level.severity));
        if !is_aligned {
            let kept = |level: &Level| self.levels.iter().find(|state| state.severity == level.severity).copied();
            self.levels = levels.iter().map(|level| kept(level).unwrap_or(LevelState::new(level))).collect();
        }
    }

    /// A window of length `step` has closed with these verdicts, one for each level.
    pub(super) fn close(&mut self, levels: &[Level], verdicts: &[Verdict], step: Micros, clear_for: Micros) {
        for ((state, level), verdict) in self.levels.iter_mut().zip(levels).zip(verdicts) {
            state.close(level, *verdict, step, clear_for);
        }
        self.fire_milder(verdicts);
    }

    /// A window still open has these verdicts: levels that need no patience fire, nothing else changes.
    pub(super) fn fire_at_once(&mut self, levels: &[Level], verdicts: &[Verdict]) {
        for ((state, level), verdict) in self.levels.iter_mut().zip(levels).zip(verdicts) {
            state.is_firing |= level.for_ == 0 && *verdict == Verdict::Breach;
        }
        self.fire_milder(verdicts);
    }

    /// `for` is patience before opening. Once a level fires, milder ones in breach fire with it, so that the detection steps down
    /// through them instead of resolving and opening again.
    fn fire_milder(&mut self, verdicts: &[Verdict]) {
        let mut is_open = false;
        for (state, verdict) in self.levels.iter_mut().zip(verdicts) {
            state.is_firing |= is_open && *verdict == Verdict::Breach;
            is_open |= state.is_firing;
        }
    }

    /// The worst firing level.
    pub(super) fn severity(&self) -> Option<Severity> {
        self.levels.iter().find(|level| level.is_firing).map(|level| level.severity)
    }

    /// True if neither a breach is counted nor a detection open.
    pub(super) fn is_idle(&self) -> bool {
        self.told.is_none() && self.levels.iter().all(LevelState::is_idle)
    }
}
