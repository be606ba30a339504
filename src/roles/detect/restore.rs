//! Writing a shard's memory down, and getting it back: at start, after a rebalance, after an abort, always the same way.
//!
//! 1. The group's committed offset, pending transactions resolved.
//! 2. Progress, the state of series and the panes of the partition, up to the ends captured *after* that, once no
//!    transaction is pending in them.
//! 3. Progress and offset must agree.
//! 4. Partials from `replay_from` up to the offset, merged without evaluating any rule.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Detect, DetectRoleError, Outputs, OwnedShard};
use crate::evaluate::shard::{Shard, ShardProgress};
use crate::log::{Log, LogError, Outgoing, Partition, Position, Record, Session};
use crate::model::pipeline::Micros;
use crate::model::series::Series;
use crate::roles::Runtime;
use crate::roles::runtime::micros;
use crate::window::open::PaneSnapshot;
use crate::window::partial::{self, VERSION};

/// How long one look at a state topic waits for records.
const READ_WAIT: Duration = Duration::from_millis(200);
/// How long reading state back may stand still before it is begun anew: longer than a broker's restart.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// Records of state read by one look.
const READ_RECORDS_MAX: usize = 4_096;
/// The header of a pane's piece that tells which partials the pane contains.
const THROUGH: &str = "through";

/// Where a partition stands, in the compacted topic `maturion.progress`.
#[derive(Serialize, Deserialize)]
struct Progress {
    /// The next offset of the partials to be taken.
    offset: i64,
    /// The first offset of the partials that a restart reads.
    replay_from: i64,
    shard: ShardProgress,
}

/// A pane's snapshot: the pipeline's place and the pane's start.
pub(super) type PaneKey = (usize, Micros);

/// The key of a series' state in the compacted topic: `["pipeline",[["label",value],…]]`, where JSON's types keep null,
/// text and numbers apart.
pub(super) fn series_key(pipeline: &str, series: &Series) -> Vec<u8> {
    // A string and labels of text, integers and booleans: there is nothing in them that JSON cannot say.
    serde_json::to_vec(&(pipeline, series)).unwrap_or_default()
}

fn pane_key(pipeline: &str, pane: Micros, piece: usize) -> Vec<u8> {
    serde_json::to_vec(&(pipeline, pane, piece)).unwrap_or_default()
}

impl Detect {
    /// Builds the shards of these partitions as they were committed; where to go on reading.
    pub(super) fn restore(
        &mut self,
        session: &mut dyn Session,
        partitions: &[Partition],
    ) -> Result<Vec<Position>, DetectRoleError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let committed = session.committed(partitions)?;
        let mut positions = Vec::with_capacity(partitions.len());
        for (partition, committed) in partitions.iter().zip(committed) {
            let owned = match restore_shard(&self.runtime, partition, committed) {
                // Whoever was cut off for too long may restore what others own by now, and commit while it reads.
                Err(DetectRoleError::Disagreement { partition: number, .. })
                    if session.committed(std::slice::from_ref(partition))? != [committed] =>
                {
                    let why = format!("partition {number} of the partials belongs to another instance by now");
                    return Err(LogError::Failed(why).into());
                }
                restored => restored?,
            };
            positions.push(Position { partition: partition.clone(), offset: owned.next });
            self.shards.insert(partition.number, owned);
        }
        let (partitions, restored_ms) = (partitions.len(), started.elapsed().as_millis() as u64);
        tracing::info!(partitions, restored_ms, "detect restored its state");
        Ok(positions)
    }
}

