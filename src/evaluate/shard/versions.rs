//! Versions: a pipeline whose file was changed, while windows of the earlier file are open, or while another process
//! still runs it.
//!
//! Partials carry their version. A shard computes the windows of each version apart, from the [`Definition`] that came
//! before the first partial, so every row is in a window of exactly one version. A window of which two versions have
//! rows is *split*: both parts are written, marked as incomplete, and no rule looks at them, because both are wrong
//! numbers. A version retires when its windows are closed and nothing was heard of it for [`RETIRE_AFTER`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::progress::PipelineProgress;
use super::{Outputs, PipelineShard, Shard, ShardError};
use crate::detect::{Detector, SeriesState};
use crate::evaluate::{CompileError, Compiled, PipelineSet};
use crate::model::pipeline::{Definition, Limits, Micros, Pipeline, Source};
use crate::model::series::Series;
use crate::window::functions::window_start;
use crate::window::open::WindowRows;
use crate::window::plan::Panes;

/// Definitions of one pipeline that are remembered; the oldest gives way. So many versions can run side by side.
pub const VERSIONS_MAX: usize = 8;

/// A version of which nothing was heard for so long is run by nobody any more, in recorded wall time.
const RETIRE_AFTER: Micros = 3_600_000_000;

/// The versions that a shard has heard of.
#[derive(Default)]
pub(super) struct Versions {
    /// By pipeline, in the order in which they were learnt.
    known: BTreeMap<String, Vec<Definition>>,
    /// Learnt since the last call of [`Versions::take_news`].
    news: Vec<Definition>,
    /// Progress of versions whose definitions have not been seen yet.
    awaited: BTreeMap<String, BTreeMap<String, PipelineProgress>>,
    /// Pipeline and version of those that nobody runs any more.
    retired: BTreeSet<(String, String)>,
    /// State of series that no pipeline here has: their pipeline is gone, or names its series by other labels now.
    orphans: BTreeMap<String, BTreeMap<Series, SeriesState>>,
}

impl Versions {
    /// Remembers a definition that is written down already; true if it is new here.
    pub(super) fn learn(&mut self, definition: Definition) -> bool {
        let known = self.known.entry(definition.pipeline.clone()).or_default();
        if known.contains(&definition) {
            return false;
        }
        if known.len() >= VERSIONS_MAX {
            known.remove(0);
        }
        known.push(definition);
        true
    }

    /// Remembers a definition that must be written down if it is new.
    pub(super) fn hear(&mut self, definition: Definition) {
        if self.learn(definition.clone()) {
            self.news.push(definition);
        }
    }

    pub(super) fn take_news(&mut self) -> Vec<Definition> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn keep_orphan(&mut self, pipeline: &str, series: Series, state: SeriesState) {
        self.orphans.entry(pipeline.to_owned()).or_default().insert(series, state);
    }

    pub(super) fn await_definitions(&mut self, progress: BTreeMap<String, BTreeMap<String, PipelineProgress>>) {
        self.awaited = progress;
    }

    pub(super) fn awaited(&self) -> &BTreeMap<String, BTreeMap<String, PipelineProgress>> {
        &self.awaited
    }

    pub(super) fn is_retired(&self, compiled: &Compiled) -> bool {
        self.retired.contains(&(compiled.pipeline.name.clone(), compiled.plan.version.clone()))
    }

    /// Where a version goes on: where it stood, or, if it is new, where the other versions have closed their windows.
    pub(super) fn progress_of(&mut self, compiled: &Compiled) -> PipelineProgress {
        let Some(versions) = self.awaited.get_mut(&compiled.pipeline.name) else { return PipelineProgress::default() };
        match versions.remove(&compiled.plan.version) {
            Some(progress) => progress,
            None => successor(versions.values(), compiled.plan.panes),
        }
    }
}

