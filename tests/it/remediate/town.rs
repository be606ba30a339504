//! A platform in real time for an agent that is a process of its own: `maturion run` on Apache Kafka, a control plane, modules
//! that fail until something is done, and detect's word about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maturion::audit::Verifier;
use maturion::config::PolicyTexts;
use maturion::log::{Appender, Log, Outgoing};
use maturion::model::detection::{detection_id, format_time, incident_id};
use maturion::model::series::{Label, Series};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::limited::pipelines;
use super::plane::{Manner, Plane};
use crate::faults::fleet::Process;
use crate::flow::Flow;
use crate::kafka::{Kafka, unique_prefix};
use crate::subject::connect;

/// A window of these stories.
pub const WINDOW: i64 = 1_000_000;
/// Healthy modules, so that a few that fail are few.
const CALM: usize = 200;
/// What was helped is of no interest after this: the agent reads no more than the newest windows again.
const OLD: i64 = 120 * WINDOW;
/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);
/// What permits everything that a policy can permit.
const EVERYTHING: &str = "permit (principal, action, resource);";

/// A rule of the pipelines beside the tests, and numbers that break it.
#[derive(Debug)]
pub struct Rule {
    pub pipeline: &'static str,
    pub rule: &'static str,
    pub measure: &'static str,
    pub bad: f64,
    pub threshold: f64,
    /// Its series has an organisation.
    pub is_for_one: bool,
    pub has_baseline: bool,
}

/// Restarts, which may be asked for twice.
pub const FAILING: Rule = Rule {
    pipeline: "failing",
    rule: "rate",
    measure: "error_rate",
    bad: 0.1,
    threshold: 0.01,
    is_for_one: false,
    has_baseline: false,
};
/// Restarts of the same module for another reason.
pub const SURGE: Rule =
    Rule { rule: "surge", measure: "errors", bad: 400.0, threshold: 40.0, has_baseline: true, ..FAILING };
/// A temporary change of a number for one organisation.
pub const TURNED_AWAY: Rule = Rule {
    pipeline: "turned_away",
    rule: "turned_away",
    measure: "share",
    bad: 0.4,
    threshold: 0.05,
    is_for_one: true,
    has_baseline: false,
};
/// A reset, which here must not be asked for twice.
pub const EXHAUSTED: Rule =
    Rule { pipeline: "pools", rule: "exhausted", measure: "waiting", bad: 0.9, threshold: 0.5, ..FAILING };

/// Something that fails.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub rule: &'static Rule,
    pub module: String,
    pub organisation: Option<String>,
    onset: i64,
}

impl Trouble {
    /// One that nobody has seen.
    pub fn new(rule: &'static Rule, module: &str, organisation: Option<&str>) -> Trouble {
        let organisation = organisation.map(str::to_owned);
        Trouble { rule, module: module.to_owned(), organisation, onset: now() }
    }

    fn series(&self) -> Series {
        let organisation = self.organisation.iter().map(|one| ("organisation_id".to_owned(), Label::Text(one.clone())));
        Series(organisation.chain([("module".to_owned(), Label::Text(self.module.clone()))]).collect())
    }

    pub fn incident_id(&self) -> String {
        incident_id(self.rule.pipeline, self.rule.rule, &self.series(), self.onset)
    }

    /// What detect says of it. The window ended at `onset`.
    pub fn body(&self) -> Value {
        let (rule, series) = (self.rule, self.series());
        let baseline = json!({ "center": 4.0, "spread": 1.0, "lower": 0.0, "upper": 9.0, "windows": 480 });
        json!({
            "update": 0, "detection_id": detection_id(rule.pipeline, rule.rule, &series, self.onset),
            "pipeline": rule.pipeline, "rule": rule.rule, "technique": "threshold", "organisation_id": self.organisation,
            "module": self.module, "series": series.to_json(), "window_start": format_time(self.onset - WINDOW),
            "window_end": format_time(self.onset), "complete": true, "measure": rule.measure, "value": rule.bad,
            "samples": 4_210, "threshold": rule.threshold, "baseline": rule.has_baseline.then_some(baseline), "score": null,
            "severity": "high", "scope": "trivial", "remedy": {"action": "function_recycle", "target": self.module},
            "incident_id": self.incident_id(), "evidence_sql": "SELECT 1",
        })
    }

    /// A closed window of it, from a second before this time.
    fn window(&self, end: i64, value: f64) -> Value {
        json!({
            "pipeline": self.rule.pipeline, "organisation_id": self.organisation, "module": self.module,
            "window_start": format_time(end - WINDOW), "window_end": format_time(end), self.rule.measure: value,
            "requests": 4_000,
        })
    }

    /// When something was first done about it.
    fn helped_at(&self, plane: &Plane) -> Option<i64> {
        let done = plane.done();
        let mine =
            |module: &str, organisation: &Option<String>| *module == self.module && *organisation == self.organisation;
        done.iter().find(|effect| mine(&effect.module, &effect.organisation)).map(|effect| effect.at)
    }
}

