//! Ways to break the promise, on the wire: each is a mistake that the product could have made, and the simulation must see it.

use maturion::log::topics::Topics;
use maturion::log::{Partition, Record};
use maturion::model::pipeline::Micros;
use serde_json::{Value, json};

use super::faulty::Sent;
use super::pipelines::LATENESS;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The input offsets are committed, and then the output.
    OffsetsBeforeOutput,
    /// Progress says that a restart need not read any partial again.
    ForgottenReplay,
    /// Progress does not say how far event time had come.
    WatermarkGoesBack,
    /// A message of partial state is merged twice.
    PartialTwice,
    /// A member that lost its partitions writes its output all the same.
    UnfencedZombie,
    /// Output is visible before its transaction is committed.
    OutputBeforeCommit,
    /// State is read while its last transaction is still being decided.
    UnsettledState,
    /// After an abort the input is not read again.
    ForgottenRewind,
    /// Snapshots of panes are not written, though progress relies on them.
    LostSnapshots,
    /// Heartbeats stand before the rows that they speak of.
    HeartbeatsFirst,
    /// Heartbeats say that event time is further than the rows that were read.
    HastyHeartbeats,
    /// The state of series is not written.
    LostSeries,
}

impl Mutant {
    pub const ALL: [Mutant; 12] = [
        Mutant::OffsetsBeforeOutput,
        Mutant::ForgottenReplay,
        Mutant::WatermarkGoesBack,
        Mutant::PartialTwice,
        Mutant::UnfencedZombie,
        Mutant::OutputBeforeCommit,
        Mutant::UnsettledState,
        Mutant::ForgottenRewind,
        Mutant::LostSnapshots,
        Mutant::HeartbeatsFirst,
        Mutant::HastyHeartbeats,
        Mutant::LostSeries,
    ];

    /// Rewrites a transaction on its way out. What it does not understand it leaves alone.
    pub fn rewrite(self, sent: &mut Vec<Sent>, topics: &Topics) {
        match self {
            Mutant::ForgottenReplay => edit(sent, &topics.progress(), |progress| {
                if let Some(offset) = progress.get("offset").cloned() {
                    replace(progress, "replay_from", &offset);
                }
            }),
            Mutant::WatermarkGoesBack => edit(sent, &topics.progress(), |progress| {
                replace(progress, "closed_through", &Value::Null);
                replace(progress, "clocks", &json!({}));
            }),
            Mutant::LostSnapshots => sent.retain(|record| record.topic != topics.panes()),
            Mutant::LostSeries => sent.retain(|record| record.topic != topics.baselines()),
            Mutant::HeartbeatsFirst => sent.sort_by_key(|record| record.kind() != Some(b"heartbeats")),
            Mutant::HastyHeartbeats => edit(sent, &topics.partials(), |beats| {
                for time in beats.as_array_mut().into_iter().flatten().filter_map(|beat| beat.get_mut("event_time")) {
                    if let Some(reached) = time.as_i64() {
                        *time = (reached + LATENESS as Micros).into();
                    }
                }
            }),
            _ => {}
        }
    }
}

/// Changes the JSON of every message to `topic` that is JSON.
fn edit(sent: &mut [Sent], topic: &str, change: impl Fn(&mut Value)) {
    for record in sent.iter_mut().filter(|record| record.topic == topic) {
        let Some(bytes) = &record.value else { continue };
        let Ok(mut value) = serde_json::from_slice(bytes) else { continue };
        change(&mut value);
        record.value = serde_json::to_vec(&value).ok();
    }
}

/// Sets every field of this name, however deep.
fn replace(value: &mut Value, name: &str, with: &Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name {
                    *value = with.clone();
                } else {
                    replace(value, name, with);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, name, with)),
        _ => {}
    }
}

pub fn is_partial(record: &Record<'_>) -> bool {
    record.headers.contains(&("kind", b"partial"))
}

/// Ends the series' state before its last record and the marker after that.
pub fn hide_the_last_transaction(bounds: &mut [(i64, i64)], partitions: &[Partition], topics: &Topics) {
    for ((from, to), partition) in bounds.iter_mut().zip(partitions) {
        if *partition.topic == topics.baselines() {
            *to = (*to - 2).max(*from);
        }
    }
}
