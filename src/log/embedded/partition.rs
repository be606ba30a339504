//! One partition of the in-process log: records in offset order, with gaps where records were compacted away and
//! where transaction markers stand, as in Kafka.
//!
//! It holds no lock, reads no clock and knows no group.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::log::{Outgoing, Record};

/// What one record costs besides its bytes: the entry, the allocations and their headers, rounded up.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// A compacted partition is compacted when it holds this many times the records that would remain, and at least this many.
const COMPACT_RATIO: usize = 2;
const COMPACT_RECORDS_MIN: usize = 1024;

/// The bytes of a record, shared by the log and those who are reading it.
#[derive(Debug)]
pub(super) struct Body {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Body {
    pub(super) fn copy_of(record: &Outgoing<'_>) -> Body {
        let headers = record.headers.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect();
        Body { key: record.key.map(<[u8]>::to_vec), value: record.value.map(<[u8]>::to_vec), headers }
    }

    /// What the record counts for against the log's bound.
    pub(super) fn bytes(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        RECORD_OVERHEAD_BYTES + length(&self.key) + length(&self.value) + headers
    }
}

/// A record in its place. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) offset: i64,
    timestamp_ms: i64,
    body: Arc<Body>,
}

impl Entry {
    pub(super) fn as_record<'a>(&'a self, topic: &'a str, partition: i32) -> Record<'a> {
        Record {
            topic,
            partition,
            offset: self.offset,
            timestamp_ms: Some(self.timestamp_ms),
            key: self.body.key.as_deref(),
            value: self.body.value.as_deref(),
            headers: self.body.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect(),
        }
    }
}

/// The records of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    records: VecDeque<Entry>,
    earliest: i64,
    next: i64,
    /// Where the last compaction ended: tombstones before it have been seen by whoever read along, and may go.
    compacted_before: i64,
    /// How many records the last compaction left.
    compacted_records: usize,
}

impl PartitionLog {
    /// Earliest kept and next offset.
    pub(super) fn bounds(&self) -> (i64, i64) {
        (self.earliest, self.next)
    }

    pub(super) fn append(&mut self, body: Arc<Body>, timestamp_ms: i64) {
        self.records.push_back(Entry { offset: self.next, timestamp_ms, body });
        self.next += 1;
    }

    /// A transaction's marker takes an offset that no reader is shown.
    pub(super) fn append_marker(&mut self) {
        self.next += 1;
    }

    /// Collects up to `max` records from `offset` on and returns where to go on: the end, if all were collected.
    pub(super) fn read(&self, offset: i64, max: usize, into: &mut Vec<Entry>) -> i64 {
        let first = self.records.partition_point(|entry| entry.offset < offset);
        let wanted = self.records.len().saturating_sub(first).min(max);
        into.extend(self.records.range(first..first + wanted).cloned());
        match self.records.get(first + wanted) {
            Some(_) if wanted == 0 => offset,
            Some(_) => into.last().map_or(offset, |last| last.offset + 1),
            None => self.next.max(offset),
        }
    }

    /// Deletes what stands before `offset`; returns the bytes freed.
    pub(super) fn trim(&mut self, offset: i64) -> usize {
        let offset = offset.min(self.next);
        let mut freed = 0;
        while let Some(entry) = self.records.pop_front_if(|entry| entry.offset < offset) {
            freed += entry.body.bytes();
        }
        self.earliest = self.earliest.max(offset);
        freed
    }

    /// Deletes the oldest records before `offset` until `wanted` bytes are free; returns the bytes freed.
    pub(super) fn drop_oldest(&mut self, offset: i64, wanted: usize) -> usize {
        let mut freed = 0;
        while freed < wanted
            && let Some(entry) = self.records.pop_front_if(|entry| entry.offset < offset)
        {
            freed += entry.body.bytes();
            self.earliest = entry.offset + 1;
        }
        freed
    }

    /// Keeps the latest record of each key, if that is worth the while; returns the bytes freed.
    /// A tombstone survives one compaction, so that a reader who saw the key's old value learns of its end.
    pub(super) fn compact(&mut self) -> usize {
        if self.records.len() < COMPACT_RECORDS_MIN.max(self.compacted_records * COMPACT_RATIO) {
            return 0;
        }
        let mut latest: HashMap<Vec<u8>, i64> = HashMap::new();
        for entry in &self.records {
            latest.insert(entry.body.key.clone().unwrap_or_default(), entry.offset);
        }
        let mut freed = 0;
        let seen_before = self.compacted_before;
        self.records.retain(|entry| {
            let is_latest = latest.get(entry.body.key.as_deref().unwrap_or_default()) == Some(&entry.offset);
            let is_spent = entry.body.value.is_none() && entry.offset < seen_before;
            let keep = is_latest && !is_spent;
            freed += if keep { 0 } else { entry.body.bytes() };
            keep
        });
        self.compacted_before = self.next;
        self.compacted_records = self.records.len();
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(log: &mut PartitionLog, key: &[u8], value: Option<&[u8]>) {
        let record = Outgoing { key: Some(key), value, ..Outgoing::default() };
        log.append(Arc::new(Body::copy_of(&record)), 0);
    }

    fn offsets(log: &PartitionLog) -> Vec<i64> {
        let mut entries = Vec::new();
        log.read(0, usize::MAX, &mut entries);
        entries.iter().map(|entry| entry.offset).collect()
    }

    #[test]
    fn the_position_passes_markers() {
        let mut log = PartitionLog::default();
        append(&mut log, b"k", Some(b"v"));
        log.append_marker();
        assert_eq!(log.read(0, 10, &mut Vec::new()), 2);
        assert_eq!(log.read(0, 0, &mut Vec::new()), 0);
    }

    #[test]
    fn trimming_frees_what_it_deletes_and_no_more() {
        let mut log = PartitionLog::default();
        for _ in 0..3 {
            append(&mut log, b"k", Some(b"v"));
        }
        assert_eq!(log.trim(2), 2 * (RECORD_OVERHEAD_BYTES + 2));
        assert_eq!(log.bounds(), (2, 3));
        assert_eq!(log.trim(99), RECORD_OVERHEAD_BYTES + 2);
        assert_eq!(log.bounds(), (3, 3), "nothing beyond the end is deleted");
    }

    #[test]
    fn compaction_keeps_the_latest_of_each_key() {
        let mut log = PartitionLog::default();
        for number in 0..COMPACT_RECORDS_MIN {
            append(&mut log, &[(number % 3) as u8], Some(b"v"));
        }
        log.compact();
        let end = COMPACT_RECORDS_MIN as i64;
        assert_eq!(offsets(&log), [end - 3, end - 2, end - 1]);
    }

    #[test]
    fn a_tombstone_survives_one_compaction_only() {
        let mut log = PartitionLog::default();
        append(&mut log, b"gone", None);
        for round in [1, 0] {
            for _ in 0..COMPACT_RECORDS_MIN {
                append(&mut log, b"kept", Some(b"v"));
            }
            log.compact();
            assert_eq!(offsets(&log).len(), 1 + round);
        }
    }
}
