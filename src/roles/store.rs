//! The role `store`: input topics and results to the tables of the [store](crate::store).
//!
//! ```text
//!  telemetry.logs, telemetry.metrics ──▶ decode ─┐
//!  maturion.windows, maturion.remediation ───────┤
//!  maturion.incidents, maturion.audit ───────────┴─▶ open chunk of the table: readable at once
//!                                                      │ every 30 s or 64 MB
//!                                                    committer ─▶ Parquet and one Delta commit with the offsets
//! ```
//!
//! Its cursor is the Delta log, not the group's offsets: the group only divides the partitions among processes, and
//! shows the lag. So a
//! chunk that was lost with its process is read from Kafka again, and one that was committed is not. A stop commits
//! what was read. The worker never waits for a commit while it reads, except when memory is full: then it stops
//! fetching until there is room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::error::ArrowError;
use thiserror::Error;

use super::Runtime;
use crate::events;
use crate::log::{LogError, Partition, Position, Rebalance, Session};
use crate::model::schema::StoreTable;
use crate::serve::status::{Progress, RoleState, Stage};
use crate::store::chunk::{Input, OffsetRange};
use crate::store::{Store, StoreError};
use committer::Committer;
use reading::Reading;
use tending::Tending;

mod committer;
mod reading;
mod tending;

/// Its name on the status board.
const ROLE: &str = "store";
/// Records visited by one poll.
const POLL_RECORDS_MAX: usize = 8_192;
/// Rows wait for this long at most before they are readable, when few arrive.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How often the inputs' ends are asked for, for the lag in `status`.
const ENDS_INTERVAL: Duration = Duration::from_secs(1);
/// How long partitions that are given up, or a stop, wait for their rows' commit. Rows that are not committed by then are
/// read again by the next owner.
const HAND_OVER_WAIT: Duration = Duration::from_secs(20);
const HAND_OVER_STEP: Duration = Duration::from_millis(20);

/// Why the store role stopped.
#[derive(Debug, Error)]
pub enum StoreRoleError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("rows cannot be built: {0}")]
    Rows(#[from] ArrowError),
    #[error(
        "the store has {topic}-{partition} up to offset {committed}, but Kafka keeps it from {earliest} on only: rows in \
         between are lost to the store; set store.accept_gap = true to go on from there"
    )]
    Gap { topic: String, partition: i32, committed: i64, earliest: i64 },
    #[error(
        "the store has {topic}-{partition} up to offset {committed}, but it ends at {end}: this is another Kafka, or the \
         topic was made anew; give the store a new url"
    )]
    OtherLog { topic: String, partition: i32, committed: i64, end: i64 },
}

/// When chunks are committed, and how much may wait in memory.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// The open chunk is committed after this time. Longer makes fewer, larger files and a longer replay after a crash.
    pub commit_interval: Duration,
    /// … or at this size in memory.
    pub chunk_bytes_max: usize,
    /// All that is in memory. Beyond it nothing more is fetched from Kafka until a commit has made room.
    pub hot_bytes_max: usize,
    /// Put before the names of inputs in Delta: a log that is gone with its process needs another each time.
    pub log_id: String,
    /// Goes on where Kafka begins, if it no longer has what follows the last commit.
    pub accept_gap: bool,
}

/// One worker of the store.
pub struct StoreWorker {
    runtime: Runtime,
    store: Arc<Store>,
    limits: StoreLimits,
    committer: Committer,
    _tending: Tending,
    readings: BTreeMap<Partition, Reading>,
    last_seal: Duration,
    ends_known: Option<Duration>,
    is_paused: bool,
}

impl StoreWorker {
    pub fn new(runtime: Runtime, store: Arc<Store>, limits: StoreLimits) -> Result<Self, StoreRoleError> {
        let last_seal = runtime.clock.elapsed();
        let committer = Committer::start(&store, &runtime.board).map_err(StoreError::Thread)?;
        let tending = Tending::start(&store, &runtime.clock).map_err(StoreError::Thread)?;
        let (readings, ends_known, is_paused) = (BTreeMap::new(), None, false);
        Ok(Self { runtime, store, limits, committer, _tending: tending, readings, last_seal, ends_known, is_paused })
    }

