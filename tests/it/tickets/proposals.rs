//! A limit that was raised for a while and helped becomes a draft pull request: one, whatever dies or is lost.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use maturion::act::Adapters;
use maturion::config::{Control, PolicyTexts};
use maturion::decide::Policy;
use maturion::incident::book::Settings;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::{Outgoing, Session};
use maturion::model::action::Mode;
use maturion::model::detection::{detection_id, format_time, incident_id};
use maturion::model::pipeline::{Direction, Evaluate, Level, Pipeline, Remedy, Rule, Scope, Severity, Technique};
use maturion::model::series::{Label, Series};
use maturion::roles::remediate::hands::{PlatformHands, Reach};
use maturion::roles::remediate::{Remediate, RemediateSettings};
use maturion::roles::{Clock, Runtime};
use serde_json::{Value, json};

use super::config;
use crate::flow::{Flow, pipeline};
use crate::github::{FakeGitHub, Fault, Pull};

const MINUTE: i64 = 60_000_000;
const STEP: i64 = MINUTE / 3;
/// 2025-12-03T10:00:00Z.
const START: i64 = 1_764_756_000_000_000;
const PIPELINE: &str = "rate_limits";
const ORGANISATION: &str = "acme";
const HEALTHY: [&str; 8] = ["pit", "auth-ui", "dashboard", "reports", "mail", "search", "import", "billing"];
const PATIENCE: Duration = Duration::from_secs(120);
const SQL: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module,
                          count(*) AS requests,
                          avg(CASE WHEN status_code = 429 THEN 1.0 ELSE 0.0 END) AS refused_rate
                   FROM logs GROUP BY 1, 2, 3";
/// So often, of ten thousand, a request to GitHub is lost in one of these ways.
const FAULTS: [(Fault, u32); 3] = [(Fault::Before, 400), (Fault::After, 600), (Fault::Lost, 600)];

const LIMITS: &str = "# what one organisation may ask\n[limits]\nrequests_per_minute = 100   # until the next review\n\
                      burst = 20\n\n[limits.\"exports\"]\nrequests_per_minute = 100\n";

/// The platform's control interface: rate limits by module and organisation.
type Limits = Arc<Mutex<BTreeMap<(String, String), f64>>>;

async fn limit(State(limits): State<Limits>, Path(of): Path<(String, String)>) -> axum::Json<Value> {
    axum::Json(json!({ "requests_per_minute": limits.lock().unwrap().get(&of).copied().unwrap_or(100.0) }))
}

async fn set_limit(
    State(limits): State<Limits>,
    Path(of): Path<(String, String)>,
    axum::Json(body): axum::Json<Value>,
) {
    limits.lock().unwrap().insert(of, body["requests_per_minute"].as_f64().unwrap());
}

/// A clock that the test turns.
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

fn limited() -> Pipeline {
    let rule = Rule {
        name: "refused".to_owned(),
        technique: Technique::Threshold,
        measure: "refused_rate".to_owned(),
        levels: vec![Level { severity: Severity::High, limit: 0.01, for_: 0 }],
        direction: Direction::Above,
        samples: Some("requests".to_owned()),
        min_samples: 100,
        rate: true,
        clear_for: 5 * MINUTE,
        recovery: 0.8,
        min_effect: 0.0,
        evaluate: Evaluate::OnClose,
        warmup_windows: 0,
        scope: Scope::Configuration,
        remedy: Some(Remedy { action: "raise_rate_limit".to_owned() }),
        inhibits: vec![],
    };
    Pipeline { rules: vec![rule], ..pipeline(PIPELINE, SQL, &["organisation_id", "module"], Duration::ZERO) }
}

/// A platform that refuses requests of some modules until their limit is raised, its control interface, and GitHub.
struct Scene {
    flow: Flow,
    runtime: Runtime,
    clock: Arc<Turned>,
    github: FakeGitHub,
    config: maturion::config::GitHub,
    control: Control,
    limits: Limits,
    modules: Vec<&'static str>,
    worker: Option<(Remediate<PlatformHands>, Box<dyn Session>)>,
    _server: tokio::runtime::Runtime,
}

