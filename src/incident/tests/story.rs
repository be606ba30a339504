//! A book, its clock, and a module that fails.

use std::sync::Arc;

use serde_json::json;

use crate::config::PolicyTexts;
use crate::decide::Policy;
use crate::incident::Incident;
use crate::incident::attempt::{Answer, Call};
use crate::incident::book::outputs::FactKind;
use crate::incident::book::{Book, Settings};
use crate::incident::claim::Rules;
use crate::incident::proof::ClosedWindow;
use crate::model::action::Mode;
use crate::model::detection::{detection_id, incident_id};
use crate::model::pipeline::{
    Direction, Evaluate, Level, Limits, Micros, Pipeline, Remedy, Rule, Scope, Severity, Source, Technique,
};
use crate::model::series::{Label, Series};
use crate::model::time::format_time;

pub(super) const MINUTE: Micros = 60_000_000;
pub(super) const T0: Micros = 1_764_756_000_000_000;
pub(super) const OPENED: &str = "maturion.detection.opened.v1";
pub(super) const UPDATED: &str = "maturion.detection.updated.v1";
pub(super) const RESOLVED: &str = "maturion.detection.resolved.v1";

fn pipeline() -> Pipeline {
    let rule = Rule {
        name: "error_rate".to_owned(),
        technique: Technique::Threshold,
        measure: "error_rate".to_owned(),
        levels: vec![
            Level { severity: Severity::High, limit: 0.01, for_: 0 },
            Level { severity: Severity::Medium, limit: 0.001, for_: 0 },
        ],
        direction: Direction::Above,
        samples: Some("requests".to_owned()),
        min_samples: 100,
        rate: true,
        clear_for: 5 * MINUTE,
        recovery: 0.8,
        min_effect: 0.0,
        evaluate: Evaluate::Continuous,
        warmup_windows: 0,
        scope: Scope::Trivial,
        remedy: Some(Remedy { action: "function_recycle".to_owned() }),
        inhibits: vec![],
    };
    Pipeline {
        name: "errors".to_owned(),
        source: Source::Logs,
        sql: String::new(),
        sql_file: String::new(),
        series: vec!["module".to_owned()],
        lateness: 0,
        limits: Limits::default(),
        rules: vec![rule],
    }
}

/// The same for every organisation.
fn pipeline_of_organisations() -> Pipeline {
    let series = ["organisation_id", "module"].map(str::to_owned).to_vec();
    Pipeline { name: "tenant_errors".to_owned(), series, ..pipeline() }
}

/// A closed window that ends then.
pub(super) fn closed_window(
    pipeline: &str,
    module: &str,
    organisation: Option<&str>,
    end: Micros,
    error_rate: f64,
) -> ClosedWindow {
    let row = json!({
        "pipeline": pipeline, "module": module, "organisation_id": organisation,
        "window_start": format_time(end - MINUTE), "window_end": format_time(end),
        "error_rate": error_rate, "requests": 4000,
    });
    ClosedWindow::read(row.to_string().as_bytes(), true).unwrap()
}

/// A book and its clock.
pub(super) struct Story {
    pub(super) book: Book,
    pub(super) now: Micros,
    pub(super) token: u64,
    pub(super) updates: u32,
    pub(super) onset: Micros,
}

impl Story {
    pub(super) fn new(mode: Mode) -> Story {
        let policy = Policy::compile(&PolicyTexts::shipped(), &[]).unwrap();
        let rules = Rules::new([(&pipeline(), MINUTE), (&pipeline_of_organisations(), MINUTE)].into_iter());
        let book = Book::new(rules, Arc::new(policy), Settings { mode, ..Settings::default() });
        let mut story = Story { book, now: T0, token: 0, updates: 0, onset: T0 };
        // Enough healthy modules, so that one unhealthy one is few.
        (0..10).for_each(|number| story.book.saw(&format!("module-{number}")));
        story
    }

    pub(super) fn series() -> Series {
        Series(vec![("module".to_owned(), Label::Text("threat-analysis".to_owned()))])
    }

