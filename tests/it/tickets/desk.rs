//! The role itself with a real store and a GitHub: detections come in, tickets go out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maturion::act::Adapters;
use maturion::config::{GitHub as GitHubConfig, PolicyTexts};
use maturion::decide::Policy;
use maturion::incident::book::Settings;
use maturion::log::Outgoing;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::detection::{detection_id, format_time, incident_id};
use maturion::model::principal::Principal;
use maturion::model::series::{Label, Series};
use maturion::roles::RunningRoles;
use maturion::roles::remediate::hands::{PlatformHands, Reach};
use maturion::roles::remediate::witness::Tables;
use maturion::roles::remediate::{Remediate, RemediateSettings};
use maturion::roles::store::StoreLimits;
use maturion::store::{Location, Store};
use serde_json::{Value, json};

use super::config;
use crate::flow::{Flow, shipped};
use crate::github::{FakeGitHub, Issue};

const MINUTE: i64 = 60_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
pub const MODULE: &str = "threat-analysis";

/// A log, a store that its records go to, and a GitHub.
pub struct Desk {
    pub flow: Flow,
    pub store: Arc<Store>,
    pub github: FakeGitHub,
    pub folder: tempfile::TempDir,
    /// When the window began that the incident is about: some minutes ago.
    pub began: i64,
    filling: Option<RunningRoles>,
}

/// A worker of the role, until it is dropped.
pub struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

impl Desk {
    pub fn new() -> Desk {
        let log = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
        let flow = Flow::new(log, "desk.", 1, shipped());
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let limits = StoreLimits {
            commit_interval: Duration::from_millis(300),
            chunk_bytes_max: 1 << 20,
            hot_bytes_max: 64 << 20,
            log_id: String::new(),
            accept_gap: false,
        };
        let mut filling = RunningRoles::default();
        flow.runtime.fill(&store, limits, &mut filling).unwrap();
        let github = FakeGitHub::start();
        github.world().now = now();
        Desk { flow, store, github, folder, began: now() / MINUTE * MINUTE - 6 * MINUTE, filling: Some(filling) }
    }

    /// Ends the role `store`, which commits what it has read.
    pub fn stop_filling(&mut self) {
        self.filling.take().map(RunningRoles::stop).unwrap().unwrap();
    }

    fn send(&self, topic: &str, value: &Value, headers: &[(&str, &[u8])]) {
        let appender = self.flow.runtime.log.appender().unwrap();
        let value = serde_json::to_vec(value).unwrap();
        let partition = Some(0);
        appender.append(Outgoing { topic, partition, value: Some(&value), headers, ..Outgoing::default() }).unwrap();
        appender.flush(PATIENCE).unwrap();
    }

    /// Puts these into the logs, seconds after the window began, and waits until they can be read.
    pub fn log(&self, records: &[(i64, Value)]) {
        for (seconds, record) in records {
            let mut record = record.clone();
            record["timestamp"] = json!(format_time(self.began + seconds * 1_000_000));
            self.send(&self.flow.runtime.topics.logs(), &record, &[]);
        }
        let all = || crate::store::ask(&self.store, now, &Principal::Operator, "SELECT count(*) FROM logs");
        self.eventually("all logs readable", || all() == records.len() as i64);
    }

    /// Detect says that the module fails, for an organisation or for everyone.
    pub fn detect(&self, organisation: Option<&str>, update: u32, error_rate: f64) {
        let text = |text: &str| Label::Text(text.to_owned());
        let mut series = vec![("module".to_owned(), text(MODULE))];
        if let Some(organisation) = organisation {
            series.insert(0, ("organisation_id".to_owned(), text(organisation)));
        }
        let pipeline = if organisation.is_some() { "api_errors" } else { "module_api_errors" };
        let series = Series(series);
        let body = json!({
            "update": update, "detection_id": detection_id(pipeline, "error_rate", &series, self.began),
            "incident_id": incident_id(pipeline, "error_rate", &series, self.began), "pipeline": pipeline,
            "rule": "error_rate", "technique": "threshold", "organisation_id": organisation, "module": MODULE,
            "series": series.to_json(), "window_start": format_time(self.began),
            "window_end": format_time(self.began + MINUTE), "complete": true, "measure": "error_rate",
            "value": error_rate, "samples": 4_210, "threshold": 0.01, "baseline": null, "score": null,
            "severity": "high", "scope": "trivial", "evidence_sql": "SELECT 1",
        });
        let kind: &[u8] = match update {
            0 => b"maturion.detection.opened.v1",
            _ => b"maturion.detection.updated.v1",
        };
        self.send(&self.flow.runtime.topics.remediation(), &body, &[("ce_type", kind)]);
    }

    /// What the tables of the running store tell.
    pub fn tables(&self) -> Tables {
        Tables::Here(self.flow.runtime.tables(&self.store))
    }

    /// A worker that looks for lines of logs there.
    pub fn work(&self, logs: Option<Tables>) -> Worker {
        let github = Some(config(&self.github, "list_lag = \"0s\"\n"));
        let settings = settings(github.clone());
        let reach = Reach { adapters: Arc::new(Adapters::new(&[], &[]).unwrap()), github, logs, sender: None };
        let (runtime, stop) = (self.flow.runtime.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let hands = PlatformHands::new(&reach).unwrap();
            Remediate::new(runtime, settings, hands).run(&stopped).unwrap_or_else(|error| panic!("{error}"));
        };
        Worker { stop, thread: Some(std::thread::spawn(work)) }
    }

    pub fn issues(&self) -> Vec<Issue> {
        self.github.world().issues.values().cloned().collect()
    }

    /// The one ticket, as soon as its body says so.
    pub fn ticket(&self, says: &str) -> Issue {
        self.eventually(says, || self.issues().iter().any(|issue| issue.body.contains(says)));
        let issues = self.issues();
        assert_eq!(issues.len(), 1, "{issues:#?}");
        issues[0].clone()
    }

    /// The newest state of the one incident.
    pub fn incident(&self) -> Option<Value> {
        let outputs = self.flow.read(&self.flow.runtime.topics.incidents());
        outputs.iter().map(|output| output.json()).max_by_key(|incident| incident["revision"].as_u64())
    }

    pub fn eventually(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not {what}: {:#?}\n{:#?}", self.issues(), self.incident());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn open(folder: &Path) -> Arc<Store> {
    Store::open(&Location::parse("file:store", folder).unwrap(), &[]).unwrap()
}

fn settings(tickets: Option<GitHubConfig>) -> RemediateSettings {
    RemediateSettings {
        policy: Arc::new(Policy::compile(&PolicyTexts::shipped(), &[]).unwrap()),
        book: Settings::default(),
        kill_switch: "no-such-file.stop".into(),
        signing: None,
        silences: Vec::new(),
        tickets,
        routing: None,
    }
}
