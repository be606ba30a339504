//! What is known about an incident when its ticket is written: plain data, as it is, not yet scrubbed.

use crate::model::detection::BaselineSummary;
use crate::model::pipeline::{Micros, Scope, Severity};
use crate::model::trace::TraceId;

use super::Identity;

/// One incident, as its builder should learn of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub identity: Identity,
    /// What happened in a few words: `Threat module API 500 errors`.
    pub summary: String,
    /// What was detected, in sentences.
    pub description: String,
    pub pipeline: String,
    pub rule: String,
    pub technique: String,
    pub severity: Severity,
    pub scope: Scope,
    /// Where the incident is in its life, in a word: `firing`, `settling`, `resolved`.
    pub phase: String,
    /// False once the resolution has held: the issue is closed.
    pub open: bool,
    pub source: Source,
    pub whom: Whom,
    /// The module that a builder is looked up for.
    pub module: Option<String>,
    pub affected_users: Affected,
    pub affected_organisations: Affected,
    pub affected_modules: Vec<String>,
    pub detected_at: Micros,
    pub updated_at: Micros,
    pub resolved_at: Option<Micros>,
    pub numbers: Numbers,
    /// One statement that shows the numbers again.
    pub evidence_sql: String,
    /// Lines of the logs.
    pub samples: Vec<String>,
    /// Why there are no such lines, if it was looked for some.
    pub without_samples: Option<&'static str>,
    /// Requests that belong to it.
    pub traces: Vec<TraceId>,
    pub attempts: Vec<Attempt>,
    /// The likely cause, and what speaks for it.
    pub root_cause: String,
    /// What should be done.
    pub proposal: String,
    /// The number of the draft that proposes it, in the same repository.
    pub pull_request: Option<u64>,
    /// Why people were called, if they were.
    pub escalation: Option<String>,
}

/// What the plan calls the source of a detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Logs,
    Metrics,
    Watchdog,
    AnomalyDetection,
}

/// Whose telemetry it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    Platform,
    Organisation(String),
    /// A tenant's, but nobody knows which.
    Unknown,
}

/// How many of something are affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affected {
    Unknown,
    All,
    Number(u64),
}

/// What was measured, and against what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    pub measure: String,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub samples: Option<u64>,
    pub score: Option<f64>,
    pub baseline: Option<BaselineSummary>,
    /// The window that caused the detection.
    pub window: Option<(Micros, Micros)>,
}

/// Something that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub at: Micros,
    pub action: String,
    pub target: String,
    /// In a word: `verified`, `unverified`, `rolled back`, `refused`.
    pub result: String,
    /// What the result rests on, or why it was refused.
    pub words: String,
}