    pub(super) fn id(&self) -> String {
        incident_id("errors", "error_rate", &Story::series(), self.onset)
    }

    /// The incident of the module's errors.
    pub(super) fn incident(&self) -> &Incident {
        self.of("errors", None).unwrap()
    }

    /// The incident of a pipeline, and of an organisation.
    pub(super) fn of(&self, pipeline: &str, organisation: Option<&str>) -> Option<&Incident> {
        let is_it = |one: &&Incident| one.pipeline == pipeline && one.organisation_id.as_deref() == organisation;
        self.book.incidents().find(is_it)
    }

    pub(super) fn body(&self, severity: &str, value: f64, complete: bool) -> serde_json::Value {
        json!({
            "update": self.updates, "detection_id": detection_id("errors", "error_rate", &Story::series(), self.onset),
            "pipeline": "errors", "rule": "error_rate", "technique": "threshold", "organisation_id": null,
            "module": "threat-analysis", "series": {"module": "threat-analysis"},
            "window_start": format_time(self.now - MINUTE), "window_end": format_time(self.now), "complete": complete,
            "measure": "error_rate", "value": value, "samples": 4210, "threshold": 0.01, "baseline": null, "score": null,
            "severity": severity, "scope": "architecture", "remedy": {"action": "drop_database", "target": "everything"},
            "incident_id": self.id(), "evidence_sql": "SELECT 1",
        })
    }

    pub(super) fn say(&mut self, event: &str, severity: &str, value: f64, complete: bool) {
        let body = self.body(severity, value, complete);
        self.book.hear(event, body.to_string().as_bytes(), self.now).unwrap();
        self.updates += 1;
        self.tick();
    }

    /// The same as the module has it, for one organisation.
    pub(super) fn say_of(&mut self, organisation: &str, event: &str, severity: &str) {
        let labels = [("organisation_id", organisation), ("module", "threat-analysis")];
        let series = Series(labels.map(|(name, value)| (name.to_owned(), Label::Text(value.to_owned()))).to_vec());
        let mut body = self.body(severity, 0.1, true);
        body["pipeline"] = json!("tenant_errors");
        body["organisation_id"] = json!(organisation);
        body["series"] = series.to_json();
        body["detection_id"] = json!(detection_id("tenant_errors", "error_rate", &series, self.onset));
        body["incident_id"] = json!(incident_id("tenant_errors", "error_rate", &series, self.onset));
        self.book.hear(event, body.to_string().as_bytes(), self.now).unwrap();
        self.updates += 1;
        self.tick();
    }

    pub(super) fn tick(&mut self) {
        self.token += 1;
        self.book.tick(self.now, self.token);
    }

    pub(super) fn pass(&mut self, time: Micros) {
        self.now += time;
        self.tick();
    }

    /// A closed window that ends now.
    pub(super) fn window(&mut self, error_rate: f64) {
        self.window_of("errors", "threat-analysis", None, error_rate);
    }

    pub(super) fn window_of(&mut self, pipeline: &str, module: &str, organisation: Option<&str>, error_rate: f64) {
        self.book.window(&closed_window(pipeline, module, organisation, self.now, error_rate), self.now);
        self.tick();
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.book.jobs(self.now).map(|(_, job)| job.call).collect()
    }

    pub(super) fn answer(&mut self, call: Call, answer: Answer) {
        let attempt = self.incident().attempts.last().unwrap().action_id.clone();
        let id = self.incident().incident_id.clone();
        self.book.answer(&id, &attempt, call, answer, self.now);
        self.tick();
    }

    /// Does what is to be done, as a control plane would.
    pub(super) fn act(&mut self) {
        assert_eq!(self.calls(), [Call::Snapshot]);
        self.answer(Call::Snapshot, Answer::Done(json!({"instances": 3})));
        assert_eq!(self.calls(), [Call::Apply]);
        self.answer(Call::Apply, Answer::Done(json!({"instances": 3})));
        assert_eq!(self.calls(), []);
    }

    pub(super) fn facts(&mut self) -> Vec<FactKind> {
        self.book.take_outputs().facts.iter().map(|fact| fact.kind).collect()
    }
}
