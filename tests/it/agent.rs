//! The agent as it is seen from outside: by other processes of the same log, by its own pipelines, and while it runs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::{Log, Position, Rebalance};
use maturion::roles::observe::Observer;
use maturion::serve::status::{Stage, Status};
use serde_json::{Value, json};

use crate::flow::{Flow, Output, shipped};
use crate::kafka::{Kafka, unique_prefix};
use crate::kafka_or_skip;

const SECOND: i64 = 1_000_000;
/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;
/// How often the agent writes how it is, by default.
const WATCH_INTERVAL: i64 = 10 * SECOND;
/// After this a test has failed; nothing is asserted about how long it takes before.
const PATIENCE: Duration = Duration::from_secs(90);

/// The shipped pipelines that watch the agent, and one that reads logs.
fn pipelines() -> Vec<maturion::model::pipeline::Pipeline> {
    let wanted = |name: &str| name.starts_with("agent_") || name == "isolated_errors";
    shipped().into_iter().filter(|pipeline| wanted(&pipeline.name)).collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One process on a log that others share, and its observer.
struct Process {
    flow: Flow,
    observer: Observer,
    now: i64,
}

impl Process {
    fn start(log: &Arc<dyn Log>, prefix: &str, instance: &str, now: i64) -> Process {
        let mut flow = Flow::new(Arc::clone(log), prefix, 1, pipelines());
        flow.runtime.instance = instance.to_owned();
        flow.runtime.board = Arc::new(maturion::serve::status::StatusBoard::new(log.describe_self()).of(instance));
        flow.start();
        eventually("both stages report", || {
            let status = flow.runtime.board.snapshot();
            [Stage::Intake, Stage::Detect].iter().all(|stage| status.partitions.iter().any(|row| row.stage == *stage))
        });
        let observer = Observer::new(flow.runtime.clone(), true).unwrap();
        Process { flow, observer, now }
    }

    /// So many rounds of the observer with the metrics of ten seconds each, every one of them judged before the next.
    fn watch(&mut self, rounds: usize, before_each: &dyn Fn(&Flow, i64)) {
        for _ in 0..rounds {
            before_each(&self.flow, self.now);
            self.observer.listen().unwrap();
            self.observer.ask_ends().unwrap();
            self.observer.write_metrics(self.now).unwrap();
            self.observer.speak().unwrap();
            eventually("the metrics are judged", || {
                let status = self.flow.runtime.board.snapshot();
                let lag = status.pipelines.iter().find(|pipeline| pipeline.pipeline == "agent_lag");
                lag.is_some_and(|lag| lag.watermark_us >= Some(self.now))
            });
            self.now += WATCH_INTERVAL;
        }
    }

    fn detections(&self) -> BTreeSet<(String, String)> {
        let one = |output: &Output| {
            let body = output.json();
            (body["pipeline"].as_str().unwrap().to_owned(), body["series"].to_string())
        };
        self.flow.read(&self.flow.runtime.topics.remediation()).iter().map(one).collect()
    }
}

/// A member of intake's group that takes the partition of the logs and never reads it.
fn hang(log: &Arc<dyn Log>, flow: &Flow) -> Box<dyn maturion::log::Session> {
    let topics = &flow.runtime.topics;
    let mut session = log.session(&topics.group("intake"), &[topics.logs()], "hanging").unwrap();
    eventually("it is given the partition", || {
        match session.poll(Duration::from_millis(20), 1, &mut |_| {}).unwrap() {
            Some(Rebalance::Assigned(partitions)) => {
                let starts = partitions.iter().cloned().map(|partition| Position { partition, offset: 0 });
                session.assign(&starts.collect::<Vec<_>>()).unwrap();
                !partitions.is_empty()
            }
            _ => false,
        }
    });
    session
}

#[test]
fn lag_that_builds_up_is_a_detection_of_the_agents_own() {
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
    let prefix = unique_prefix();
    let mut first = Process::start(&log, &prefix, "first", START);
    let logs = first.flow.runtime.topics.logs();
    first.watch(30, &|flow, now| {
        let healthy = serde_json::to_vec(&json!({ "timestamp": now, "message": "all is well" })).unwrap();
        flow.append(&logs, (0..200).map(|_| (0, healthy.as_slice())));
    });
    assert_eq!(first.detections(), BTreeSet::new(), "nothing fires while all is well");
    first.flow.stop();

    // The process ends, and one that hangs takes its place at the logs.
    let _hanging = hang(&log, &first.flow);
    let mut second = Process::start(&log, &prefix, "second", first.now);
    second.flow.append(&logs, (0..150_000).map(|_| (0, b"{}".as_slice())));
    let rejected = |flow: &Flow, _| flow.append(&flow.runtime.topics.metrics(), (0..60).map(|_| (0, b"?".as_slice())));
    eventually("the silence of the first is noticed", || {
        second.observer.listen().unwrap();
        second.observer.ask_ends().unwrap();
        let status = second.flow.runtime.board.snapshot();
        status.partitions.iter().any(|row| row.topic == logs && row.owner == "first" && row.lag >= 100_000)
    });
    second.watch(48, &rejected);
    let expected = [
        ("agent_dead_letters", json!({ "module": "maturion" })),
        ("agent_gaps", json!({ "module": "maturion" })),
        ("agent_lag", json!({ "module": "maturion", "stage": "intake" })),
    ];
    let expected = expected.map(|(pipeline, series)| (pipeline.to_owned(), series.to_string())).into();
    assert_eq!(second.detections(), expected);
    for output in second.flow.read(&second.flow.runtime.topics.remediation()) {
        let body = output.json();
        assert_eq!((&body["remedy"], &body["module"]), (&Value::Null, &json!("maturion")), "{body}");
    }
    assert_eq!(written(&second.flow), documented());
}

/// Name, unit and attributes of every metric that was written.
fn written(flow: &Flow) -> BTreeSet<(String, String, String)> {
    let records = flow.read(&flow.runtime.topics.metrics());
    let records = records.iter().filter_map(|record| serde_json::from_slice::<Value>(&record.value).ok());
    let one = |record: Value| {
        let attributes = record["attributes"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let attributes = attributes.into_iter().collect::<Vec<_>>();
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        (text("name"), text("unit"), attributes.join(", "))
    };
    records.map(one).collect()
}

/// The same from the reference.
fn documented() -> BTreeSet<(String, String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md")).unwrap();
    let section = text.split_once("\n### The agent's own metrics\n").unwrap().1.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect());
    cells.map(|cells: Vec<String>| (cells[0].clone(), cells[1].clone(), cells[2].clone())).collect()
}

/// A `maturion run` that ends with the test, however it ends.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(kafka: &Kafka, prefix: &str, instance: &str, roles: &str) -> Running {
        let mut command = maturion(kafka, prefix);
        command.args(["run", "--log-format", "json", "--instance", instance, "--roles", roles]);
        command.env("MATURION__SERVE__HTTP", "127.0.0.1:0").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut address = String::new();
        for line in lines.by_ref() {
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            match event["fields"]["event"].as_str() {
                Some("http_listening") => event["fields"]["address"].as_str().unwrap().clone_into(&mut address),
                Some("running") => break,
                _ => {}
            }
        }
        // Nobody may have to wait because its standard error is full.
        std::thread::spawn(move || lines.for_each(drop));
        Running { child, address }
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let config = ureq::Agent::config_builder().proxy(None).build();
        let asked = ureq::Agent::new_with_config(config).get(format!("http://{}{path}", self.address)).call();
        asked.and_then(|mut answer| answer.body_mut().read_to_string()).map_err(|error| error.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It can only fail if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn maturion(kafka: &Kafka, prefix: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.env("MATURION__KAFKA__BROKERS", &kafka.brokers).env("MATURION__KAFKA__TOPIC_PREFIX", prefix);
    command.env("MATURION__WATCH__INTERVAL", "1s").current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[test]
fn a_process_that_only_serves_shows_what_all_do() {
    let kafka = kafka_or_skip!();
    let prefix = unique_prefix();
    let topics = maturion(kafka, &prefix).arg("topics").stdout(Stdio::null()).status().unwrap();
    assert!(topics.success());
    let _detect = Running::start(kafka, &prefix, "one", "detect");
    let _intake = Running::start(kafka, &prefix, "two", "intake");
    let door = Running::start(kafka, &prefix, "three", "serve");
    let mut last = String::new();
    eventually("its status is complete", || {
        last = door.get("/status").unwrap();
        let status: Status = serde_json::from_str(&last).unwrap();
        let owned =
            |stage, owner| status.partitions.iter().filter(|row| row.stage == stage && row.owner == owner).count();
        // The agent's own metrics are telemetry like any other, so there is an event time.
        let has_come =
            |name: &str| status.pipelines.iter().any(|row| row.pipeline == name && row.watermark_us.is_some());
        owned(Stage::Detect, "one") == 4 && owned(Stage::Intake, "two") == 8 && has_come("agent_lag")
    });
    assert_eq!(door.get("/health/ready").as_deref(), Ok("ready\n"), "{last}");
    assert_eq!(door.get("/health/live").as_deref(), Ok("live\n"));
    assert!(!door.get("/metrics").unwrap().contains("maturion_lag_records"), "it owns nothing");
    let mut command = maturion(kafka, &prefix);
    let shown = command.arg("status").env("MATURION__SERVE__HTTP", &door.address).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in ["three: running", "STAGE", "PIPELINE", "two", "one", "agent_lag"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}
