//! What the actor costs: 100,000 open incidents in memory, and the way from a detection to its audited intent on Kafka.
//!
//! `cargo bench --bench remediate`. Detections are written one by one to the remediation topic; the time ends when a reader
//! of committed records has the intent's entry of the audit. Nothing is called: the mode is act, and no control plane is
//! configured, so that each attempt ends after its intent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kafka::{Broker, PARTITIONS, cost, runtime, shipped};
use maturion::act::Adapters;
use maturion::config::PolicyTexts;
use maturion::decide::Policy;
use maturion::incident::book::{Book, Settings};
use maturion::incident::claim::Rules;
use maturion::log::{Outgoing, Partition, Position};
use maturion::model::action::Mode;
use maturion::model::detection::{detection_id, format_time, incident_id};
use maturion::model::series::{Label, Series};
use maturion::roles::remediate::hands::{PlatformHands, Reach};
use maturion::roles::remediate::{Remediate, RemediateSettings};
use serde_json::json;

const INCIDENTS: usize = 100_000;
const DETECTIONS: usize = 500;
const OPENED: &str = "maturion.detection.opened.v1";
const MINUTE: i64 = 60_000_000;

fn main() {
    memory();
    latency();
}

/// A policy with budgets that do not end.
fn policy() -> Arc<Policy> {
    let mut texts = PolicyTexts::shipped();
    texts.actions.text = texts.actions.text.replace("_per_hour = ", "_per_hour = 10000 #");
    Arc::new(Policy::compile(&texts, &[]).expect("a policy"))
}

fn detection(module: &str, now: i64) -> Vec<u8> {
    let (pipeline, rule) = ("module_api_errors", "error_rate");
    let series = Series(vec![("module".to_owned(), Label::Text(module.to_owned()))]);
    let body = json!({
        "update": 0, "detection_id": detection_id(pipeline, rule, &series, now), "pipeline": pipeline, "rule": rule,
        "technique": "threshold", "organisation_id": null, "module": module, "series": {"module": module},
        "window_start": format_time(now - MINUTE), "window_end": format_time(now), "complete": true,
        "measure": "error_rate", "value": 0.1, "samples": 4_210, "threshold": 0.01, "baseline": null, "score": null,
        "severity": "high", "scope": "trivial", "remedy": {"action": "function_recycle", "target": module},
        "incident_id": incident_id(pipeline, rule, &series, now),
        "evidence_sql": "SELECT * FROM (SELECT …) AS evidence WHERE window_start BETWEEN …",
    });
    serde_json::to_vec(&body).expect("JSON")
}

fn memory() {
    let pipelines = shipped(&["module_api_errors"]);
    let rules = Rules::new(pipelines.iter().map(|pipeline| (pipeline, MINUTE)));
    let mut book = Book::new(rules, policy(), Settings { mode: Mode::Observe, ..Settings::default() });
    let now = chrono::Utc::now().timestamp_micros();
    let before = cost().1;
    let mut took = Duration::ZERO;
    for number in 0..INCIDENTS {
        let message = detection(&format!("module-{number}"), now);
        let began = Instant::now();
        book.hear(OPENED, &message, now).expect("heard");
        book.tick(now, 0);
        let outputs = book.take_outputs();
        took += began.elapsed();
        assert_eq!(outputs.facts.len(), 1, "one decision");
    }
    let took = took.as_secs_f64();
    assert_eq!(book.incidents().count(), INCIDENTS);
    println!(
        "{INCIDENTS} open incidents: {} MiB above {before}; {:.0} detections heard, decided and noted a second",
        cost().1 - before,
        INCIDENTS as f64 / took
    );
}

fn latency() {
    let broker = Broker::find();
    let prefix = format!("bench-{}.", std::process::id());
    let runtime = runtime(&broker.address, &prefix, shipped(&["module_api_errors"]));
    let settings = RemediateSettings {
        policy: policy(),
        book: Settings { mode: Mode::Act, ..Settings::default() },
        kill_switch: "no-such-file.stop".into(),
        signing: None,
        silences: Vec::new(),
        tickets: None,
        routing: None,
    };
    let reach =
        Reach { adapters: Arc::new(Adapters::new(&[], &[]).expect("none")), github: None, logs: None, sender: None };
    let stop = Arc::new(AtomicBool::new(false));
    let (worker, seen) = (runtime.clone(), Arc::clone(&stop));
    let worker = std::thread::spawn(move || {
        let hands = PlatformHands::new(&reach).expect("hands");
        Remediate::new(worker, settings, hands).run(&seen).unwrap_or_else(|error| panic!("{error}"));
    });
    let (audit, remediation) = (runtime.topics.audit(), runtime.topics.remediation());
    let start = Position { partition: Partition { topic: audit.as_str().into(), number: 0 }, offset: 0 };
    let mut reader = runtime.log.reader(&[start]).expect("a reader");
    let appender = runtime.log.appender().expect("an appender");
    healthy(&runtime);
    std::thread::sleep(Duration::from_secs(8));
    let mut times = Vec::with_capacity(DETECTIONS);
    for number in 0..DETECTIONS {
        let module = format!("module-{number}");
        let value = detection(&module, chrono::Utc::now().timestamp_micros());
        let headers = [("ce_type", OPENED.as_bytes())];
        let partition = Some(number as i32 % PARTITIONS);
        let began = Instant::now();
        let record =
            Outgoing { topic: &remediation, partition, value: Some(&value), headers: &headers, ..Outgoing::default() };
        appender.append(record).expect("sent");
        let mut is_there = false;
        while !is_there && began.elapsed() < Duration::from_secs(20) {
            reader
                .poll(Duration::from_millis(5), 1_000, &mut |record| {
                    let entry: serde_json::Value =
                        serde_json::from_slice(record.value.unwrap_or_default()).expect("JSON");
                    is_there |= entry["kind"] == "intent" && entry["target"] == module.as_str();
                })
                .expect("read");
        }
        assert!(is_there, "no intent for {module}");
        times.push(began.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    worker.join().expect("the worker ends");
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{DETECTIONS} detections to their audited intents on Kafka: p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms, worst {:.0} ms",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    );
}

/// A window of many modules: an incident in each of some hundred must be few of all.
fn healthy(runtime: &maturion::roles::Runtime) {
    let (topic, now) = (runtime.topics.windows(), chrono::Utc::now().timestamp_micros());
    let appender = runtime.log.appender().expect("an appender");
    for number in 0..DETECTIONS * 3 {
        let row = json!({
            "pipeline": "module_api_errors", "module": format!("healthy-{number}"), "window_start": format_time(now - MINUTE),
            "window_end": format_time(now), "error_rate": 0.0, "requests": 4_000,
        });
        let value = serde_json::to_vec(&row).expect("JSON");
        appender
            .append(Outgoing { topic: &topic, partition: Some(0), value: Some(&value), ..Outgoing::default() })
            .expect("sent");
    }
    appender.flush(Duration::from_secs(30)).expect("acknowledged");
}
