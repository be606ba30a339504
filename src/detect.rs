//! Detection: from the closed windows of one series to opened, updated and resolved detections.
//!
//! # One rule on one series
//!
//! ```text
//!             breach             a level's breach lasts its `for`              another level is the worst
//!  (nothing) ───────▶ pending ──────────────────────────────────▶ firing ◀──────────────────────────────┐
//!      ▲                 │                    opened                │ │              updated            │
//!      │  proof of none  │                                          │ └─────────────────────────────────┘
//!      ├─────────────────┘                                          │
//!      └────────────────────────────────────────────────────────────┘
//!            resolved: every level within its recovery limit for `clear_for`
//! ```
//!
//! - **A window is evidence** if its measure is a number, it has `min_samples`, and the baseline is warm. All else, a window without
//!   a row too, is missing data: it stops every clock (`for`, `clear_for`) and changes nothing. It never resolves.
//! - **`for` and `clear_for`** count event time that is covered by evidence: each closed window adds the slide of the pipeline's
//!   windows. A breach from the window `[s, e)` on fires at the first close with `e' - s >= for` if no window is missing; with `for = 0`
//!   at the first. To be told within 5 minutes of the onset with 1-minute windows and 30 s of lateness, `for` is at most 4 minutes.
//! - **Each level is a latch**: set by its breach that lasts its `for`, released by its recovery that lasts `clear_for`; in between (the
//!   band between recovery limit and limit) it stays as it is. The severity is the worst latch that is set; milder levels in breach are
//!   set with it. The detection resolves when none is set.
//! - **A baseline** judges a window before it learns it, and learns none of a series and measure on which a rule is pending or firing.
//! - **`new_fingerprint`** is the same machine: a row with a measure above zero is a breach, no row is a recovery. What appears during
//!   the pipeline's first `warmup_windows` is known and stays unsaid until it was gone for `clear_for`.
//! - **A silenced (inhibited) rule** keeps its clocks running. It does not open and does not change severity, unless to a worse one than
//!   the rule has that silences it: a module's medium trouble does not hide an organisation's outage. It still resolves. When the
//!   silence ends, it opens at the next window in breach, with its true onset.
//! - **An open window** (`continuous`) can set latches whose `for` is zero, and only by a breach above: nothing is released or learnt,
//!   and nothing counts towards `for`, until it closes. What was said is not said again by later changes or the close.
//!
//! `detect` never reads a clock, a topic or a table, never waits, and never fails on a value: it is a function of state and windows.

mod baseline;
mod evidence;
mod exact;
mod judge;
mod overflow;
mod rule;
mod state;
mod withdraw;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use baseline::{MAGNITUDE_MAX, MEMORY_WINDOWS, SEED_WINDOWS};
pub use state::{FORGET_AFTER_US, SeriesState, StateError};

use thiserror::Error;

use crate::model::detection::Detection;
use crate::model::pipeline::{Level, Micros, Pipeline, Rule, RuleName, Severity, Technique};
use crate::model::series::Series;

use baseline::Kind;
use evidence::Evidence;
use judge::{Fill, Reading, Verdict};
use rule::{CompiledRule, LEVELS_MAX, Speech, number};
use state::RuleState;

/// Why a pipeline cannot be watched.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DetectError {
    #[error("rule `{rule}` of pipeline `{pipeline}` {problem}")]
    Rule { pipeline: String, rule: String, problem: &'static str },
    #[error("pipeline `{pipeline}` has two rules named `{rule}`; a rule's name is its identity")]
    Duplicate { pipeline: String, rule: String },
    #[error("the windows of pipeline `{pipeline}` advance by {slide} µs; they must advance by more than 0")]
    Slide { pipeline: String, slide: Micros },
}