fn restore_shard(
    runtime: &Runtime,
    partition: &Partition,
    committed: Option<i64>,
) -> Result<OwnedShard, DetectRoleError> {
    let number = partition.number;
    let log = runtime.log.as_ref();
    let progress = read_progress(runtime, number)?;
    let (offset, replay_from, shard) = match (progress, committed) {
        (None, None) => {
            let earliest = log.bounds(std::slice::from_ref(partition))?[0].0;
            (earliest, earliest, ShardProgress::default())
        }
        // The group's offsets expire when nobody runs for a week; progress does not.
        (Some(progress), None) => (progress.offset, progress.replay_from, progress.shard),
        (Some(progress), Some(committed)) if progress.offset == committed => {
            (committed, progress.replay_from, progress.shard)
        }
        (progress, Some(committed)) => {
            let progress = progress.map_or(-1, |progress| progress.offset);
            return Err(DetectRoleError::Disagreement { partition: number, committed, progress });
        }
    };
    let mut shard = Shard::new(&runtime.set, number, runtime.partitions, micros(runtime.idle_after), shard)?;
    read_series(runtime, number, &mut shard)?;
    let panes = read_panes(runtime, number, &mut shard)?;
    replay(runtime, partition, replay_from, offset, &mut shard)?;
    let outputs = Outputs::default();
    Ok(OwnedShard { shard, next: offset, committed: offset, panes, is_dirty: false, outputs })
}

fn read_progress(runtime: &Runtime, number: i32) -> Result<Option<Progress>, DetectRoleError> {
    let state = latest(runtime.log.as_ref(), &runtime.topics.progress(), number)?;
    let newest = state.into_values().next();
    newest.map(|entry| serde_json::from_slice(&entry.value).map_err(|error| unreadable(number, &error))).transpose()
}

fn read_series(runtime: &Runtime, number: i32, shard: &mut Shard) -> Result<(), DetectRoleError> {
    for (key, entry) in latest(runtime.log.as_ref(), &runtime.topics.baselines(), number)? {
        let (pipeline, series): (String, Series) =
            serde_json::from_slice(&key).map_err(|error| unreadable(number, &error))?;
        shard.restore_series(&pipeline, series, &entry.value)?;
    }
    Ok(())
}

/// Puts the written panes back. The pieces of a pane were written in one transaction, so they belong together.
fn read_panes(runtime: &Runtime, number: i32, shard: &mut Shard) -> Result<BTreeMap<PaneKey, usize>, DetectRoleError> {
    let mut pieces: BTreeMap<(String, Micros), Vec<Entry>> = BTreeMap::new();
    for (key, entry) in latest(runtime.log.as_ref(), &runtime.topics.panes(), number)? {
        let (pipeline, pane, _): (String, Micros, usize) =
            serde_json::from_slice(&key).map_err(|error| unreadable(number, &error))?;
        pieces.entry((pipeline, pane)).or_default().push(entry);
    }
    let mut written = BTreeMap::new();
    for ((pipeline, start), entries) in pieces {
        let Some(place) = runtime.set.place(&pipeline) else { continue };
        let plan = &runtime.set.pipelines()[place].plan;
        written.insert((place, start), entries.len());
        let version = entries[0].header(VERSION);
        if version != plan.version {
            continue;
        }
        let through = entries[0].header(THROUGH).parse().map_err(|error| unreadable(number, &error))?;
        let batches = entries.iter().map(|entry| partial::decode(&pipeline, &plan.partial_schema(), &entry.value));
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        let state = arrow::compute::concat_batches(&plan.partial_schema(), &batches)
            .map_err(|error| unreadable(number, &error))?;
        shard.restore_pane(&pipeline, &version, PaneSnapshot { start, through, state })?;
    }
    Ok(written)
}

fn replay(
    runtime: &Runtime,
    partition: &Partition,
    from: i64,
    to: i64,
    shard: &mut Shard,
) -> Result<(), DetectRoleError> {
    let mut failure = None;
    read_range(runtime.log.as_ref(), partition, from, to, &mut |record| {
        let Some(value) = record.value.filter(|_| failure.is_none()) else { return };
        let message = partial::read_message(&record.headers, value).map_err(DetectRoleError::from);
        let replayed = message.and_then(|message| Ok(shard.replay(record.offset, message)?));
        failure = replayed.err();
    })?;
    failure.map_or(Ok(()), Err)
}

