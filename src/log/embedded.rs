//! The in-process log: topics, partitions, groups and transactions in bounded memory, gone when the process ends.
//!
//! It is for trying Maturion out, for tests, and for the simulation; it is not for production, and says so wherever it is
//! shown. It behaves like Apache Kafka as far as the interface goes, transaction markers included. It never writes to
//! disk, never listens on a port, and lets time pass only as its clock says.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::log::{Appender, Log, LogError, Outgoing, Partition, Position, Reader, Record, Session, TopicInfo};

mod group;
mod partition;
mod session;
mod state;

use session::{Cursor, EmbeddedSession};
use state::{Draft, State};

/// Bytes of records held at once, overheads included. Raising it costs that much memory.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;

/// How long a writer waits for room in a full log before it is refused.
pub const FULL_WAIT_MS: u64 = 10_000;

/// How the in-process log is set up.
pub struct EmbeddedSettings {
    pub memory_bytes_max: usize,
    /// See [`FULL_WAIT_MS`].
    pub full_wait_ms: u64,
    /// Milliseconds since the Unix epoch, for records without a time of their own and topics with LogAppendTime.
    pub clock_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl Default for EmbeddedSettings {
    fn default() -> EmbeddedSettings {
        EmbeddedSettings {
            memory_bytes_max: MEMORY_BYTES_MAX,
            full_wait_ms: FULL_WAIT_MS,
            clock_ms: Box::new(|| {
                let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
            }),
        }
    }
}

/// The in-process log. Clones are the same log.
#[derive(Clone)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

/// One lock around everything, and one condition that says that something changed.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    settings: EmbeddedSettings,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> MutexGuard<'a, State> {
        let remaining = deadline.saturating_duration_since(Instant::now());
        self.changed.wait_timeout(state, remaining).unwrap_or_else(PoisonError::into_inner).0
    }

    fn now_ms(&self) -> i64 {
        (self.settings.clock_ms)()
    }

    /// Reserves a record's memory; waits for room as long as the settings say.
    fn reserve(&self, record: &Outgoing<'_>) -> Result<Draft, LogError> {
        let deadline = Instant::now() + Duration::from_millis(self.settings.full_wait_ms);
        let mut state = self.lock();
        loop {
            if let Some(draft) = state.reserve(record)? {
                return Ok(draft);
            }
            if Instant::now() >= deadline {
                let held = self.settings.memory_bytes_max >> 20;
                return Err(LogError::Full(
                    "the embedded log",
                    format!("it holds {held} MiB that are still to be read"),
                ));
            }
            state = self.wait(state, deadline);
        }
    }
}

impl EmbeddedLog {
    pub fn new(settings: EmbeddedSettings) -> EmbeddedLog {
        let state = Mutex::new(State::new(settings.memory_bytes_max));
        EmbeddedLog { shared: Arc::new(Shared { state, changed: Condvar::new(), settings }) }
    }

    /// Adds partitions to a topic until it has `partitions`.
    pub fn grow(&self, topic: &str, partitions: i32) -> Result<(), LogError> {
        self.shared.lock().grow(topic, partitions)?;
        self.shared.notify();
        Ok(())
    }

    /// Does what Kafka's session timeout does to a member that is not heard of: others get its partitions at once, its
    /// commits are refused, its next poll reports [`crate::log::Rebalance::Lost`], and then it may join again.
    pub fn expire(&self, transactional_id: &str) {
        self.shared.lock().expire(transactional_id);
        self.shared.notify();
    }
}

impl Log for EmbeddedLog {
    fn session(&self, group: &str, topics: &[String], transactional_id: &str) -> Result<Box<dyn Session>, LogError> {
        Ok(Box::new(EmbeddedSession::open(Arc::clone(&self.shared), group, topics, transactional_id)?))
    }

    fn reader(&self, positions: &[Position]) -> Result<Box<dyn Reader>, LogError> {
        let cursor =
            |position: &Position| (position.partition.clone(), Cursor { offset: position.offset, is_paused: false });
        let mut cursors: BTreeMap<Partition, Cursor> = positions.iter().map(cursor).collect();
        // Collecting nothing checks every position.
        session::collect(&self.shared.lock(), &mut cursors, 0)?;
        Ok(Box::new(EmbeddedReader { shared: Arc::clone(&self.shared), cursors }))
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        Ok(Arc::new(EmbeddedAppender { shared: Arc::clone(&self.shared) }))
    }

