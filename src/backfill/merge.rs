//! Merging: partial states in the order of their chunks, and how far event time has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::Work;
use super::lanes::History;
use super::{BackfillError, Handover, Progress, Rejected, Report, SetReport, Settings, Sink};
use crate::evaluate::PipelineSet;
use crate::evaluate::shard::Outputs;
use crate::evaluate::single::SingleShard;
use crate::model::pipeline::Micros;
use crate::model::series::Series;

/// All of stage two.
pub(super) struct Merger {
    sets: Vec<SetMerger>,
    disorder: Micros,
    /// No row from then on is shown to anybody.
    to: Micros,
    hands_over: bool,
    lanes: Vec<LaneClock>,
    /// The least event time of the first chunk that had rows.
    first: Option<Micros>,
    /// Event time of the last row that pipelines were shown.
    latest: Option<Micros>,
    report: Report,
    read: Arc<AtomicU64>,
    bytes: u64,
}

struct SetMerger {
    shard: SingleShard,
    states: BTreeMap<(usize, Series), Vec<u8>>,
    has_begun: bool,
}

impl SetMerger {
    /// Lets event time begin with the first row, as a stream does: what is watched is watched from there on, and not from
    /// as long before as disorder is waited for.
    fn begin(&mut self, first: Option<Micros>, place: usize, sink: &mut dyn Sink) -> Result<(), BackfillError> {
        match first.filter(|_| !std::mem::replace(&mut self.has_begun, true)) {
            Some(first) => self.shard.advance(first, &mut |outputs| keep(&mut self.states, place, outputs, sink)),
            None => Ok(()),
        }
    }

    /// How it ended; with what a stream needs that goes on at `at`.
    fn ended(mut self, at: Option<Micros>) -> Result<SetReport, BackfillError> {
        let handover = |at| {
            let panes = self.shard.open_panes()?;
            Ok::<_, BackfillError>(Handover { at, progress: self.shard.shard().handover(at), panes })
        };
        let handover = at.map(handover).transpose()?;
        Ok(SetReport { pipelines: self.shard.shard().report(), states: self.states, handover })
    }
}

/// How far a lane is.
struct LaneClock {
    /// No row before this is waited for.
    watermark: Micros,
    /// Lines read.
    lines: u64,
    is_done: bool,
}

impl Merger {
    pub(super) fn new(
        sets: &[Arc<PipelineSet>],
        settings: &Settings,
        history: &History,
    ) -> Result<Self, BackfillError> {
        let set = |set| Ok(SetMerger { shard: SingleShard::new(set)?, states: BTreeMap::new(), has_begun: false });
        let lane = |watermark| LaneClock { watermark, lines: 0, is_done: false };
        Ok(Self {
            sets: sets.iter().map(set).collect::<Result<_, BackfillError>>()?,
            disorder: settings.disorder,
            to: settings.to,
            hands_over: settings.hands_over,
            lanes: history.floors(settings.disorder).into_iter().map(lane).collect(),
            first: None,
            latest: None,
            report: Report::default(),
            read: Arc::clone(&history.read),
            bytes: history.bytes,
        })
    }

    /// Takes the next chunk's work.
    pub(super) fn merge(&mut self, mut work: Work, sink: &mut dyn Sink) -> Result<(), BackfillError> {
        self.tell_rejected(&mut work, sink)?;
        for (set, place, states) in std::mem::take(&mut work.partials) {
            self.sets[set].shard.merge(place, &states)?;
        }
        self.count(&work);
        let watermark = self.turn(&work);
        self.advance(watermark, sink)?;
        sink.progress(&self.progress());
        Ok(())
    }

    /// Closes everything, unless the input was not read to its end.
    pub(super) fn finish(mut self, is_interrupted: bool, sink: &mut dyn Sink) -> Result<Report, BackfillError> {
        self.report.is_interrupted = is_interrupted;
        if let Some(latest) = self.latest.filter(|_| !is_interrupted) {
            for (place, set) in self.sets.iter_mut().enumerate() {
                set.begin(self.first, place, sink)?;
                let mut say = |outputs: &Outputs| keep(&mut set.states, place, outputs, sink);
                match self.hands_over {
                    true => set.shard.end_at(self.to, &mut say)?,
                    false => set.shard.end(latest, &mut say)?,
                }
            }
        }
        sink.progress(&self.progress());
        let at = (self.hands_over && !is_interrupted).then_some(self.to);
        self.report.sets = self.sets.into_iter().map(|set| set.ended(at)).collect::<Result<_, _>>()?;
        Ok(self.report)
    }

    /// Closes what the watermark has passed. Before it has come to the first row nothing can close, unless too much is open.
    fn advance(&mut self, watermark: Option<Micros>, sink: &mut dyn Sink) -> Result<(), BackfillError> {
        // Nothing is known of a time that was not asked for.
        let (first, watermark) = (self.first, watermark.unwrap_or(Micros::MIN).min(self.to));
        for (place, set) in self.sets.iter_mut().enumerate() {
            if first.is_none_or(|first| watermark < first) && !set.shard.shard().is_overfull() {
                continue;
            }
            set.begin(first, place, sink)?;
            set.shard.advance(watermark, &mut |outputs| keep(&mut set.states, place, outputs, sink))?;
        }
        Ok(())
    }

    fn tell_rejected(&mut self, work: &mut Work, sink: &mut dyn Sink) -> Result<(), BackfillError> {
        let before = self.lanes[work.lane].lines;
        for rejected in work.rejected.drain(..) {
            let position = format!("{}:{}", rejected.record.position, before + rejected.line + 1);
            let record = Rejected { position, ..rejected.record };
            let in_words = || format!("{}: {}", record.position, record.reason);
            self.report.rejected.entry(record.kind).or_insert_with(|| (0, in_words())).0 += 1;
            sink.reject(&record)?;
        }
        Ok(())
    }

    fn count(&mut self, work: &Work) {
        self.report.rows += work.rows;
        self.report.outside += work.outside;
        self.latest = self.latest.max(work.latest);
        self.first = self.first.or(work.earliest);
        if let Some((first, last)) = work.span {
            let (from, to) = self.report.span.unwrap_or((first, last));
            self.report.span = Some((from.min(first), to.max(last)));
        }
    }

    /// Moves the clock of the chunk's lane; the watermark of all lanes that are not done.
    fn turn(&mut self, work: &Work) -> Option<Micros> {
        let lane = &mut self.lanes[work.lane];
        lane.lines += work.lines;
        lane.is_done |= work.is_last;
        // The first row of a chunk, and not its last: one wrong clock must not make all others late.
        let reached = work.span.map(|(first, _)| first.saturating_sub(self.disorder));
        lane.watermark = lane.watermark.max(work.rest.or(reached).unwrap_or(Micros::MIN));
        let waiting = self.lanes.iter().filter(|lane| !lane.is_done);
        waiting.map(|lane| lane.watermark).min().filter(|watermark| *watermark > Micros::MIN)
    }

    fn progress(&self) -> Progress {
        Progress { rows: self.report.rows, bytes_read: self.read.load(Ordering::Relaxed), bytes: self.bytes }
    }
}

/// Hands out what a set said, and keeps the newest state of each series.
fn keep(
    states: &mut BTreeMap<(usize, Series), Vec<u8>>,
    set: usize,
    outputs: &Outputs,
    sink: &mut dyn Sink,
) -> Result<(), BackfillError> {
    for (series, state) in &outputs.states {
        match state {
            Some(state) => states.insert(series.clone(), state.clone()),
            None => states.remove(series),
        };
    }
    sink.say(set, outputs)
}
