//! A rule, compiled: which columns it reads, who silences it, and how what it says becomes a [`Detection`].

use crate::model::detection::{Change, Detection, ProposedAction, detection_id, incident_id, label_text};
use crate::model::pipeline::{Direction, Evaluate, Level, Micros, Rule, RuleName, Severity, Technique};
use crate::model::series::Series;

use super::baseline::{Kind, MAGNITUDE_MAX};
use super::evidence::Evidence;
use super::judge::{self, Fill, Reading, Verdict};
use super::state::{RuleState, SeriesState, Told};
use super::{DetectError, Observation};

/// A rule has at most one level of each severity.
pub(super) const LEVELS_MAX: usize = 4;

/// One rule of the pipeline, with everything looked up that does not depend on the series.
#[derive(Clone, Debug)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) name: RuleName,
    /// Where the measure and the samples are in an observation's values.
    pub(super) measure: usize,
    pub(super) samples: Option<usize>,
    pub(super) baseline: Option<Kind>,
    /// The rules of the same pipeline that silence this one while they fire on the same series.
    pub(super) inhibitors: Vec<String>,
}

impl CompiledRule {
    pub(super) fn is_continuous(&self) -> bool {
        self.rule.evaluate == Evaluate::Continuous
    }

    pub(super) fn is_fingerprint(&self) -> bool {
        self.rule.technique == Technique::NewFingerprint
    }

    /// The number of samples behind a row, if there is one.
    fn sample_count(&self, seen: &Observation<'_>) -> Option<f64> {
        self.samples.and_then(|column| number(seen, column)).filter(|samples| *samples >= 0.0)
    }

    /// True if the row has as many samples as the rule asks for.
    pub(super) fn has_enough_samples(&self, seen: &Observation<'_>) -> bool {
        self.samples.is_none() || self.sample_count(seen).is_some_and(|samples| samples >= self.rule.min_samples as f64)
    }

    /// The row as evidence. `None` if it is none: no measure, too few samples or a baseline that is not warm.
    pub(super) fn read(&self, state: &SeriesState, seen: &Observation<'_>) -> Option<Reading> {
        let value = number(seen, self.measure)?;
        if !self.has_enough_samples(seen) {
            return None;
        }
        let reading = Reading { value, samples: self.sample_count(seen), normal: None };
        let Some(kind) = self.baseline else { return Some(reading) };
        let normal = state.baseline(&self.rule.measure, kind)?.normal()?;
        (normal.windows >= self.rule.warmup_windows).then_some(Reading { normal: Some(normal), ..reading })
    }

    /// What a reading says about each level, in the order of the levels; `LEVELS_MAX` of them, the rest unproven.
    pub(super) fn verdicts(&self, reading: &Reading, fill: Fill) -> [Verdict; LEVELS_MAX] {
        let mut verdicts = [Verdict::Unproven; LEVELS_MAX];
        for (verdict, level) in verdicts.iter_mut().zip(&self.rule.levels) {
            *verdict = judge::verdict(&self.rule, level, reading, fill);
        }
        verdicts
    }

    /// Says what has changed since the last message, if anything: opened, another severity, or resolved.
    /// Up to the severity at which it is silenced a rule says only the last, so that nothing stays open that has ended.
    pub(super) fn speak(&self, state: &mut RuleState, silenced: Option<Severity>, speech: &mut Speech<'_>) {
        let is_silent = state.is_known || state.severity() <= silenced;
        let (change, told) = match (state.told, state.severity()) {
            (None, Some(severity)) if !is_silent && speech.is_breach => (Change::Opened, Told { severity, update: 0 }),
            (Some(last), Some(severity)) if !is_silent && last.severity != severity => {
                (Change::Updated, Told { severity, update: last.update.saturating_add(1) })
            }
            (Some(last), None) => (Change::Resolved, Told { update: last.update.saturating_add(1), ..last }),
            _ => return,
        };
        state.told = Some(told).filter(|_| change != Change::Resolved);
        let detection = self.detection(change, told, state.onset, speech);
        speech.out.push(detection);
    }

