//! What every role last said about itself, and the picture that makes.
//!
//! Roles write to the [`StatusBoard`] after each commit; whoever asks gets a [`Status`]. A process knows its own
//! partitions at first hand and those of others from their [`Bulletin`]s. The board holds numbers and names only, never
//! telemetry, and nothing on it is ever waited for: it says what was, not what should be done.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::pipeline::{Micros, Severity};

/// A partition that its role has not reported for this long is stalled. Roles report at least once a second.
const STALLED_AFTER: Duration = Duration::from_secs(30);

mod board;
mod health;

pub use board::StatusBoard;

/// Everything `maturion status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// The name of the process that answers.
    pub instance: String,
    /// Of the process that answers, like `problems` and `roles`.
    pub health: Health,
    /// One sentence for each thing that keeps `health` from being `running`.
    pub problems: Vec<String>,
    /// Which log it is: the embedded one says that it is not for production.
    pub log: String,
    pub roles: Vec<RoleStatus>,
    /// Of every process, ordered by stage, topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// Sums over the partitions of every process, ordered by name.
    pub pipelines: Vec<PipelineStatus>,
    /// Rejected records by the kind of reason, of every process since it started.
    pub dead_letters: BTreeMap<String, u64>,
    /// At most fifty of each partition.
    pub open_incidents: Vec<OpenIncident>,
    /// As the actor sees it, in whatever process it is.
    #[serde(default)]
    pub remediation: Option<Remediation>,
}

/// What is done about incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remediation {
    /// `observe` or `act`.
    pub mode: String,
    /// The kill switch is on: nothing is done.
    pub is_stopped: bool,
    /// How many incidents are in each phase; those that may be reopened count as `resolved`.
    pub phases: BTreeMap<String, u64>,
}

/// The worst that any role says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Running,
    Starting,
    Stalled,
    Failed,
}

impl fmt::Display for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Health::Running => "running",
            Health::Starting => "starting",
            Health::Stalled => "stalled",
            Health::Failed => "failed",
        })
    }
}

/// What a role is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum RoleState {
    Starting,
    /// Reading its state back from the log.
    Restoring,
    Running,
    /// It ended by an error that may pass, this one, and starts anew.
    Restarting(String),
    /// It ended, and why.
    Failed(String),
}

impl RoleState {
    /// The names of all states.
    pub const NAMES: [&str; 5] = ["starting", "restoring", "running", "restarting", "failed"];

    /// The state without its reason.
    pub fn name(&self) -> &'static str {
        match self {
            RoleState::Starting => "starting",
            RoleState::Restoring => "restoring",
            RoleState::Running => "running",
            RoleState::Restarting(_) => "restarting",
            RoleState::Failed(_) => "failed",
        }
    }
}

/// One role of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleStatus {
    pub role: String,
    #[serde(flatten)]
    pub state: RoleState,
}

/// The two stages that own partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Intake,
    Detect,
    Store,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Stage::Intake => "intake",
            Stage::Detect => "detect",
            Stage::Store => "store",
        })
    }
}

/// How far a stage is in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Offset of the next record to read, as committed.
    pub position: i64,
    /// Offset of the next record to be written by anyone.
    pub end_offset: i64,
    /// Intake: the largest event time seen. Detect: the event time up to which every pipeline is complete.
    pub watermark: Option<Micros>,
}

/// One partition, as its owner said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    pub stage: Stage,
    pub topic: String,
    pub partition: i32,
    /// The instance that said this: who works on the partition, or did when it was last heard of.
    pub owner: String,
    pub position: i64,
    pub end_offset: i64,
    /// Records between the two.
    pub lag: i64,
    /// Microseconds since the Unix epoch; see [`Progress::watermark`].
    pub watermark_us: Option<Micros>,
    /// Detect: where the oldest window begins that is open.
    #[serde(default)]
    pub oldest_open_us: Option<Micros>,
    /// How long ago the owner said so.
    pub age_ms: u64,
}

