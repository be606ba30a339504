//! One rule, one sentence, a few lines; and the properties that hold for every input.

use proptest::prelude::*;

use super::*;
use crate::model::detection::Change;
use crate::model::pipeline::{Direction, Evaluate, Limits, Remedy, Scope, Severity, Source};
use crate::model::series::Label;

pub(super) const MINUTE: Micros = 60_000_000;

pub(super) fn level(severity: Severity, limit: f64, for_minutes: i64) -> Level {
    Level { severity, limit, for_: for_minutes * MINUTE }
}

pub(super) fn rule(name: &str, technique: Technique, levels: Vec<Level>) -> Rule {
    Rule {
        name: name.into(),
        technique,
        measure: "value".into(),
        levels,
        direction: Direction::Above,
        samples: None,
        min_samples: 0,
        rate: false,
        clear_for: MINUTE,
        recovery: 0.8,
        min_effect: 0.0,
        evaluate: Evaluate::OnClose,
        warmup_windows: 0,
        scope: Scope::Trivial,
        remedy: None,
        inhibits: vec![],
    }
}

pub(super) fn pipeline(rules: Vec<Rule>) -> Pipeline {
    Pipeline {
        name: "latency".into(),
        source: Source::Logs,
        sql: "SELECT 1".into(),
        sql_file: "latency.sql".into(),
        series: vec!["organisation_id".into(), "module".into()],
        lateness: 30_000_000,
        limits: Limits::default(),
        rules,
    }
}

pub(super) fn series() -> Series {
    let text = |text: &str| Label::Text(text.into());
    Series(vec![("organisation_id".into(), text("org_1")), ("module".into(), text("threat"))])
}

/// Above 10 is high, at once.
fn above_10(name: &str) -> Rule {
    rule(name, Technique::Threshold, vec![level(Severity::High, 10.0, 0)])
}

/// A pipeline and one series of it, minute by minute.
struct Stage {
    detector: Detector,
    state: SeriesState,
    minute: Micros,
}

impl Stage {
    fn new(rules: Vec<Rule>) -> Self {
        Stage { detector: Detector::new(&pipeline(rules), MINUTE).unwrap(), state: SeriesState::default(), minute: 0 }
    }

    /// Closes the next minute with these values; none at all is a minute without a row.
    fn close(&mut self, values: &[Option<f64>]) -> Vec<Detection> {
        let (series, mut out, start) = (series(), Vec::new(), self.minute * MINUTE);
        let window_end = start + MINUTE;
        let seen = Observation { series: &series, window_start: start, window_end, watched_since: 0, values };
        if values.is_empty() {
            self.detector.on_missing(&mut self.state, &series, (start, window_end), &mut out);
        } else {
            self.detector.on_close(&mut self.state, &seen, &|_| None, &mut out);
        }
        self.minute += 1;
        out
    }

    fn values(&mut self, values: &[f64]) -> Vec<Detection> {
        values.iter().flat_map(|value| self.close(&[Some(*value)])).collect()
    }

    fn restart(&mut self) {
        let text = serde_json::to_string(&self.state).unwrap();
        self.state = serde_json::from_str(&text).unwrap();
    }
}

fn refusal(rule: Rule) -> String {
    Detector::new(&pipeline(vec![rule]), MINUTE).unwrap_err().to_string()
}

