//! Reading back what was committed: state in compacted topics, and ranges of others.
//!
//! Only what stood there when reading began is read, once every transaction is decided that was under way then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Runtime;
use crate::log::{Log, LogError, Partition, Position, Record};

/// How long one look at a topic waits for records.
const READ_WAIT: Duration = Duration::from_millis(200);
/// How long reading back may stand still before it is begun anew: longer than a broker's restart.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// Records read by one look.
const READ_RECORDS_MAX: usize = 4_096;

/// What stands in a compacted topic under one key.
pub(super) struct Entry {
    pub(super) value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// The text of a header; empty if there is none.
    pub(super) fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }
}

/// The last value of each key of one partition of a compacted topic, tombstones left out.
pub(super) fn latest(
    runtime: &Runtime,
    role: &'static str,
    topic: &str,
    number: i32,
) -> Result<BTreeMap<Vec<u8>, Entry>, LogError> {
    let partition = Partition { topic: topic.into(), number };
    let (from, to) = runtime.log.settled_bounds(std::slice::from_ref(&partition))?[0];
    let mut entries = BTreeMap::new();
    read_range(runtime.log.as_ref(), &partition, (from, to), &|| runtime.board.turned(role), &mut |record| {
        let key = record.key.unwrap_or_default().to_vec();
        match record.value {
            None => entries.remove(&key),
            Some(value) => {
                let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
                entries.insert(key, Entry { value: value.to_vec(), headers })
            }
        };
    })?;
    Ok(entries)
}

/// Visits the committed records of a partition from one offset up to another. `turned` is called now and then: who reads for
/// long does not hang.
pub(super) fn read_range(
    log: &dyn Log,
    partition: &Partition,
    (from, to): (i64, i64),
    turned: &dyn Fn(),
    visit: &mut dyn FnMut(&Record<'_>),
) -> Result<(), LogError> {
    if from >= to {
        return Ok(());
    }
    let mut reader = log.reader(&[Position { partition: partition.clone(), offset: from }])?;
    let (mut reached, mut moved) = (from, Instant::now());
    loop {
        turned();
        let now = reader.positions()?.first().map_or(reached, |position| position.offset);
        if now >= to {
            return Ok(());
        }
        if now > reached {
            (reached, moved) = (now, Instant::now());
        } else if moved.elapsed() > STALLED_MAX {
            let Partition { topic, number } = partition;
            return Err(LogError::Failed(format!("{topic}-{number} cannot be read beyond offset {reached} of {to}")));
        }
        reader.poll(READ_WAIT, READ_RECORDS_MAX, &mut |record| {
            if record.offset < to {
                visit(record);
            }
        })?;
    }
}
