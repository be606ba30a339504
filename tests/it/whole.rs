//! The whole way on real Kafka: a real web log through the shipped pipelines, a restart in the middle, bad records.

use std::process::Command;
use std::sync::Arc;

use maturion::log::Log;
use serde_json::{Value, json};

use crate::flow::{Flow, Output, shipped};
use crate::kafka::{Kafka, unique_prefix};
use crate::oracle::compare;
use crate::straight::Straight;
use crate::subject::connect;

const PARTITIONS: i32 = 4;
pub const MINUTE: i64 = 60_000_000;
/// 2025-12-03T10:00:00Z, in microseconds.
pub const START: i64 = 1_764_756_000_000_000;

fn log(kafka: &Kafka) -> Arc<dyn Log> {
    Arc::new(connect(&kafka.brokers, &[]).expect("Kafka"))
}

/// One record per partition from far later, so that everything before it closes.
fn close(flow: &Flow, topic: &str, last: i64) {
    let closer = serde_json::to_vec(&json!({ "timestamp": last + 60 * MINUTE, "event": "closer" })).expect("JSON");
    flow.append(topic, (0..PARTITIONS).map(|partition| (partition, closer.as_slice())));
    flow.wait_until_closed(last + 30 * MINUTE);
}

fn windows(flow: &Flow) -> Vec<Value> {
    flow.read(&flow.runtime.topics.windows()).iter().map(Output::json).collect()
}

