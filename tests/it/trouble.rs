//! A log that fails as it is told: what the workers do about it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::{
    Appender, Log, LogError, Outgoing, Partition, Position, Reader, Rebalance, Record, Session, TopicInfo,
};
use serde_json::json;

use crate::flow::{Flow, pipeline};

const SECOND: i64 = 1_000_000;
/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;

/// What goes wrong for intake, in this order, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// A session cannot be opened.
    Unreachable,
    /// The next commit that carries records fails.
    Failed,
    /// The next commit that carries records must be aborted; after it, one record is read per transaction.
    Aborted,
    /// The same, but in truth it was carried out.
    InDoubt,
    /// For detect: the group's offset is an old one when it is first asked for, as for a member that was cut off and reads
    /// its state while another one, who owns the partition by now, goes on.
    Overtaken,
}

#[derive(Clone)]
struct Troubled {
    inner: EmbeddedLog,
    troubles: Arc<Mutex<VecDeque<Trouble>>>,
}

impl Troubled {
    fn new(troubles: impl IntoIterator<Item = Trouble>) -> Troubled {
        let inner = EmbeddedLog::new(EmbeddedSettings::default());
        Troubled { inner, troubles: Arc::new(Mutex::new(troubles.into_iter().collect())) }
    }

    fn is_over(&self) -> bool {
        self.troubles.lock().unwrap().is_empty()
    }
}

impl Log for Troubled {
    fn session(&self, group: &str, topics: &[String], transactional_id: &str) -> Result<Box<dyn Session>, LogError> {
        let is_overtaken = self.troubles.lock().unwrap().front() == Some(&Trouble::Overtaken);
        let role = if is_overtaken { "-detect" } else { "-intake" };
        let is_meant = transactional_id.ends_with(role);
        let troubles = if is_meant { Arc::clone(&self.troubles) } else { Arc::default() };
        if troubles.lock().unwrap().front() == Some(&Trouble::Unreachable) {
            troubles.lock().unwrap().pop_front();
            return Err(LogError::Unreachable { brokers: "b:1".to_owned(), reason: "it is away".to_owned() });
        }
        let inner = self.inner.session(group, topics, transactional_id)?;
        Ok(Box::new(TroubledSession { inner, troubles, visited: 0, is_slow: false }))
    }
    fn reader(&self, positions: &[Position]) -> Result<Box<dyn Reader>, LogError> {
        self.inner.reader(positions)
    }
    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        self.inner.appender()
    }
    fn bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.inner.bounds(partitions)
    }
    fn settled_bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.inner.settled_bounds(partitions)
    }
    fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, LogError> {
        self.inner.describe(topics)
    }
    fn create(&self, topic: &TopicInfo) -> Result<(), LogError> {
        self.inner.create(topic)
    }
    fn trim(&self, before: &[Position]) -> Result<(), LogError> {
        self.inner.trim(before)
    }
    fn describe_self(&self) -> String {
        self.inner.describe_self()
    }
}

struct TroubledSession {
    inner: Box<dyn Session>,
    troubles: Arc<Mutex<VecDeque<Trouble>>>,
    /// Records since the last commit.
    visited: usize,
    is_slow: bool,
}