impl OwnedShard {
    pub(super) fn write_progress(
        &self,
        runtime: &Runtime,
        session: &mut dyn Session,
        number: i32,
    ) -> Result<(), DetectRoleError> {
        let progress = Progress { offset: self.next, replay_from: self.replay_from(), shard: self.shard.progress() };
        let value = serde_json::to_vec(&progress).map_err(|error| unreadable(number, &error))?;
        let (topic, key) = (runtime.topics.progress(), number.to_string());
        let (key, value) = (Some(key.as_bytes()), Some(value.as_slice()));
        let partition = Some(number);
        Ok(session.send(Outgoing { topic: &topic, partition, key, value, ..Outgoing::default() })?)
    }

    pub(super) fn write_panes(
        &mut self,
        runtime: &Runtime,
        session: &mut dyn Session,
        number: i32,
    ) -> Result<(), DetectRoleError> {
        let topic = runtime.topics.panes();
        for (place, pane) in self.shard.snapshots(self.next)? {
            let plan = &runtime.set.pipelines()[place].plan;
            let pieces = partial::encode(&pane.state)?;
            let through = pane.through.to_string();
            let headers = [(VERSION, plan.version.as_bytes()), (THROUGH, through.as_bytes())];
            for (piece, value) in pieces.iter().enumerate() {
                let key = pane_key(&plan.pipeline, pane.start, piece);
                let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
                let partition = Some(number);
                session.send(Outgoing {
                    topic: &topic,
                    partition,
                    key,
                    value,
                    headers: &headers,
                    timestamp_ms: None,
                })?;
            }
            let before = self.panes.insert((place, pane.start), pieces.len()).unwrap_or(0);
            bury(session, &topic, number, &plan.pipeline, pane.start, pieces.len()..before)?;
        }
        Ok(())
    }

    /// Writes tombstones over the snapshots of panes that are closed.
    pub(super) fn drop_closed_panes(
        &mut self,
        runtime: &Runtime,
        session: &mut dyn Session,
        number: i32,
    ) -> Result<(), DetectRoleError> {
        let topic = runtime.topics.panes();
        let closed = self.panes.iter().filter(|((place, start), _)| !self.shard.holds(*place, *start));
        let closed = closed.map(|(key, pieces)| (*key, *pieces)).collect::<Vec<_>>();
        for ((place, start), pieces) in closed {
            let pipeline = &runtime.set.pipelines()[place].pipeline.name;
            bury(session, &topic, number, pipeline, start, 0..pieces)?;
            self.panes.remove(&(place, start));
        }
        Ok(())
    }
}

fn bury(
    session: &mut dyn Session,
    topic: &str,
    number: i32,
    pipeline: &str,
    pane: Micros,
    pieces: std::ops::Range<usize>,
) -> Result<(), LogError> {
    for piece in pieces {
        let key = pane_key(pipeline, pane, piece);
        let key = Some(key.as_slice());
        session.send(Outgoing { topic, partition: Some(number), key, value: None, ..Outgoing::default() })?;
    }
    Ok(())
}

/// What stands in a compacted topic under one key.
struct Entry {
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }
}

/// The last value of each key of one partition of a compacted topic, tombstones left out.
fn latest(log: &dyn Log, topic: &str, number: i32) -> Result<BTreeMap<Vec<u8>, Entry>, LogError> {
    let partition = Partition { topic: topic.into(), number };
    let (from, to) = log.settled_bounds(std::slice::from_ref(&partition))?[0];
    let mut entries = BTreeMap::new();
    read_range(log, &partition, from, to, &mut |record| {
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

/// Visits the committed records of a partition from one offset up to another.
fn read_range(
    log: &dyn Log,
    partition: &Partition,
    from: i64,
    to: i64,
    visit: &mut dyn FnMut(&Record<'_>),
) -> Result<(), LogError> {
    if from >= to {
        return Ok(());
    }
    let mut reader = log.reader(&[Position { partition: partition.clone(), offset: from }])?;
    let (mut reached, mut moved) = (from, Instant::now());
    loop {
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

fn unreadable(partition: i32, error: &dyn std::fmt::Display) -> DetectRoleError {
    DetectRoleError::State { partition, reason: error.to_string() }
}