/// See the module's head.
pub struct Town {
    pub flow: Flow,
    pub plane: Plane,
    pub process: Arc<Mutex<Process>>,
    folder: TempDir,
    brokers: String,
    appender: Arc<dyn Appender>,
    starts: usize,
    troubles: Arc<Mutex<Vec<Trouble>>>,
    stop: Arc<AtomicBool>,
    pulse: Option<JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

impl Town {
    /// Everything runs. `actions` changes the shipped catalogue, `configuration` is added to `maturion.toml`.
    pub fn start(kafka: &Kafka, actions: impl Fn(&str) -> String, configuration: &str) -> Town {
        let log: Arc<dyn Log> = Arc::new(connect(&kafka.brokers, &[]).unwrap());
        let prefix = unique_prefix();
        let flow = Flow::new(log, &prefix, 1, pipelines());
        let (plane, _runtime) = Plane::start(Manner::Helpful);
        let folder = installation(&plane, &prefix, &kafka.brokers, actions, configuration);
        let troubles = Arc::<Mutex<Vec<Trouble>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let pulse = Pulse {
            appender: flow.runtime.log.appender().unwrap(),
            topic: flow.runtime.topics.windows(),
            plane: plane.clone(),
            troubles: Arc::clone(&troubles),
        };
        pulse.calm(now());
        let ended = Arc::clone(&stop);
        let pulse = Some(std::thread::spawn(move || pulse.beat(&ended)));
        let process = Arc::new(Mutex::new(process(folder.path(), &kafka.brokers, 1)));
        let (brokers, appender) = (kafka.brokers.clone(), flow.runtime.log.appender().unwrap());
        Town { flow, plane, process, folder, brokers, appender, starts: 1, troubles, stop, pulse, _runtime }
    }

    /// A module begins to fail; nobody says so yet.
    pub fn trouble(&self, rule: &'static Rule, module: &str) -> Trouble {
        let organisation = rule.is_for_one.then(|| format!("org_of_{module}"));
        let trouble = Trouble::new(rule, module, organisation.as_deref());
        self.troubles.lock().unwrap().push(trouble.clone());
        trouble
    }

    /// A module begins to fail, and detect says so.
    pub fn open(&self, rule: &'static Rule, module: &str) -> Trouble {
        let trouble = self.trouble(rule, module);
        self.say("opened", &trouble.body());
        trouble
    }

    /// Detect says something.
    pub fn say(&self, event: &str, body: &Value) {
        let kind = format!("maturion.detection.{event}.v1");
        let value = serde_json::to_vec(body).unwrap();
        self.write(&self.flow.runtime.topics.remediation(), &value, &[("ce_type", kind.as_bytes())]);
    }

    /// Somebody writes something to a topic.
    pub fn write(&self, topic: &str, value: &[u8], headers: &[(&str, &[u8])]) {
        self.appender.append(Outgoing { topic, value: Some(value), headers, ..Outgoing::default() }).unwrap();
        self.appender.flush(PATIENCE).unwrap();
    }

    /// The process is started anew, with the same configuration.
    pub fn restart(&mut self) {
        self.starts += 1;
        *self.process.lock().unwrap() = process(self.folder.path(), &self.brokers, self.starts);
    }

    pub fn kill(&self) {
        self.process.lock().unwrap().kill();
    }

    /// The newest state of every incident, by its id.
    pub fn incidents(&self) -> BTreeMap<String, Value> {
        // A transaction that is still open is waited for by whoever asks again.
        let outputs = self.flow.try_read(&self.flow.runtime.topics.incidents()).unwrap_or_default();
        let keyed = outputs.iter().map(|output| output.json());
        keyed.map(|incident| (incident["incident_id"].as_str().unwrap().to_owned(), incident)).collect()
    }

    pub fn incident(&self, trouble: &Trouble) -> Value {
        self.incidents().remove(&trouble.incident_id()).unwrap_or_default()
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, mut is_so: impl FnMut(&Town) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            let words = || self.process.lock().unwrap().last_words();
            assert!(Instant::now() < deadline, "not {what}: {:#?}\n{}", self.incidents(), words());
            std::thread::sleep(LOOK);
        }
    }

    /// The audit's entries, after the chain was verified.
    pub fn entries(&self) -> Vec<Value> {
        let entries = self.flow.read(&self.flow.runtime.topics.audit());
        let mut verifier = Verifier::new(Vec::new(), &[]);
        entries.iter().for_each(|entry| verifier.take(&entry.value));
        verifier.finish().unwrap_or_else(|fault| panic!("{fault}"));
        entries.iter().map(|entry| entry.json()).filter(|entry| entry["kind"].is_string()).collect()
    }