    fn bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        let state = self.shared.lock();
        partitions.iter().map(|partition| Ok(state.partition(partition)?.bounds())).collect()
    }

    /// A transaction appears whole at its commit, so nothing is ever pending.
    fn settled_bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.bounds(partitions)
    }

    fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, LogError> {
        let state = self.shared.lock();
        Ok(topics.iter().filter_map(|topic| state.describe(topic)).collect())
    }

    fn create(&self, topic: &TopicInfo) -> Result<(), LogError> {
        self.shared.lock().create(topic)?;
        self.shared.notify();
        Ok(())
    }

    fn trim(&self, before: &[Position]) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        before.iter().try_for_each(|position| state.trim(&position.partition, position.offset))?;
        drop(state);
        self.shared.notify();
        Ok(())
    }

    fn describe_self(&self) -> String {
        "embedded (in process, not for production)".to_owned()
    }
}

struct EmbeddedReader {
    shared: Arc<Shared>,
    cursors: BTreeMap<Partition, Cursor>,
}

impl Reader for EmbeddedReader {
    fn poll(&mut self, wait: Duration, max: usize, visit: &mut dyn FnMut(&Record<'_>)) -> Result<usize, LogError> {
        let deadline = Instant::now() + wait;
        let mut state = self.shared.lock();
        loop {
            let runs = session::collect(&state, &mut self.cursors, max)?;
            if !runs.is_empty() || Instant::now() >= deadline {
                drop(state);
                return Ok(session::show(&runs, visit));
            }
            state = self.shared.wait(state, deadline);
        }
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        Ok(session::positions_of(&self.cursors))
    }
}

struct EmbeddedAppender {
    shared: Arc<Shared>,
}

impl Appender for EmbeddedAppender {
    fn append(&self, record: Outgoing<'_>) -> Result<(), LogError> {
        let draft = self.shared.reserve(&record)?;
        self.shared.lock().append(draft, self.shared.now_ms())?;
        self.shared.notify();
        Ok(())
    }

    /// There is nothing to wait for: what was appended is in the log.
    fn flush(&self, _wait: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_with(memory_bytes_max: usize, config: &[(&str, &str)]) -> EmbeddedLog {
        let log =
            EmbeddedLog::new(EmbeddedSettings { memory_bytes_max, full_wait_ms: 0, clock_ms: Box::new(|| 1_000) });
        let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        log.create(&TopicInfo { name: "t".into(), partitions: 1, config }).unwrap();
        log
    }

    fn append(log: &EmbeddedLog, timestamp_ms: Option<i64>) -> Result<(), LogError> {
        let value = vec![0; 1024];
        log.appender()?.append(Outgoing { topic: "t", value: Some(&value), timestamp_ms, ..Outgoing::default() })
    }

    fn bounds(log: &EmbeddedLog) -> (i64, i64) {
        log.bounds(&[Partition { topic: "t".into(), number: 0 }]).unwrap()[0]
    }

    #[test]
    fn what_no_group_reads_is_dropped_when_memory_runs_out() {
        let log = log_with(64 << 10, &[]);
        (0..1000).for_each(|_| append(&log, None).unwrap());
        let (earliest, end) = bounds(&log);
        assert_eq!(end, 1000);
        assert!(earliest > 900, "{earliest}");
    }

    #[test]
    fn what_a_group_has_not_read_is_kept_and_the_writer_refused() {
        let log = log_with(64 << 10, &[]);
        let _reading = log.session("g", &["t".to_owned()], "id").unwrap();
        let refused = (0..1000).find_map(|_| append(&log, None).err());
        assert!(matches!(refused, Some(LogError::Full(..))), "{refused:?}");
        assert_eq!(bounds(&log).0, 0);
    }

    #[test]
    fn unlimited_retention_is_left_to_trim() {
        let log = log_with(64 << 10, &[("retention.ms", "-1")]);
        assert!((0..1000).any(|_| append(&log, None).is_err()));
        let (earliest, end) = bounds(&log);
        assert_eq!(earliest, 0);
        log.trim(&[Position { partition: Partition { topic: "t".into(), number: 0 }, offset: end }]).unwrap();
        append(&log, None).unwrap();
    }

    #[test]
    fn log_append_time_overrides_the_producer() {
        for (config, expected) in [(&[][..], 7), (&[("message.timestamp.type", "LogAppendTime")][..], 1_000)] {
            let log = log_with(64 << 10, config);
            append(&log, Some(7)).unwrap();
            let start = Position { partition: Partition { topic: "t".into(), number: 0 }, offset: 0 };
            let mut seen = None;
            let mut reader = log.reader(&[start]).unwrap();
            reader.poll(Duration::ZERO, 1, &mut |record| seen = record.timestamp_ms).unwrap();
            assert_eq!(seen, Some(expected));
        }
    }
}