#[test]
fn a_detection_says_who_what_when_and_why() {
    let spike = Rule {
        samples: Some("samples".into()),
        remedy: Some(Remedy { action: "function_recycle".into() }),
        warmup_windows: 3,
        ..rule("spike", Technique::Zscore { robust: false }, vec![level(Severity::High, 4.0, 0)])
    };
    let mut stage = Stage::new(vec![spike]);
    assert_eq!(stage.detector.columns(), ["value", "samples"]);
    for value in [90.0, 110.0, 90.0, 110.0] {
        assert!(stage.close(&[Some(value), Some(50.0)]).is_empty());
    }
    let said = stage.close(&[Some(200.0), Some(70.0)]);
    let [it] = said.as_slice() else { panic!("one detection, not {}", said.len()) };
    assert_eq!((it.change, it.update, it.complete, it.severity), (Change::Opened, 0, true, Severity::High));
    assert_eq!((it.organisation_id.as_deref(), it.module.as_deref()), (Some("org_1"), Some("threat")));
    assert_eq!((it.value, it.samples, it.threshold, it.score), (Some(200.0), Some(70), Some(140.0), Some(10.0)));
    let normal = it.baseline.clone().unwrap();
    assert_eq!(
        (normal.center, normal.spread, normal.lower, normal.upper, normal.windows),
        (100.0, 10.0, 70.0, 130.0, 4)
    );
    assert_eq!(it.remedy.as_ref().unwrap().target.as_deref(), Some("threat"));
    assert_eq!((it.window_start, it.window_end), (4 * MINUTE, 5 * MINUTE));
    assert!(it.evidence_sql.contains("\"module\" = 'threat'"));
}

#[test]
fn one_incident_keeps_its_ids_and_each_message_has_its_own() {
    let levels = vec![level(Severity::Critical, 50.0, 0), level(Severity::High, 10.0, 0)];
    let said = Stage::new(vec![rule("r", Technique::Threshold, levels)]).values(&[12.0, 60.0, 1.0, 12.0]);
    let changes: Vec<Change> = said.iter().map(|it| it.change).collect();
    assert_eq!(changes, [Change::Opened, Change::Updated, Change::Resolved, Change::Opened]);
    assert_eq!(said.iter().map(|it| it.update).collect::<Vec<_>>(), [0, 1, 2, 0]);
    assert!(
        said[..3].iter().all(|it| it.detection_id == said[0].detection_id && it.incident_id == said[0].incident_id)
    );
    assert_ne!(said[3].detection_id, said[0].detection_id);
    let events: std::collections::BTreeSet<String> = said.iter().map(Detection::event_id).collect();
    assert_eq!(events.len(), 4);
}

#[test]
fn the_same_onset_has_the_same_id_whether_seen_open_or_closed() {
    let continuous = Rule { evaluate: Evaluate::Continuous, ..above_10("r") };
    let mut stage = Stage::new(vec![continuous]);
    let closed = stage.values(&[12.0]);
    let (series, mut open) = (series(), vec![]);
    let values = [Some(12.0)];
    let seen = Observation { series: &series, window_start: 0, window_end: MINUTE, watched_since: 0, values: &values };
    stage.detector.on_change(&mut SeriesState::default(), &seen, &|_| None, &mut open);
    assert_eq!((open[0].event_id(), open[0].complete), (closed[0].event_id(), false));
}

#[test]
fn nan_and_infinities_are_missing_data() {
    let mut stage = Stage::new(vec![above_10("r"), rule("z", Technique::Ratio, vec![level(Severity::Low, 2.0, 0)])]);
    assert!(stage.values(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300]).is_empty());
    assert!(stage.state.is_idle());
}

#[test]
fn a_healthy_series_of_threshold_rules_has_nothing_to_remember() {
    let mut stage = Stage::new(vec![above_10("r")]);
    stage.values(&[1.0, 12.0]);
    assert!(!stage.state.is_idle());
    stage.values(&[1.0]);
    assert!(stage.state.is_idle());
}

#[test]
fn a_rule_silences_another_of_its_pipeline_in_the_same_window() {
    let inhibits = vec![RuleName { pipeline: "latency".into(), rule: "milder".into() }];
    let said = Stage::new(vec![above_10("milder"), Rule { inhibits, ..above_10("worse") }]).values(&[12.0, 12.0]);
    assert_eq!(said.iter().map(|it| it.rule.as_str()).collect::<Vec<_>>(), ["worse"]);
}

