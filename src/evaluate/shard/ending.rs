//! The end of an input that does end: history, and the records of a test.
//!
//! A stream never ends, so its last windows wait for a watermark. Here nothing more can come: every pipeline closes each
//! window that begins at the last row of the input or before it, and none after it, so that no series is found missing
//! in a time that the input does not tell of. Whoever is silenced, or reads windows, still comes after those it waits for.
//! A history that a stream goes on from ends at a moment instead, and what is open then is handed over.

use super::Shard;
use crate::evaluate::Compiled;
use crate::model::pipeline::{Micros, Source};
use crate::window::functions::window_start;

/// How far the end has come.
pub(super) struct Ending {
    last: Last,
    /// For each pipeline: what it said with its last window was handed out before the step at hand.
    finished: Vec<bool>,
}

/// Which windows are the last that close.
#[derive(Clone, Copy)]
enum Last {
    /// Those that begin with the last row of the input, which is of this event time, or before it.
    Row(Micros),
    /// Those that end at this moment or before it.
    Moment(Micros),
}

impl Shard {
    /// Says that nothing more comes, and that the last row was of this event time.
    pub fn end(&mut self, latest: Micros) {
        self.ending = Some(Ending { last: Last::Row(latest), finished: Vec::new() });
    }

    /// Says that everything before this moment is there, and that a stream goes on with the rest: windows that end later
    /// stay open.
    pub fn end_at(&mut self, moment: Micros) {
        self.ending = Some(Ending { last: Last::Moment(moment), finished: Vec::new() });
    }

    /// How many pipelines have closed their last window; none before the input has ended.
    pub fn ended(&self) -> usize {
        if self.ending.is_none() {
            return 0;
        }
        (0..self.pipelines.len()).filter(|place| self.has_closed_all(*place)).count()
    }

    /// Notes who has nothing more to say, before a step in which others go by it.
    pub(super) fn note_finished(&mut self) {
        let finished = (0..self.pipelines.len()).map(|place| self.has_closed_all(place)).collect();
        if let Some(ending) = &mut self.ending {
            ending.finished = finished;
        }
    }

    pub(super) fn is_finished(&self, place: usize) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.finished.get(place).copied().unwrap_or(false))
    }

    /// The watermark that closes the last window of a pipeline, once everything that it reads is there.
    pub(super) fn last_watermark(&self, compiled: &Compiled) -> Option<Micros> {
        let is_complete = match &compiled.pipeline.source {
            Source::Logs | Source::Metrics => true,
            Source::Windows(upstream) => self.set.place(upstream).is_none_or(|place| self.is_finished(place)),
        };
        let last_end = self.last_end(compiled).filter(|_| is_complete)?;
        Some(last_end.saturating_add(compiled.pipeline.lateness))
    }

    fn has_closed_all(&self, place: usize) -> bool {
        let closed = self.pipelines[place].windows.closed_through();
        let last_end = self.last_end(&self.set.pipelines()[place]);
        last_end.is_none_or(|last_end| closed.is_some_and(|closed| closed >= last_end))
    }

    /// The end of the last window that a pipeline closes; `None` while the input has not ended.
    fn last_end(&self, compiled: &Compiled) -> Option<Micros> {
        let panes = compiled.plan.panes;
        let start = match self.ending.as_ref()?.last {
            Last::Row(latest) => window_start(self.last_row(compiled, latest)?, panes.slide),
            Last::Moment(moment) => window_start(moment.saturating_sub(panes.size), panes.slide),
        };
        Some(start.saturating_add(panes.size))
    }

    /// The event time of the last row that a pipeline can have read, if that of the input is `latest`.
    fn last_row(&self, compiled: &Compiled, latest: Micros) -> Option<Micros> {
        match &compiled.pipeline.source {
            Source::Logs | Source::Metrics => Some(latest),
            Source::Windows(upstream) => {
                let upstream = &self.set.pipelines()[self.set.place(upstream)?];
                Some(window_start(self.last_row(upstream, latest)?, upstream.plan.panes.slide))
            }
        }
    }
}