/// What detect says about one pipeline in one partition. All are totals, not changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineReport<'a> {
    pub pipeline: &'a str,
    /// Rows that came after their window had closed.
    pub late_rows: u64,
    /// Messages of another version of the pipeline, which were not understood.
    pub foreign_messages: u64,
    /// Windows that had to close before their time, because too many were open.
    pub closed_early: u64,
    pub open_windows: u64,
    /// Series held, once for each window or pane that they are in.
    pub open_series: u64,
    /// Series that the rules remember something of.
    pub watched_series: u64,
    /// Versions of the pipeline that run or are being finished: 1, but for a while after a change.
    pub versions: u64,
    /// Where the oldest window begins that is open.
    pub oldest_open: Option<Micros>,
    /// Every window that ends here or before is closed.
    pub closed_through: Option<Micros>,
    /// How far its source has come; `None` also for a pipeline that reads windows.
    pub watermark: Option<Micros>,
    pub open_detections: u64,
}

/// One pipeline, over several partitions: sums, and of times the earliest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineStatus {
    pub pipeline: String,
    pub late_rows: u64,
    pub foreign_messages: u64,
    pub closed_early: u64,
    pub open_windows: u64,
    pub open_series: u64,
    pub watched_series: u64,
    /// The most that any partition has.
    pub versions: u64,
    pub oldest_open_us: Option<Micros>,
    pub closed_through_us: Option<Micros>,
    /// How far its source has come; `None` also for a pipeline that reads windows.
    pub watermark_us: Option<Micros>,
    pub open_detections: u64,
}

impl PipelineStatus {
    /// The totals of another partition on top.
    fn add(&mut self, other: &PipelineStatus) {
        self.late_rows += other.late_rows;
        self.foreign_messages += other.foreign_messages;
        self.closed_early += other.closed_early;
        self.open_windows += other.open_windows;
        self.open_series += other.open_series;
        self.watched_series += other.watched_series;
        self.versions = self.versions.max(other.versions);
        self.oldest_open_us = earliest(self.oldest_open_us, other.oldest_open_us);
        self.closed_through_us = earliest(self.closed_through_us, other.closed_through_us);
        self.watermark_us = earliest(self.watermark_us, other.watermark_us);
        self.open_detections += other.open_detections;
    }
}

impl From<&PipelineReport<'_>> for PipelineStatus {
    fn from(report: &PipelineReport<'_>) -> PipelineStatus {
        PipelineStatus {
            pipeline: report.pipeline.to_owned(),
            late_rows: report.late_rows,
            foreign_messages: report.foreign_messages,
            closed_early: report.closed_early,
            open_windows: report.open_windows,
            open_series: report.open_series,
            watched_series: report.watched_series,
            versions: report.versions,
            oldest_open_us: report.oldest_open,
            closed_through_us: report.closed_through,
            watermark_us: report.watermark,
            open_detections: report.open_detections,
        }
    }
}

/// The earlier of two times, where there are two.
fn earliest(one: Option<Micros>, other: Option<Micros>) -> Option<Micros> {
    one.into_iter().chain(other).min()
}

/// What one process tells the others about the partitions it owns: a message on `maturion.progress`, by instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bulletin {
    pub instance: String,
    /// Tells a process from its namesakes, before and beside it.
    pub process: String,
    /// The wall clock of the process that said it.
    pub wall_us: Micros,
    pub partitions: Vec<PartitionStatus>,
    pub shards: Vec<ShardStatus>,
    pub dead_letters: BTreeMap<String, u64>,
    /// Of the process that has the actor.
    pub remediation: Option<Remediation>,
}

/// One partition of detect, as a part of a [`Bulletin`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStatus {
    pub partition: i32,
    pub pipelines: Vec<PipelineStatus>,
    pub open_incidents: Vec<OpenIncident>,
}

/// A detection that has not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIncident {
    pub incident_id: String,
    pub pipeline: String,
    pub rule: String,
    /// The labels as people read them: `org_1 threat`.
    pub series: String,
    pub severity: Severity,
    /// Event time of the onset, microseconds since the Unix epoch.
    pub since_us: Micros,
}

impl RoleStatus {
    fn new(role: &str, state: &RoleState) -> RoleStatus {
        RoleStatus { role: role.to_owned(), state: state.clone() }
    }
}

impl PartitionStatus {
    fn is_stalled(&self) -> bool {
        Duration::from_millis(self.age_ms) > STALLED_AFTER
    }
}

#[cfg(test)]
mod tests;
