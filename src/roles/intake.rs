//! Stage one: records of the input topics become partial states, or dead letters.
//!
//! ```text
//!   poll ─▶ decode ─▶ aggregate ─┐                         one Kafka transaction
//!     └─▶ rejected ──────────────┴─▶ partials · dead letters · heartbeats · input offsets
//! ```
//!
//! Between two transactions nothing is held that Kafka could not give again: an abort rewinds the input and forgets.
//! Intake never judges lateness and never looks at a clock to decide about data; the wall time in a heartbeat is only
//! recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use thiserror::Error;

use super::{Runtime, SendError};
use crate::events;
use crate::log::{Log, LogError, Partition, Position, Rebalance, Session};
use crate::model::pipeline::Source;
use crate::serve::metrics::Work;
use crate::serve::status::{Progress, RoleState, Stage};
use crate::window::clock::Heartbeat;
use rejected::Rejected;
use table::{Mark, PartitionIntake, TableIntake, visit};

/// Its name on the status board.
const ROLE: &str = "intake";
/// Without records, heartbeats go out this often, so that stage two knows that nothing happened.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Records visited by one poll; decoded text of that many is held at once.
const POLL_RECORDS_MAX: usize = 8_192;

mod rejected;
mod table;

/// Why intake stopped.
#[derive(Debug, Error)]
pub enum IntakeError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("pipeline `{pipeline}` cannot be computed: {source}")]
    Compute { pipeline: String, source: DataFusionError },
    #[error("a batch of records cannot be built: {0}")]
    Batch(#[from] ArrowError),
    #[error("heartbeats cannot be written: {0}")]
    Heartbeat(#[from] serde_json::Error),
}

/// One worker of stage one.
pub struct Intake {
    runtime: Runtime,
    tables: Vec<TableIntake>,
    partitions: BTreeMap<Partition, PartitionIntake>,
    rejected: Rejected,
    /// What the open transaction sent.
    work: Work,
    /// By the runtime's clock, like `ends_known`.
    last_commit: Duration,
    ends_known: Option<Duration>,
    /// The definitions of the pipelines stand in the log before their first partial.
    has_defined: bool,
}

impl Intake {
    /// A worker for all pipelines that read logs or metrics.
    pub fn new(runtime: Runtime) -> Result<Self, IntakeError> {
        let logs = TableIntake::new(&runtime, Source::Logs, &runtime.topics.logs())?;
        let metrics = TableIntake::new(&runtime, Source::Metrics, &runtime.topics.metrics())?;
        Ok(Self {
            tables: vec![logs, metrics],
            partitions: BTreeMap::new(),
            rejected: Rejected::new(runtime.dead_letters_per_second),
            work: Work::default(),
            last_commit: runtime.clock.elapsed(),
            ends_known: None,
            has_defined: false,
            runtime,
        })
    }

    /// Reads until `stop` is set, then commits what was read and leaves the group.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), IntakeError> {
        let mut session = self.join()?;
        let result = self.read(session.as_mut(), stop);
        session.close();
        result
    }

    /// Joins the group; fences a predecessor of the same instance.
    pub fn join(&mut self) -> Result<Box<dyn Session>, IntakeError> {
        self.count_partitions()?;
        let Runtime { log, topics, instance, .. } = &self.runtime;
        Ok(log.session(&topics.group("intake"), &self.inputs(), &topics.transactional_id(instance, "intake"))?)
    }

    fn read(&mut self, session: &mut dyn Session, stop: &AtomicBool) -> Result<(), IntakeError> {
        while !stop.load(Ordering::Relaxed) {
            self.runtime.board.turned(ROLE);
            self.turn(session)?;
        }
        self.finish(session)
    }

    /// One poll and what follows from it: an answer to a rebalance, a commit when one is due.
    pub fn turn(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        let wait = self.due_after().saturating_sub(self.since_commit());
        let change = {
            let Self { runtime, tables, partitions, rejected, .. } = self;
            rejected.pass(runtime.clock.elapsed());
            session.poll(wait, POLL_RECORDS_MAX, &mut |record| visit(tables, partitions, rejected, record))?
        };
        self.aggregate_full_batches()?;
        match change {
            Some(change) => self.rebalance(session, change),
            None if self.is_due() => self.commit(session),
            None => Ok(()),
        }
    }

    /// The last commit, before the session is closed.
    pub fn finish(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        self.commit(session)
    }

    fn since_commit(&self) -> Duration {
        self.runtime.clock.elapsed().saturating_sub(self.last_commit)
    }

    /// How long after the last commit the next one is due: with nothing read, when a heartbeat is.
    fn due_after(&self) -> Duration {
        let has_read = self.partitions.values().any(|partition| partition.read.offset > partition.committed.offset);
        if has_read { self.runtime.intake_commit_interval.min(HEARTBEAT_INTERVAL) } else { HEARTBEAT_INTERVAL }
    }

    fn is_due(&self) -> bool {
        let size = || self.tables.iter().map(TableIntake::size).sum::<usize>();
        self.since_commit() >= self.due_after() || self.rejected.is_full() || size() > self.runtime.aggregate_bytes_max
    }

    /// Aggregates what makes a batch; the rest waits for more, or for the commit.
    fn aggregate_full_batches(&mut self) -> Result<(), IntakeError> {
        let is_full = |table: &&mut TableIntake| table.decoder.len() >= self.runtime.batch_rows;
        self.tables.iter_mut().filter(is_full).try_for_each(TableIntake::aggregate)
    }

    fn rebalance(&mut self, session: &mut dyn Session, change: Rebalance) -> Result<(), IntakeError> {
        match change {
            Rebalance::Assigned(partitions) => {
                self.count_partitions()?;
                let positions = start_positions(self.runtime.log.as_ref(), session, &partitions)?;
                for position in &positions {
                    let Some(table) = self.tables.iter().position(|table| table.topic == position.partition.topic)
                    else {
                        continue;
                    };
                    let start = Mark { offset: position.offset, event_time: None };
                    let intake = PartitionIntake { table, read: start, committed: start, end: i64::MAX };
                    self.partitions.insert(position.partition.clone(), intake);
                }
                self.ends_known = None;
                session.assign(&positions)?;
                events::partitions_assigned(ROLE, partitions.len() as u64);
                self.runtime.board.role(ROLE, RoleState::Running);
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
                self.rewind(session)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.partitions.remove(partition);
            self.runtime.board.released(Stage::Intake, &partition.topic, partition.number);
        }
    }

    /// Commits what was read since the last commit, or aborts and rewinds if Kafka asks for that.
    fn commit(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        self.last_commit = self.runtime.clock.elapsed();
        if self.partitions.is_empty() {
            return Ok(());
        }
        match self.send_and_commit(session) {
            Ok(()) => {
                let work = self.take_work();
                self.runtime.board.committed(ROLE, self.since_commit(), &work);
                Ok(())
            }
            Err(IntakeError::Log(LogError::Abort(reason))) => {
                events::transaction_aborted(ROLE, &reason);
                self.abort(session)?;
                self.rewind(session)
            }
            Err(error) => Err(error),
        }
    }

    fn send_and_commit(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        self.rejected.send(session, &self.runtime.topics.dead_letter())?;
        self.send_partials(session)?;
        self.send_heartbeats(session)?;
        let offsets = self.partitions.iter().map(|(partition, intake)| position(partition, intake.read.offset));
        session.commit(&offsets.collect::<Vec<_>>())?;
        self.has_defined = true;
        for intake in self.partitions.values_mut() {
            intake.committed = intake.read;
        }
        Ok(())
    }

    /// What was done since the last call.
    fn take_work(&mut self) -> Work {
        let mut work = std::mem::take(&mut self.work);
        work.dead_letters = self.rejected.take();
        for table in self.tables.iter_mut().filter(|table| table.visited > 0) {
            work.read.insert(table.topic.to_string(), std::mem::take(&mut table.visited));
            work.decoded.insert(table.topic.to_string(), std::mem::take(&mut table.decoded));
        }
        work
    }

    /// Throws away what was not committed, and goes back to read it again.
    fn abort(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        self.take_work();
        self.runtime.board.metrics().aborted(ROLE);
        session.abort()?;
        for table in &mut self.tables {
            table.clear()?;
        }
        for intake in self.partitions.values_mut() {
            intake.read = intake.committed;
        }
        Ok(())
    }

    /// Reads again from where the log says that this group is: a commit that seemed to fail may have been carried out.
    fn rewind(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        let partitions = self.partitions.keys().cloned().collect::<Vec<_>>();
        if partitions.is_empty() {
            return Ok(());
        }
        let positions = start_positions(self.runtime.log.as_ref(), session, &partitions)?;
        for (intake, position) in self.partitions.values_mut().zip(&positions) {
            let event_time = intake.committed.event_time.filter(|_| intake.committed.offset == position.offset);
            let mark = Mark { offset: position.offset, event_time };
            (intake.read, intake.committed) = (mark, mark);
        }
        Ok(session.rewind(&positions)?)
    }

    fn send_partials(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        let topic = self.runtime.topics.partials();
        if !self.has_defined {
            let is_input = |source: &Source| matches!(source, Source::Logs | Source::Metrics);
            super::send_definitions(session, &topic, &self.runtime.set, is_input, self.runtime.partitions)?;
        }
        for table in &mut self.tables {
            table.aggregate()?;
            for aggregator in &mut table.aggregators {
                let plan = Arc::clone(aggregator.plan());
                let in_words = |source| IntakeError::Compute { pipeline: plan.pipeline.clone(), source };
                let Some(states) = aggregator.finish().map_err(in_words)? else { continue };
                let sent =
                    super::send_partial(session, &topic, &plan, &states, self.runtime.partitions, &mut self.work);
                sent.map_err(|error| match error {
                    SendError::Log(error) => IntakeError::Log(error),
                    SendError::Encode(source) => in_words(source),
                })?;
            }
        }
        Ok(())
    }

    /// Tells every partition of the partials how far this worker's inputs are: last in the transaction, so that whoever
    /// reads a heartbeat has read the rows before it.
    fn send_heartbeats(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        let partitions = self.partitions.keys().cloned().collect::<Vec<_>>();
        self.refresh_ends(&partitions)?;
        let positions = session.positions()?;
        let wall = self.runtime.clock.wall();
        let mut beats = Vec::with_capacity(partitions.len());
        for (partition, intake) in &self.partitions {
            let reached = positions.iter().find(|position| position.partition == *partition);
            let position = reached.map_or(intake.read.offset, |position| position.offset.max(intake.read.offset));
            let table = &self.tables[intake.table];
            beats.push(Heartbeat {
                source: table.source.to_owned(),
                partition: partition.number,
                partitions: table.partitions,
                position,
                end: intake.end,
                event_time: intake.read.event_time,
                wall,
            });
            let progress = Progress { position, end_offset: intake.end, watermark: intake.read.event_time };
            self.runtime.board.intake(&partition.topic, partition.number, progress);
        }
        super::send_control(session, &self.runtime.topics.partials(), "heartbeats", &beats, self.runtime.partitions)
            .map_err(IntakeError::from)
    }

    /// Asks for the inputs' ends, at most once in a heartbeat's interval: an end that is a second old still tells a
    /// partition that stands at it from one with a backlog.
    fn refresh_ends(&mut self, partitions: &[Partition]) -> Result<(), IntakeError> {
        let now = self.runtime.clock.elapsed();
        if self.ends_known.is_some_and(|at| now.saturating_sub(at) < HEARTBEAT_INTERVAL) {
            return Ok(());
        }
        for (intake, (_, end)) in self.partitions.values_mut().zip(self.runtime.log.bounds(partitions)?) {
            intake.end = end;
        }
        self.ends_known = Some(now);
        Ok(())
    }

    fn inputs(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.topic.to_string()).collect()
    }

    fn count_partitions(&mut self) -> Result<(), IntakeError> {
        let infos = self.runtime.log.describe(&self.inputs())?;
        for table in &mut self.tables {
            let info = infos.iter().find(|info| info.name == *table.topic);
            let info = info.ok_or_else(|| LogError::UnknownTopic { topic: table.topic.to_string() })?;
            table.partitions = info.partitions;
        }
        Ok(())
    }
}

/// Where to start reading: at the group's offsets, or at the earliest record where there are none.
fn start_positions(
    log: &dyn Log,
    session: &mut dyn Session,
    partitions: &[Partition],
) -> Result<Vec<Position>, LogError> {
    let committed = session.committed(partitions)?;
    let bounds = log.bounds(partitions)?;
    let starts = committed.into_iter().zip(bounds).map(|(committed, (earliest, _))| committed.unwrap_or(earliest));
    Ok(partitions.iter().zip(starts).map(|(partition, offset)| position(partition, offset)).collect())
}

fn position(partition: &Partition, offset: i64) -> Position {
    Position { partition: partition.clone(), offset }
}
