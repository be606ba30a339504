//! The plan's worked example on real Kafka: the threat module answers 500 to 10 % of requests, from the records of its log
//! to the closed ticket; and its other end, where nothing helps and people are called.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use maturion::act::Adapters;
use maturion::config::{Config, PolicyTexts};
use maturion::decide::Policy;
use maturion::incident::book::Settings;
use maturion::log::Log;
use maturion::model::action::Mode;
use maturion::notify::Routing;
use maturion::notify::send::Sender;
use maturion::roles::remediate::hands::{PlatformHands, Reach};
use maturion::roles::remediate::witness::Tables;
use maturion::roles::remediate::{Remediate, RemediateSettings};
use maturion::roles::{Clock, RunningRoles, Runtime};
use serde_json::{Value, json};

use super::plane::{Manner, Plane};
use super::platform::MODULE;
use crate::flow::{Flow, Output, shipped};
use crate::github::{FakeGitHub, Issue, REPOSITORY, TOKEN};
use crate::kafka::{Kafka, unique_prefix};
use crate::subject::connect;

const PARTITIONS: i32 = 2;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// 2025-12-03T10:00:00Z.
const START: i64 = 1_764_756_000_000_000;
/// Requests of the threat module a minute, and of each of the others.
const REQUESTS: i64 = 1_000;
const REQUESTS_OF_OTHERS: i64 = 50;
const OTHERS: [&str; 4] = ["pit", "exports", "auth", "dashboard"];
const PATIENCE: Duration = Duration::from_secs(60);

/// The platform's clock, turned minute by minute.
struct Turned {
    wall: AtomicI64,
    began: Instant,
}

impl Clock for Turned {
    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn wall(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }
}

/// A webhook that keeps what it is told.
#[derive(Clone, Default)]
struct Webhook(Arc<Mutex<Vec<Value>>>);

async fn hear(State(webhook): State<Webhook>, axum::Json(body): axum::Json<Value>) {
    webhook.0.lock().unwrap().push(body);
}

/// Everything, and a worker that runs on a thread of its own.
struct Example {
    flow: Flow,
    clock: Arc<Turned>,
    plane: Plane,
    github: FakeGitHub,
    webhook: Webhook,
    minute: i64,
    is_hopeless: bool,
    stop: Arc<AtomicBool>,
    worker: Option<std::thread::JoinHandle<()>>,
    _runtimes: [tokio::runtime::Runtime; 2],
    /// The role `store`, and where it keeps the tables.
    _filling: RunningRoles,
    _folder: tempfile::TempDir,
}

impl Example {
    fn start(kafka: &Kafka, is_hopeless: bool) -> Example {
        let log: Arc<dyn Log> = Arc::new(connect(&kafka.brokers, &[]).unwrap());
        let logs_only = shipped().into_iter().filter(|one| one.name == "module_api_errors");
        let mut flow = Flow::new(log, &unique_prefix(), PARTITIONS, logs_only.collect());
        let clock = Arc::new(Turned { wall: AtomicI64::new(START), began: Instant::now() });
        let (plane, first) = Plane::start(Manner::Helpful);
        let (webhook, github) = (Webhook::default(), FakeGitHub::start());
        github.world().now = chrono::Utc::now().timestamp_micros();
        let second = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = second.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/hook", post(hear)).with_state(webhook.clone());
        second.spawn(async move { axum::serve(listener, routes).await });
        let config = config(&github.url(), &format!("http://{address}/hook"));
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = Runtime { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..flow.runtime.clone() };
        let (_folder, mut _filling) = (tempfile::tempdir().unwrap(), RunningRoles::default());
        let store = crate::store::open(_folder.path());
        runtime.fill(&store, crate::store::role::limits(), &mut _filling).unwrap();
        let logs = Tables::Here(runtime.tables(&store));
        let worker = work(runtime, &config, &plane, logs, Arc::clone(&stop));
        flow.start();
        let (minute, worker, _runtimes) = (0, Some(worker), [first, second]);
        Example { flow, clock, plane, github, webhook, minute, is_hopeless, stop, worker, _runtimes, _filling, _folder }
    }

