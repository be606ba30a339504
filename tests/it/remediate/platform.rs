//! One module of a platform that fails until it is restarted, and the agent that watches it, step by step.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use maturion::act::Adapters;
use maturion::audit::Verifier;
use maturion::config::PolicyTexts;
use maturion::decide::Policy;
use maturion::incident::book::Settings;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::{Outgoing, Session};
use maturion::model::action::Mode;
use maturion::model::detection::{detection_id, format_time, incident_id};
use maturion::model::pipeline::Pipeline;
use maturion::model::series::{Label, Series};
use maturion::roles::remediate::hands::{Hands, PlatformHands, Reach};
use maturion::roles::remediate::{Remediate, RemediateSettings};
use maturion::roles::{Clock, Runtime};
use serde_json::{Value, json};

use super::plane::Plane;
use crate::flow::{Flow, shipped};

const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
/// 2025-12-03T10:00:00Z.
pub const START: i64 = 1_764_756_000_000_000;
/// How far the platform's clock goes in one step.
const STEP: i64 = 20 * SECOND;
pub const MODULE: &str = "threat-analysis";
pub const OTHERS: [&str; 4] = ["pit", "exports", "auth", "dashboard"];

/// A clock that the test turns.
struct Turned {
    wall: AtomicI64,
    began: std::time::Instant,
}

impl Clock for Turned {
    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn wall(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }
}

/// See the module's head.
pub struct Platform {
    pub flow: Flow,
    runtime: Runtime,
    clock: Arc<Turned>,
    policy: Arc<Policy>,
    pub plane: Plane,
    recovered_at: Option<i64>,
    has_resolved: bool,
    /// It goes on failing, whatever is done.
    pub is_hopeless: bool,
    pub kill_switch: PathBuf,
}

/// A worker and its session.
pub struct Worker<H> {
    pub worker: Remediate<H>,
    pub session: Box<dyn Session>,
}

impl Platform {
    pub fn new(plane: Plane, actions: impl Fn(&str) -> String) -> Platform {
        Platform::of(shipped(), plane, actions)
    }

    /// With these pipelines.
    pub fn of(pipelines: Vec<Pipeline>, plane: Plane, actions: impl Fn(&str) -> String) -> Platform {
        let log = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
        let flow = Flow::new(log, "r.", 1, pipelines);
        let clock = Arc::new(Turned { wall: AtomicI64::new(START), began: std::time::Instant::now() });
        let runtime = Runtime { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..flow.runtime.clone() };
        let mut texts = PolicyTexts::shipped();
        texts.actions.text = actions(&texts.actions.text);
        let policy = Arc::new(Policy::compile(&texts, &[]).unwrap());
        let (recovered_at, has_resolved, is_hopeless) = (None, false, false);
        let kill_switch = "no-such-file.stop".into();
        Platform { flow, runtime, clock, policy, plane, recovered_at, has_resolved, is_hopeless, kill_switch }
    }

    pub fn hands(&self) -> PlatformHands {
        let adapters = Arc::new(Adapters::new(&[self.plane.control()], &[]).unwrap());
        PlatformHands::new(&Reach { adapters, github: None, logs: None, sender: None }).unwrap()
    }

    pub fn worker<H: Hands>(&self, hands: H) -> Worker<H> {
        let settings = RemediateSettings {
            policy: Arc::clone(&self.policy),
            book: Settings { mode: Mode::Act, ..Settings::default() },
            kill_switch: self.kill_switch.clone(),
            signing: None,
            silences: Vec::new(),
            tickets: None,
            routing: None,
        };
        let worker = Remediate::new(self.runtime.clone(), settings, hands);
        let session = worker.join().unwrap();
        Worker { worker, session }
    }

    pub fn now(&self) -> i64 {
        self.clock.wall()
    }

    /// Lets time pass, and says what it is then.
    pub fn pass(&self, time: i64) -> i64 {
        self.clock.wall.fetch_add(time, Ordering::Relaxed) + time
    }

