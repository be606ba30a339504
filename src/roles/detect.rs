//! Stage two: partial states become closed windows, detections and the state of series.
//!
//! ```text
//!   poll ─▶ Shard::take ─▶ Shard::advance ─┐                         one Kafka transaction
//!                                          └─▶ windows · remediation · baselines · panes · progress · offsets
//! ```
//!
//! One [`Shard`] per assigned partition. Everything a shard remembers is committed with what it said, so whoever takes
//! the partition over continues exactly there; an abort throws the memory away and restores it the same way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use super::{Runtime, SendError, send_definitions};
use crate::evaluate::shard::{OpenDetection, Outputs, Shard, ShardError};
use crate::events;
use crate::log::{LogError, Partition, Position, Rebalance, Session};
use crate::model::detection::{incident_id, label_text};
use crate::model::pipeline::Source;
use crate::serve::metrics::Work;
use crate::serve::status::{OpenIncident, PipelineReport, Progress, Stage};
use crate::window::partial::{self, PartialError};
use restore::PaneKey;

pub use restore::{WarmError, check_cold, warm};

mod restore;
mod send;

/// Its name on the status board.
const ROLE: &str = "detect";
/// Messages taken in by one poll, for all partitions.
const POLL_MESSAGES_MAX: usize = 2_048;
/// Without anything to say, offsets and progress are committed this often.
const QUIET_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The status board hears from the shards this often: a report looks at every series.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Why detect stopped.
#[derive(Debug, Error)]
pub enum DetectRoleError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error(transparent)]
    Partial(#[from] PartialError),
    #[error("partial states cannot be written: {0}")]
    Encode(#[from] datafusion::common::DataFusionError),
    #[error("state of partition {partition} cannot be read: {reason}")]
    State { partition: i32, reason: String },
    #[error("state of partition {partition} cannot be written: {reason}")]
    Write { partition: i32, reason: String },
    #[error(
        "state of partition {partition} was written by a newer program (format {found}, this one reads {known}); run that \
         program, or a newer one"
    )]
    Newer { partition: i32, found: u32, known: u32 },
    #[error(
        "partition {partition} was committed at {committed}, but its progress says {progress}: the topics do not belong \
         together; use a new kafka.topic_prefix"
    )]
    Disagreement { partition: i32, committed: i64, progress: i64 },
}

impl From<SendError> for DetectRoleError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Log(error) => DetectRoleError::Log(error),
            SendError::Encode(error) => DetectRoleError::Encode(error),
        }
    }
}

/// One worker of stage two.
pub struct Detect {
    runtime: Runtime,
    shards: BTreeMap<i32, OwnedShard>,
    /// By the runtime's clock, like the next two.
    last_commit: Duration,
    last_snapshot: Duration,
    last_report: Duration,
    /// The definitions of the pipelines that read windows stand in the log before their first partial.
    has_defined: bool,
}

/// A shard with its place in the log.
struct OwnedShard {
    shard: Shard,
    /// The next offset of the partials to be taken.
    next: i64,
    committed: i64,
    /// The snapshots of panes that stand in the log, with the number of their pieces.
    panes: BTreeMap<PaneKey, usize>,
    /// Topic and key of state that was found and cannot be used.
    strays: Vec<(String, Vec<u8>)>,
    /// Messages were taken since the shard last looked for windows to close.
    is_dirty: bool,
    outputs: Outputs,
}

impl Detect {
    /// A worker for all pipelines.
    pub fn new(runtime: Runtime) -> Self {
        let now = runtime.clock.elapsed();
        Self {
            runtime,
            shards: BTreeMap::new(),
            last_commit: now,
            last_snapshot: now,
            last_report: now,
            has_defined: false,
        }
    }

