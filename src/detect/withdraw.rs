//! What happens to the state of rules and measures that a pipeline no longer has.

use super::Detector;
use super::baseline::Kind;
use super::rule::Speech;
use super::state::{RuleState, SeriesState};
use crate::model::detection::{Change, Detection, detection_id, incident_id, label_text};
use crate::model::pipeline::{Micros, Scope};
use crate::model::series::Series;

impl Detector {
    /// Drops what the pipeline no longer has, and resolves the open detections of rules that are gone. True if there were any.
    pub fn withdraw(
        &self,
        state: &mut SeriesState,
        series: &Series,
        window: (Micros, Micros),
        out: &mut Vec<Detection>,
    ) -> bool {
        let is_rule = |name: &str| self.rules.iter().any(|rule| rule.rule.name == name);
        let learns = |measure: &str, of: &str, kind| {
            let learnt = |((learnt, _, other), version): (&(String, usize, Kind), &String)| {
                learnt == measure && *other == kind && version == of
            };
            self.baselines.iter().zip(&self.versions).any(learnt)
        };
        let removed = state.retain(learns, is_rule);
        let speech =
            Speech { series, window, complete: true, reading: None, is_breach: false, evidence: &self.evidence, out };
        let said = removed.iter().filter_map(|(rule, state)| withdrawn(&self.pipeline, rule, state, &speech));
        let said = said.collect::<Vec<_>>();
        speech.out.extend(said);
        !removed.is_empty()
    }
}

/// What is said of an open detection whose rule is gone: it is over, because nobody watches any more.
fn withdrawn(pipeline: &str, rule: &str, state: &RuleState, speech: &Speech<'_>) -> Option<Detection> {
    let (told, series, onset) = (state.told?, speech.series, state.onset);
    Some(Detection {
        change: Change::Resolved,
        update: told.update.saturating_add(1),
        detection_id: detection_id(pipeline, rule, series, onset),
        pipeline: pipeline.to_owned(),
        rule: rule.to_owned(),
        technique: "removed",
        organisation_id: label_text(series, "organisation_id"),
        module: label_text(series, "module"),
        series: series.clone(),
        window_start: speech.window.0,
        window_end: speech.window.1,
        complete: speech.complete,
        measure: String::new(),
        value: None,
        samples: None,
        threshold: None,
        baseline: None,
        score: None,
        severity: told.severity,
        scope: Scope::Trivial,
        remedy: None,
        incident_id: incident_id(pipeline, rule, series, onset),
        evidence_sql: speech.evidence.of(series, onset, speech.window.0),
    })
}
