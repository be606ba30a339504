//! `--warm-baselines`: live processing that goes on where a history ended is one stream with it.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maturion::backfill::{SetReport, Settings};
use maturion::log::Log;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::pipeline::Pipeline;
use maturion::roles::detect::{WarmError, warm};
use maturion::serve::status::RoleState;
use serde_json::{Value, json};

use super::{Heard, backfill_of, backfill_with, compiled, write};
use crate::flow::{Flow, Output, pipeline, shipped};
use crate::kafka::unique_prefix;
use crate::oracle::{STATEMENTS, compare};
use crate::subject::connect;
use crate::whole::{MINUTE, START, outage, said};

const PARTITIONS: i32 = 4;
/// In the middle of the outage: a detection is open, and so are windows that hop.
const END: i64 = START + 15 * MINUTE;

/// Those of Maturion, and one with windows that are open at any moment.
fn pipelines() -> Vec<Pipeline> {
    let hopping = STATEMENTS.iter().filter(|(name, ..)| *name == "hopping");
    let hopping = hopping.map(|(name, series, sql)| pipeline(name, sql, series, Duration::from_secs(10)));
    shipped().into_iter().chain(hopping).collect()
}

fn time(record: &[u8]) -> i64 {
    let record: Value = serde_json::from_slice(record).unwrap();
    record["timestamp"].as_i64().unwrap()
}

/// History up to `END`, as a backfill that hands over.
fn history(records: &[Vec<u8>]) -> Heard {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "all.ndjson", records);
    let settings = Settings { to: END, hands_over: true, ..Settings::default() };
    backfill_with(&[path], &compiled(pipelines()), &settings)
}

fn warm_up(flow: &Flow, history: &SetReport) -> Result<(), WarmError> {
    warm(&flow.runtime, &flow.runtime.set, history, history.handover.as_ref().expect("a history that hands over"))
}

/// One record per partition from far later, so that everything before it closes.
fn close(flow: &Flow) {
    let closer = serde_json::to_vec(&json!({ "timestamp": START + 90 * MINUTE, "event": "closer" })).expect("JSON");
    for topic in [flow.runtime.topics.logs(), flow.runtime.topics.metrics()] {
        flow.append(&topic, (0..PARTITIONS).map(|partition| (partition, closer.as_slice())));
    }
}

fn goes_on(log: Arc<dyn Log>, prefix: &str) {
    let records = outage();
    let past = history(&records);
    let mut flow = Flow::new(log, prefix, PARTITIONS, pipelines());
    warm_up(&flow, &past.report.sets[0]).unwrap_or_else(|error| panic!("{error}"));
    // The topic also has five minutes of what history has: that is late, and nothing is counted twice.
    let live = records.iter().filter(|record| time(record) >= END - 5 * MINUTE);
    let topic = flow.runtime.topics.logs();
    flow.append(&topic, live.enumerate().map(|(nth, value)| (nth as i32 % PARTITIONS, value.as_slice())));
    close(&flow);
    flow.start();
    flow.wait_until_closed(START + 60 * MINUTE);
    let late = flow.runtime.board.snapshot().pipelines.iter().map(|pipeline| pipeline.late_rows).sum::<u64>();
    flow.stop();
    assert!(late > 0, "what history has was not late");
    let streamed = flow.read(&flow.runtime.topics.windows()).iter().map(Output::json).collect::<Vec<_>>();
    let (last, first) = (latest_end(&past.windows), earliest_start(&streamed, "api_errors"));
    assert_eq!((last.as_str(), first.as_str()), ("2025-12-03T10:15:00Z", "2025-12-03T10:15:00Z"));
    let windows = past.windows.iter().cloned().chain(streamed).collect::<Vec<_>>();
    for compiled in flow.runtime.set.pipelines() {
        let pipeline = &compiled.pipeline;
        if pipeline.source == maturion::model::pipeline::Source::Logs {
            compare(&windows, &records, &pipeline.name, &pipeline.series, &pipeline.sql);
        }
    }
    let mut told = past.said();
    assert!(told.iter().any(|(_, change, _)| change.ends_with("opened.v1")), "{told:?}");
    let live = said(&flow.read(&flow.runtime.topics.remediation()));
    assert!(live.iter().any(|(_, change, _)| change.ends_with("resolved.v1")), "{live:?}");
    told.extend(live);
    told.sort();
    let folder = tempfile::tempdir().unwrap();
    let whole = backfill_of(&[write(folder.path(), "all.ndjson", &records)], &compiled(pipelines()));
    assert_eq!(told, whole.said());
    let refused = warm_up(&flow, &past.report.sets[0]).unwrap_err();
    assert!(matches!(refused, WarmError::HasBegun { .. }), "{refused}");
}

