//! The in-process log as one process sees it: every call may be interrupted, fail, or be the process's last.
//!
//! Waits are zero. Nothing of the product knows that it is simulated; what a mutant breaks, it breaks here, on the wire.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use maturion::log::{
    Appender, Log, LogError, Outgoing, Partition, Position, Reader, Rebalance, Record, Session, TopicInfo,
};

use super::mutant::{self, Mutant};
use super::world::{Fate, Life, World};

/// The last words of a process that is made to crash.
pub const CRASHED: &str = "the process crashed";

pub fn crashed() -> LogError {
    LogError::Failed(CRASHED.to_owned())
}

/// The log, for one life of a process.
pub struct FaultyLog {
    pub world: Weak<World>,
    pub life: Life,
}

impl FaultyLog {
    fn enter(&self, call: &str) -> Result<Arc<World>, LogError> {
        enter(&self.world, self.life, call)
    }
}

fn enter(world: &Weak<World>, life: Life, call: &str) -> Result<Arc<World>, LogError> {
    let world = world.upgrade().ok_or_else(crashed)?;
    world.enter(life, call)?;
    Ok(world)
}

impl Log for FaultyLog {
    fn session(&self, group: &str, topics: &[String], transactional_id: &str) -> Result<Box<dyn Session>, LogError> {
        let world = self.enter("session")?;
        let inner = world.log.session(group, topics, transactional_id)?;
        world.opened(transactional_id);
        Ok(Box::new(FaultySession {
            inner,
            world: Weak::clone(&self.world),
            life: self.life,
            assigned: BTreeSet::new(),
            paused: BTreeSet::new(),
            outbox: Vec::new(),
            must_abort: false,
        }))
    }

    fn reader(&self, positions: &[Position]) -> Result<Box<dyn Reader>, LogError> {
        let inner = self.enter("reader")?.log.reader(positions)?;
        Ok(Box::new(FaultyReader { inner, world: Weak::clone(&self.world), life: self.life }))
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        self.enter("appender")?.log.appender()
    }

    fn bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.enter("bounds")?.log.bounds(partitions)
    }

    fn settled_bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        let world = self.enter("settled_bounds")?;
        let mut bounds = world.log.settled_bounds(partitions)?;
        if world.is(Mutant::UnsettledState) {
            mutant::hide_the_last_transaction(&mut bounds, partitions, &world.topics);
        }
        Ok(bounds)
    }

    fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, LogError> {
        self.enter("describe")?.log.describe(topics)
    }

    fn create(&self, topic: &TopicInfo) -> Result<(), LogError> {
        self.enter("create")?.log.create(topic)
    }

    fn trim(&self, before: &[Position]) -> Result<(), LogError> {
        let world = self.enter("trim")?;
        if world.one_in(4) {
            return Err(LogError::Failed("nothing is deleted today".to_owned()));
        }
        world.log.trim(before)
    }

    fn describe_self(&self) -> String {
        "simulated".to_owned()
    }
}

struct FaultyReader {
    inner: Box<dyn Reader>,
    world: Weak<World>,
    life: Life,
}