/// One row of a window: what was measured of one series.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    pub series: &'a Series,
    pub window_start: Micros,
    pub window_end: Micros,
    /// The start of the first window that the pipeline ever closed; `new_fingerprint` counts its warm-up from there.
    /// `Micros::MIN` means long ago: no warm-up.
    pub watched_since: Micros,
    /// The columns of [`Detector::columns`], in that order. Null, NaN and infinities are missing data.
    pub values: &'a [Option<f64>],
}

/// The rules of one pipeline, compiled. Immutable; all memory is in [`SeriesState`].
#[derive(Clone, Debug)]
pub struct Detector {
    rules: Vec<CompiledRule>,
    /// Measure, its column and the estimator: what each series learns.
    baselines: Vec<(String, usize, Kind)>,
    columns: Vec<String>,
    /// For each of `baselines` what its measure is computed from.
    versions: Vec<String>,
    slide: Micros,
    evidence: Evidence,
    pipeline: String,
}

impl Detector {
    /// Compiles a pipeline's rules. `slide` is how far its windows advance: the size of tumbling windows, the slide of hopping ones.
    pub fn new(pipeline: &Pipeline, slide: Micros) -> Result<Self, DetectError> {
        if slide <= 0 {
            return Err(DetectError::Slide { pipeline: pipeline.name.clone(), slide });
        }
        let mut detector = Detector {
            rules: Vec::new(),
            baselines: Vec::new(),
            columns: Vec::new(),
            versions: Vec::new(),
            slide,
            evidence: Evidence::new(&pipeline.sql),
            pipeline: pipeline.name.clone(),
        };
        for rule in &pipeline.rules {
            detector.add(pipeline, rule)?;
        }
        detector.versions = vec![String::new(); detector.baselines.len()];
        // A rule must have spoken before those that it silences.
        detector.rules.sort_by_key(|rule| rule.rule.inhibits.is_empty());
        Ok(detector)
    }

    /// With what `version` says each measure is computed from: what was learnt of something else is not used.
    pub fn with_measures(mut self, version: impl Fn(&str) -> String) -> Self {
        self.versions = self.baselines.iter().map(|(measure, _, _)| version(measure)).collect();
        self
    }

    fn add(&mut self, pipeline: &Pipeline, rule: &Rule) -> Result<(), DetectError> {
        CompiledRule::check(&pipeline.name, rule)?;
        let name = RuleName { pipeline: pipeline.name.clone(), rule: rule.name.clone() };
        if self.rules.iter().any(|other| other.name == name) {
            return Err(DetectError::Duplicate { pipeline: name.pipeline, rule: name.rule });
        }
        let measure = self.column(&rule.measure);
        let samples = rule.samples.as_deref().map(|column| self.column(column));
        let baseline = match rule.technique {
            Technique::Threshold | Technique::NewFingerprint => None,
            Technique::Ratio | Technique::Zscore { robust: true } => Some(Kind::Robust),
            Technique::Zscore { robust: false } => Some(Kind::Standard),
        };
        if let Some(kind) = baseline
            && !self.learns(&rule.measure, kind)
        {
            self.baselines.push((rule.measure.clone(), measure, kind));
        }
        let inhibits = |other: &&Rule| other.name != rule.name && other.inhibits.contains(&name);
        let inhibitors = pipeline.rules.iter().filter(inhibits).map(|other| other.name.clone()).collect();
        self.rules.push(CompiledRule { rule: rule.clone(), name, measure, samples, baseline, inhibitors });
        Ok(())
    }

    fn column(&mut self, name: &str) -> usize {
        self.columns.iter().position(|column| column == name).unwrap_or_else(|| {
            self.columns.push(name.to_owned());
            self.columns.len() - 1
        })
    }

    fn learns(&self, measure: &str, kind: Kind) -> bool {
        self.baselines.iter().any(|(learnt, _, other)| learnt == measure && *other == kind)
    }

