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
        let rules = Rules::new(std::iter::once((&pipeline(), MINUTE)));
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

    pub(super) fn incident(&self) -> &Incident {
        self.book.incidents().next().unwrap()
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
        let row = json!({
            "pipeline": "errors", "module": "threat-analysis", "window_start": format_time(self.now - MINUTE),
            "window_end": format_time(self.now), "error_rate": error_rate, "requests": 4000,
        });
        let window = ClosedWindow::read(row.to_string().as_bytes(), true).unwrap();
        self.book.window(&window, self.now);
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