#[test]
fn a_changed_pipeline_keeps_what_did_not_change() {
    let mut stage = Stage::new(vec![above_10("kept"), above_10("dropped")]);
    stage.values(&[12.0]);
    stage.detector = Stage::new(vec![above_10("kept"), above_10("added")]).detector;
    let said = stage.values(&[12.0]);
    let said = said.iter().map(|it| (it.rule.as_str(), it.change)).collect::<Vec<_>>();
    assert_eq!(said, [("dropped", Change::Resolved), ("added", Change::Opened)]);
    assert_eq!(stage.state.firing().collect::<Vec<_>>(), ["added", "kept"]);
}

#[test]
fn a_changed_level_keeps_the_detection_and_the_other_levels() {
    let rule = |levels| rule("r", Technique::Threshold, levels);
    let mut stage = Stage::new(vec![rule(vec![level(Severity::High, 10.0, 0)])]);
    let opened = stage.values(&[12.0]);
    stage.detector =
        Stage::new(vec![rule(vec![level(Severity::Critical, 11.0, 0), level(Severity::High, 10.0, 0)])]).detector;
    let said = stage.values(&[12.0]);
    assert_eq!(
        (said[0].change, said[0].severity, &said[0].detection_id),
        (Change::Updated, Severity::Critical, &opened[0].detection_id)
    );
}

#[test]
fn windows_inside_another_rules_incident_on_the_measure_are_not_learnt() {
    let spike = Rule { warmup_windows: 1_000, ..rule("z", Technique::Ratio, vec![level(Severity::Low, 2.0, 0)]) };
    let mut stage = Stage::new(vec![above_10("limit"), spike]);
    stage.values(&[1.0, 12.0, 9.0, 9.0]);
    assert_eq!(stage.state.baseline("value", Kind::Robust).unwrap().normal().unwrap().windows, 1);
}

