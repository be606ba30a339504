//! State that live processing begins with: where a history ended, its baselines and whatever was open then.
//!
//! Everything is written in one transaction with the group's offsets, so live processing begins with all of it or with
//! nothing. It is written only where nobody has begun: over state that exists, or beside a running process, it is refused.
//! `warm` never writes a window or a detection.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::{PROGRESS_FORMAT, Progress, ROLE, THROUGH, latest, pane_key, read_progress, series_key, unwritable};
use crate::backfill::{Handover, SetReport};
use crate::evaluate::PipelineSet;
use crate::log::{LogError, Outgoing, Partition, Position, Rebalance, Session};
use crate::roles::Runtime;
use crate::roles::detect::DetectRoleError;
use crate::window::partial;

/// How long the group may take to give its partitions: longer than it waits for a member that was killed.
const JOIN_WAIT: Duration = Duration::from_secs(60);
/// How long one look at the group takes.
const POLL_WAIT: Duration = Duration::from_millis(200);

/// Why live processing cannot begin with what history has.
#[derive(Debug, Error)]
pub enum WarmError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Detect(#[from] DetectRoleError),
    #[error(
        "live processing has begun: {topic}-{partition} has state already; baselines can be warmed before the first \
         `maturion run` only, or under another kafka.topic_prefix"
    )]
    HasBegun { topic: String, partition: i32 },
    #[error("another process is in the group `{0}`; stop it, and start it again when the baselines are warm")]
    IsRunning(String),
    #[error("the group `{group}` gave this process no partitions in {wait} s; is Kafka well?", wait = JOIN_WAIT.as_secs())]
    NoPartitions { group: String },
}

/// Refuses if anybody has begun to process, or any of these pipelines has state.
pub fn check_cold(runtime: &Runtime, set: &PipelineSet) -> Result<(), WarmError> {
    let has_begun = |topic: String, partition: i32| WarmError::HasBegun { topic, partition };
    for number in 0..runtime.partitions {
        if read_progress(runtime, number)?.progress.is_some() {
            return Err(has_begun(runtime.topics.progress(), number));
        }
        for topic in [runtime.topics.baselines(), runtime.topics.panes()] {
            let keys = latest(runtime, ROLE, &topic, number)?.into_keys();
            // Both kinds of key are lists that begin with the pipeline's name.
            let named = keys.filter_map(|key| serde_json::from_slice::<Vec<serde_json::Value>>(&key).ok());
            let mut names = named.filter_map(|key| key.first()?.as_str().map(str::to_owned));
            if names.any(|name| set.place(&name).is_some()) {
                return Err(has_begun(topic, number));
            }
        }
    }
    Ok(())
}

/// Lets live processing begin where `history` of the pipelines of `set` ended.
pub fn warm(runtime: &Runtime, set: &PipelineSet, history: &SetReport, handover: &Handover) -> Result<(), WarmError> {
    check_cold(runtime, set)?;
    let transactional_id = runtime.topics.transactional_id(&runtime.instance, "warm");
    let group = runtime.topics.group("detect");
    let mut session = runtime.log.session(&group, &[runtime.topics.partials()], &transactional_id)?;
    let warmed = Warming { runtime, set, history, handover }.write(session.as_mut(), &group);
    session.close();
    warmed
}

struct Warming<'a> {
    runtime: &'a Runtime,
    set: &'a PipelineSet,
    history: &'a SetReport,
    handover: &'a Handover,
}