    /// The measures and sample counts that the rules read, in the order of [`Observation::values`].
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A window of the series has closed with a row. `inhibited` tells up to which severity a rule is silenced for this series from elsewhere;
    /// rules of this pipeline on this series silence each other without being asked about.
    /// Windows come in the order of their ends. True if `state` changed and must be kept.
    pub fn on_close(
        &self,
        state: &mut SeriesState,
        seen: &Observation<'_>,
        inhibited: &dyn Fn(&RuleName) -> Option<Severity>,
        out: &mut Vec<Detection>,
    ) -> bool {
        let was_idle = state.is_idle();
        self.withdraw(state, seen.series, (seen.window_start, seen.window_end), out);
        for rule in &self.rules {
            if let Some(reading) = rule.read(state, seen) {
                let silenced = silenced(rule, state, inhibited);
                self.close(rule, state, seen, &reading, silenced, out);
            }
        }
        self.learn(state, seen);
        state.row_seen(seen.window_end);
        !(was_idle && state.is_idle())
    }

    /// A window has closed without a row of a series that has state. Only `new_fingerprint` rules take that for evidence; and a series
    /// that has been gone for [`FORGET_AFTER_US`] is forgotten, unless a detection is open. True if `state` changed.
    pub fn on_missing(
        &self,
        state: &mut SeriesState,
        series: &Series,
        window: (Micros, Micros),
        out: &mut Vec<Detection>,
    ) -> bool {
        let mut is_changed = self.withdraw(state, series, window, out);
        for rule in self.rules.iter().filter(|rule| rule.is_fingerprint()) {
            let Some(rule_state) = state.rules.get_mut(&rule.rule.name).filter(|state| state.onset <= window.0) else {
                continue;
            };
            rule_state.align(&rule.rule.levels);
            let mut speech = Speech {
                series,
                window,
                complete: true,
                reading: None,
                is_breach: false,
                evidence: &self.evidence,
                out,
            };
            self.advance(rule, rule_state, &[Verdict::Recovered; LEVELS_MAX], Some(Severity::Critical), &mut speech);
            is_changed = true;
            if rule_state.is_idle() {
                state.rules.remove(&rule.rule.name);
            }
        }
        is_changed | state.forget_if_gone(window.1)
    }

    /// A window that is still open has changed: `continuous` rules may open or raise a detection. `state` changes only if they do.
    /// True if so.
    pub fn on_change(
        &self,
        state: &mut SeriesState,
        seen: &Observation<'_>,
        inhibited: &dyn Fn(&RuleName) -> Option<Severity>,
        out: &mut Vec<Detection>,
    ) -> bool {
        let said = out.len();
        for rule in self.rules.iter().filter(|rule| rule.is_continuous()) {
            let Some(reading) = rule.read(state, seen) else { continue };
            let verdicts = rule.verdicts(&reading, Fill::Open);
            if self.is_news(rule, state, seen, &verdicts, silenced(rule, state, inhibited)) {
                let rule_state = entry(state, rule, seen.window_start);
                rule_state.fire_at_once(&rule.rule.levels, &verdicts);
                let mut speech = self.speech(seen, false, &reading, true, out);
                rule.speak(rule_state, None, &mut speech);
            }
        }
        out.len() > said
    }

    /// True if an open window shows a breach that needs no patience and is worse than what was said and what is silenced.
    fn is_news(
        &self,
        rule: &CompiledRule,
        state: &SeriesState,
        seen: &Observation<'_>,
        verdicts: &[Verdict],
        silenced: Option<Severity>,
    ) -> bool {
        let fires = |(level, verdict): &(&Level, &Verdict)| level.for_ == 0 && **verdict == Verdict::Breach;
        let Some((worst, _)) = rule.rule.levels.iter().zip(verdicts).find(fires) else { return false };
        if silenced.is_some_and(|up_to| worst.severity <= up_to) {
            return false;
        }
        match state.rules.get(&rule.rule.name) {
            Some(known) => {
                let is_worse = known.told.is_none_or(|told| told.severity < worst.severity);
                is_worse && !known.is_known && known.onset <= seen.window_start
            }
            None => !self.is_warming(rule, seen),
        }
    }