    /// Reads until `stop` is set, then commits what was read and leaves the group.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), StoreRoleError> {
        let mut session = self.join()?;
        let mut result = Ok(());
        while result.is_ok() && !stop.load(Ordering::Relaxed) {
            self.runtime.board.turned(ROLE);
            result = self.turn(session.as_mut());
        }
        let inputs = self.readings.values().map(|reading| (reading.table, Arc::clone(&reading.input)));
        let inputs = inputs.collect::<Vec<_>>();
        if result.is_ok() {
            result = self.hand_over(&inputs);
        }
        self.forget(&inputs);
        session.close();
        result
    }

    fn join(&mut self) -> Result<Box<dyn Session>, StoreRoleError> {
        let Runtime { log, topics, instance, .. } = &self.runtime;
        let inputs = StoreTable::ALL.map(|table| topic_of(&self.runtime, table));
        Ok(log.session(&topics.group("store"), &inputs, &topics.transactional_id(instance, "store"))?)
    }

    /// One poll, and what follows from it.
    fn turn(&mut self, session: &mut dyn Session) -> Result<(), StoreRoleError> {
        let readings = &mut self.readings;
        let change = session.poll(POLL_WAIT, POLL_RECORDS_MAX, &mut |record| {
            let known = readings
                .iter_mut()
                .find(|(partition, _)| partition.number == record.partition && *partition.topic == *record.topic);
            if let Some((_, reading)) = known {
                reading.push(record);
            }
        })?;
        self.publish()?;
        self.seal_what_is_due();
        if let Some(failure) = self.committer.failure() {
            return Err(failure.into());
        }
        match change {
            Some(change) => self.rebalance(session, change)?,
            None => self.keep_within_memory(session)?,
        }
        self.report(session)
    }

    /// Makes what was read readable.
    fn publish(&mut self) -> Result<(), StoreRoleError> {
        for reading in self.readings.values_mut().filter(|reading| reading.has_read()) {
            let (range, batch) = reading.finish()?;
            self.store.state(reading.table).append(&reading.input, range, batch)?;
        }
        Ok(())
    }

    fn seal_what_is_due(&mut self) {
        let is_due = self.since_seal() >= self.limits.commit_interval;
        for table in StoreTable::ALL {
            if is_due || self.store.state(table).open_bytes() >= self.limits.chunk_bytes_max {
                self.seal(table);
            }
        }
        if is_due {
            self.last_seal = self.runtime.clock.elapsed();
        }
    }

    fn seal(&self, table: StoreTable) {
        let sealed = self.store.state(table).seal();
        if sealed.is_some() {
            self.committer.commit(table);
        }
    }

    fn since_seal(&self) -> Duration {
        self.runtime.clock.elapsed().saturating_sub(self.last_seal)
    }

    /// Stops fetching while memory is full, and commits what is there.
    fn keep_within_memory(&mut self, session: &mut dyn Session) -> Result<(), StoreRoleError> {
        let hot: usize = StoreTable::ALL.iter().map(|table| self.store.state(*table).hot_bytes()).sum();
        let partitions = self.readings.keys().cloned().collect::<Vec<_>>();
        if hot > self.limits.hot_bytes_max && !self.is_paused {
            events::store_full(hot as u64);
            StoreTable::ALL.iter().for_each(|table| self.seal(*table));
            session.pause(&partitions)?;
            self.is_paused = true;
        } else if self.is_paused && hot <= self.limits.hot_bytes_max / 2 {
            session.resume(&partitions)?;
            self.is_paused = false;
        }
        Ok(())
    }

    fn rebalance(&mut self, session: &mut dyn Session, change: Rebalance) -> Result<(), StoreRoleError> {
        match change {
            Rebalance::Assigned(partitions) => {
                let positions = self.start(&partitions)?;
                session.assign(&positions)?;
                // A pause does not reach partitions that come after it.
                self.is_paused = false;
                events::partitions_assigned(ROLE, partitions.len() as u64);
                self.runtime.board.role(ROLE, RoleState::Running);
            }
            Rebalance::Revoked(partitions) => {
                let inputs = self.leave(&partitions);
                let committed = self.hand_over(&inputs);
                self.forget(&inputs);
                session.release(&partitions)?;
                events::partitions_revoked(ROLE, partitions.len() as u64);
                committed?;
            }
            Rebalance::Lost(partitions) => {
                let inputs = self.leave(&partitions);
                self.forget(&inputs);
                session.release(&partitions)?;
                events::partitions_lost(ROLE, partitions.len() as u64);
            }
        }
        Ok(())
    }

    /// Where reading begins: after what Delta has.
    fn start(&mut self, partitions: &[Partition]) -> Result<Vec<Position>, StoreRoleError> {
        let bounds = self.runtime.log.bounds(partitions)?;
        let mut positions = Vec::new();
        for (partition, (earliest, end)) in partitions.iter().zip(bounds) {
            let Some(table) =
                StoreTable::ALL.into_iter().find(|table| topic_of(&self.runtime, *table) == *partition.topic)
            else {
                continue;
            };
            let input: Input = format!("{}{}-{}", self.limits.log_id, partition.topic, partition.number).into();
            let committed = self.store.offset(table, &input)?;
            let offset = self.first_offset(partition, committed, (earliest, end))?;
            let covered = committed.unwrap_or(offset);
            let reading = Reading::new(&self.runtime, &self.store, (table, input), covered, offset);
            self.readings.insert(partition.clone(), reading);
            positions.push(Position { partition: partition.clone(), offset });
        }
        Ok(positions)
    }

    fn first_offset(
        &self,
        partition: &Partition,
        committed: Option<i64>,
        (earliest, end): (i64, i64),
    ) -> Result<i64, StoreRoleError> {
        let (topic, number) = (partition.topic.to_string(), partition.number);
        match committed {
            None => Ok(earliest),
            Some(committed) if committed > end => {
                Err(StoreRoleError::OtherLog { topic, partition: number, committed, end })
            }
            Some(committed) if committed < earliest && !self.limits.accept_gap => {
                Err(StoreRoleError::Gap { topic, partition: number, committed, earliest })
            }
            Some(committed) => Ok(committed.max(earliest)),
        }
    }

    fn leave(&mut self, partitions: &[Partition]) -> Vec<(StoreTable, Input)> {
        let gone = partitions.iter().filter_map(|partition| {
            self.runtime.board.released(Stage::Store, &partition.topic, partition.number);
            self.readings.remove(partition)
        });
        gone.map(|reading| (reading.table, reading.input)).collect()
    }

    /// Commits what was read of these inputs, as far as that can be done within [`HAND_OVER_WAIT`].
    fn hand_over(&mut self, inputs: &[(StoreTable, Input)]) -> Result<(), StoreRoleError> {
        self.publish()?;
        StoreTable::ALL.iter().for_each(|table| self.seal(*table));
        let deadline = self.runtime.clock.elapsed() + HAND_OVER_WAIT;
        let is_waiting = |(table, input): &(StoreTable, Input)| self.store.state(*table).is_waiting(input);
        while inputs.iter().any(is_waiting) && self.runtime.clock.elapsed() < deadline {
            std::thread::sleep(HAND_OVER_STEP);
        }
        Ok(())
    }

    fn forget(&self, inputs: &[(StoreTable, Input)]) {
        for (table, input) in inputs {
            self.store.state(*table).forget(std::slice::from_ref(input));
        }
    }

    /// Tells the board and the group how far each input is, once a second.
    fn report(&mut self, session: &mut dyn Session) -> Result<(), StoreRoleError> {
        let now = self.runtime.clock.elapsed();
        if self.ends_known.is_some_and(|at| now.saturating_sub(at) < ENDS_INTERVAL) {
            return Ok(());
        }
        self.ends_known = Some(now);
        let partitions = self.readings.keys().cloned().collect::<Vec<_>>();
        let positions = session.positions()?;
        for (partition, (_, end_offset)) in partitions.iter().zip(self.runtime.log.bounds(&partitions)?) {
            let Some(reading) = self.readings.get(partition) else { continue };
            let reached = positions.iter().find(|position| position.partition == *partition);
            let position = reached.map_or(reading.next, |position| position.offset.max(reading.next));
            let progress = Progress { position, end_offset, watermark: reading.latest };
            self.runtime.board.store(&partition.topic, partition.number, progress);
        }
        self.tell_group(session)
    }

    /// Tells the group how far this worker has read: for whoever watches its lag, and so that the embedded log may drop
    /// the records. Nobody goes on from there.
    fn tell_group(&mut self, session: &mut dyn Session) -> Result<(), StoreRoleError> {
        let read = self.readings.iter().filter(|(_, reading)| reading.next > reading.told);
        let read = read.map(|(partition, reading)| Position { partition: partition.clone(), offset: reading.next });
        let read = read.collect::<Vec<_>>();
        if read.is_empty() {
            return Ok(());
        }
        match session.commit(&read) {
            Ok(()) => self.readings.values_mut().for_each(|reading| reading.told = reading.next),
            // It is told again in a second.
            Err(LogError::Abort(reason)) => {
                events::transaction_aborted(ROLE, &reason);
                session.abort()?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The topic that fills a table.
fn topic_of(runtime: &Runtime, table: StoreTable) -> String {
    match table {
        StoreTable::Logs => runtime.topics.logs(),
        StoreTable::Metrics => runtime.topics.metrics(),
        StoreTable::Windows => runtime.topics.windows(),
        StoreTable::Detections => runtime.topics.remediation(),
        StoreTable::IncidentChanges => runtime.topics.incidents(),
        StoreTable::Audit => runtime.topics.audit(),
    }
}

/// Offsets that were read.
fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange { start, end }
}