    /// The module fails for a tenth of its requests from the third minute on, until it is restarted.
    fn errors(&self) -> i64 {
        let is_well = self.minute < 3 || (!self.is_hopeless && !self.plane.effects().is_empty());
        if is_well { 0 } else { REQUESTS / 10 }
    }

    /// One minute of the platform: its records, then what everybody makes of them.
    fn minute(&mut self) {
        let (start, errors) = (START + self.minute * MINUTE, self.errors());
        let mut records = Vec::new();
        for (module, requests) in OTHERS.map(|name| (name, REQUESTS_OF_OTHERS)).into_iter().chain([(MODULE, REQUESTS)])
        {
            for nth in 0..requests {
                let mut record = json!({
                    "timestamp": start + nth * MINUTE / requests, "organisation_id": format!("org_{}", nth % 7),
                    "module": module, "source": "edge", "event": "http_request", "route": "/api/threats", "method": "GET",
                    "status_code": 200, "duration_ms": 40.0,
                });
                if module == MODULE && nth < errors {
                    (record["status_code"], record["level"]) = (json!(500), json!("ERROR"));
                    record["message"] = json!(format!("statement timeout for user{nth}@example.org"));
                    record["trace_id"] = json!(format!("{:032x}", 0xfeed_0000 + nth));
                }
                records.push((nth as i32 % PARTITIONS, serde_json::to_vec(&record).unwrap()));
            }
        }
        self.flow.append(&self.flow.runtime.topics.logs(), records.iter().map(|(at, record)| (*at, record.as_slice())));
        self.clock.wall.store(start + MINUTE, Ordering::Relaxed);
        if self.minute > 0 {
            self.flow.wait_until_closed(start);
        }
        self.minute += 1;
        // Calls and commits are made in real time; this many are never under way for longer.
        std::thread::sleep(Duration::from_millis(400));
    }

    /// Lets minutes pass until the incident is as expected.
    fn until(&mut self, what: &str, minutes_max: i64, is_so: impl Fn(&Example, &Value) -> bool) {
        let end = self.minute + minutes_max;
        while !self.incident().is_some_and(|incident| is_so(self, &incident)) {
            assert!(
                self.minute < end,
                "not {what} after {} minutes: {:#?}\n{:#?}",
                self.minute,
                self.incident(),
                self.audit()
            );
            self.minute();
        }
    }

    fn incident(&self) -> Option<Value> {
        let outputs = self.flow.read(&self.flow.runtime.topics.incidents());
        outputs.iter().map(Output::json).max_by_key(|incident| incident["revision"].as_u64())
    }

    fn audit(&self) -> Vec<(String, String)> {
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let entries = self.flow.read(&self.flow.runtime.topics.audit());
        entries.iter().map(|entry| (text(&entry.json(), "kind"), text(&entry.json(), "sentence"))).collect()
    }

    fn issues(&self) -> Vec<Issue> {
        self.github.world().issues.values().cloned().collect()
    }