    /// Works until `stop` is set, then commits and leaves the group.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), DetectRoleError> {
        let mut session = self.join()?;
        let result = self.work(session.as_mut(), stop);
        session.close();
        result
    }

    /// Joins the group; fences a predecessor of the same instance.
    pub fn join(&self) -> Result<Box<dyn Session>, DetectRoleError> {
        let Runtime { log, topics, instance, .. } = &self.runtime;
        let transactional_id = topics.transactional_id(instance, "detect");
        Ok(log.session(&topics.group("detect"), &[topics.partials()], &transactional_id)?)
    }

    fn work(&mut self, session: &mut dyn Session, stop: &AtomicBool) -> Result<(), DetectRoleError> {
        while !stop.load(Ordering::Relaxed) {
            self.runtime.board.turned(ROLE);
            self.turn(session)?;
        }
        self.finish(session)
    }

    /// One poll and what follows from it: windows close, a rebalance is answered, a commit is made when one is due.
    pub fn turn(&mut self, session: &mut dyn Session) -> Result<(), DetectRoleError> {
        let change = self.take(session)?;
        while self.advance()? {
            self.commit(session)?;
        }
        match change {
            Some(change) => self.rebalance(session, change),
            None if self.is_due() => self.commit(session),
            None => {
                self.report_if_due();
                Ok(())
            }
        }
    }

    /// The last commit, before the session is closed.
    pub fn finish(&mut self, session: &mut dyn Session) -> Result<(), DetectRoleError> {
        self.commit(session)
    }

    fn since(&self, moment: Duration) -> Duration {
        self.runtime.clock.elapsed().saturating_sub(moment)
    }

    /// Lets every shard that took something do what it can. True if one has to be written before it can go on.
    fn advance(&mut self) -> Result<bool, DetectRoleError> {
        let mut is_full = false;
        for owned in self.shards.values_mut().filter(|owned| owned.is_dirty) {
            owned.shard.look(&mut owned.outputs)?;
            owned.is_dirty = owned.shard.advance(&mut owned.outputs)?;
            is_full |= owned.is_dirty;
        }
        Ok(is_full)
    }

    /// Takes what the log has; the first message that cannot be understood stops the worker after the visit.
    fn take(&mut self, session: &mut dyn Session) -> Result<Option<Rebalance>, DetectRoleError> {
        let wait = self.runtime.detect_commit_interval;
        let shards = &mut self.shards;
        let mut failure = None;
        let change = session.poll(wait, POLL_MESSAGES_MAX, &mut |record| {
            let Some(owned) = shards.get_mut(&record.partition).filter(|_| failure.is_none()) else { return };
            owned.next = record.offset + 1;
            owned.is_dirty = true;
            let Some(value) = record.value else { return };
            let taken = partial::read_message(&record.headers, value).map_err(DetectRoleError::from);
            let taken = taken.and_then(|message| Ok(owned.shard.take(record.offset, message)?));
            let taken = taken.and_then(|()| owned.relieve());
            failure = taken.err();
        })?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(change),
        }
    }

    fn is_due(&self) -> bool {
        let elapsed = self.since(self.last_commit);
        let has_outputs = self.shards.values().any(|owned| !owned.outputs.is_empty());
        let has_read = self.shards.values().any(|owned| owned.next > owned.committed);
        (has_outputs && elapsed >= self.runtime.detect_commit_interval)
            || (has_read && elapsed >= QUIET_COMMIT_INTERVAL)
    }

    fn rebalance(&mut self, session: &mut dyn Session, change: Rebalance) -> Result<(), DetectRoleError> {
        match change {
            Rebalance::Assigned(partitions) => {
                let positions = self.restore(session, &partitions)?;
                session.assign(&positions)?;
                events::partitions_assigned(ROLE, partitions.len() as u64);
            }
            Rebalance::Revoked(partitions) => {
                self.commit(session)?;
                self.forget(&partitions);
                session.release(&partitions)?;
                events::partitions_revoked(ROLE, partitions.len() as u64);
            }
            Rebalance::Lost(partitions) => {
                events::partitions_lost(ROLE, partitions.len() as u64);
                self.forget(&partitions);
                self.abort(session)?;
                session.release(&partitions)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.shards.remove(&partition.number);
            self.runtime.board.released(Stage::Detect, &partition.topic, partition.number);
        }
    }

    /// Commits everything the shards said and took, or aborts and restores if the log asks for that.
    fn commit(&mut self, session: &mut dyn Session) -> Result<(), DetectRoleError> {
        self.last_commit = self.runtime.clock.elapsed();
        if self.shards.values().all(|owned| owned.next == owned.committed && owned.outputs.is_empty()) {
            return Ok(());
        }
        let mut work = Work::default();
        match self.send_and_commit(session, &mut work) {
            Ok(()) => {
                self.runtime.board.committed(ROLE, self.since(self.last_commit), &work);
                self.report_if_due();
                Ok(())
            }
            Err(DetectRoleError::Log(LogError::Abort(reason))) => {
                events::transaction_aborted(ROLE, &reason);
                self.abort(session)
            }
            Err(error) => Err(error),
        }
    }

    /// Throws the open transaction away with the memory of every shard that was part of it, and restores them.
    fn abort(&mut self, session: &mut dyn Session) -> Result<(), DetectRoleError> {
        self.runtime.board.metrics().aborted(ROLE);
        session.abort()?;
        let topic: Arc<str> = self.runtime.topics.partials().into();
        let numbers = std::mem::take(&mut self.shards).into_keys();
        let partitions = numbers.map(|number| Partition { topic: Arc::clone(&topic), number }).collect::<Vec<_>>();
        let positions = self.restore(session, &partitions)?;
        Ok(session.rewind(&positions)?)
    }

    fn send_and_commit(&mut self, session: &mut dyn Session, work: &mut Work) -> Result<(), DetectRoleError> {
        let with_snapshots = self.since(self.last_snapshot) >= self.runtime.snapshot_interval;
        let runtime = &self.runtime;
        if !self.has_defined {
            let reads_windows = |source: &Source| matches!(source, Source::Windows(_));
            let topic = runtime.topics.partials();
            send_definitions(session, &topic, &runtime.set, reads_windows, runtime.partitions)?;
        }
        for (number, owned) in &mut self.shards {
            let outputs = std::mem::take(&mut owned.outputs);
            send::outputs(runtime, session, *number, owned.shard.set(), &outputs, work)?;
            owned.bury_strays(session, *number)?;
            owned.drop_closed_panes(runtime, session, *number)?;
            if with_snapshots {
                owned.write_panes(runtime, session, *number)?;
            }
            owned.write_progress(runtime, session, *number)?;
        }
        let topic: Arc<str> = runtime.topics.partials().into();
        let position = |(number, owned): (&i32, &OwnedShard)| Position {
            partition: Partition { topic: Arc::clone(&topic), number: *number },
            offset: owned.next,
        };
        let offsets = self.shards.iter().map(position).collect::<Vec<_>>();
        session.commit(&offsets)?;
        self.has_defined = true;
        for owned in self.shards.values_mut() {
            owned.committed = owned.next;
        }
        if with_snapshots {
            self.last_snapshot = self.runtime.clock.elapsed();
            self.trim(&topic);
        }
        Ok(())
    }

    /// Deletes the partials that no restart will read again. That it fails costs disk, nothing else.
    fn trim(&self, topic: &Arc<str>) {
        let before = self.shards.iter().map(|(number, owned)| Position {
            partition: Partition { topic: Arc::clone(topic), number: *number },
            offset: owned.replay_from(),
        });
        if let Err(error) = self.runtime.log.trim(&before.collect::<Vec<_>>()) {
            events::partials_kept(&error.to_string());
        }
    }

    /// Reports what is committed, and nothing else: while anything is not, the next commit will report.
    fn report_if_due(&mut self) {
        let is_committed = self.shards.values().all(|owned| owned.next == owned.committed && owned.outputs.is_empty());
        if is_committed && self.since(self.last_report) >= REPORT_INTERVAL {
            self.last_report = self.runtime.clock.elapsed();
            self.report();
        }
    }

    fn report(&self) {
        let topic = self.runtime.topics.partials();
        for (number, owned) in &self.shards {
            let reports = owned.shard.report();
            let pipelines = reports.iter().map(|report| PipelineReport {
                pipeline: &report.pipeline,
                late_rows: report.late_rows,
                foreign_messages: report.foreign_messages,
                closed_early: report.closed_early,
                open_windows: report.open_panes as u64,
                open_series: report.open_series as u64,
                watched_series: report.watched_series as u64,
                versions: report.versions as u64,
                oldest_open: report.oldest_open,
                closed_through: report.closed_through,
                watermark: report.watermark,
                open_detections: report.open_detections as u64,
            });
            let progress = Progress {
                position: owned.committed,
                end_offset: owned.committed,
                watermark: owned.shard.closed_through(),
            };
            self.runtime.board.detect(&topic, *number, progress, &pipelines.collect::<Vec<_>>());
            let mut open = owned.shard.open_detections().map(incident).collect::<Vec<_>>();
            open.sort_by_key(|incident| std::cmp::Reverse(incident.severity));
            self.runtime.board.open(*number, open);
        }
    }
}

impl OwnedShard {
    /// Closes windows before their time if more are open than the limits allow, so that one look at the log cannot
    /// open any number of them.
    fn relieve(&mut self) -> Result<(), DetectRoleError> {
        if self.shard.is_overfull() {
            self.shard.advance(&mut self.outputs)?;
        }
        Ok(())
    }

    /// The first offset of the partials that a restart must read.
    fn replay_from(&self) -> i64 {
        self.shard.replay_from().unwrap_or(self.next).min(self.next)
    }
}

fn incident(open: OpenDetection) -> OpenIncident {
    let labels = open.series.0.iter().filter_map(|(name, _)| label_text(&open.series, name));
    OpenIncident {
        incident_id: incident_id(&open.pipeline, &open.rule, &open.series, open.onset),
        series: labels.collect::<Vec<_>>().join(" "),
        pipeline: open.pipeline,
        rule: open.rule,
        severity: open.severity,
        since_us: open.onset,
    }
}
