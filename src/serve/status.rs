//! What every role last said about itself, and the picture that makes.
//!
//! Roles write to the [`StatusBoard`] after each commit; whoever asks gets a [`Status`]. The board holds numbers and
//! names only, never telemetry, and nothing on it is ever waited for: it says what was, not what should be done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::model::pipeline::{Micros, Severity};

/// A partition that its role has not reported for this long is stalled. Roles report at least once a second.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Different reasons for dead letters that are told apart; the others count as `other`.
const REASONS_MAX: usize = 64;
/// Open incidents listed by partition; the counts include all.
const OPEN_LISTED_MAX: usize = 50;

/// Everything `maturion status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub health: Health,
    /// One sentence for each thing that keeps `health` from being `running`.
    pub problems: Vec<String>,
    /// Which log it is: the embedded one says that it is not for production.
    pub log: String,
    pub roles: Vec<RoleStatus>,
    /// Ordered by stage, topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// Sums over the partitions that this process owns, ordered by name.
    pub pipelines: Vec<PipelineStatus>,
    /// Rejected records by reason, since the process started.
    pub dead_letters: BTreeMap<String, u64>,
    /// At most fifty of each partition.
    pub open_incidents: Vec<OpenIncident>,
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
    /// It lost the log, and why; it starts anew after a pause.
    Restarting(String),
    /// It ended, and why.
    Failed(String),
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
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Stage::Intake => "intake",
            Stage::Detect => "detect",
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

/// One partition that this process owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    pub stage: Stage,
    pub topic: String,
    pub partition: i32,
    pub position: i64,
    pub end_offset: i64,
    /// Records between the two.
    pub lag: i64,
    /// Microseconds since the Unix epoch; see [`Progress::watermark`].
    pub watermark_us: Option<Micros>,
    /// How long ago the stage said so.
    pub age_ms: u64,
}

/// What detect says about one pipeline in one partition. All are totals, not changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineReport<'a> {
    pub pipeline: &'a str,
    /// Rows that came after their window had closed.
    pub late_rows: u64,
    pub open_windows: u64,
    pub open_detections: u64,
}

/// One pipeline, over all partitions of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineStatus {
    pub pipeline: String,
    pub late_rows: u64,
    pub open_windows: u64,
    pub open_detections: u64,
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

/// Where roles write and the status is read. Every method is a short critical section; no method fails.
#[derive(Debug)]
pub struct StatusBoard {
    log: String,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    roles: BTreeMap<&'static str, RoleState>,
    partitions: BTreeMap<(Stage, String, i32), (Progress, Instant)>,
    pipelines: BTreeMap<(i32, String), (u64, u64, u64)>,
    dead_letters: BTreeMap<String, u64>,
    open: BTreeMap<i32, Vec<OpenIncident>>,
}

impl StatusBoard {
    /// An empty board of a process on this log (as [`crate::log::Log::describe_self`] names it).
    pub fn new(log: impl Into<String>) -> StatusBoard {
        StatusBoard { log: log.into(), entries: Mutex::default() }
    }

    /// A role starts, restores, runs or ended.
    pub fn role(&self, role: &'static str, state: RoleState) {
        self.entries().roles.insert(role, state);
    }

    /// Intake's place in an input partition, after a commit or a heartbeat.
    pub fn intake(&self, topic: &str, partition: i32, progress: Progress) {
        self.entries().partitions.insert((Stage::Intake, topic.to_owned(), partition), (progress, Instant::now()));
    }

