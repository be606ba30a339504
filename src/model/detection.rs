//! Detections: what detect says on the remediation topic.
//!
//! Identities are functions of pipeline, rule, series and onset, never of values: the same data always gives the same ids.

use serde::{Deserialize, Serialize, Serializer};

use super::pipeline::{Micros, Scope, Severity};
use super::series::{Label, Series, stable_id};
pub use super::time::format_time;
use super::time::rfc3339;

/// The three things that can be said about a detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Opened,
    Updated,
    Resolved,
}

impl Change {
    /// The change in a word.
    pub fn name(self) -> &'static str {
        match self {
            Change::Opened => "opened",
            Change::Updated => "updated",
            Change::Resolved => "resolved",
        }
    }

    /// The CloudEvents type.
    pub fn event_type(self) -> &'static str {
        match self {
            Change::Opened => "maturion.detection.opened.v1",
            Change::Updated => "maturion.detection.updated.v1",
            Change::Resolved => "maturion.detection.resolved.v1",
        }
    }
}

/// The learnt normal that a value was compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineSummary {
    pub center: f64,
    pub spread: f64,
    pub lower: f64,
    pub upper: f64,
    /// How many windows it has learnt.
    pub windows: u64,
}

/// The body of a message on the remediation topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    #[serde(skip)]
    pub change: Change,
    /// Counts the messages about one detection, from 0.
    pub update: u32,
    pub detection_id: String,
    pub pipeline: String,
    pub rule: String,
    pub technique: &'static str,
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    #[serde(serialize_with = "series_as_object")]
    pub series: Series,
    #[serde(serialize_with = "rfc3339::serialize")]
    pub window_start: Micros,
    #[serde(serialize_with = "rfc3339::serialize")]
    pub window_end: Micros,
    /// False while the window is still open (`continuous` rules).
    pub complete: bool,
    pub measure: String,
    pub value: Option<f64>,
    pub samples: Option<u64>,
    /// The limit in the measure's own unit: for a baseline technique, the limit applied to the baseline.
    pub threshold: Option<f64>,
    pub baseline: Option<BaselineSummary>,
    pub score: Option<f64>,
    pub severity: Severity,
    pub scope: Scope,
    pub remedy: Option<ProposedAction>,
    pub incident_id: String,
    /// One statement that shows the numbers behind the detection.
    pub evidence_sql: String,
}

/// A remedy with its target filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedAction {
    pub action: String,
    pub target: Option<String>,
}

impl Detection {
    /// `ce_id`: the same for the same change of the same detection, whoever computes it.
    pub fn event_id(&self) -> String {
        stable_id(&[self.detection_id.as_bytes(), self.change.event_type().as_bytes(), &self.update.to_be_bytes()])
    }

    /// The end of the window that caused the message, as RFC 3339.
    pub fn time(&self) -> String {
        format_time(self.window_end)
    }
}

/// The identity of a detection: what fired, for whom, since when.
pub fn detection_id(pipeline: &str, rule: &str, series: &Series, onset: Micros) -> String {
    stable_id(&[b"detection", pipeline.as_bytes(), rule.as_bytes(), &series.key(), &onset.to_be_bytes()])
}

/// The identity of an incident. One rule on one series has one incident at a time, so it is derived from the same parts.
pub fn incident_id(pipeline: &str, rule: &str, series: &Series, onset: Micros) -> String {
    stable_id(&[b"incident", pipeline.as_bytes(), rule.as_bytes(), &series.key(), &onset.to_be_bytes()])
}

fn series_as_object<S: Serializer>(series: &Series, serializer: S) -> Result<S::Ok, S::Error> {
    series.to_json().serialize(serializer)
}

/// A label as the text in which people write it; null stays null.
pub fn label_text(series: &Series, name: &str) -> Option<String> {
    match series.get(name)? {
        Label::Null => None,
        Label::Bool(value) => Some(value.to_string()),
        Label::Int(value) => Some(value.to_string()),
        Label::Text(value) => Some(value.clone()),
    }
}
