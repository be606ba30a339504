//! A window's rows in front of the detector: what it says, what must be kept, and who must know.

use std::collections::BTreeSet;

use super::{Outputs, Shard, ShardError, compute};
use crate::detect::{Observation, SeriesState};
use crate::evaluate::Compiled;
use crate::model::pipeline::{Micros, RuleName, Severity};
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
        self.pipelines[place].progress.watched_since.get_or_insert(window.start);
        let seen = self.evaluate(place, compiled, window, true, out)?;
        self.miss(place, compiled, window, &seen, out)?;
        let lines = rows::to_json(&compiled.plan, window.start, window.end, &window.rows).map_err(in_words)?;
        out.windows.extend(seen.into_iter().zip(lines).map(|(series, line)| (place, series, line)));
        for reader in &compiled.readers {
            if let Some(aggregator) = &mut self.pipelines[*reader].aggregator {
                aggregator.push(&window.rows).map_err(|source| compute(&self.set.pipelines()[*reader], source))?;
            }
        }
        Ok(())
    }

    /// Shows each row to the detector; the series of the rows, in their order.
    pub(super) fn evaluate(
        &mut self,
        place: usize,
        compiled: &Compiled,
        window: &WindowRows,
        is_closed: bool,
        out: &mut Outputs,
    ) -> Result<Vec<Series>, ShardError> {
        let in_words = |source| compute(compiled, source);
        let series = rows::series_of(&compiled.plan, &window.rows).map_err(in_words)?;
        let measures = rows::measures_of(&window.rows, compiled.detector.columns()).map_err(in_words)?;
        let watched_since = self.pipelines[place].progress.watched_since.unwrap_or(window.start);
        for (series, values) in series.iter().zip(&measures) {
            let seen =
                Observation { series, window_start: window.start, window_end: window.end, watched_since, values };
            let mut state = self.pipelines[place].series.remove(series).unwrap_or_default();
            let told = severities(compiled, &state);
            let inhibited = |rule: &RuleName| self.inhibited(rule, series, window.end);
            let is_changed = if is_closed {
                compiled.detector.on_close(&mut state, &seen, &inhibited, &mut out.detections)
            } else {
                compiled.detector.on_change(&mut state, &seen, &inhibited, &mut out.detections)
            };
            self.keep(place, compiled, series, state, is_changed, &told, window.end, out)?;
        }
        Ok(series)
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
        let seen = seen.iter().collect::<BTreeSet<_>>();
        let missing = self.pipelines[place].series.keys().filter(|series| !seen.contains(series));
        for series in missing.cloned().collect::<Vec<_>>() {
            let Some(mut state) = self.pipelines[place].series.remove(&series) else { continue };
            let told = severities(compiled, &state);
            let span = (window.start, window.end);
            let is_changed = compiled.detector.on_missing(&mut state, &series, span, &mut out.detections);
            self.keep(place, compiled, &series, state, is_changed, &told, window.end, out)?;
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

    /// Up to which severity a rule is silenced for a series by rules of other pipelines, as they stood at `moment`.
    fn inhibited(&self, rule: &RuleName, series: &Series, moment: Micros) -> Option<Severity> {
        let inhibitors = self.set.inhibitors(rule).iter().filter_map(|inhibitor| self.inhibiting.get(inhibitor));
        let covering = inhibitors.flatten().filter(|(wide, _)| wide.covers(series));
        covering.filter_map(|(_, verdicts)| verdicts.iter().rev().find(|(since, _)| *since <= moment)?.1).max()
    }
}

/// What each rule of the pipeline has told of a series, in their order.
fn severities(compiled: &Compiled, state: &SeriesState) -> Vec<Option<Severity>> {
    compiled.pipeline.rules.iter().map(|rule| state.severity_of(&rule.name)).collect()
}

fn write_state(compiled: &Compiled, state: &SeriesState) -> Result<Vec<u8>, ShardError> {
    serde_json::to_vec(state)
        .map_err(|error| ShardError::State { pipeline: compiled.pipeline.name.clone(), reason: error.to_string() })
}
