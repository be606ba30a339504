//! Writing a shard's memory down, and getting it back: at start, after a rebalance, after an abort, always the same way.
//!
//! 1. The group's committed offset, pending transactions resolved.
//! 2. Progress, the state of series and the panes of the partition, up to the ends captured *after* that, once no
//!    transaction is pending in them.
//! 3. Progress and offset must agree.
//! 4. Partials from `replay_from` up to the offset, merged without evaluating any rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Detect, DetectRoleError, Outputs, OwnedShard, ROLE};
use crate::evaluate::shard::{Shard, ShardProgress};
use crate::events;
use crate::log::{LogError, Outgoing, Partition, Position, Session};
use crate::model::pipeline::{Definition, Micros};
use crate::model::series::Series;
use crate::roles::Runtime;
use crate::roles::committed::{Entry, latest, read_range};
use crate::roles::runtime::micros;
use crate::serve::status::RoleState;
use crate::window::open::PaneSnapshot;
use crate::window::partial;
use crate::window::plan::WindowPlan;

mod warm;

pub use warm::{WarmError, check_cold, warm};

/// The form of [`Progress`]. A change that older progress cannot be read as takes the next number.
const PROGRESS_FORMAT: u32 = 2;
/// The header of a pane's piece that tells which partials the pane contains.
const THROUGH: &str = "through";

/// Where a partition stands, in the compacted topic `maturion.progress`, under the partition's number.
#[derive(Serialize, Deserialize)]
struct Progress {
    format: u32,
    /// The next offset of the partials to be taken.
    offset: i64,
    /// The first offset of the partials that a restart reads.
    replay_from: i64,
    shard: ShardProgress,
}

/// What every form of progress must have.
#[derive(Deserialize)]
struct ProgressHead {
    #[serde(default)]
    format: u32,
    offset: i64,
}

/// A pane's snapshot: the place of the pipeline's version and the pane's start.
pub(super) type PaneKey = (usize, Micros);

/// The key of a series' state in the compacted topic: `["pipeline",[["label",value],…]]`, where JSON's types keep null,
/// text and numbers apart.
pub(super) fn series_key(pipeline: &str, series: &Series) -> Vec<u8> {
    // A string and labels of text, integers and booleans: there is nothing in them that JSON cannot say.
    serde_json::to_vec(&(pipeline, series)).unwrap_or_default()
}

/// The key of a definition among the progress: `["definition","pipeline","version"]`.
pub(super) fn definition_key(pipeline: &str, version: &str) -> Vec<u8> {
    serde_json::to_vec(&(DEFINITION, pipeline, version)).unwrap_or_default()
}

const DEFINITION: &str = "definition";

/// Two versions of a pipeline can have a pane of the same start.
fn pane_key(plan: &WindowPlan, pane: Micros, piece: usize) -> Vec<u8> {
    serde_json::to_vec(&(&plan.pipeline, &plan.version, pane, piece)).unwrap_or_default()
}

impl Detect {
    /// Builds the shards of these partitions as they were committed; where to go on reading.
    pub(super) fn restore(
        &mut self,
        session: &mut dyn Session,
        partitions: &[Partition],
    ) -> Result<Vec<Position>, DetectRoleError> {
        let (began, board) = (self.runtime.clock.elapsed(), Arc::clone(&self.runtime.board));
        if partitions.is_empty() {
            board.role(ROLE, RoleState::Running);
            return Ok(Vec::new());
        }
        board.role(ROLE, RoleState::Restoring);
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
        let took = self.since(began);
        board.metrics().restored(took);
        events::state_restored(partitions.len() as u64, took.as_millis() as u64);
        board.role(ROLE, RoleState::Running);
        Ok(positions)
    }
}

/// What stands in `maturion.progress` about one partition.
struct Written {
    progress: Option<Progress>,
    definitions: Vec<Definition>,
}