impl Session for TroubledSession {
    fn poll(
        &mut self,
        wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError> {
        if self.is_slow && self.visited > 0 {
            std::thread::sleep(wait);
            return Ok(None);
        }
        let visited = &mut self.visited;
        let max = if self.is_slow { 1 } else { max };
        self.inner.poll(wait, max, &mut |record| {
            *visited += 1;
            visit(record);
        })
    }
    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError> {
        self.inner.assign(positions)
    }
    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.inner.release(partitions)
    }
    fn rewind(&mut self, positions: &[Position]) -> Result<(), LogError> {
        self.inner.rewind(positions)
    }
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.inner.pause(partitions)
    }
    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.inner.resume(partitions)
    }
    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        self.inner.positions()
    }
    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<Option<i64>>, LogError> {
        let mut committed = self.inner.committed(partitions)?;
        let mut troubles = self.troubles.lock().unwrap();
        if troubles.front() == Some(&Trouble::Overtaken) && committed.iter().all(|offset| *offset > Some(1)) {
            troubles.pop_front();
            committed.iter_mut().flatten().for_each(|offset| *offset -= 1);
        }
        Ok(committed)
    }
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError> {
        self.inner.send(record)
    }
    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError> {
        let has_records = std::mem::take(&mut self.visited) > 0;
        let trouble = if has_records { self.troubles.lock().unwrap().pop_front() } else { None };
        match trouble {
            Some(Trouble::Failed) => return Err(LogError::Failed("Kafka failed to commit".to_owned())),
            Some(Trouble::Aborted) => {
                self.is_slow = true;
                return Err(LogError::Abort("told to".to_owned()));
            }
            Some(Trouble::InDoubt) => {
                self.inner.commit(offsets)?;
                return Err(LogError::Abort("the answer to the commit was lost".to_owned()));
            }
            Some(Trouble::Unreachable | Trouble::Overtaken) | None => {}
        }
        self.inner.commit(offsets)
    }
    fn abort(&mut self) -> Result<(), LogError> {
        self.visited = 0;
        self.inner.abort()
    }
    fn close(self: Box<Self>) {
        self.inner.close();
    }
}

/// Appends records of these seconds, in order, then one that closes their windows, while intake is in trouble; the
/// counts of the closed minutes.
fn counted(troubles: &[Trouble], seconds: &[i64]) -> Vec<i64> {
    let log = Troubled::new(troubles.iter().copied());
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests FROM logs
               WHERE event = 'http_request' GROUP BY 1, 2";
    let counts = pipeline("counts", sql, &["module"], Duration::from_secs(5));
    let mut flow = Flow::new(Arc::new(log.clone()), "t.", 1, vec![counts]);
    let topic = flow.runtime.topics.logs();
    let record = |second: i64, event: &str| {
        let record = json!({ "timestamp": START + second * SECOND, "module": "m", "event": event });
        serde_json::to_vec(&record).unwrap()
    };
    let mut records = seconds.iter().map(|second| record(*second, "http_request")).collect::<Vec<_>>();
    records.push(record(3_600, "closer"));
    flow.append(&topic, records.iter().map(|record| (0, record.as_slice())));
    flow.start();
    flow.wait_until_closed(START + 1_800 * SECOND);
    flow.stop();
    assert!(log.is_over(), "all of it happened");
    let windows = flow.read(&flow.runtime.topics.windows());
    windows.iter().map(|window| window.json()["requests"].as_i64().unwrap()).collect()
}

#[test]
fn a_worker_that_lost_the_log_starts_anew_from_what_was_committed() {
    let troubles = [Trouble::Unreachable, Trouble::Unreachable, Trouble::Failed];
    assert_eq!(counted(&troubles, &[1, 2, 61, 62, 63]), [2, 3]);
}

#[test]
fn a_commit_that_only_seemed_to_fail_is_not_read_twice() {
    assert_eq!(counted(&[Trouble::InDoubt], &[1, 2, 61, 62, 63]), [2, 3]);
}

#[test]
fn an_aborted_transaction_does_not_close_the_windows_of_records_that_it_read() {
    assert_eq!(counted(&[Trouble::Aborted], &[1, 2, 61, 62, 63]), [2, 3]);
}

#[test]
fn a_member_that_was_overtaken_while_it_restored_starts_anew() {
    let log = Troubled::new([]);
    let sql =
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, count(*) AS requests FROM logs GROUP BY 1";
    let counts = pipeline("counts", sql, &[], Duration::from_secs(5));
    let mut flow = Flow::new(Arc::new(log.clone()), "t.", 1, vec![counts]);
    let topic = flow.runtime.topics.logs();
    let record = |second: i64| serde_json::to_vec(&json!({ "timestamp": START + second * SECOND })).unwrap();
    for second in [1, 3_600, 7_200] {
        flow.append(&topic, [(0, record(second).as_slice())]);
        flow.start();
        flow.wait_until_closed(START + (second - 120) * SECOND);
        flow.stop();
        log.troubles.lock().unwrap().push_back(Trouble::Overtaken);
    }
    log.troubles.lock().unwrap().pop_back();
    assert!(log.is_over(), "it happened before each start but the first");
    assert_eq!(flow.read(&flow.runtime.topics.windows()).len(), 2);
}
