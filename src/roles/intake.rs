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
use crate::decode::{Decoder, Incoming, Table};
use crate::evaluate::shard::{LOGS_SOURCE, METRICS_SOURCE};
use crate::log::{Log, LogError, Partition, Position, Rebalance, Record, Session};
use crate::model::pipeline::{Micros, Source};
use crate::serve::status::{Progress, Stage};
use crate::window::aggregator::Aggregator;
use crate::window::clock::Heartbeat;
use rejected::Rejected;

/// Without records, heartbeats go out this often, so that stage two knows that nothing happened.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Partial states of one transaction; beyond it the transaction is committed early. More holds more memory and sends
/// fewer, larger messages.
const AGGREGATE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Records visited by one poll; decoded text of that many is held at once.
const POLL_RECORDS_MAX: usize = 8_192;

mod rejected;

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
    /// By the runtime's clock, like `ends_known`.
    last_commit: Duration,
    ends_known: Option<Duration>,
    /// The definitions of the pipelines stand in the log before their first partial.
    has_defined: bool,
}

/// One input topic: its decoder and the pipelines that read it.
struct TableIntake {
    topic: Arc<str>,
    source: &'static str,
    decoder: Decoder,
    aggregators: Vec<Aggregator>,
    /// How many partitions the topic has.
    partitions: i32,
}

/// How far one input partition was read.
struct PartitionIntake {
    table: usize,
    read: Mark,
    committed: Mark,
    /// The end of the partition when it was last asked for.
    end: i64,
}

/// A point in an input partition. An abort goes back to the last committed one with all that was known there: event time
/// must not be ahead of the rows that are read again.
#[derive(Clone, Copy)]
struct Mark {
    /// The next offset after the last record visited.
    offset: i64,
    /// The largest event time until there, since the worker began to read.
    event_time: Option<Micros>,
}

impl Intake {
    /// A worker for all pipelines that read logs or metrics.
    pub fn new(runtime: Runtime) -> Result<Self, IntakeError> {
        let logs = TableIntake::new(&runtime, Source::Logs, &runtime.topics.logs())?;
        let metrics = TableIntake::new(&runtime, Source::Metrics, &runtime.topics.metrics())?;
        Ok(Self {
            tables: vec![logs, metrics],
            partitions: BTreeMap::new(),
            rejected: Rejected::default(),
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
        let transactional_id = topics.transactional_id(instance, "intake");
        Ok(log.session(&topics.group("intake"), &self.inputs(), &transactional_id)?)
    }

    fn read(&mut self, session: &mut dyn Session, stop: &AtomicBool) -> Result<(), IntakeError> {
        while !stop.load(Ordering::Relaxed) {
            self.turn(session)?;
        }
        self.finish(session)
    }

    /// One poll and what follows from it: an answer to a rebalance, a commit when one is due.
    pub fn turn(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        let wait = self.due_after().saturating_sub(self.since_commit());
        let change = {
            let Self { tables, partitions, rejected, .. } = self;
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
        self.since_commit() >= self.due_after() || self.rejected.is_full() || size() > AGGREGATE_BYTES_MAX
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
            }
            Rebalance::Revoked(partitions) => {
                self.commit(session)?;
                self.forget(&partitions);
                session.release(&partitions)?;
            }
            Rebalance::Lost(partitions) => {
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
            Ok(()) => Ok(()),
            Err(IntakeError::Log(LogError::Abort(reason))) => {
                tracing::warn!(reason, "intake aborts a transaction and reads its records again");
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
        self.rejected.take().for_each(|reason| self.runtime.board.dead_letters(&reason, 1));
        self.has_defined = true;
        for intake in self.partitions.values_mut() {
            intake.committed = intake.read;
        }
        Ok(())
    }

    /// Throws away what was not committed, and goes back to read it again.
    fn abort(&mut self, session: &mut dyn Session) -> Result<(), IntakeError> {
        session.abort()?;
        self.rejected = Rejected::default();
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
                super::send_partial(session, &topic, &plan, &states, self.runtime.partitions).map_err(|error| {
                    match error {
                        SendError::Log(error) => IntakeError::Log(error),
                        SendError::Encode(source) => in_words(source),
                    }
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

impl TableIntake {
    fn new(runtime: &Runtime, source: Source, topic: &str) -> Result<Self, IntakeError> {
        let (table, name) = match source {
            Source::Metrics => (Table::Metrics, METRICS_SOURCE),
            _ => (Table::Logs, LOGS_SOURCE),
        };
        let aggregators = runtime.set.reading(&source).map(|compiled| {
            Aggregator::new(&compiled.plan)
                .map_err(|source| IntakeError::Compute { pipeline: compiled.pipeline.name.clone(), source })
        });
        Ok(Self {
            topic: topic.into(),
            source: name,
            decoder: Decoder::new(table, runtime.limits),
            aggregators: aggregators.collect::<Result<_, _>>()?,
            partitions: 0,
        })
    }

    fn size(&self) -> usize {
        self.aggregators.iter().map(Aggregator::size).sum()
    }

    fn aggregate(&mut self) -> Result<(), IntakeError> {
        if self.decoder.is_empty() {
            return Ok(());
        }
        let batch = self.decoder.finish()?;
        for aggregator in &mut self.aggregators {
            let pipeline = &aggregator.plan().pipeline.clone();
            aggregator.push(&batch).map_err(|source| IntakeError::Compute { pipeline: pipeline.clone(), source })?;
        }
        Ok(())
    }

    /// Forgets everything that was not committed.
    fn clear(&mut self) -> Result<(), IntakeError> {
        self.aggregate()?;
        for aggregator in &mut self.aggregators {
            let pipeline = aggregator.plan().pipeline.clone();
            aggregator.finish().map_err(|source| IntakeError::Compute { pipeline, source })?;
        }
        Ok(())
    }
}

/// One record: into a batch, or to the dead letters. A tombstone only advances the offset.
fn visit(
    tables: &mut [TableIntake],
    partitions: &mut BTreeMap<Partition, PartitionIntake>,
    rejected: &mut Rejected,
    record: &Record<'_>,
) {
    let known = partitions
        .iter_mut()
        .find(|(partition, _)| partition.number == record.partition && partition.topic.as_ref() == record.topic);
    let Some((partition, intake)) = known else { return };
    intake.read.offset = record.offset + 1;
    let Some(value) = record.value else { return };
    let incoming =
        Incoming { value, kafka_timestamp_ms: record.timestamp_ms, partition: record.partition, offset: record.offset };
    match tables[intake.table].decoder.push(&incoming) {
        Ok(event_time) => intake.read.event_time = intake.read.event_time.max(Some(event_time)),
        Err(rejection) => rejected.push(position(partition, record.offset), value, rejection.to_string()),
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
