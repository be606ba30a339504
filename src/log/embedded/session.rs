//! Sessions of the in-process log. A transaction is kept aside and appended at its commit in one step, with its
//! marker, so the last stable offset is always the end, and what was aborted was never there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::group::MemberId;
use super::partition::Entry;
use super::state::{Draft, State};
use crate::log::{LogError, Outgoing, Partition, Position, Rebalance, Record, Session};

/// How far a partition was read.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) offset: i64,
    pub(super) is_paused: bool,
}

/// The entries of one partition that one poll collected.
type Run = (Partition, Vec<Entry>);

/// Collects up to `max` entries from all cursors that are not paused, and moves the cursors.
pub(super) fn collect(
    state: &State,
    cursors: &mut BTreeMap<Partition, Cursor>,
    max: usize,
) -> Result<Vec<Run>, LogError> {
    let mut runs = Vec::new();
    let mut room = max;
    // The partition that was read least comes first, so that a full one cannot keep the others waiting for ever.
    let mut order: Vec<(&Partition, &mut Cursor)> = cursors.iter_mut().collect();
    order.sort_by_key(|(_, cursor)| cursor.offset);
    for (partition, cursor) in order {
        if cursor.is_paused {
            continue;
        }
        let log = state.partition(partition)?;
        let (earliest, _) = log.bounds();
        if cursor.offset < earliest {
            let topic = partition.topic.to_string();
            return Err(LogError::OffsetLost { topic, partition: partition.number, offset: cursor.offset, earliest });
        }
        let mut entries = Vec::new();
        cursor.offset = log.read(cursor.offset, room, &mut entries);
        room -= entries.len();
        if !entries.is_empty() {
            runs.push((partition.clone(), entries));
        }
    }
    Ok(runs)
}

/// Shows what was collected, outside the lock: the visitor may use the log.
pub(super) fn show(runs: &[Run], visit: &mut dyn FnMut(&Record<'_>)) -> usize {
    for (partition, entries) in runs {
        for entry in entries {
            visit(&entry.as_record(&partition.topic, partition.number));
        }
    }
    runs.iter().map(|(_, entries)| entries.len()).sum()
}

pub(super) struct EmbeddedSession {
    shared: Arc<Shared>,
    group: String,
    member: MemberId,
    transactional_id: String,
    epoch: u64,
    cursors: BTreeMap<Partition, Cursor>,
    /// A change was reported and not answered: nothing is shown until it is.
    owes_answer: bool,
    transaction: Vec<Draft>,
}

impl EmbeddedSession {
    pub(super) fn open(
        shared: Arc<Shared>,
        group: &str,
        topics: &[String],
        transactional_id: &str,
    ) -> Result<EmbeddedSession, LogError> {
        let mut state = shared.lock();
        for topic in topics {
            state.describe(topic).ok_or_else(|| LogError::UnknownTopic { topic: topic.clone() })?;
        }
        let epoch = state.next_epoch(transactional_id);
        let member = state.group(group).join(transactional_id, topics);
        state.balance_groups();
        drop(state);
        shared.notify();
        Ok(EmbeddedSession {
            shared,
            group: group.to_owned(),
            member,
            transactional_id: transactional_id.to_owned(),
            epoch,
            cursors: BTreeMap::new(),
            owes_answer: false,
            transaction: Vec::new(),
        })
    }

    fn check_epoch(&self, state: &State) -> Result<(), LogError> {
        if state.epoch(&self.transactional_id) == self.epoch {
            return Ok(());
        }
        Err(LogError::Fenced { transactional_id: self.transactional_id.clone() })
    }

    fn cursor(&mut self, partition: &Partition) -> Result<&mut Cursor, LogError> {
        self.cursors.get_mut(partition).ok_or_else(|| not_assigned(partition))
    }

    fn set_paused(&mut self, partitions: &[Partition], is_paused: bool) -> Result<(), LogError> {
        partitions.iter().try_for_each(|partition| {
            self.cursor(partition)?.is_paused = is_paused;
            Ok(())
        })
    }

    fn discard_transaction(&mut self) {
        self.shared.lock().discard(&self.transaction);
        self.transaction.clear();
        self.shared.notify();
    }
}

impl Session for EmbeddedSession {
    fn poll(
        &mut self,
        wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError> {
        let deadline = Instant::now() + wait;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if state.group(&self.group).rejoin(self.member) {
                state.balance_groups();
                shared.notify();
            }
            if let Some(change) = state.group(&self.group).next_change(self.member) {
                self.owes_answer = true;
                return Ok(Some(change));
            }
            let shown = if self.owes_answer { 0 } else { max };
            let runs = collect(&state, &mut self.cursors, shown)?;
            if !runs.is_empty() || Instant::now() >= deadline {
                drop(state);
                show(&runs, visit);
                return Ok(None);
            }
            state = shared.wait(state, deadline);
        }
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        for Position { partition, offset } in positions {
            if !state.group(&self.group).was_given(self.member, partition) {
                return Err(not_assigned(partition));
            }
            self.cursors.insert(partition.clone(), Cursor { offset: *offset, is_paused: false });
        }
        state.group(&self.group).assigned(self.member);
        self.owes_answer = false;
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.cursors.retain(|partition, _| !partitions.contains(partition));
        self.owes_answer = false;
        self.shared.lock().group(&self.group).released(self.member, partitions);
        self.shared.notify();
        Ok(())
    }

    fn rewind(&mut self, positions: &[Position]) -> Result<(), LogError> {
        positions.iter().try_for_each(|position| {
            self.cursor(&position.partition)?.offset = position.offset;
            Ok(())
        })
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.set_paused(partitions, true)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.set_paused(partitions, false)
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        Ok(positions_of(&self.cursors))
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<Option<i64>>, LogError> {
        let mut state = self.shared.lock();
        let group = state.group(&self.group);
        Ok(partitions.iter().map(|partition| group.committed(partition)).collect())
    }

    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError> {
        let draft = self.shared.reserve(&record)?;
        self.transaction.push(draft);
        Ok(())
    }

    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        self.check_epoch(&state)?;
        for Position { partition, .. } in offsets {
            if !state.group(&self.group).owns(self.member, partition) {
                return Err(LogError::Abort(not_assigned(partition).to_string()));
            }
        }
        let touched: BTreeSet<Partition> = self.transaction.iter().map(|draft| draft.partition.clone()).collect();
        let now_ms = shared.now_ms();
        for draft in self.transaction.drain(..) {
            state.append(draft, now_ms)?;
        }
        for partition in &touched {
            state.append_marker(partition)?;
        }
        for Position { partition, offset } in offsets {
            state.group(&self.group).commit(partition.clone(), *offset);
        }
        drop(state);
        shared.notify();
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.discard_transaction();
        self.check_epoch(&self.shared.lock())
    }

    fn close(self: Box<Self>) {}
}

/// However a session ends, its transaction is undone and its partitions are free.
impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        self.discard_transaction();
        let mut state = self.shared.lock();
        state.group(&self.group).leave(self.member);
        state.balance_groups();
        drop(state);
        self.shared.notify();
    }
}

pub(super) fn positions_of(cursors: &BTreeMap<Partition, Cursor>) -> Vec<Position> {
    let position =
        |(partition, cursor): (&Partition, &Cursor)| Position { partition: partition.clone(), offset: cursor.offset };
    cursors.iter().map(position).collect()
}

fn not_assigned(partition: &Partition) -> LogError {
    LogError::Failed(format!("{}-{} is not assigned to this session", partition.topic, partition.number))
}
