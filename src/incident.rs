//! Incidents: what is done about detections, from the first one to the proof that it is over.
//!
//! Detect says that something is wrong and that it is over; the [`book::Book`] owns everything in between. All detections
//! of one series and rule are one incident.
//!
//! ```text
//!                          decided, audited          the effect had time        samples from after the effect
//!   (detect: pending)
//!        │ opened
//!        ▼
//!     firing ───────────────▶ acting ───────────────▶ settling ─────────────────┬───────────────▶ verified ──┐
//!      ▲ ▲ │                    │ refused, failed        no proof in time       │                            │
//!      │ │ │                    ▼                                               ▼                            │
//!      │ │ │                 (next attempt, later) ◀────────────────────── rolled back                       │
//!      │ │ │                    │ the third one                                                              │
//!      │ │ │  beyond what it may, unanswered, security …                                                     │
//!      │ │ └──────────────────▶ escalated ◀── from any of them                                               │
//!      │ │                        │                                                                          │
//!      │ │ opened again           │ detect: resolved                             detect: resolved            │
//!      │ └──────────────────── recovering ◀──────────────────────────────────────────────────────────────────┘
//!      │                          │ stays so for `hold`
//!      │ within seven days        ▼
//!      └────────────────────── resolved ──▶ (forgotten; what comes later is a new incident)
//! ```
//!
//! - **Missing data** is a state of detect's, and never comes here as `resolved`: an incident without data stays as it is.
//! - **A number is confirmed** by a closed window before anything is done about it; a rule that looks at open windows is
//!   believed for a notice, not for an action.
//! - **Flapping** (four changes within twenty windows) keeps an incident open and forbids acting.
//! - **A message is a claim**: what it names must be a rule of this installation, with that rule's numbers
//!   ([`claim`]). Remedy, scope and severity come from the rule.
//! - **Evidence moves severity**: what half of the organisations have at once, or what persists although everything was
//!   tried, is worse than the rule says; what was verified is milder until it is over.
//! - **A silent source** (the deadman) is an incident of its own, and nothing is done on the word of its last windows.
//! - **Every deadline is an absolute time in the incident**, so a restart changes none of them.
//!
//! `incident` is pure: time is an argument, and what it wants done stands in [`book::Outputs`] and [`attempt::Job`].

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::detection::BaselineSummary;
use crate::model::pipeline::{Micros, RuleName, Scope, Severity};
use crate::model::series::{Label, Series, stable_id};
use crate::model::time::{rfc3339, rfc3339_or_null};
use attempt::{Attempt, Stage};
use witness::Witness;

pub mod attempt;
pub mod book;
pub mod claim;
pub mod proof;
pub mod silence;
pub mod witness;

#[cfg(test)]
mod tests;

/// Attempts that an incident remembers; older ones are in the audit.
pub const ATTEMPTS_KEPT: usize = 12;
/// The version of the fingerprint's algorithm: another one gives every incident another identity.
const FINGERPRINT_VERSION: &[u8] = b"1";

/// Where an incident is in its life. See the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Firing,
    Acting,
    Settling,
    Verified,
    RolledBack,
    Escalated,
    Recovering,
    Resolved,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Firing => "firing",
            Phase::Acting => "acting",
            Phase::Settling => "settling",
            Phase::Verified => "verified",
            Phase::RolledBack => "rolled_back",
            Phase::Escalated => "escalated",
            Phase::Recovering => "recovering",
            Phase::Resolved => "resolved",
        }
    }
}

/// Why people are called: the plan's four reasons, and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscalationReason {
    /// Nothing that may be done automatically would help.
    BeyondScope,
    /// Three attempts, and it persists.
    RepeatedFailure,
    /// What happened is not known well enough to go on.
    Ambiguous,
    /// Only a change of high risk would help.
    HighRisk,
    /// Nobody and nothing responded in the time that its severity allows.
    Unanswered,
}

impl EscalationReason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            EscalationReason::BeyondScope => "beyond what may be fixed automatically",
            EscalationReason::RepeatedFailure => "every attempt to fix it failed, and it persists",
            EscalationReason::Ambiguous => "what happened is not known well enough to act",
            EscalationReason::HighRisk => "only a change of high risk would fix it",
            EscalationReason::Unanswered => "nobody responded in the time that its severity allows",
        }
    }
}

/// A moment and who or why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Escalation {
    pub reason: EscalationReason,
    #[serde(with = "rfc3339")]
    pub at: Micros,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub by: String,
    #[serde(with = "rfc3339")]
    pub at: Micros,
}

/// The numbers of the newest message about an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    #[serde(with = "rfc3339")]
    pub window_start: Micros,
    #[serde(with = "rfc3339")]
    pub window_end: Micros,
    pub measure: String,
    pub value: Option<f64>,
    pub samples: Option<u64>,
    /// In the measure's own unit.
    pub threshold: Option<f64>,
    pub baseline: Option<BaselineSummary>,
    pub score: Option<f64>,
}

/// What was last decided, so that the same is not said twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastDecision {
    pub action: String,
    /// In words: the step that refused and why, or that it was allowed.
    pub reason: String,
    #[serde(with = "rfc3339")]
    pub at: Micros,
}