    pub fn send(&self, topic: &str, value: &Value, headers: &[(&str, &[u8])]) {
        let appender = self.runtime.log.appender().unwrap();
        let value = serde_json::to_vec(value).unwrap();
        appender.append(Outgoing { topic, value: Some(&value), headers, ..Outgoing::default() }).unwrap();
        appender.flush(Duration::from_secs(60)).unwrap();
    }

    /// Detect says that the module fails, or that it is over.
    pub fn detect(&self, event: &str, update: u32, error_rate: f64) {
        let series = Series(vec![("module".to_owned(), Label::Text(MODULE.to_owned()))]);
        let (pipeline, rule) = ("module_api_errors", "error_rate");
        let body = json!({
            "update": update, "detection_id": detection_id(pipeline, rule, &series, START), "pipeline": pipeline,
            "rule": rule, "technique": "threshold", "organisation_id": null, "module": MODULE,
            "series": {"module": MODULE}, "window_start": format_time(self.now() - MINUTE),
            "window_end": format_time(self.now()), "complete": true, "measure": "error_rate", "value": error_rate,
            "samples": 4_210, "threshold": 0.01, "baseline": null, "score": null, "severity": "high", "scope": "trivial",
            "remedy": {"action": "function_recycle", "target": MODULE},
            "incident_id": incident_id(pipeline, rule, &series, START), "evidence_sql": "SELECT 1",
        });
        let kind = format!("maturion.detection.{event}.v1");
        self.send(&self.runtime.topics.remediation(), &body, &[("ce_type", kind.as_bytes())]);
    }

    /// The platform goes on for a while: windows close, and show whether the module has recovered.
    pub fn step(&mut self) {
        let now = self.pass(STEP);
        if self.recovered_at.is_none() && !self.is_hopeless && !self.plane.effects().is_empty() {
            self.recovered_at = Some(now);
        }
        if now % MINUTE != 0 {
            return;
        }
        let start = now - MINUTE;
        let is_well = self.recovered_at.is_some_and(|at| start >= at);
        for module in OTHERS.into_iter().chain([MODULE]) {
            let error_rate = if module == MODULE && !is_well { 0.1 } else { 0.0 };
            let row = json!({
                "pipeline": "module_api_errors", "module": module, "window_start": format_time(start),
                "window_end": format_time(now), "error_rate": error_rate, "requests": 4_000,
            });
            self.send(&self.runtime.topics.windows(), &row, &[]);
        }
        if self.recovered_at.is_some_and(|at| now >= at + 7 * MINUTE) && !self.has_resolved {
            self.has_resolved = true;
            self.detect("resolved", 1, 0.0);
        }
    }

    /// The newest state of the one incident.
    pub fn incident(&self) -> Option<Value> {
        let outputs = self.flow.read(&self.runtime.topics.incidents());
        outputs.iter().map(|output| output.json()).max_by_key(|incident| incident["revision"].as_u64())
    }

    /// The newest state of every incident.
    pub fn incidents(&self) -> Vec<Value> {
        let mut newest = std::collections::BTreeMap::new();
        // What is forgotten has no value any more.
        let outputs = self.flow.read(&self.runtime.topics.incidents());
        for output in outputs.iter().filter(|output| !output.value.is_empty()) {
            let incident = output.json();
            newest.insert(incident["incident_id"].as_str().unwrap().to_owned(), incident);
        }
        newest.into_values().collect()
    }

    /// The kinds of the audit's entries, after the chain was verified.
    pub fn audit(&self) -> Vec<String> {
        self.entries().iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// The audit's entries, after the chain was verified.
    pub fn entries(&self) -> Vec<Value> {
        let entries = self.flow.read(&self.runtime.topics.audit());
        let mut verifier = Verifier::new(Vec::new(), &[]);
        entries.iter().for_each(|entry| verifier.take(&entry.value));
        verifier.finish().unwrap_or_else(|fault| panic!("{fault}"));
        entries.iter().map(|entry| entry.json()).collect()
    }
}