fn latest_end(windows: &[Value]) -> String {
    windows.iter().map(|window| window["window_end"].as_str().unwrap().to_owned()).max().unwrap()
}

fn earliest_start(windows: &[Value], pipeline: &str) -> String {
    let of = windows.iter().filter(|window| window["pipeline"] == pipeline);
    of.map(|window| window["window_start"].as_str().unwrap().to_owned()).min().unwrap()
}

#[test]
fn live_processing_goes_on_where_history_ended_in_process() {
    goes_on(Arc::new(EmbeddedLog::new(EmbeddedSettings::default())), "");
}

#[test]
fn live_processing_goes_on_where_history_ended_through_kafka() {
    let kafka = crate::kafka_or_skip!();
    goes_on(Arc::new(connect(&kafka.brokers, &[]).expect("Kafka")), &unique_prefix());
}

#[test]
fn what_runs_or_has_begun_is_not_warmed() {
    let kafka = crate::kafka_or_skip!();
    let past = history(&outage());
    let log: Arc<dyn Log> = Arc::new(connect(&kafka.brokers, &[]).expect("Kafka"));
    let flow = Flow::new(Arc::clone(&log), &unique_prefix(), PARTITIONS, pipelines());
    let roles = flow.runtime.start(false, true).expect("detect starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    let runs = || flow.runtime.board.snapshot().roles.iter().any(|role| role.state == RoleState::Running);
    while !runs() {
        assert!(Instant::now() < deadline, "detect was given no partitions");
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = warm_up(&flow, &past.report.sets[0]).unwrap_err();
    assert!(matches!(refused, WarmError::IsRunning(_)), "{refused}");
    roles.stop().unwrap_or_else(|error| panic!("{error}"));
    // Twice is once too often.
    let flow = Flow::new(log, &unique_prefix(), PARTITIONS, pipelines());
    warm_up(&flow, &past.report.sets[0]).unwrap_or_else(|error| panic!("{error}"));
    let refused = warm_up(&flow, &past.report.sets[0]).unwrap_err();
    assert!(matches!(refused, WarmError::HasBegun { .. }), "{refused}");
}

#[test]
fn the_command_warms_and_says_where_live_processing_goes_on() {
    let kafka = crate::kafka_or_skip!();
    let (folder, prefix) = (tempfile::tempdir().unwrap(), unique_prefix());
    write(folder.path(), "outage.ndjson", &outage());
    let run = |brokers: &str, to: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_maturion"))
            .args(["backfill", "--input", "outage.ndjson", "--write", "--warm-baselines", "--to", to])
            .current_dir(folder.path())
            .env("MATURION__KAFKA__BROKERS", brokers)
            .env("MATURION__KAFKA__TOPIC_PREFIX", &prefix)
            .env("MATURION__STORE__URL", "file:store")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let end = "2025-12-03T10:15:00Z";
    let (code, _, error) = run("embedded", end);
    assert_eq!(code, 2, "{error}");
    assert!(error.ends_with("set kafka.brokers\n"), "{error}");
    let (code, _, error) = run(&kafka.brokers, "2025-12-03T10:15:30Z");
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("take 2025-12-03T10:15:00Z or 2025-12-03T10:16:00Z"), "{error}");
    let (code, _, error) = run(&kafka.brokers, "2525-12-03T10:15:00Z");
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("future"), "{error}");
    let log: Arc<dyn Log> = Arc::new(connect(&kafka.brokers, &[]).expect("Kafka"));
    drop(Flow::new(log, &prefix, PARTITIONS, shipped()));
    let (code, out, error) = run(&kafka.brokers, end);
    assert_eq!(code, 0, "{error}");
    let expected = "stored 135 rows of windows and 1 row of detections in file:store (job ";
    assert!(
        out.contains(expected) && out.ends_with("and goes on with what happens from 2025-12-03T10:15:00Z on\n"),
        "{out}"
    );
    let (code, _, error) = run(&kafka.brokers, end);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("live processing has begun"), "{error}");
}
