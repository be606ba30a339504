//! Everything the in-process log holds, under one lock: topics, groups, producers, and the bound on memory.
//!
//! `state` never waits and reads no clock: times and partitions are handed in, so that a simulation repeats exactly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::group::Group;
use super::partition::{Body, PartitionLog};
use crate::log::partitioner::partition_of;
use crate::log::{LogError, Outgoing, Partition, TopicInfo};

/// When room must be made, this share of the bound is freed at once, so that it is not made for every record.
const EVICT_SHARE: usize = 16;

/// A topic and what its configuration means here.
#[derive(Debug)]
pub(super) struct Topic {
    partitions: Vec<PartitionLog>,
    config: BTreeMap<String, String>,
    has_append_time: bool,
    is_compacted: bool,
    /// `retention.ms=-1`: only [`crate::log::Log::trim`] deletes from it.
    is_kept: bool,
}

impl Topic {
    fn new(info: &TopicInfo) -> Topic {
        let is = |key: &str, value: &str| info.config.get(key).is_some_and(|set| set == value);
        Topic {
            partitions: (0..info.partitions).map(|_| PartitionLog::default()).collect(),
            config: info.config.clone(),
            has_append_time: is("message.timestamp.type", "LogAppendTime"),
            is_compacted: info.config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            is_kept: is("retention.ms", "-1"),
        }
    }
}

/// A record that has its partition and its memory, but no offset yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) partition: Partition,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) body: Arc<Body>,
}

#[derive(Debug)]
pub(super) struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    groups: HashMap<String, Group>,
    /// The newest session of each transactional id.
    epochs: HashMap<String, u64>,
    bytes: usize,
    bytes_max: usize,
    keyless: u32,
}

impl State {
    pub(super) fn new(bytes_max: usize) -> State {
        State {
            topics: BTreeMap::new(),
            groups: HashMap::new(),
            epochs: HashMap::new(),
            bytes: 0,
            bytes_max,
            keyless: 0,
        }
    }

    pub(super) fn create(&mut self, info: &TopicInfo) -> Result<(), LogError> {
        if info.partitions < 1 {
            return Err(LogError::Setting(format!("topic `{}` needs at least one partition", info.name)));
        }
        if self.topics.contains_key(info.name.as_str()) {
            return Err(LogError::Failed(format!("topic `{}` exists already", info.name)));
        }
        self.topics.insert(info.name.as_str().into(), Topic::new(info));
        self.balance_groups();
        Ok(())
    }

    /// Adds partitions to a topic until it has `partitions`.
    pub(super) fn grow(&mut self, topic: &str, partitions: i32) -> Result<(), LogError> {
        let grown = self.topics.get_mut(topic).ok_or_else(|| unknown(topic))?;
        let wanted = usize::try_from(partitions).unwrap_or_default().max(grown.partitions.len());
        grown.partitions.resize_with(wanted, PartitionLog::default);
        self.balance_groups();
        Ok(())
    }

    pub(super) fn describe(&self, name: &str) -> Option<TopicInfo> {
        let topic = self.topics.get(name)?;
        let partitions = topic.partitions.len() as i32;
        Some(TopicInfo { name: name.to_owned(), partitions, config: topic.config.clone() })
    }

    pub(super) fn partition(&self, partition: &Partition) -> Result<&PartitionLog, LogError> {
        let topic = self.topics.get(&partition.topic).ok_or_else(|| unknown(&partition.topic))?;
        let index = usize::try_from(partition.number).unwrap_or(usize::MAX);
        topic.partitions.get(index).ok_or_else(|| no_such(partition))
    }

    fn partition_mut(&mut self, partition: &Partition) -> Result<(&mut PartitionLog, bool), LogError> {
        let topic = self.topics.get_mut(&partition.topic).ok_or_else(|| unknown(&partition.topic))?;
        let index = usize::try_from(partition.number).unwrap_or(usize::MAX);
        let is_compacted = topic.is_compacted;
        let log = topic.partitions.get_mut(index).ok_or_else(|| no_such(partition))?;
        Ok((log, is_compacted))
    }