#[test]
fn a_real_web_log_replayed_through_kafka_equals_the_batch() {
    let kafka = crate::kafka_or_skip!();
    let prefix = unique_prefix();
    let logs_only = shipped().into_iter().filter(|pipeline| pipeline.source == maturion::model::pipeline::Source::Logs);
    let mut flow = Flow::new(log(kafka), &prefix, PARTITIONS, logs_only.collect());
    flow.start();
    let replayed = Command::new(env!("CARGO_BIN_EXE_maturion"))
        .args(["generate", "--replay", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/apache_combined_200.log")])
        .args(["--format", "combined", "--module", "web", "--brokers", &kafka.brokers])
        .env("MATURION__KAFKA__TOPIC_PREFIX", &prefix)
        .output()
        .expect("maturion runs");
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let topic = flow.runtime.topics.logs();
    let records = flow.read(&topic).into_iter().map(|output| output.value).collect::<Vec<_>>();
    assert_eq!(records.len(), 200);
    // The extract ends on 17 May 2015.
    close(&flow, &topic, 1_431_907_200_000_000);
    flow.stop();
    let streamed = windows(&flow);
    let rows = flow.runtime.set.pipelines().iter().map(|compiled| {
        let pipeline = &compiled.pipeline;
        compare(&streamed, &records, &pipeline.name, &pipeline.series, &pipeline.sql)
    });
    assert!(rows.sum::<usize>() > 0);
}

/// Half an hour of one module in which, from the tenth minute to the twentieth, every fifth request fails.
pub fn outage() -> Vec<Vec<u8>> {
    let record = |nth: i64| {
        let time = START + nth * MINUTE / 400;
        let is_ill = (10..20).contains(&((time - START) / MINUTE));
        let status = if is_ill && nth % 5 == 0 { 503 } else { 200 };
        let record = json!({
            "timestamp": time, "organisation_id": format!("org_{}", nth % 3), "module": "risk-matrix",
            "event": "http_request", "status_code": status, "duration_ms": 40 + nth % 20,
        });
        serde_json::to_vec(&record).expect("JSON")
    };
    (0..30 * 400).map(record).collect()
}

/// What was said of whom, with the ids; the moment of a `continuous` rule's first word may differ with arrival.
pub fn said(detections: &[Output]) -> Vec<(String, String, String)> {
    let one = |output: &Output| {
        let body = output.json();
        let rule = format!("{}.{} {}", body["pipeline"], body["rule"], body["series"]);
        (rule, output.header("ce_type").to_owned(), output.header("ce_id").to_owned())
    };
    let mut said = detections.iter().map(one).collect::<Vec<_>>();
    said.sort();
    said
}

#[test]
fn a_restart_in_the_middle_repeats_nothing_and_loses_nothing() {
    let kafka = crate::kafka_or_skip!();
    let prefix = unique_prefix();
    let records = outage();
    let mut flow = Flow::new(log(kafka), &prefix, PARTITIONS, shipped());
    let topic = flow.runtime.topics.logs();
    for part in records.chunks(records.len() / 5 + 1) {
        flow.start();
        let spread = part.iter().enumerate().map(|(nth, value)| (nth as i32 % PARTITIONS, value.as_slice()));
        flow.append(&topic, spread);
        std::thread::sleep(std::time::Duration::from_millis(500));
        // Some open panes are written down, so that a restart has something to put back.
        let is_written = |panes: &[Output]| panes.iter().any(|pane| !pane.value.is_empty());
        flow.wait_for(&flow.runtime.topics.panes(), is_written);
        flow.stop();
    }
    flow.start();
    close(&flow, &topic, START + 30 * MINUTE);
    flow.stop();
    let streamed = windows(&flow);
    for compiled in flow.runtime.set.pipelines() {
        let pipeline = &compiled.pipeline;
        if pipeline.source == maturion::model::pipeline::Source::Logs {
            compare(&streamed, &records, &pipeline.name, &pipeline.series, &pipeline.sql);
        }
    }
    let detections = flow.read(&flow.runtime.topics.remediation());
    let mut ids = detections.iter().map(|output| output.header("ce_id").to_owned()).collect::<Vec<_>>();
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "an event was written twice");

    // The same records, never stopped, in one thread and without a log.
    let mut straight = Straight::new(shipped());
    let mut expected = Vec::new();
    for (nth, part) in records.chunks(100).enumerate() {
        expected.extend(straight.step(START + (nth as i64 + 1) * MINUTE / 4, part, &[]).detections);
    }
    let closer = serde_json::to_vec(&json!({ "timestamp": START + 90 * MINUTE })).expect("JSON");
    expected.extend(straight.step(START + 90 * MINUTE, &[closer], &[]).detections);
    let mut expected = expected
        .iter()
        .map(|detection| {
            let rule = format!("\"{}\".\"{}\" {}", detection.pipeline, detection.rule, detection.series.to_json());
            (rule, detection.change.event_type().to_owned(), detection.event_id())
        })
        .collect::<Vec<_>>();
    expected.sort();
    assert!(expected.iter().any(|(_, change, _)| change.contains("opened")));
    assert!(expected.iter().any(|(_, change, _)| change.contains("resolved")));
    assert_eq!(said(&detections), expected);
}

#[test]
fn every_bad_record_is_a_dead_letter_with_its_bytes_and_a_reason() {
    let kafka = crate::kafka_or_skip!();
    let mut flow = Flow::new(log(kafka), &unique_prefix(), PARTITIONS, shipped());
    let topic = flow.runtime.topics.logs();
    let bad: [&[u8]; 6] =
        [b"", b"not JSON", b"[1]", b"\xff\xfe", b"{\"timestamp\":\"yesterday\"}", b"{\"status_code\":\"200\"}"];
    flow.start();
    flow.append(&topic, bad.iter().enumerate().map(|(nth, value)| (nth as i32 % PARTITIONS, *value)));
    flow.append(&topic, [(0, b"{\"message\":\"good\"}".as_slice())]);
    let letters = flow.wait_for(&flow.runtime.topics.dead_letter(), |letters| letters.len() >= bad.len());
    flow.stop();
    assert_eq!(letters.len(), bad.len());
    for value in bad {
        let letter = letters.iter().find(|letter| letter.value == value).expect("the bytes, unchanged");
        assert!(!letter.header("reason").is_empty());
        assert_eq!(letter.header("topic"), topic);
        letter.header("partition").parse::<i32>().expect("a partition");
        letter.header("offset").parse::<i64>().expect("an offset");
    }
}

/// Requests per organisation, and over them the organisations and requests of a module: the second reads the windows
/// of the first, whose series lie in other partitions.
#[test]
fn a_pipeline_over_another_ones_windows_equals_the_batch() {
    let kafka = crate::kafka_or_skip!();
    let lateness = std::time::Duration::from_secs(10);
    let first = crate::flow::pipeline(
        "by_organisation",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module, count(*) AS requests
         FROM logs WHERE event = 'http_request' GROUP BY 1, 2, 3",
        &["organisation_id", "module"],
        lateness,
    );
    let mut second = crate::flow::pipeline(
        "by_module",
        "SELECT tumble(window_start, INTERVAL '5 minutes') AS window_start, module, sum(requests) AS requests,
                approx_distinct(organisation_id) AS organisations
         FROM by_organisation GROUP BY 1, 2",
        &["module"],
        std::time::Duration::ZERO,
    );
    second.source = maturion::model::pipeline::Source::Windows("by_organisation".to_owned());
    let mut flow = Flow::new(log(kafka), &unique_prefix(), PARTITIONS, vec![second, first]);
    let topic = flow.runtime.topics.logs();
    let records = outage();
    flow.start();
    flow.append(&topic, records.iter().enumerate().map(|(nth, value)| (nth as i32 % PARTITIONS, value.as_slice())));
    close(&flow, &topic, START + 30 * MINUTE);
    flow.stop();
    let direct = "SELECT tumble(timestamp, INTERVAL '5 minutes') AS window_start, module, count(*) AS requests,
                         approx_distinct(organisation_id) AS organisations
                  FROM logs WHERE event = 'http_request' GROUP BY 1, 2";
    assert_eq!(compare(&windows(&flow), &records, "by_module", &["module"], direct), 6);
}
