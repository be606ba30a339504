//! A window's rows in front of the detector: what it says, what must be kept, and who must know.

use std::collections::BTreeSet;

use super::{ClosedRow, Outputs, Shard, ShardError, compute};
use crate::detect::{Detector, Observation, SeriesState};
use crate::evaluate::Compiled;
use crate::model::pipeline::{Micros, RuleName, SERIES_LIMIT, Severity};
use crate::model::series::Series;
use crate::window::open::WindowRows;
use crate::window::partial::Inhibition;
use crate::window::rows;

impl Shard {
    pub(super) fn close(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        let in_words = |source| compute(compiled, source);
        let home = self.home(place);
        self.pipelines[home].progress.watched_since.get_or_insert(window.start);
        let is_complete = !self.is_split(place, window);
        let seen = if is_complete {
            let (mut seen, is_beyond) = self.evaluate(place, compiled, window, true, out)?;
            let rows = seen.len();
            seen.extend(is_beyond.then(|| compiled.plan.overflow()));
            self.miss(place, compiled, window, &seen, out)?;
            seen.truncate(rows);
            seen
        } else {
            rows::series_of(&compiled.plan, &window.rows).map_err(in_words)?
        };
        let lines = rows::to_json(&compiled.plan, window.start, window.end, &window.rows).map_err(in_words)?;
        let rows = seen.into_iter().zip(lines).map(|(series, json)| ClosedRow { place, series, json, is_complete });
        out.windows.extend(rows);
        self.feed_readers(compiled, window)
    }

    /// Gives a closed window to the pipelines that read it. A version whose rows look different is not what they read.
    fn feed_readers(&mut self, compiled: &Compiled, window: &WindowRows) -> Result<(), ShardError> {
        let current = self.set.place(&compiled.pipeline.name).map(|place| &self.set.pipelines()[place]);
        let fits = current.is_some_and(|current| current.plan.output_schema() == compiled.plan.output_schema());
        for reader in &compiled.readers {
            let pipeline = &mut self.pipelines[*reader];
            match &mut pipeline.aggregator {
                Some(aggregator) if fits => {
                    aggregator.push(&window.rows).map_err(|source| compute(&self.set.pipelines()[*reader], source))?;
                }
                _ => pipeline.progress.late_rows += window.rows.num_rows() as u64,
            }
        }
        Ok(())
    }

    /// Shows each row to the detector; the series of the rows, in their order, and whether there are more than the limit.
    pub(super) fn evaluate(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        is_closed: bool,
        out: &mut Outputs,
    ) -> Result<(Vec<Series>, bool), ShardError> {
        let in_words = |source| compute(compiled, source);
        let series = rows::series_of(&compiled.plan, &window.rows).map_err(in_words)?;
        let measures = rows::measures_of(&window.rows, compiled.detector.columns()).map_err(in_words)?;
        let home = self.home(place);
        let watched_since = self.pipelines[home].progress.watched_since.unwrap_or(window.start);
        let overflow = window.has_overflow.then(|| compiled.plan.overflow());
        let limit = [Some(compiled.pipeline.limits.series as f64)];
        let mut is_beyond = false;
        for (series, values) in series.iter().zip(&measures) {
            let is_overflow = overflow.as_ref() == Some(series);
            // What nobody remembers yet, beyond the limit, is not watched: known series must not be displaced.
            let is_full = self.pipelines[home].series.len() >= self.pipelines[home].series_max;
            if is_overflow || (is_full && !self.pipelines[home].series.contains_key(series)) {
                is_beyond = true;
                continue;
            }
            let seen =
                Observation { series, window_start: window.start, window_end: window.end, watched_since, values };
            self.observe(home, compiled, &compiled.detector, &seen, is_closed, out)?;
        }
        if is_beyond && is_closed {
            let series = &compiled.plan.overflow();
            let (window_start, window_end) = (window.start, window.end);
            let seen = Observation { series, window_start, window_end, watched_since, values: &limit };
            self.observe(home, compiled, &compiled.overflow, &seen, true, out)?;
        }
        Ok((series, is_beyond))
    }

    /// Shows one row to a detector, and keeps what it remembers.
    fn observe(
        &mut self,
        home: usize,
        compiled: &Compiled,
        detector: &Detector,
        seen: &Observation<'_>,
        is_closed: bool,
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        let mut state = self.pipelines[home].series.remove(seen.series).unwrap_or_default();
        let told = severities(compiled, &state);
        let inhibited =
            |rule: &RuleName| self.verdicts.silencing(self.set.inhibitors(rule), seen.series, seen.window_end);
        let is_changed = if is_closed {
            detector.on_close(&mut state, seen, &inhibited, &mut out.detections)
        } else {
            detector.on_change(&mut state, seen, &inhibited, &mut out.detections)
        };
        self.keep(home, compiled, seen.series, state, is_changed, &told, seen.window_end, out)
    }

    /// Tells the detector about series with state that have no row in a closed window.
    fn miss(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        seen: &[Series],
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        let (home, overflow) = (self.home(place), compiled.plan.overflow());
        let seen = seen.iter().collect::<BTreeSet<_>>();
        let missing = self.pipelines[home].series.keys().filter(|series| !seen.contains(series));
        for series in missing.cloned().collect::<Vec<_>>() {
            let Some(mut state) = self.pipelines[home].series.remove(&series) else { continue };
            let told = severities(compiled, &state);
            let span = (window.start, window.end);
            let is_of_overflow = series == overflow && state.severity_of(SERIES_LIMIT).is_some();
            let detector = if is_of_overflow { &compiled.overflow } else { &compiled.detector };
            let is_changed = detector.on_missing(&mut state, &series, span, &mut out.detections);
            self.keep(home, compiled, &series, state, is_changed, &told, window.end, out)?;
        }
        Ok(())
    }

    /// Puts a series' state back, and says what must be written and who must know.
    #[expect(clippy::too_many_arguments, reason = "one step of two loops; a struct for it would be used nowhere else")]
    fn keep(
        &mut self,
        place: usize,
        compiled: &Compiled,
        series: &Series,
        state: SeriesState,
        is_changed: bool,
        told_before: &[Option<Severity>],
        since: Micros,
        out: &mut Outputs,
    ) -> Result<(), ShardError> {
        for (rule, before) in compiled.pipeline.rules.iter().zip(told_before) {
            let severity = state.severity_of(&rule.name);
            let is_heard = rule.inhibits.iter().any(|silenced| silenced.pipeline != compiled.pipeline.name);
            if is_heard && severity != *before {
                let rule = RuleName { pipeline: compiled.pipeline.name.clone(), rule: rule.name.clone() };
                out.inhibitions.push(Inhibition { rule, series: series.clone(), severity, since });
            }
        }
        if is_changed {
            let written = if state.is_idle() { None } else { Some(write_state(compiled, &state)?) };
            out.states.insert((place, series.clone()), written);
        }
        if !state.is_idle() {
            self.pipelines[place].series.insert(series.clone(), state);
        }
        Ok(())
    }
}

/// What each rule of the pipeline has told of a series, in their order.
fn severities(compiled: &Compiled, state: &SeriesState) -> Vec<Option<Severity>> {
    compiled.pipeline.rules.iter().map(|rule| state.severity_of(&rule.name)).collect()
}

fn write_state(compiled: &Compiled, state: &SeriesState) -> Result<Vec<u8>, ShardError> {
    serde_json::to_vec(state)
        .map_err(|error| ShardError::Write { pipeline: compiled.pipeline.name.clone(), reason: error.to_string() })
}