/// The progress of a version that begins beside others.
fn successor<'a>(others: impl Iterator<Item = &'a PipelineProgress> + Clone, panes: Panes) -> PipelineProgress {
    let closed = others.clone().filter_map(|other| other.closed_through).max();
    let last_end = |closed: Micros| window_start(closed.saturating_sub(panes.size), panes.slide) + panes.size;
    PipelineProgress {
        closed_through: closed.map(last_end),
        watched_since: others.clone().filter_map(|other| other.watched_since).min(),
        is_rebuilding: others.clone().any(|other| other.is_rebuilding),
        ..PipelineProgress::default()
    }
}

impl Shard {
    /// Puts a written definition back.
    pub fn restore_definition(&mut self, definition: Definition) -> Result<(), ShardError> {
        let (pipeline, version) = (definition.pipeline.clone(), definition.version.clone());
        self.versions.learn(definition);
        let is_awaited = self.versions.awaited.get(&pipeline).is_some_and(|versions| versions.contains_key(&version));
        if is_awaited {
            self.place_or_admit(&pipeline, &version)?;
        }
        Ok(())
    }

    /// The place of a version, which is added to the set if its definition is known. `None` if it is not, or if this
    /// program would compute something else from it.
    pub(super) fn place_or_admit(&mut self, pipeline: &str, version: &str) -> Result<Option<usize>, ShardError> {
        if let Some(place) = self.set.place_of(pipeline, version) {
            return Ok(Some(place));
        }
        let Some(known) = self.versions.known.get_mut(pipeline) else { return Ok(None) };
        let Some(index) = known.iter().position(|definition| definition.version == version) else { return Ok(None) };
        match self.set.with_version(&known[index]) {
            Ok(set) => self.admit(set).map(Some),
            // Not to be tried again with each of its partials.
            Err(CompileError::OtherProgram { .. } | CompileError::Plan(_)) => {
                known.remove(index);
                Ok(None)
            }
            Err(error) => Err(ShardError::Write { pipeline: pipeline.to_owned(), reason: error.to_string() }),
        }
    }

    /// Takes over a set with one more version.
    fn admit(&mut self, set: PipelineSet) -> Result<usize, ShardError> {
        let place = set.pipelines().len() - 1;
        let compiled = &set.pipelines()[place];
        let mut progress = self.versions.progress_of(compiled);
        if progress == PipelineProgress::default() {
            let others = self.siblings(&compiled.pipeline.name).map(|place| self.pipelines[place].so_far());
            progress = successor(others.collect::<Vec<_>>().iter(), compiled.plan.panes);
        }
        self.pipelines.push(PipelineShard::new(compiled, self.partitions, progress)?);
        self.set = Arc::new(set);
        Ok(place)
    }

    /// The places of all versions of a pipeline.
    fn siblings(&self, name: &str) -> impl Iterator<Item = usize> {
        let named = self.set.pipelines().iter().enumerate().filter(move |(_, compiled)| compiled.pipeline.name == name);
        named.map(|(place, _)| place)
    }

    /// The place whose series and counters a version shares: that of the current one, if there is one.
    pub(super) fn home(&self, place: usize) -> usize {
        let compiled = &self.set.pipelines()[place];
        if compiled.is_current { place } else { self.set.place(&compiled.pipeline.name).unwrap_or(place) }
    }

    /// True if another version of the pipeline may have rows in the window.
    pub(super) fn is_split(&self, place: usize, window: &WindowRows) -> bool {
        let name = &self.set.pipelines()[place].pipeline.name;
        let others = self.siblings(name).filter(|other| *other != place).map(|other| &self.pipelines[other].progress);
        let awaited = self.versions.awaited.get(name).into_iter().flat_map(BTreeMap::values);
        others.chain(awaited).any(|other| other.overlaps(window.start, window.end))
    }