    /// Waits for what is written and told in real time.
    fn eventually(&self, what: &str, is_so: impl Fn(&Example) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "not {what}: {:#?}\n{:#?}\n{:#?}",
                self.issues(),
                self.webhook.0.lock().unwrap(),
                self.github.world().requests
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn told(&self, kind: &str) -> usize {
        self.webhook.0.lock().unwrap().iter().filter(|body| body["kind"] == kind).count()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// What the operator would write.
fn config(github: &str, webhook: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    std::fs::write(folder.path().join("hook"), webhook).unwrap();
    let text = format!(
        r#"
        [github]
        repository = "{REPOSITORY}"
        api_url = "{github}"
        token_file = "token"
        list_lag = "1s"
        builders = {{ "{MODULE}" = "Threat Module Builder" }}
        [[contact]]
        name = "on-call"
        channel = "webhook"
        url_file = "hook"
        [[escalation]]
        issue = "critical_platform"
        primary = "on-call"
        [[escalation]]
        issue = "high"
        primary = "on-call"
        "#
    );
    let file = folder.path().join("maturion.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), &Default::default()).unwrap()
}

fn work(
    runtime: Runtime,
    config: &Config,
    plane: &Plane,
    logs: Tables,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    let settings = RemediateSettings {
        policy: Arc::new(Policy::compile(&PolicyTexts::shipped(), &[]).unwrap()),
        book: Settings { mode: Mode::Act, ..Settings::default() },
        kill_switch: "no-such-file.stop".into(),
        signing: None,
        silences: Vec::new(),
        tickets: config.github.clone(),
        routing: Some(Routing::of(&config.notify)),
    };
    let reach = Reach {
        adapters: Arc::new(Adapters::new(&[plane.control()], &[]).unwrap()),
        github: config.github.clone(),
        logs: Some(logs),
        sender: Some(Arc::new(Sender::new(&config.notify).unwrap())),
    };
    std::thread::spawn(move || {
        let hands = PlatformHands::new(&reach).unwrap();
        Remediate::new(runtime, settings, hands).run(&stop).unwrap_or_else(|error| panic!("{error}"));
    })
}

#[test]
fn the_worked_example_from_the_log_to_the_closed_ticket() {
    let kafka = crate::kafka_or_skip!();
    let mut example = Example::start(kafka, false);
    example.until("acted upon", 12, |example, _| !example.plane.effects().is_empty());
    let detections = example.flow.read(&example.flow.runtime.topics.remediation());
    assert_eq!(detections[0].json()["severity"], "high");
    let audit = example.audit();
    let sentence = "Auto-restarted edge function 'threat-analysis' due to error_rate 0.1";
    assert!(audit.iter().any(|(kind, words)| kind == "intent" && words.starts_with(sentence)), "{audit:#?}");
    example.eventually("a ticket", |example| example.issues().len() == 1);
    let issue = example.issues().remove(0);
    assert!(issue.title.starts_with("[HIGH] "), "{issue:#?}");
    for expected in [
        "Threat Module Builder",
        "error_rate",
        "SELECT",
        "function_recycle",
        "maturion incident=",
        "ERROR http_request GET /api/threats 500 in 40.0 ms: statement timeout for [email]",
        "Traces: `000000000000000000000000feed0000`",
    ] {
        assert!(issue.body.contains(expected), "no {expected} in {}", issue.body);
    }
    example.eventually("a call", |example| example.told("trigger") == 1);

    example.until("verified", 12, |_, incident| incident["phase"] == "verified");
    example.minute();
    example.eventually("lowered", |example| example.issues()[0].title.starts_with("[MEDIUM] "));
    assert!(example.issues()[0].open);
    example.until("resolved", 30, |_, incident| incident["phase"] == "resolved");
    example.minute();
    example.minute();
    example.eventually("closed", |example| !example.issues()[0].open);
    example.eventually("the end told", |example| example.told("resolve") == 1);
    assert_eq!(example.issues().len(), 1);
    assert_eq!(example.plane.effects().len(), 1);
    let edits = example.github.world().requests.iter().filter(|request| request.starts_with("PATCH")).count();
    assert!(edits < 30, "a ticket is edited again and again: {edits}");
    let kinds = example.audit().into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    let place = |kind: &str| kinds.iter().position(|other| other == kind).unwrap_or_else(|| panic!("{kinds:?}"));
    assert!(place("intent") < place("effect") && place("effect") < place("verified"), "{kinds:?}");
}

#[test]
fn the_worked_example_when_nothing_helps() {
    let kafka = crate::kafka_or_skip!();
    let mut example = Example::start(kafka, true);
    example.until("given to people", 120, |_, incident| incident["is_locked"] == true);
    let incident = example.incident().unwrap();
    assert_eq!((incident["severity"].as_str(), incident["phase"].as_str()), (Some("critical"), Some("escalated")));
    assert_eq!(incident["escalated"]["reason"], "repeated_failure");
    assert_eq!(example.plane.effects().len(), 3);
    example.eventually("the contact called", |example| {
        let told = example.webhook.0.lock().unwrap();
        told.iter().any(|body| body.to_string().contains("critical"))
    });
    example.minute();
    example.minute();
    example.eventually("a critical ticket", |example| {
        example.issues().iter().any(|issue| issue.open && issue.title.starts_with("[CRITICAL] "))
    });
    (0..10).for_each(|_| example.minute());
    assert_eq!(example.plane.effects().len(), 3, "it acts although it is locked");
    assert_eq!(example.issues().len(), 1);
}