impl Warming<'_> {
    fn write(&self, session: &mut dyn Session, group: &str) -> Result<(), WarmError> {
        let partitions = assigned(session, group)?;
        let is_alone = partitions.len() == usize::try_from(self.runtime.partitions).unwrap_or_default();
        let bounds = self.runtime.log.bounds(&partitions)?;
        let start = |(partition, (earliest, _)): (&Partition, &(i64, i64))| Position {
            partition: partition.clone(),
            offset: *earliest,
        };
        let starts = partitions.iter().zip(&bounds).map(start).collect::<Vec<_>>();
        session.assign(&starts)?;
        if !is_alone {
            return Err(WarmError::IsRunning(group.to_owned()));
        }
        if let Some(place) = session.committed(&partitions)?.iter().position(Option::is_some) {
            let Partition { topic, number } = &partitions[place];
            return Err(WarmError::HasBegun { topic: topic.to_string(), partition: *number });
        }
        // Now that nobody else can be given them.
        check_cold(self.runtime, self.set)?;
        self.send(session, &starts).and_then(|()| Ok(session.commit(&starts)?)).inspect_err(|_| {
            // What is left open Kafka aborts by itself.
            let _ = session.abort();
        })
    }

    fn send(&self, session: &mut dyn Session, starts: &[Position]) -> Result<(), WarmError> {
        self.send_series(session)?;
        for Position { partition, offset } in starts {
            self.send_progress(session, partition.number, *offset)?;
        }
        self.send_panes(session, starts)
    }

    fn send_series(&self, session: &mut dyn Session) -> Result<(), WarmError> {
        let topic = self.runtime.topics.baselines();
        for ((place, series), state) in &self.history.states {
            let pipeline = &self.set.pipelines()[*place].pipeline.name;
            let partition = Some(partial::partition_of(pipeline, series, self.runtime.partitions));
            let key = series_key(pipeline, series);
            let (key, value) = (Some(key.as_slice()), Some(state.as_slice()));
            session.send(Outgoing { topic: &topic, partition, key, value, ..Outgoing::default() })?;
        }
        Ok(())
    }

    fn send_progress(&self, session: &mut dyn Session, number: i32, offset: i64) -> Result<(), WarmError> {
        let shard = self.handover.progress.clone();
        let progress = Progress { format: PROGRESS_FORMAT, offset, replay_from: offset, shard };
        let value = serde_json::to_vec(&progress).map_err(|error| unwritable(number, &error))?;
        let (topic, key) = (self.runtime.topics.progress(), number.to_string());
        let (key, value) = (Some(key.as_bytes()), Some(value.as_slice()));
        Ok(session.send(Outgoing { topic: &topic, partition: Some(number), key, value, ..Outgoing::default() })?)
    }

    /// Open panes, each series to its partition. They contain nothing of the partials.
    fn send_panes(&self, session: &mut dyn Session, starts: &[Position]) -> Result<(), WarmError> {
        let topic = self.runtime.topics.panes();
        for (place, pane) in &self.handover.panes {
            let plan = &self.set.pipelines()[*place].plan;
            let routed = partial::route(plan, &pane.state, self.runtime.partitions).map_err(DetectRoleError::from)?;
            for (number, state) in routed {
                let start = starts.iter().find(|start| start.partition.number == number);
                let through = start.map_or(0, |start| start.offset).to_string();
                let headers = [(THROUGH, through.as_bytes())];
                let pieces = partial::encode(&state).map_err(DetectRoleError::from)?;
                for (piece, value) in pieces.iter().enumerate() {
                    let key = pane_key(plan, pane.start, piece);
                    let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
                    let partition = Some(number);
                    let headers = &headers;
                    session.send(Outgoing { topic: &topic, partition, key, value, headers, timestamp_ms: None })?;
                }
            }
        }
        Ok(())
    }
}

/// The partitions that the group gives.
fn assigned(session: &mut dyn Session, group: &str) -> Result<Vec<Partition>, WarmError> {
    let deadline = Instant::now() + JOIN_WAIT;
    while Instant::now() < deadline {
        match session.poll(POLL_WAIT, 1, &mut |_| {})? {
            Some(Rebalance::Assigned(partitions)) => return Ok(partitions),
            Some(Rebalance::Revoked(partitions) | Rebalance::Lost(partitions)) => session.release(&partitions)?,
            None => {}
        }
    }
    Err(WarmError::NoPartitions { group: group.to_owned() })
}