    /// The process ends in order; then what it leaves is whole: `maturion audit verify` finds nothing, and the control
    /// plane did each thing that was intended once, and nothing else.
    pub fn end(&self) {
        self.process.lock().unwrap().stop();
        let verify = Command::new(env!("CARGO_BIN_EXE_maturion"))
            .args(["audit", "verify"])
            .current_dir(self.folder.path())
            .env_clear()
            .output()
            .unwrap();
        let (said, error) = (String::from_utf8_lossy(&verify.stdout), String::from_utf8_lossy(&verify.stderr));
        assert!(verify.status.success() && said.ends_with("\nok\n") && said.contains("signed up to"), "{said}{error}");
        let mut intended = BTreeSet::new();
        for entry in self.entries().iter().filter(|entry| entry["kind"] == "intent") {
            assert!(intended.insert(entry["action_id"].as_str().unwrap().to_owned()), "intended twice: {entry}");
        }
        let done = self.plane.done();
        let keys = done.iter().map(|effect| effect.key.trim_end_matches("-revert").to_owned()).collect::<BTreeSet<_>>();
        assert!(keys.is_subset(&intended), "done and not intended: {:?}", keys.difference(&intended));
        let tokens = self.plane.tokens();
        assert!(tokens.iter().all(|token| *token > 0), "{tokens:?}");
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pulse) = self.pulse.take() {
            let _ = pulse.join();
        }
    }
}

/// Writes the windows of every second.
struct Pulse {
    appender: Arc<dyn Appender>,
    topic: String,
    plane: Plane,
    troubles: Arc<Mutex<Vec<Trouble>>>,
}

impl Pulse {
    fn beat(&self, stop: &AtomicBool) {
        let mut end = now();
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if now() < end + WINDOW {
                continue;
            }
            end += WINDOW;
            for trouble in self.troubles.lock().unwrap().iter() {
                let helped_at = trouble.helped_at(&self.plane);
                if helped_at.is_some_and(|at| at <= end - OLD) {
                    continue;
                }
                let is_well = helped_at.is_some_and(|at| at <= end - WINDOW);
                self.write(&trouble.window(end, if is_well { 0.0 } else { trouble.rule.bad }));
            }
            self.appender.flush(PATIENCE).unwrap();
        }
    }

    fn calm(&self, end: i64) {
        for number in 0..CALM {
            let calm = Trouble::new(&FAILING, &format!("calm-{number}"), None);
            self.write(&calm.window(end, 0.0));
        }
        self.appender.flush(PATIENCE).unwrap();
    }

    fn write(&self, row: &Value) {
        let value = serde_json::to_vec(row).unwrap();
        let outgoing = Outgoing { topic: &self.topic, value: Some(&value), ..Outgoing::default() };
        self.appender.append(outgoing).unwrap();
    }
}

/// Configuration, pipelines, policy and a key in one folder.
fn installation(
    plane: &Plane,
    prefix: &str,
    brokers: &str,
    actions: impl Fn(&str) -> String,
    configuration: &str,
) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/remediate");
    for part in ["pipelines", "sql"] {
        for file in std::fs::read_dir(beside.join(part)).unwrap().map(Result::unwrap) {
            let name = file.file_name().into_string().unwrap();
            write(&format!("{part}/{name}"), &std::fs::read_to_string(file.path()).unwrap());
        }
    }
    let texts = PolicyTexts::shipped();
    write("policy/actions.toml", &actions(&texts.actions.text));
    write("policy/policy.cedar", EVERYTHING);
    write("policy/policy.cedarschema", &texts.schema.text);
    write("audit.key", &format!("{}\n", "7b".repeat(32)));
    let url = plane.url();
    write(
        "maturion.toml",
        &format!(
            "[kafka]\nbrokers = \"{brokers}\"\ntopic_prefix = \"{prefix}\"\npartitions = 1\n[mode]\nactions = \"act\"\n\
             [remediate]\npolicy = \"policy\"\n{configuration}\n[[control]]\nname = \"platform\"\nurl = \"{url}\"\n\
             [audit]\nkey_file = \"audit.key\"\ncheckpoint_interval = \"1s\"\n[watch]\ninterval = \"0s\"\n"
        ),
    );
    folder
}

fn process(folder: &Path, brokers: &str, nth: usize) -> Process {
    Process::start(folder, "remediate", "actor", brokers, folder.join(format!("actor-{nth}.log")))
}

/// The shipped catalogue for stories in real time: what takes minutes there takes seconds, but for the cooldown, which lasts
/// for longer than any story. `reset_pool` must not be asked for twice. At most so many actions are begun.
pub fn hasty(text: &str, overall: usize) -> String {
    let (mut lines, mut kind) = (Vec::new(), "");
    for line in text.lines() {
        let (key, value) = line.split_once(" = ").unwrap_or((line, ""));
        if key == "kind" {
            kind = value;
        }
        lines.push(match key {
            "settle" => "settle = \"1s\"".to_owned(),
            "verify_within" => "verify_within = \"20s\"".to_owned(),
            "cooldown" => "cooldown = \"1h\"".to_owned(),
            "expires_after" => "expires_after = \"6s\"".to_owned(),
            "idempotent" => format!("idempotent = {}", kind != "\"reset_pool\""),
            "action_per_hour" | "organisation_per_hour" | "overall_per_hour" => format!("{key} = {overall}"),
            _ => line.to_owned(),
        });
    }
    lines.join("\n")
}

pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