impl Reader for FaultyReader {
    fn poll(&mut self, _wait: Duration, max: usize, visit: &mut dyn FnMut(&Record<'_>)) -> Result<usize, LogError> {
        let world = enter(&self.world, self.life, "read")?;
        self.inner.poll(Duration::ZERO, world.batch(max), visit)
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        self.inner.positions()
    }
}

/// A record on its way into a transaction.
#[derive(Clone, Debug)]
pub struct Sent {
    pub topic: String,
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Sent {
    fn of(record: &Outgoing<'_>) -> Sent {
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        Sent {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }

    /// What kind of message of the partials it is, if it is one.
    pub fn kind(&self) -> Option<&[u8]> {
        self.headers.iter().find(|(name, _)| name == "kind").map(|(_, kind)| kind.as_slice())
    }

    fn with<T>(&self, give: impl FnOnce(Outgoing<'_>) -> T) -> T {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect::<Vec<_>>();
        give(Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
            timestamp_ms: None,
        })
    }
}

/// A session of one life of a process.
pub struct FaultySession {
    inner: Box<dyn Session>,
    world: Weak<World>,
    life: Life,
    assigned: BTreeSet<Partition>,
    /// By the worker itself.
    paused: BTreeSet<Partition>,
    /// The open transaction.
    outbox: Vec<Sent>,
    /// The transaction has failed; nothing but an abort helps.
    must_abort: bool,
}

impl FaultySession {
    fn enter(&self, call: &str) -> Result<Arc<World>, LogError> {
        enter(&self.world, self.life, call)
    }

    fn refuse(&mut self, why: &str) -> LogError {
        self.must_abort = true;
        LogError::Abort(why.to_owned())
    }

    /// What a commit does when nothing stands in its way.
    fn settle(&mut self, world: &World, offsets: &[Position]) -> Result<(), LogError> {
        let mut sent = std::mem::take(&mut self.outbox);
        if let Some(mutant) = world.mutant {
            mutant.rewrite(&mut sent, &world.topics);
        }
        if world.is(Mutant::OffsetsBeforeOutput) {
            self.inner.commit(offsets)?;
            world.enter(self.life, "between offsets and output")?;
        }
        let offsets = if world.is(Mutant::OffsetsBeforeOutput) { &[] } else { offsets };
        let passed = sent.iter().try_for_each(|record| record.with(|record| self.inner.send(record)));
        match passed.and_then(|()| self.inner.commit(offsets)) {
            Err(LogError::Abort(_)) if world.is(Mutant::UnfencedZombie) => {
                let appender = world.log.appender()?;
                sent.iter().try_for_each(|record| record.with(|record| appender.append(record)))
            }
            Err(LogError::Abort(why)) => Err(self.refuse(&why)),
            Err(error) => Err(error),
            Ok(()) => {
                world.committed(self.life, &sent);
                Ok(())
            }
        }
    }
}

impl Session for FaultySession {
    fn poll(
        &mut self,
        _wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError> {
        let world = self.enter("poll")?;
        let is_silent = |partition: &&Partition| self.paused.contains(*partition) || world.withholds(partition);
        let (silent, heard): (Vec<_>, Vec<_>) = self.assigned.iter().partition(is_silent);
        self.inner.pause(&silent.into_iter().cloned().collect::<Vec<_>>())?;
        self.inner.resume(&heard.into_iter().cloned().collect::<Vec<_>>())?;
        let change = self.inner.poll(Duration::ZERO, world.batch(max), &mut |record| {
            world.delivered(record);
            visit(record);
            if world.is(Mutant::PartialTwice) && mutant::is_partial(record) && world.one_in(40) {
                visit(record);
            }
        })?;
        if let Some(change) = &change {
            world.say(|| format!("{} is told {}", self.life, in_words(change)));
        }
        Ok(change)
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let world = self.enter("assign")?;
        self.inner.assign(positions)?;
        world.say(|| format!("{} starts at {}", self.life, places(positions)));
        self.assigned.extend(positions.iter().map(|position| position.partition.clone()));
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.enter("release")?;
        self.inner.release(partitions)?;
        self.assigned.retain(|partition| !partitions.contains(partition));
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn rewind(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let world = self.enter("rewind")?;
        world.say(|| format!("{} rewinds to {}", self.life, places(positions)));
        if world.is(Mutant::ForgottenRewind) {
            return Ok(());
        }
        self.inner.rewind(positions)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.enter("pause")?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.enter("resume")?;
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        self.enter("positions")?;
        self.inner.positions()
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<Option<i64>>, LogError> {
        self.enter("committed")?;
        self.inner.committed(partitions)
    }

    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError> {
        let world = self.enter("send")?;
        if self.must_abort || world.refuses_a_record() {
            return Err(self.refuse("a record was not written"));
        }
        if world.is(Mutant::OutputBeforeCommit) {
            world.committed(self.life, &[Sent::of(&record)]);
            return world.log.appender()?.append(record);
        }
        self.outbox.push(Sent::of(&record));
        Ok(())
    }

    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError> {
        let world = self.enter("commit")?;
        if self.must_abort {
            return Err(self.refuse("an earlier record was not written"));
        }
        let fate = world.fate();
        world.say(|| format!("{} commits {} with {} records: {fate:?}", self.life, places(offsets), self.outbox.len()));
        match fate {
            Fate::Done => self.settle(&world, offsets),
            Fate::Abort => Err(self.refuse("the coordinator said so")),
            Fate::DoneThenCrash => {
                let settled = self.settle(&world, offsets);
                world.say(|| format!("{} will never know: {settled:?}", self.life));
                world.crash(self.life);
                Err(crashed())
            }
        }
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.enter("abort")?;
        self.outbox.clear();
        self.must_abort = false;
        self.inner.abort()
    }

    fn close(self: Box<Self>) {
        self.inner.close();
    }
}

fn in_words(change: &Rebalance) -> String {
    let (what, partitions) = match change {
        Rebalance::Assigned(partitions) => ("to take", partitions),
        Rebalance::Revoked(partitions) => ("to give up", partitions),
        Rebalance::Lost(partitions) => ("that it lost", partitions),
    };
    let names = partitions.iter().map(|partition| format!("{}-{}", partition.topic, partition.number));
    format!("{what} {}", names.collect::<Vec<_>>().join(" "))
}

fn places(positions: &[Position]) -> String {
    let place =
        |position: &Position| format!("{}-{}@{}", position.partition.topic, position.partition.number, position.offset);
    positions.iter().map(place).collect::<Vec<_>>().join(" ")
}