    /// Detect's place in a partition of `topic` (the partials), and each pipeline's totals there.
    pub fn detect(&self, topic: &str, partition: i32, progress: Progress, pipelines: &[PipelineReport<'_>]) {
        let mut entries = self.entries();
        entries.partitions.insert((Stage::Detect, topic.to_owned(), partition), (progress, Instant::now()));
        for report in pipelines {
            let totals = (report.late_rows, report.open_windows, report.open_detections);
            entries.pipelines.insert((partition, report.pipeline.to_owned()), totals);
        }
    }

    /// The detections open in a partition of detect, worst first, when they change. Only the first fifty are kept.
    pub fn open(&self, partition: i32, mut incidents: Vec<OpenIncident>) {
        incidents.truncate(OPEN_LISTED_MAX);
        self.entries().open.insert(partition, incidents);
    }

    /// A partition that this process no longer owns.
    pub fn released(&self, stage: Stage, topic: &str, partition: i32) {
        let mut entries = self.entries();
        entries.partitions.remove(&(stage, topic.to_owned(), partition));
        if stage == Stage::Detect {
            entries.pipelines.retain(|(owner, _), _| *owner != partition);
            entries.open.remove(&partition);
        }
    }

    /// Records that went to the dead letters. `reason` names the kind, not the case.
    pub fn dead_letters(&self, reason: &str, count: u64) {
        let mut entries = self.entries();
        let known = entries.dead_letters.contains_key(reason) || entries.dead_letters.len() < REASONS_MAX;
        let reason = if known { reason } else { "other" };
        *entries.dead_letters.entry(reason.to_owned()).or_default() += count;
    }

    /// The picture now.
    pub fn snapshot(&self) -> Status {
        self.snapshot_at(Instant::now())
    }

    fn snapshot_at(&self, now: Instant) -> Status {
        let entries = self.entries();
        let partitions = entries.partitions(now);
        let (health, problems) = judge(&entries.roles, &partitions);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            health,
            problems,
            log: self.log.clone(),
            roles: entries.roles.iter().map(|(role, state)| RoleStatus::new(role, state)).collect(),
            partitions,
            pipelines: entries.pipelines(),
            dead_letters: entries.dead_letters.clone(),
            open_incidents: entries.open.values().flatten().cloned().collect(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Entries are whole at every step, so a panic elsewhere while the lock was held left nothing half written.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoleStatus {
    fn new(role: &str, state: &RoleState) -> RoleStatus {
        RoleStatus { role: role.to_owned(), state: state.clone() }
    }
}

impl Entries {
    fn partitions(&self, now: Instant) -> Vec<PartitionStatus> {
        let status = |((stage, topic, partition), (progress, said)): (&(Stage, String, i32), &(Progress, Instant))| {
            PartitionStatus {
                stage: *stage,
                topic: topic.clone(),
                partition: *partition,
                position: progress.position,
                end_offset: progress.end_offset,
                lag: progress.end_offset.saturating_sub(progress.position).max(0),
                watermark_us: progress.watermark,
                age_ms: u64::try_from(now.saturating_duration_since(*said).as_millis()).unwrap_or(u64::MAX),
            }
        };
        self.partitions.iter().map(status).collect()
    }

    fn pipelines(&self) -> Vec<PipelineStatus> {
        let mut sums = BTreeMap::<&str, (u64, u64, u64)>::new();
        for ((_, pipeline), (late, windows, detections)) in &self.pipelines {
            let sum = sums.entry(pipeline).or_default();
            *sum = (sum.0 + late, sum.1 + windows, sum.2 + detections);
        }
        let status = |(pipeline, (late_rows, open_windows, open_detections)): (&str, _)| PipelineStatus {
            pipeline: pipeline.to_owned(),
            late_rows,
            open_windows,
            open_detections,
        };
        sums.into_iter().map(status).collect()
    }
}

/// The worst role decides; running roles are stalled if a partition of theirs is.
fn judge(roles: &BTreeMap<&'static str, RoleState>, partitions: &[PartitionStatus]) -> (Health, Vec<String>) {
    let mut problems = Vec::new();
    let mut health = Health::Running;
    let mut problem = |worse: Health, sentence: String| {
        health = health.max(worse);
        problems.push(sentence);
    };
    if roles.is_empty() {
        problem(Health::Starting, "no role has started yet".to_owned());
    }
    for (role, state) in roles {
        match state {
            RoleState::Running => {}
            RoleState::Starting => problem(Health::Starting, format!("{role} is starting")),
            RoleState::Restoring => problem(Health::Starting, format!("{role} is restoring its state")),
            RoleState::Restarting(reason) => problem(Health::Stalled, format!("{role} starts anew: {reason}")),
            RoleState::Failed(reason) => problem(Health::Failed, format!("{role} failed: {reason}")),
        }
    }
    for partition in partitions.iter().filter(|partition| partition.is_stalled()) {
        let PartitionStatus { stage, topic, partition, age_ms, .. } = partition;
        let sentence = format!("{stage} has not reported {topic}-{partition} for {} s", age_ms / 1000);
        problem(Health::Stalled, sentence);
    }
    (health, problems)
}

impl PartitionStatus {
    fn is_stalled(&self) -> bool {
        Duration::from_millis(self.age_ms) > STALLED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(position: i64, end_offset: i64) -> Progress {
        Progress { position, end_offset, watermark: Some(1_000_000) }
    }

    fn running() -> StatusBoard {
        let board = StatusBoard::new("embedded");
        board.role("intake", RoleState::Running);
        board.intake("telemetry.logs", 0, progress(7, 10));
        board
    }

    #[test]
    fn lag_is_what_is_left_and_never_negative() {
        let board = running();
        assert_eq!(board.snapshot().partitions[0].lag, 3);
        board.intake("telemetry.logs", 0, progress(12, 10));
        assert_eq!(board.snapshot().partitions[0].lag, 0);
    }

    #[test]
    fn the_worst_role_decides() {
        let board = running();
        assert_eq!(board.snapshot().health, Health::Running);
        board.role("detect", RoleState::Restoring);
        assert_eq!(board.snapshot().health, Health::Starting);
        board.role("detect", RoleState::Failed("out of luck".into()));
        let status = board.snapshot();
        assert_eq!(status.health, Health::Failed);
        assert_eq!(status.problems, ["detect failed: out of luck"]);
        assert_eq!(StatusBoard::new("").snapshot().health, Health::Starting);
    }

    #[test]
    fn a_silent_partition_is_stalled_until_it_is_released() {
        let board = running();
        let later = Instant::now() + STALLED_AFTER + Duration::from_secs(1);
        assert_eq!(board.snapshot_at(later).health, Health::Stalled);
        board.released(Stage::Intake, "telemetry.logs", 0);
        assert_eq!(board.snapshot_at(later).health, Health::Running);
    }

    #[test]
    fn pipelines_are_summed_over_the_partitions_owned() {
        let board = running();
        let report = |late_rows| PipelineReport { pipeline: "errors", late_rows, open_windows: 1, open_detections: 0 };
        board.detect("maturion.partials", 0, progress(0, 0), &[report(2)]);
        board.detect("maturion.partials", 1, progress(0, 0), &[report(3)]);
        board.detect("maturion.partials", 1, progress(0, 0), &[report(4)]);
        let total = board.snapshot().pipelines;
        assert_eq!((total[0].late_rows, total[0].open_windows), (6, 2));
        board.released(Stage::Detect, "maturion.partials", 1);
        assert_eq!(board.snapshot().pipelines[0].late_rows, 2);
    }

    #[test]
    fn invented_reasons_do_not_grow_the_board() {
        let board = running();
        for reason in 0..1000 {
            board.dead_letters(&format!("reason {reason}"), 1);
        }
        let letters = board.snapshot().dead_letters;
        assert_eq!(letters.len(), REASONS_MAX + 1);
        assert_eq!(letters.values().sum::<u64>(), 1000);
    }

    #[test]
    fn a_status_survives_its_json() {
        let board = running();
        board.role("detect", RoleState::Failed("x".into()));
        let status = board.snapshot();
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#"{"role":"detect","state":"failed","reason":"x"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