#[test]
fn an_overlapping_older_window_does_not_resolve_what_a_newer_open_one_opened() {
    let continuous = Rule { evaluate: Evaluate::Continuous, ..above_10("r") };
    let detector = Detector::new(&pipeline(vec![continuous]), MINUTE).unwrap();
    let (series, mut state, mut out) = (series(), SeriesState::default(), vec![]);
    let seen = |start: Micros, values| Observation {
        series: &series,
        window_start: start * MINUTE,
        window_end: (start + 10) * MINUTE,
        watched_since: 0,
        values,
    };
    detector.on_change(&mut state, &seen(3, &[Some(20.0)]), &|_| None, &mut out);
    detector.on_close(&mut state, &seen(2, &[Some(1.0)]), &|_| None, &mut out);
    detector.on_change(&mut state, &seen(3, &[Some(20.0)]), &|_| None, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn a_series_gone_for_a_week_is_forgotten_unless_a_detection_is_open() {
    let spike = rule("z", Technique::Zscore { robust: true }, vec![level(Severity::Low, 9.0, 0)]);
    let mut quiet = Stage::new(vec![spike.clone()]);
    quiet.values(&[1.0]);
    quiet.minute += FORGET_AFTER_US / MINUTE - 1;
    assert!(quiet.close(&[]).is_empty() && quiet.state.is_idle());
    let mut firing = Stage::new(vec![spike, above_10("limit")]);
    firing.values(&[12.0]);
    firing.minute += FORGET_AFTER_US / MINUTE;
    assert!(firing.close(&[]).is_empty() && firing.state.severity_of("limit").is_some());
}

#[test]
fn a_newer_versions_state_is_refused() {
    let error = serde_json::from_str::<SeriesState>(r#"{"version":2,"last_row_end":0}"#).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn what_can_never_work_is_refused_in_a_sentence() {
    let low = || vec![level(Severity::Low, 1.0, 0)];
    let rising = vec![level(Severity::Low, 1.0, 0), level(Severity::High, 2.0, 0)];
    assert!(refusal(rule("r", Technique::Threshold, vec![])).contains("falling severity"));
    assert!(refusal(rule("r", Technique::Threshold, rising)).contains("falling severity"));
    assert!(refusal(rule("r", Technique::Ratio, vec![level(Severity::Low, 0.0, 0)])).contains("above 0"));
    assert!(refusal(rule("r", Technique::Threshold, vec![level(Severity::Low, f64::NAN, 0)])).contains("1e100"));
    assert!(
        refusal(Rule { direction: Direction::Both, ..rule("r", Technique::Threshold, low()) }).contains("baseline")
    );
    assert!(refusal(Rule { rate: true, ..rule("r", Technique::Threshold, low()) }).contains("samples"));
    assert!(refusal(Rule { recovery: 0.0, ..rule("r", Technique::Threshold, low()) }).contains("recovery"));
    assert!(Detector::new(&pipeline(vec![above_10("r"), above_10("r")]), MINUTE).is_err());
    assert!(Detector::new(&pipeline(vec![]), 0).is_err());
}

#[test]
fn the_state_of_one_robust_baseline_is_small() {
    let mut stage = Stage::new(vec![rule("z", Technique::Zscore { robust: true }, vec![level(Severity::Low, 1e9, 0)])]);
    let mut largest = 0;
    for window in 0..200 {
        stage.values(&[f64::from(window % 7) * 1.1 + 0.123_456_789]);
        largest = largest.max(serde_json::to_vec(&stage.state).unwrap().len());
    }
    let bytes = serde_json::to_vec(&stage.state).unwrap().len();
    println!("state with one robust z-score: {bytes} bytes, during its first windows at most {largest}");
    assert!(bytes <= 200 && largest <= 1_000, "{bytes} and {largest} bytes");
}

/// A threshold rule of two levels for the model, by the definitions alone: every answer is worked out from the whole history.
struct Model {
    rule: Rule,
    history: Vec<Option<f64>>,
}

impl Model {
    /// For how long `holds` was true of every window with data, back from the window `last`; windows without data do not count.
    fn lasted(&self, last: usize, holds: impl Fn(f64) -> bool) -> Micros {
        let evidence = self.history[..=last].iter().rev().flatten();
        evidence.take_while(|value| holds(**value)).count() as Micros * MINUTE
    }

    /// Whether each level fires after the window `last`.
    fn firing(&self, last: usize) -> Vec<bool> {
        let mut firing = match last {
            0 => vec![false; self.rule.levels.len()],
            _ => self.firing(last - 1),
        };
        let Some(value) = self.history[last] else { return firing };
        let mut worse = false;
        for (fires, level) in firing.iter_mut().zip(&self.rule.levels) {
            let breach = value > level.limit;
            let cleared = self.lasted(last, |value| value <= 0.8 * level.limit) >= self.rule.clear_for;
            let lasts = self.lasted(last, |value| value > level.limit) >= level.for_;
            *fires = if breach { *fires || lasts || worse } else { *fires && !(cleared && value <= 0.8 * level.limit) };
            worse |= *fires;
        }
        firing
    }

    fn severity(&self, last: usize) -> Option<Severity> {
        let firing = self.firing(last);
        self.rule.levels.iter().zip(firing).find(|(_, fires)| *fires).map(|(level, _)| level.severity)
    }

    fn says(&self) -> Vec<(usize, Change, Severity)> {
        let mut said = vec![];
        let mut before = None;
        for window in 0..self.history.len() {
            let now = self.severity(window);
            match (before, now) {
                (None, Some(now)) => said.push((window, Change::Opened, now)),
                (Some(before), Some(now)) if before != now => said.push((window, Change::Updated, now)),
                (Some(before), None) => said.push((window, Change::Resolved, before)),
                _ => {}
            }
            before = now;
        }
        said
    }
}

/// Values around both limits, both recovery limits, and missing ones.
fn windows() -> impl Strategy<Value = Vec<Option<f64>>> {
    let value = prop_oneof![
        3 => Just(None),
        10 => prop::sample::select(vec![1.0, 7.9, 8.0, 9.0, 10.0, 12.0, 16.0, 18.0, 20.0, 25.0]).prop_map(Some),
        4 => Just(Some(25.0)),
        4 => Just(Some(1.0)),
    ];
    prop::collection::vec(value, 1..60)
}

proptest! {
    #[test]
    fn a_threshold_rule_says_what_its_definition_says(
        history in windows(), for_high in 0..4i64, for_low in 0..6i64, clear_for in 0..4i64,
    ) {
        let levels = vec![level(Severity::High, 20.0, for_high), level(Severity::Low, 10.0, for_low)];
        let rule = Rule { clear_for: clear_for * MINUTE, ..rule("r", Technique::Threshold, levels) };
        let mut stage = Stage::new(vec![rule.clone()]);
        let mut said = vec![];
        for (window, value) in history.iter().enumerate() {
            let values: Vec<Option<f64>> = value.iter().map(|value| Some(*value)).collect();
            said.extend(stage.close(&values).iter().map(|it| (window, it.change, it.severity)));
        }
        prop_assert_eq!(said, Model { rule, history }.says());
    }

    #[test]
    fn a_restart_repeats_and_changes_nothing(history in windows(), for_ in 0..3i64) {
        let rules = || {
            let z = Rule { warmup_windows: 3, direction: Direction::Both, ..rule("z", Technique::Zscore { robust: true }, vec![level(Severity::Low, 1.5, for_)]) };
            let mean = Rule { warmup_windows: 3, ..rule("m", Technique::Zscore { robust: false }, vec![level(Severity::Low, 1.1, 0)]) };
            vec![above_10("r"), z, mean, rule("n", Technique::NewFingerprint, vec![level(Severity::Critical, 0.0, 0)])]
        };
        let (mut running, mut restarted) = (Stage::new(rules()), Stage::new(rules()));
        for value in history {
            let values: Vec<Option<f64>> = value.iter().map(|value| Some(value / 3.0)).collect();
            prop_assert_eq!(running.close(&values), restarted.close(&values));
            restarted.restart();
            prop_assert_eq!(&running.state, &restarted.state);
        }
    }

    #[test]
    fn no_value_gives_an_infinite_or_undefined_number(
        flat in -1e9..1e9f64, values in prop::collection::vec(any::<f64>(), 1..8), min_effect in 0.0..10.0f64, robust: bool,
    ) {
        let both = |name, technique| Rule {
            direction: Direction::Both, min_effect, ..rule(name, technique, vec![level(Severity::Low, 3.0, 0)])
        };
        let mut stage = Stage::new(vec![both("z", Technique::Zscore { robust }), both("r", Technique::Ratio)]);
        stage.values(&[flat; 70]);
        for it in stage.values(&values) {
            let baseline = it.baseline.clone();
            let numbers = [it.value, it.threshold, it.score, baseline.as_ref().map(|b| b.lower), baseline.map(|b| b.upper)];
            prop_assert!(numbers.iter().flatten().all(|number| number.is_finite()), "{:?}", it);
        }
    }
}

#[test]
fn a_milder_verdict_elsewhere_does_not_hide_an_outage() {
    let rule = above_10("limit");
    let severity = rule.levels[0].severity;
    let milder = if severity == Severity::Critical { Severity::High } else { Severity::Low };
    for (silenced, expected) in [(Some(milder), 1), (Some(severity), 0), (None, 1)] {
        let mut stage = Stage::new(vec![rule.clone()]);
        let (series, mut out, values) = (series(), Vec::new(), [Some(12.0)]);
        let seen =
            Observation { series: &series, window_start: 0, window_end: MINUTE, watched_since: 0, values: &values };
        stage.detector.on_close(&mut stage.state, &seen, &|_| silenced, &mut out);
        assert_eq!(out.len(), expected, "silenced up to {silenced:?}");
    }
}