    fn close(
        &self,
        rule: &CompiledRule,
        state: &mut SeriesState,
        seen: &Observation<'_>,
        reading: &Reading,
        silenced: Option<Severity>,
        out: &mut Vec<Detection>,
    ) {
        let verdicts = rule.verdicts(reading, Fill::Closed);
        let is_breach = verdicts.contains(&Verdict::Breach);
        if !is_breach && !state.rules.contains_key(&rule.rule.name) {
            return;
        }
        let is_known = self.is_warming(rule, seen);
        let rule_state = entry(state, rule, seen.window_start);
        // An open window may have opened the detection before an older, overlapping window closed; that one says nothing about it.
        if rule_state.onset > seen.window_start {
            return;
        }
        rule_state.is_known |= is_known && rule_state.told.is_none();
        let mut speech = self.speech(seen, true, reading, is_breach, out);
        self.advance(rule, rule_state, &verdicts, silenced, &mut speech);
        if rule_state.is_idle() {
            state.rules.remove(&rule.rule.name);
        }
    }

    /// Moves a rule's clocks and latches by one closed window, then says what changed.
    fn advance(
        &self,
        rule: &CompiledRule,
        state: &mut RuleState,
        verdicts: &[Verdict],
        silenced: Option<Severity>,
        speech: &mut Speech<'_>,
    ) {
        state.close(&rule.rule.levels, verdicts, self.slide, rule.rule.clear_for);
        rule.speak(state, silenced, speech);
    }

    fn is_warming(&self, rule: &CompiledRule, seen: &Observation<'_>) -> bool {
        let warmup = i64::try_from(rule.rule.warmup_windows).unwrap_or(i64::MAX).saturating_mul(self.slide);
        rule.is_fingerprint() && seen.window_start < seen.watched_since.saturating_add(warmup)
    }

    /// Learns the window in every baseline whose measure is in no rule's incident, if it has the samples that its rules ask for.
    fn learn(&self, state: &mut SeriesState, seen: &Observation<'_>) {
        for ((measure, column, kind), version) in self.baselines.iter().zip(&self.versions) {
            let Some(value) = number(seen, *column) else { continue };
            let bars = |rule: &CompiledRule| {
                rule.measure == *column
                    && (state.rules.contains_key(&rule.rule.name)
                        || (rule.baseline == Some(*kind) && !rule.has_enough_samples(seen)))
            };
            if !self.rules.iter().any(bars) {
                state.learn(measure, version, *kind, value);
            }
        }
    }

    fn speech<'a>(
        &'a self,
        seen: &Observation<'a>,
        complete: bool,
        reading: &'a Reading,
        is_breach: bool,
        out: &'a mut Vec<Detection>,
    ) -> Speech<'a> {
        let window = (seen.window_start, seen.window_end);
        Speech {
            series: seen.series,
            window,
            complete,
            reading: Some(reading),
            is_breach,
            evidence: &self.evidence,
            out,
        }
    }
}

/// The rule's state, begun at `onset` if there is none, in line with the rule's levels.
fn entry<'a>(state: &'a mut SeriesState, rule: &CompiledRule, onset: Micros) -> &'a mut RuleState {
    let levels = &rule.rule.levels;
    let rule_state = state.rules.entry(rule.rule.name.clone()).or_insert_with(|| RuleState::new(onset, levels));
    rule_state.align(levels);
    rule_state
}

/// Up to which severity a rule stays silent: the worst of the firing rules that silence it.
fn silenced(
    rule: &CompiledRule,
    state: &SeriesState,
    inhibited: &dyn Fn(&RuleName) -> Option<Severity>,
) -> Option<Severity> {
    let here = rule.inhibitors.iter().filter_map(|inhibitor| state.severity_of(inhibitor)).max();
    here.max(inhibited(&rule.name))
}