/// One incident: the value of a message on `maturion.incidents`, and all that is remembered about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// That of the first detection of this epoch.
    pub incident_id: String,
    /// Counts the messages about it.
    pub revision: u64,
    /// Counts the incidents of one fingerprint, from 1.
    pub epoch: u32,
    pub fingerprint: String,
    pub pipeline: String,
    pub rule: String,
    #[serde(with = "series_as_object")]
    pub series: Series,
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    pub phase: Phase,
    /// As the evidence has it now; the rule's own is in `rule_severity`.
    pub severity: Severity,
    pub rule_severity: Severity,
    pub scope: Scope,
    #[serde(with = "rfc3339")]
    pub opened_at: Micros,
    #[serde(with = "rfc3339")]
    pub changed_at: Micros,
    #[serde(with = "rfc3339_or_null")]
    pub resolved_at: Option<Micros>,
    /// The detection that is open, or was last.
    pub detection_id: String,
    /// How many of its messages were heard, so that one that comes again changes nothing.
    pub update: u32,
    /// Detect has not said that it is over.
    pub is_firing: bool,
    /// A closed window shows it.
    pub is_confirmed: bool,
    pub numbers: Numbers,
    /// The ends of the windows at which it began or ended, the newest last.
    pub flips: VecDeque<Micros>,
    pub attempts: Vec<Attempt>,
    /// Attempts up to this one were cleared by a person and do not count as failures.
    #[serde(default)]
    pub cleared_attempts: u32,
    /// No attempt until a person has looked.
    pub is_locked: bool,
    pub escalated: Option<Escalation>,
    pub acknowledged: Option<Acknowledgement>,
    pub decided: Option<LastDecision>,
    /// When the next decision is due.
    #[serde(with = "rfc3339_or_null")]
    pub decide_at: Option<Micros>,
    /// By when somebody or something must have responded.
    #[serde(with = "rfc3339_or_null")]
    pub respond_by: Option<Micros>,
    /// When recovering becomes resolved.
    #[serde(with = "rfc3339_or_null")]
    pub hold_until: Option<Micros>,
    /// What the logs say, from before its ticket was written.
    #[serde(default)]
    pub witness: Option<Box<Witness>>,
    pub ticket: Option<TicketNote>,
    /// What became of proposing for good what helped.
    #[serde(default)]
    pub proposal: Option<Box<ProposalNote>>,
    pub evidence_sql: String,
}

/// What is known of the incident's ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketNote {
    /// None: it is a line of a digest, or was deleted.
    pub number: Option<u64>,
    /// As people call it: `owner/name#12`.
    pub issue: String,
    /// What was last written there, as a hash: equal to what should stand there means that nothing is to be done.
    pub written: String,
}

/// What is known of the draft pull request that proposes for good what an attempt changed for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalNote {
    /// The attempt.
    pub action_id: String,
    /// `requests_per_minute from 100 to 150 in config/limits.toml`.
    pub change: String,
    /// False from before anything is sent until it is known what became of it.
    pub is_settled: bool,
    /// The pull request. Another incident may have made it.
    pub number: Option<u64>,
    /// How it was, or why there is none.
    pub words: String,
}

impl Incident {
    /// What happened in a few words: `threat-analysis: error_rate 0.1013, beyond 0.0100`.
    pub fn summary(&self) -> String {
        let place = self.module.as_deref().unwrap_or(&self.pipeline);
        let Numbers { measure, value, threshold, .. } = &self.numbers;
        match (value, threshold) {
            (Some(value), Some(threshold)) => format!("{place}: {measure} {value:.4}, beyond {threshold:.4}"),
            _ => format!("{place}: {}", self.rule.replace('_', " ")),
        }
    }

    /// The attempt that is under way, or whose temporary effect still lasts.
    pub fn running(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| !attempt.is_over())
    }

    /// True if an attempt is between its decision and its end.
    pub fn is_busy(&self) -> bool {
        self.attempts.iter().any(Attempt::is_busy)
    }

    /// True if closed windows have something to say about it: it is to be confirmed, or an attempt to be proven.
    fn wants_windows(&self) -> bool {
        let is_proving = |attempt: &Attempt| matches!(attempt.stage, Stage::Settling | Stage::Proving);
        (self.is_firing && !self.is_confirmed && !self.is_locked) || self.attempts.iter().any(is_proving)
    }

    /// Windows that begin earlier have had their say about an attempt.
    fn proven_until(&self) -> Micros {
        let until = |attempt: &Attempt| attempt.proof.counts_from.max(attempt.proof.counted_to);
        self.attempts.iter().map(until).max().unwrap_or(Micros::MIN)
    }

    /// The full name of its rule.
    pub fn rule_name(&self) -> RuleName {
        RuleName { pipeline: self.pipeline.clone(), rule: self.rule.clone() }
    }

    /// True unless it is resolved.
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Resolved
    }
}

/// The identity over time: what fires, and where.
pub fn fingerprint(pipeline: &str, rule: &str, series: &Series) -> String {
    stable_id(&[b"fingerprint", FINGERPRINT_VERSION, pipeline.as_bytes(), rule.as_bytes(), &series.key()])
}

/// A series as a JSON object, in the order of its labels.
mod series_as_object {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::{Map, Value};

    use crate::model::series::Series;

    pub(super) fn serialize<S: Serializer>(series: &Series, serializer: S) -> Result<S::Ok, S::Error> {
        series.to_json().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Series, D::Error> {
        let labels = Map::deserialize(deserializer)?;
        let read = |(name, value): (String, Value)| match crate::incident::label(&value) {
            Some(label) => Ok((name, label)),
            None => Err(D::Error::custom(format!("`{name}` is no label"))),
        };
        labels.into_iter().map(read).collect::<Result<_, _>>().map(Series)
    }
}

/// A label as JSON has it.
fn label(value: &serde_json::Value) -> Option<Label> {
    match value {
        serde_json::Value::Null => Some(Label::Null),
        serde_json::Value::Bool(value) => Some(Label::Bool(*value)),
        serde_json::Value::Number(value) => value.as_i64().map(Label::Int),
        serde_json::Value::String(value) => Some(Label::Text(value.clone())),
        _ => None,
    }
}