    fn detection(&self, change: Change, told: Told, onset: Micros, speech: &Speech<'_>) -> Detection {
        let (rule, series) = (&self.rule, speech.series);
        let level = rule.levels.iter().find(|level| level.severity == told.severity);
        let judged = level.zip(speech.reading);
        let with = |judge: fn(&Rule, &Level, &Reading) -> Option<f64>| {
            judged.and_then(|(level, reading)| judge(rule, level, reading))
        };
        Detection {
            change,
            update: told.update,
            detection_id: detection_id(&self.name.pipeline, &rule.name, series, onset),
            pipeline: self.name.pipeline.clone(),
            rule: rule.name.clone(),
            technique: rule.technique.name(),
            organisation_id: label_text(series, "organisation_id"),
            module: label_text(series, "module"),
            series: series.clone(),
            window_start: speech.window.0,
            window_end: speech.window.1,
            complete: speech.complete,
            measure: rule.measure.clone(),
            value: speech.reading.map(|reading| reading.value),
            samples: speech.reading.and_then(|reading| reading.samples).map(|samples| samples as u64),
            threshold: with(judge::threshold),
            baseline: judged.and_then(|(level, reading)| judge::summary(rule, level, reading)),
            score: with(judge::score),
            severity: told.severity,
            scope: rule.scope,
            remedy: rule
                .remedy
                .as_ref()
                .map(|remedy| ProposedAction { action: remedy.action.clone(), target: label_text(series, "module") }),
            incident_id: incident_id(&self.name.pipeline, &rule.name, series, onset),
            evidence_sql: speech.evidence.of(series, onset, speech.window.0),
        }
    }

    /// What the configuration must have ensured, because a rule that breaks it would be silently useless.
    pub(super) fn check(pipeline: &str, rule: &Rule) -> Result<(), DetectError> {
        let refuse =
            |problem| Err(DetectError::Rule { pipeline: pipeline.to_owned(), rule: rule.name.clone(), problem });
        let is_unusable = |limit: f64| limit.is_nan() || limit.abs() > MAGNITUDE_MAX;
        let falls = rule.levels.windows(2).all(|pair| matches!(pair, [a, b] if a.severity > b.severity));
        if rule.levels.is_empty() || !falls {
            return refuse("needs levels of falling severity, each at most once");
        }
        if rule.levels.iter().any(|level| level.for_ < 0) || rule.clear_for < 0 {
            return refuse("needs `for` and `clear_for` of at least 0");
        }
        let has_limits = rule.technique != Technique::NewFingerprint;
        if has_limits && rule.levels.iter().any(|level| is_unusable(level.limit)) {
            return refuse("needs limits that are numbers up to 1e100");
        }
        if rule.technique.has_baseline() && rule.levels.iter().any(|level| level.limit <= 0.0) {
            return refuse("compares with a baseline and needs limits above 0");
        }
        if is_unusable(1.0 / rule.recovery) || rule.recovery <= 0.0 || rule.recovery > 1.0 {
            return refuse("needs a `recovery` above 0 and up to 1");
        }
        if is_unusable(rule.min_effect) || rule.min_effect < 0.0 {
            return refuse("needs a `min_effect` of at least 0");
        }
        if rule.direction == Direction::Both && !rule.technique.has_baseline() {
            return refuse("can look both ways only with a baseline");
        }
        if rule.rate && rule.samples.is_none() {
            return refuse("has `rate = true` and must name the column that counts the `samples`");
        }
        Ok(())
    }
}

/// What a rule needs to speak: about which window, on what evidence, and to whom.
pub(super) struct Speech<'a> {
    pub(super) series: &'a Series,
    pub(super) window: (Micros, Micros),
    pub(super) complete: bool,
    pub(super) reading: Option<&'a Reading>,
    pub(super) is_breach: bool,
    pub(super) evidence: &'a Evidence,
    pub(super) out: &'a mut Vec<Detection>,
}

/// A value of an observation, if it is a number to reckon with: null, NaN, infinities and absurd magnitudes are missing data.
pub(super) fn number(seen: &Observation<'_>, column: usize) -> Option<f64> {
    seen.values.get(column).copied().flatten().filter(|value| value.abs() <= MAGNITUDE_MAX)
}
