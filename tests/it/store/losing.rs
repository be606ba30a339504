//! A log whose session loses all its partitions when a test says so, and is given them again at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use maturion::log::{
    Appender, Log, LogError, Outgoing, Partition, Position, Reader, Rebalance, Record, Session, TopicInfo,
};

/// What a test and the sessions tell each other.
#[derive(Default)]
pub struct Signals {
    lose: AtomicBool,
    released: AtomicUsize,
    returned: AtomicUsize,
}

impl Signals {
    pub fn lose(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    /// How often a worker has forgotten what it lost.
    pub fn released(&self) -> usize {
        self.released.load(Ordering::SeqCst)
    }

    /// How often a worker has begun to read it again.
    pub fn returned(&self) -> usize {
        self.returned.load(Ordering::SeqCst)
    }
}

pub struct LosingLog {
    pub inner: Arc<dyn Log>,
    pub signals: Arc<Signals>,
}

impl Log for LosingLog {
    fn session(&self, group: &str, topics: &[String], transactional_id: &str) -> Result<Box<dyn Session>, LogError> {
        let inner = self.inner.session(group, topics, transactional_id)?;
        Ok(Box::new(LosingSession { inner, signals: Arc::clone(&self.signals), owned: Vec::new(), is_away: false }))
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

struct LosingSession {
    inner: Box<dyn Session>,
    signals: Arc<Signals>,
    owned: Vec<Partition>,
    /// What it owned was taken from it, and is to be given back.
    is_away: bool,
}

impl Session for LosingSession {
    fn poll(
        &mut self,
        wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError> {
        if self.is_away {
            return Ok(Some(Rebalance::Assigned(self.owned.clone())));
        }
        if !self.owned.is_empty() && self.signals.lose.swap(false, Ordering::SeqCst) {
            return Ok(Some(Rebalance::Lost(self.owned.clone())));
        }
        self.inner.poll(wait, max, visit)
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError> {
        if self.is_away {
            self.is_away = false;
            self.inner.rewind(positions)?;
            self.signals.returned.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        self.owned.extend(positions.iter().map(|position| position.partition.clone()));
        self.inner.assign(positions)
    }

    fn release(&mut self, _partitions: &[Partition]) -> Result<(), LogError> {
        self.is_away = true;
        self.signals.released.fetch_add(1, Ordering::SeqCst);
        Ok(())
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
        self.inner.committed(partitions)
    }

    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError> {
        self.inner.send(record)
    }

    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError> {
        self.inner.commit(offsets)
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.inner.abort()
    }

    fn close(self: Box<Self>) {
        self.inner.close();
    }
}