    /// Lets go of versions that nobody runs any more, and of the series of pipelines that are gone with them.
    pub(super) fn retire(&mut self, out: &mut Outputs) -> Result<(), ShardError> {
        let wall = self.wall;
        if wall == 0 {
            return Ok(());
        }
        // What came before the first heartbeat came now.
        let versions = self.pipelines.iter_mut().map(|shard| &mut shard.progress);
        for progress in versions.chain(self.versions.awaited.values_mut().flat_map(BTreeMap::values_mut)) {
            progress.seen_at = if progress.seen_at == 0 { wall } else { progress.seen_at };
        }
        let is_silent = |seen_at: Micros| wall.saturating_sub(seen_at) >= RETIRE_AFTER;
        let mut leaving = Vec::new();
        for (place, compiled) in self.set.pipelines().iter().enumerate().filter(|(_, compiled)| !compiled.is_current) {
            let PipelineShard { windows, progress, .. } = &self.pipelines[place];
            let is_finished = windows.open().0 == 0 && is_silent(progress.seen_at);
            if is_finished && self.is_left_behind(place) && !self.versions.is_retired(compiled) {
                leaving.push((compiled.pipeline.name.clone(), compiled.plan.version.clone()));
            }
        }
        for (name, versions) in &mut self.versions.awaited {
            let gone = versions.extract_if(.., |_, progress| is_silent(progress.seen_at));
            leaving.extend(gone.map(|(version, _)| (name.clone(), version)));
        }
        self.versions.awaited.retain(|_, versions| !versions.is_empty());
        for (name, version) in leaving {
            self.inherit_counters(&name, &version);
            if let Some(known) = self.versions.known.get_mut(&name) {
                known.retain(|definition| definition.version != version);
            }
            self.versions.retired.insert((name.clone(), version.clone()));
            out.retired.push((name, version));
        }
        self.end_orphans(out)
    }

    /// The counters of a version that leaves go on in the current one.
    fn inherit_counters(&mut self, name: &str, version: &str) {
        let (Some(place), Some(current)) = (self.set.place_of(name, version), self.set.place(name)) else { return };
        let PipelineProgress { late_rows, foreign_messages, closed_early, .. } = self.pipelines[place].progress;
        let progress = &mut self.pipelines[current].progress;
        progress.late_rows += late_rows;
        progress.foreign_messages += foreign_messages;
        progress.closed_early += closed_early;
    }

    /// True if the current version closes no window any more that this one has rows in.
    fn is_left_behind(&self, place: usize) -> bool {
        let (home, span) = (self.home(place), self.pipelines[place].progress.span);
        let (current, Some((_, last))) = (&self.set.pipelines()[home], span) else { return true };
        let closed = self.pipelines[home].windows.closed_through();
        home == place || closed.is_some_and(|closed| closed.saturating_sub(current.plan.panes.size) >= last)
    }

    /// Ends the series that no pipeline here has, once no other version of theirs runs anywhere.
    fn end_orphans(&mut self, out: &mut Outputs) -> Result<(), ShardError> {
        if self.versions.orphans.is_empty() {
            return Ok(());
        }
        let is_run = |name: &String| {
            let mut others = self.siblings(name).map(|place| &self.set.pipelines()[place]).filter(|it| !it.is_current);
            self.versions.awaited.contains_key(name) || others.any(|other| !self.versions.is_retired(other))
        };
        let gone = self.versions.orphans.keys().filter(|name| !is_run(name)).cloned().collect::<Vec<_>>();
        for name in gone {
            let nobody = nobody(&name)
                .map_err(|error| ShardError::Write { pipeline: name.clone(), reason: error.to_string() })?;
            for (series, mut state) in self.versions.orphans.remove(&name).unwrap_or_default() {
                nobody.withdraw(&mut state, &series, (self.wall, self.wall), &mut out.detections);
                out.ended.push((name.clone(), series));
            }
        }
        Ok(())
    }
}

/// The detector of a pipeline that is gone: it has no rules.
fn nobody(name: &str) -> Result<Detector, crate::detect::DetectError> {
    let pipeline = Pipeline {
        name: name.to_owned(),
        source: Source::Logs,
        sql: String::new(),
        sql_file: String::new(),
        series: Vec::new(),
        lateness: 0,
        limits: Limits::default(),
        rules: Vec::new(),
    };
    Detector::new(&pipeline, 1)
}

impl PipelineShard {
    /// How far it is.
    fn so_far(&self) -> PipelineProgress {
        PipelineProgress { closed_through: self.windows.closed_through(), ..self.progress.clone() }
    }
}