impl Scene {
    fn new(modules: &[&'static str], key: &str, file: &str) -> Scene {
        let log = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
        let flow = Flow::new(log, "p.", 1, vec![limited()]);
        let clock = Arc::new(Turned { wall: AtomicI64::new(START), began: Instant::now() });
        let runtime = Runtime { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..flow.runtime.clone() };
        let (limits, server) = (Limits::default(), super::runtime_with_threads());
        let listener = server.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let routes = Router::new()
            .route("/v1/rate-limits/{module}/organisations/{organisation}", get(limit).put(set_limit))
            .with_state(Arc::clone(&limits));
        server.spawn(async move { axum::serve(listener, routes).await });
        let github = FakeGitHub::start();
        {
            let mut world = github.world();
            world.now = chrono::Utc::now().timestamp_micros();
            world.files.get_mut("main").unwrap().insert("config/limits.toml".to_owned(), file.to_owned());
        }
        let proposal = format!(
            "list_lag = \"0s\"\npull_request_paths = [\"config/\"]\n[[github.proposal]]\naction = \"raise_rate_limit\"\n\
             path = \"config/limits.toml\"\nkey = \"{key}\"\naligns_with = \"SRMF 4.2\"\n"
        );
        let config = config(&github, &proposal);
        let control = Control { name: "platform".to_owned(), url, internal: true, token: None };
        let modules = modules.to_vec();
        let mut scene =
            Scene { flow, runtime, clock, github, config, control, limits, modules, worker: None, _server: server };
        (0..4).for_each(|_| scene.step());
        scene.modules.iter().for_each(|module| scene.detect(module));
        scene.restart();
        scene
    }

    /// The worker is gone in the middle of whatever it did; another one goes on.
    fn restart(&mut self) {
        self.worker = None;
        let settings = RemediateSettings {
            policy: Arc::new(Policy::compile(&PolicyTexts::shipped(), &[]).unwrap()),
            book: Settings { mode: Mode::Act, ..Settings::default() },
            kill_switch: "no-such-file.stop".into(),
            signing: None,
            silences: Vec::new(),
            tickets: Some(self.config.clone()),
            routing: None,
        };
        let adapters = Arc::new(Adapters::new(std::slice::from_ref(&self.control), &[]).unwrap());
        let reach = Reach { adapters, github: Some(self.config.clone()), logs: None, sender: None };
        let worker = Remediate::new(self.runtime.clone(), settings, PlatformHands::new(&reach).unwrap());
        let session = worker.join().unwrap();
        self.worker = Some((worker, session));
    }

    fn send(&self, topic: &str, value: &Value, headers: &[(&str, &[u8])]) {
        let appender = self.runtime.log.appender().unwrap();
        let value = serde_json::to_vec(value).unwrap();
        appender.append(Outgoing { topic, value: Some(&value), headers, ..Outgoing::default() }).unwrap();
        appender.flush(Duration::from_secs(60)).unwrap();
    }

    fn detect(&self, module: &str) {
        let text = |text: &str| Label::Text(text.to_owned());
        let series = vec![("organisation_id".to_owned(), text(ORGANISATION)), ("module".to_owned(), text(module))];
        let series = Series(series);
        let now = self.clock.wall();
        let body = json!({
            "update": 0, "detection_id": detection_id(PIPELINE, "refused", &series, START),
            "incident_id": incident_id(PIPELINE, "refused", &series, START), "pipeline": PIPELINE, "rule": "refused",
            "technique": "threshold", "organisation_id": ORGANISATION, "module": module, "series": series.to_json(),
            "window_start": format_time(now - MINUTE), "window_end": format_time(now), "complete": true,
            "measure": "refused_rate", "value": 0.1, "samples": 4_000, "threshold": 0.01, "baseline": null,
            "score": null, "severity": "high", "scope": "configuration",
            "evidence_sql": format!("SELECT 1 WHERE organisation_id = '{ORGANISATION}'"),
        });
        self.send(&self.runtime.topics.remediation(), &body, &[("ce_type", b"maturion.detection.opened.v1")]);
    }

    /// Time goes on; each minute windows close and show who is refused.
    fn step(&self) {
        let now = self.clock.wall.fetch_add(STEP, Ordering::Relaxed) + STEP;
        if now % MINUTE != 0 {
            return;
        }
        for module in HEALTHY.iter().chain(&self.modules) {
            let of = ((*module).to_owned(), ORGANISATION.to_owned());
            let is_raised = self.limits.lock().unwrap().get(&of).is_some_and(|limit| *limit > 100.0);
            let refused = if HEALTHY.contains(module) || is_raised { 0.0 } else { 0.1 };
            let row = json!({
                "pipeline": PIPELINE, "organisation_id": ORGANISATION, "module": module, "refused_rate": refused,
                "window_start": format_time(now - MINUTE), "window_end": format_time(now), "requests": 4_000,
            });
            self.send(&self.runtime.topics.windows(), &row, &[]);
        }
    }

    fn incidents(&self) -> Vec<Value> {
        let mut newest = BTreeMap::<String, Value>::new();
        for output in self.flow.read(&self.runtime.topics.incidents()) {
            let incident = output.json();
            let id = incident["incident_id"].as_str().unwrap().to_owned();
            if newest.get(&id).is_none_or(|known| known["revision"].as_u64() < incident["revision"].as_u64()) {
                newest.insert(id, incident);
            }
        }
        newest.into_values().collect()
    }

    /// Lets the role work until it is so; every so many turns it dies.
    fn until(&mut self, what: &str, dies_after: usize, is_so: impl Fn(&Scene) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        for turn in 1.. {
            if turn % dies_after == 0 {
                self.restart();
            }
            let (worker, session) = self.worker.as_mut().unwrap();
            worker.turn(session.as_mut()).unwrap();
            if turn % 6 != 0 {
                continue;
            }
            self.step();
            if is_so(self) {
                return;
            }
            assert!(Instant::now() < deadline, "not {what}: {:#?}\n{:#?}", self.incidents(), self.bodies());
        }
    }

    fn bodies(&self) -> Vec<String> {
        self.github.world().issues.values().map(|issue| issue.body.clone()).collect()
    }

    fn pulls(&self) -> Vec<Pull> {
        self.github.world().pulls.clone()
    }

    /// True once every incident knows what became of its proposal, and its ticket says so.
    fn is_told(&self, words: &str) -> bool {
        let bodies = self.bodies();
        let is_noted = |incident: &Value| incident["proposal"]["is_settled"] == true;
        self.incidents().iter().filter(|incident| is_noted(incident)).count() == self.modules.len()
            && bodies.len() == self.modules.len()
            && bodies.iter().all(|body| body.contains(words))
    }
}

#[test]
fn a_limit_that_was_raised_and_helped_is_proposed_once_whatever_dies_or_is_lost() {
    // Two modules, and one number for both in the file.
    for (seed, dies_after) in [(1, 40), (2, 90), (3, usize::MAX)] {
        let mut scene = Scene::new(&["threat-analysis", "exports"], "limits.requests_per_minute", LIMITS);
        scene.github.world().with_chance(seed, &FAULTS);
        scene.until("proposed and told", dies_after, |scene| scene.is_told("Draft pull request: #"));
        scene.restart();
        let turns = std::cell::Cell::new(0);
        scene.until("quiet", 20, |_| turns.replace(turns.get() + 1) > 20);
        let pulls = scene.pulls();
        let [pull] = pulls.as_slice() else { panic!("seed {seed}: {pulls:#?}") };
        assert!(pull.draft && pull.open && pull.base == "main" && pull.head.starts_with("maturion/"), "{pull:#?}");
        assert!(scene.bodies().iter().all(|body| body.contains(&format!("Draft pull request: #{}\n", pull.number))));
        let world = scene.github.world();
        let raised = LIMITS.replacen("requests_per_minute = 100", "requests_per_minute = 150", 1);
        assert_eq!(world.files[&pull.head]["config/limits.toml"], raised, "seed {seed}");
        assert_eq!(world.files["main"]["config/limits.toml"], LIMITS, "the default branch is as it was");
        assert_eq!(world.files.len(), 2, "one branch: {:?}", world.files.keys());
        assert!(world.requests.iter().all(|request| !request.contains("merge") && !request.starts_with("DELETE")));
    }
}

#[test]
fn the_proposal_says_what_was_changed_why_and_what_is_left_to_do() {
    let mut scene = Scene::new(&["exports"], "limits.{target}.requests_per_minute", LIMITS);
    scene.until("proposed and told", usize::MAX, |scene| scene.is_told("Draft pull request: #"));
    let pulls = scene.pulls();
    let [pull] = pulls.as_slice() else { panic!("{pulls:#?}") };
    assert_eq!(pull.title, "[FIX] change limits.exports.requests_per_minute from 100 to 150 for exports");
    for expected in [
        "Ticket: #1",
        "exports: refused\\_rate 0.1000, beyond 0.0100",
        "for one organisation at 2025-12-03T10:0",
        "- `config/limits.toml`: limits.exports.requests\\_per\\_minute from 100 to 150",
        "- [x] Verified in production: good windows in a row since it took effect: 2, bad ones: 0",
        "- [ ] Unit tests added/updated",
        "Aligns with: SRMF 4.2",
        "Risk Level: Medium",
        "Revert this pull request",
    ] {
        assert!(pull.body.contains(expected), "no {expected} in {}", pull.body);
    }
    assert!(!pull.body.contains(ORGANISATION) && !pull.title.contains(ORGANISATION), "{}", pull.body);
    let world = scene.github.world();
    let text = &world.files[&pull.head]["config/limits.toml"];
    assert_eq!(
        *text,
        LIMITS.replace("\"exports\"]\nrequests_per_minute = 100", "\"exports\"]\nrequests_per_minute = 150")
    );
}

#[test]
fn what_does_not_stand_in_the_file_is_not_proposed_and_the_ticket_says_so() {
    let other = LIMITS.replace("= 100 ", "= 120 ");
    let mut scene = Scene::new(&["exports"], "limits.requests_per_minute", &other);
    scene.until("told", usize::MAX, |scene| scene.is_told("No pull request"));
    let said = "`limits.requests\\_per\\_minute\\` is 120 there, and the change was verified from 100";
    assert!(scene.bodies()[0].contains(said.trim_start_matches('`')), "{}", scene.bodies()[0]);
    scene.restart();
    let asked = scene.github.world().requests.len();
    let turns = std::cell::Cell::new(0);
    scene.until("quiet", usize::MAX, |_| turns.replace(turns.get() + 1) > 20);
    let world = scene.github.world();
    assert!(world.pulls.is_empty() && world.files.len() == 1);
    assert!(world.requests[asked..].iter().all(|request| !request.contains("/contents/")), "it is asked once");
}
