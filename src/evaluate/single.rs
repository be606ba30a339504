//! Stage two in one piece, for history and for tests: one shard for all series, whose messages come back to it.
//!
//! [`SingleShard`] is the streaming shard with the log taken away. It is told how far event time has come, instead of
//! working it out from the heartbeats of partitions. What it says is handed out before it goes on, so it never holds more
//! than one transaction of a stream would.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::PipelineSet;
use super::shard::{LOGS_SOURCE, METRICS_SOURCE, Outputs, Shard, ShardError, ShardProgress};
use crate::model::pipeline::Micros;
use crate::window::clock::Heartbeat;
use crate::window::open::PaneSnapshot;
use crate::window::partial::Message;

/// All of stage two for one set of pipelines.
pub struct SingleShard {
    shard: Shard,
    /// Counts what was taken, as offsets do.
    taken: i64,
}

impl SingleShard {
    /// Nothing seen yet.
    pub fn new(set: &Arc<PipelineSet>) -> Result<Self, ShardError> {
        Ok(Self { shard: Shard::new(set, 0, 1, Micros::MAX, ShardProgress::default())?, taken: 0 })
    }

    /// How it stands.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Takes the partial states of the pipeline at `place`.
    pub fn merge(&mut self, place: usize, states: &RecordBatch) -> Result<(), ShardError> {
        self.taken += 1;
        self.shard.take_partial(place, self.taken, states)
    }

    /// Event time has come to `watermark`: closes what can be closed, and hands out what was said.
    pub fn advance<E: From<ShardError>>(
        &mut self,
        watermark: Micros,
        say: &mut dyn FnMut(&Outputs) -> Result<(), E>,
    ) -> Result<(), E> {
        self.beat(watermark)?;
        self.settle(false, say)
    }

    /// Like [`SingleShard::advance`], and shows open windows to the rules that look at them first, as a stream does with each
    /// commit.
    pub fn look_and_advance<E: From<ShardError>>(
        &mut self,
        watermark: Micros,
        say: &mut dyn FnMut(&Outputs) -> Result<(), E>,
    ) -> Result<(), E> {
        self.beat(watermark)?;
        self.settle(true, say)
    }

    /// The input ended with a row at `latest`: closes every window up to there.
    pub fn end<E: From<ShardError>>(
        &mut self,
        latest: Micros,
        say: &mut dyn FnMut(&Outputs) -> Result<(), E>,
    ) -> Result<(), E> {
        self.shard.end(latest);
        self.settle(false, say)
    }

    /// The input is whole up to `moment`, and a stream goes on from there: closes every window that ends by then, and no
    /// other.
    pub fn end_at<E: From<ShardError>>(
        &mut self,
        moment: Micros,
        say: &mut dyn FnMut(&Outputs) -> Result<(), E>,
    ) -> Result<(), E> {
        self.shard.end_at(moment);
        self.settle(false, say)
    }

    /// What is open, as a stream that goes on here reads it.
    pub fn open_panes(&mut self) -> Result<Vec<(usize, PaneSnapshot)>, ShardError> {
        // A pane is written down when it was open at the look before.
        self.shard.snapshots(0)?;
        self.shard.snapshots(0)
    }

    fn settle<E: From<ShardError>>(
        &mut self,
        looks: bool,
        say: &mut dyn FnMut(&Outputs) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut is_quiet = false;
        while !is_quiet {
            let (mut out, ended_before) = (Outputs::default(), self.shard.ended());
            if looks {
                self.shard.look(&mut out)?;
            }
            let is_full = self.shard.advance(&mut out)?;
            // Who waits for others goes on with the step after the one in which they ended.
            is_quiet = !is_full && out.is_empty() && ended_before == self.shard.ended();
            self.take_back(&mut out)?;
            say(&out)?;
        }
        Ok(())
    }

    /// What a shard writes to the partials, it reads there.
    fn take_back(&mut self, out: &mut Outputs) -> Result<(), ShardError> {
        for (place, states) in std::mem::take(&mut out.partials) {
            self.merge(place, &states)?;
        }
        let inhibitions = std::mem::take(&mut out.inhibitions).into_iter().map(Message::Inhibition);
        let frontiers = Message::Heartbeats(std::mem::take(&mut out.frontiers));
        inhibitions.chain([frontiers]).try_for_each(|message| self.shard.take(self.taken, message))
    }

    /// Nobody knows when these records arrived, so event time stands for wall time.
    fn beat(&mut self, watermark: Micros) -> Result<(), ShardError> {
        self.taken += 1;
        let beat = |source: &str| Heartbeat {
            source: source.to_owned(),
            partition: 0,
            partitions: 1,
            position: self.taken,
            // Never reached: history is not idle, it ends.
            end: Micros::MAX,
            event_time: Some(watermark),
            wall: watermark,
        };
        let beats = [LOGS_SOURCE, METRICS_SOURCE].map(beat).into();
        self.shard.take(self.taken, Message::Heartbeats(beats))
    }
}