    /// Finds a record's partition and reserves its memory. `None`: the log is full for now.
    pub(super) fn reserve(&mut self, record: &Outgoing<'_>) -> Result<Option<Draft>, LogError> {
        let (topic, found) = self.topics.get_key_value(record.topic).ok_or_else(|| unknown(record.topic))?;
        let (topic, count) = (Arc::clone(topic), found.partitions.len() as i32);
        let number = match (record.partition, record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => {
                self.keyless = self.keyless.wrapping_add(1);
                (self.keyless % count.unsigned_abs()) as i32
            }
        };
        let partition = Partition { topic, number };
        self.partition(&partition)?;
        let body = Body::copy_of(record);
        if !self.make_room(body.bytes()) {
            return Ok(None);
        }
        self.bytes += body.bytes();
        Ok(Some(Draft { partition, timestamp_ms: record.timestamp_ms, body: Arc::new(body) }))
    }

    /// Gives back the memory of drafts that will not be appended.
    pub(super) fn discard(&mut self, drafts: &[Draft]) {
        self.bytes -= drafts.iter().map(|draft| draft.body.bytes()).sum::<usize>();
    }

    pub(super) fn append(&mut self, draft: Draft, now_ms: i64) -> Result<(), LogError> {
        let has_append_time = self.topics.get(&draft.partition.topic).is_some_and(|topic| topic.has_append_time);
        let timestamp_ms = draft.timestamp_ms.filter(|_| !has_append_time).unwrap_or(now_ms);
        let (log, is_compacted) = self.partition_mut(&draft.partition)?;
        log.append(draft.body, timestamp_ms);
        let freed = if is_compacted { log.compact() } else { 0 };
        self.bytes -= freed;
        Ok(())
    }

    pub(super) fn append_marker(&mut self, partition: &Partition) -> Result<(), LogError> {
        self.partition_mut(partition)?.0.append_marker();
        Ok(())
    }

    pub(super) fn trim(&mut self, partition: &Partition, before: i64) -> Result<(), LogError> {
        let freed = self.partition_mut(partition)?.0.trim(before);
        self.bytes -= freed;
        Ok(())
    }

    /// True if `wanted` more bytes fit, after dropping the oldest records that nobody needs any more.
    fn make_room(&mut self, wanted: usize) -> bool {
        if self.bytes + wanted > self.bytes_max {
            let freed = self.drop_consumed(wanted.max(self.bytes_max / EVICT_SHARE));
            self.bytes -= freed;
        }
        self.bytes + wanted <= self.bytes_max
    }

    /// Drops records of topics that are neither compacted nor kept, before what every group that reads them committed.
    fn drop_consumed(&mut self, wanted: usize) -> usize {
        let mut freed = 0;
        let droppable = self.topics.iter_mut().filter(|(_, topic)| !topic.is_compacted && !topic.is_kept);
        for (name, topic) in droppable {
            for (number, log) in topic.partitions.iter_mut().enumerate() {
                let partition = Partition { topic: Arc::clone(name), number: number as i32 };
                let readers = self.groups.values().filter(|group| group.uses(&partition));
                let needed_from = readers.map(|group| group.committed(&partition).unwrap_or(0)).min();
                freed += log.drop_oldest(needed_from.unwrap_or(i64::MAX), wanted.saturating_sub(freed));
            }
        }
        freed
    }

    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// Decides every group's assignment anew, after members or partitions came or went.
    pub(super) fn balance_groups(&mut self) {
        let topics = &self.topics;
        for group in self.groups.values_mut() {
            group.balance(|topic| topics.get(topic).map_or(0, |topic| topic.partitions.len() as i32));
        }
    }

    /// The sessions of this transactional id have not been heard of for too long.
    pub(super) fn expire(&mut self, transactional_id: &str) {
        for group in self.groups.values_mut() {
            group.expire(transactional_id);
        }
        self.balance_groups();
    }

    /// Opens the next epoch of a transactional id; sessions of earlier ones are fenced.
    pub(super) fn next_epoch(&mut self, transactional_id: &str) -> u64 {
        let epoch = self.epochs.entry(transactional_id.to_owned()).or_default();
        *epoch += 1;
        *epoch
    }

    pub(super) fn epoch(&self, transactional_id: &str) -> u64 {
        self.epochs.get(transactional_id).copied().unwrap_or_default()
    }
}

fn unknown(topic: &str) -> LogError {
    LogError::UnknownTopic { topic: topic.to_owned() }
}

fn no_such(partition: &Partition) -> LogError {
    LogError::Failed(format!("topic `{}` has no partition {}", partition.topic, partition.number))
}