fn restore_shard(
    runtime: &Runtime,
    partition: &Partition,
    committed: Option<i64>,
) -> Result<OwnedShard, DetectRoleError> {
    let number = partition.number;
    let log = runtime.log.as_ref();
    let Written { progress, definitions } = read_progress(runtime, number)?;
    let (offset, replay_from, progress) = match (progress, committed) {
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
    let mut shard = Shard::new(&runtime.set, number, runtime.partitions, micros(runtime.idle_after), progress)?;
    definitions.into_iter().try_for_each(|definition| shard.restore_definition(definition))?;
    let mut owned = OwnedShard {
        shard,
        next: offset,
        committed: offset,
        panes: BTreeMap::new(),
        strays: Vec::new(),
        is_dirty: false,
        outputs: Outputs::default(),
    };
    owned.read_series(runtime, number)?;
    owned.read_panes(runtime, number)?;
    replay(runtime, partition, replay_from, offset, &mut owned.shard)?;
    Ok(owned)
}

fn read_progress(runtime: &Runtime, number: i32) -> Result<Written, DetectRoleError> {
    let mut written = Written { progress: None, definitions: Vec::new() };
    for (key, entry) in latest(runtime, ROLE, &runtime.topics.progress(), number)? {
        if key == number.to_string().as_bytes() {
            written.progress = Some(decode_progress(number, &entry.value)?);
        } else if let Ok((DEFINITION, _, _)) = serde_json::from_slice::<(&str, &str, &str)>(&key) {
            match serde_json::from_slice(&entry.value) {
                Ok(definition) => written.definitions.push(definition),
                Err(error) => events::definition_unreadable(number, &error.to_string()),
            }
        }
    }
    Ok(written)
}

/// Progress of an older form is named, and what it would have told is found out anew; that of a newer one is refused.
fn decode_progress(number: i32, bytes: &[u8]) -> Result<Progress, DetectRoleError> {
    let head: ProgressHead = serde_json::from_slice(bytes).map_err(|error| unreadable(number, &error))?;
    if head.format > PROGRESS_FORMAT {
        return Err(DetectRoleError::Newer { partition: number, found: head.format, known: PROGRESS_FORMAT });
    }
    if head.format == PROGRESS_FORMAT {
        return serde_json::from_slice(bytes).map_err(|error| unreadable(number, &error));
    }
    events::progress_too_old(number, u64::from(head.format));
    let (format, offset) = (PROGRESS_FORMAT, head.offset);
    Ok(Progress { format, offset, replay_from: offset, shard: ShardProgress::lost() })
}

fn replay(
    runtime: &Runtime,
    partition: &Partition,
    from: i64,
    to: i64,
    shard: &mut Shard,
) -> Result<(), DetectRoleError> {
    let mut failure = None;
    let turned = || runtime.board.turned(ROLE);
    read_range(runtime.log.as_ref(), partition, (from, to), &turned, &mut |record| {
        let Some(value) = record.value.filter(|_| failure.is_none()) else { return };
        let message = partial::read_message(&record.headers, value).map_err(DetectRoleError::from);
        let replayed = message.and_then(|message| Ok(shard.replay(record.offset, message)?));
        failure = replayed.err();
    })?;
    failure.map_or(Ok(()), Err)
}

impl OwnedShard {
    fn read_series(&mut self, runtime: &Runtime, number: i32) -> Result<(), DetectRoleError> {
        let topic = runtime.topics.baselines();
        for (key, entry) in latest(runtime, ROLE, &topic, number)? {
            let is_restored = match serde_json::from_slice::<(String, Series)>(&key) {
                Ok((pipeline, series)) => self.shard.restore_series(&pipeline, series, &entry.value)?,
                Err(_) => false,
            };
            if !is_restored {
                self.strays.push((topic.clone(), key));
            }
        }
        if !self.strays.is_empty() {
            events::series_too_old(number, self.strays.len() as u64);
        }
        Ok(())
    }

    /// Puts the written panes back. The pieces of a pane were written in one transaction, so they belong together.
    fn read_panes(&mut self, runtime: &Runtime, number: i32) -> Result<(), DetectRoleError> {
        let topic = runtime.topics.panes();
        let mut pieces: BTreeMap<(usize, Micros), Vec<Entry>> = BTreeMap::new();
        for (key, entry) in latest(runtime, ROLE, &topic, number)? {
            let named = serde_json::from_slice::<(String, String, Micros, usize)>(&key);
            let place = named.as_ref().ok().and_then(|(name, version, ..)| self.shard.set().place_of(name, version));
            match (place, named) {
                (Some(place), Ok((_, _, pane, _))) => pieces.entry((place, pane)).or_default().push(entry),
                (_, named) => {
                    events::pane_given_up(number);
                    self.shard.give_up(named.as_ref().map_or("", |(name, ..)| name), &entry.value);
                    self.strays.push((topic.clone(), key));
                }
            }
        }
        for ((place, start), entries) in pieces {
            let plan = Arc::clone(&self.shard.set().pipelines()[place].plan);
            self.panes.insert((place, start), entries.len());
            let through = entries[0].header(THROUGH).parse().map_err(|error| unreadable(number, &error))?;
            let schema = plan.partial_schema();
            let batches = entries.iter().map(|entry| partial::decode(&plan.pipeline, &schema, &entry.value));
            let batches = batches.collect::<Result<Vec<_>, _>>()?;
            let state =
                arrow::compute::concat_batches(&schema, &batches).map_err(|error| unreadable(number, &error))?;
            self.shard.restore_pane(place, PaneSnapshot { start, through, state })?;
        }
        Ok(())
    }

    /// Deletes what was found and cannot be used, in the same transaction that accounts for it.
    pub(super) fn bury_strays(&mut self, session: &mut dyn Session, number: i32) -> Result<(), LogError> {
        self.strays.drain(..).try_for_each(|(topic, key)| {
            let (partition, key) = (Some(number), Some(key.as_slice()));
            session.send(Outgoing { topic: &topic, partition, key, ..Outgoing::default() })
        })
    }

    pub(super) fn write_progress(
        &self,
        runtime: &Runtime,
        session: &mut dyn Session,
        number: i32,
    ) -> Result<(), DetectRoleError> {
        let (format, offset, replay_from) = (PROGRESS_FORMAT, self.next, self.replay_from());
        let progress = Progress { format, offset, replay_from, shard: self.shard.progress() };
        let value = serde_json::to_vec(&progress).map_err(|error| unwritable(number, &error))?;
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
            let plan = Arc::clone(&self.shard.set().pipelines()[place].plan);
            let pieces = partial::encode(&pane.state)?;
            let through = pane.through.to_string();
            let headers = [(THROUGH, through.as_bytes())];
            for (piece, value) in pieces.iter().enumerate() {
                let key = pane_key(&plan, pane.start, piece);
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
            bury(session, &topic, number, &plan, pane.start, pieces.len()..before)?;
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
            let plan = &self.shard.set().pipelines()[place].plan;
            bury(session, &topic, number, plan, start, 0..pieces)?;
            self.panes.remove(&(place, start));
        }
        Ok(())
    }
}

fn bury(
    session: &mut dyn Session,
    topic: &str,
    number: i32,
    plan: &WindowPlan,
    pane: Micros,
    pieces: std::ops::Range<usize>,
) -> Result<(), LogError> {
    for piece in pieces {
        let key = pane_key(plan, pane, piece);
        let key = Some(key.as_slice());
        session.send(Outgoing { topic, partition: Some(number), key, value: None, ..Outgoing::default() })?;
    }
    Ok(())
}

pub(super) fn unwritable(partition: i32, error: &dyn std::fmt::Display) -> DetectRoleError {
    DetectRoleError::Write { partition, reason: error.to_string() }
}

fn unreadable(partition: i32, error: &dyn std::fmt::Display) -> DetectRoleError {
    DetectRoleError::State { partition, reason: error.to_string() }
}
