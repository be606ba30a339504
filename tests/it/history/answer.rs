//! The answer: that of plain SQL over the same rows, and that of a stream of the same records.

use std::sync::Arc;
use std::time::Duration;

use maturion::backfill::{self, Settings};
use maturion::log::Log;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::pipeline::Source;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::{SECOND, backfill_of, backfill_with, compiled, request, write};
use crate::flow::{Flow, Output, pipeline, shipped};
use crate::kafka::unique_prefix;
use crate::oracle::{STATEMENTS, compare};
use crate::subject::connect;
use crate::whole::{MINUTE, START, outage, said};

/// Log records of every shape, up to nine seconds out of order, with gaps between them.
fn records(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut now = START;
    let record = |_| {
        now += if chance.random_ratio(1, 50) { 40 * SECOND } else { chance.random_range(0..400_000) };
        let route = chance.random_range(0..40);
        let text = |chance: &mut StdRng| match chance.random_range(0..8) {
            0 => json!(null),
            1 => json!(""),
            n => json!(format!("{}", n % 3)),
        };
        let record = json!({
            "timestamp": now - chance.random_range(0..9 * SECOND),
            "organisation_id": text(&mut chance), "module": text(&mut chance), "message": text(&mut chance),
            "status_code": ([json!(200), json!(503), json!(null)][chance.random_range(0..3)]),
            "duration_ms": ([json!(chance.random_range(0.0..10_000.0)), json!(null)][chance.random_range(0..2)]),
            "level": (["INFO", "debug", "Error"][chance.random_range(0..3)]),
            "event": (["http_request", "export"][usize::from(chance.random_ratio(1, 5))]),
            "handled": ([json!(true), json!(false), json!(null)][chance.random_range(0..3)]),
            "route": format!("/Route/{route}"), "user_id": format!("u{}", route % 7),
        });
        serde_json::to_vec(&record).expect("JSON")
    };
    (0..count).map(record).collect()
}

#[test]
fn every_window_equals_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = STATEMENTS.iter().map(|(name, series, sql)| pipeline(name, sql, series, Duration::from_secs(10)));
    let set = compiled(pipelines.collect());
    for seed in [1, 2] {
        println!("seed {seed}");
        let records = records(seed, 30_000);
        let heard = backfill_of(&[write(folder.path(), "all.ndjson", &records)], &set);
        assert_eq!((heard.report.rows, heard.late()), (records.len() as u64, 0));
        for (name, series, sql) in STATEMENTS {
            assert!(compare(&heard.windows, &records, name, series, sql) > 0, "{name}");
        }
    }
}

#[test]
fn no_order_within_the_bound_matters() {
    let folder = tempfile::tempdir().unwrap();
    let set = compiled(shipped().into_iter().filter(|pipeline| pipeline.source == Source::Logs).collect());
    let mut records = outage();
    let in_order = backfill_of(&[write(folder.path(), "ordered.ndjson", &records)], &set);
    records.shuffle(&mut StdRng::seed_from_u64(7));
    let shuffled = backfill_of(&[write(folder.path(), "shuffled.ndjson", &records)], &set);
    assert_eq!(shuffled.late(), 0);
    assert_eq!(shuffled.said(), in_order.said());
    for compiled in set.pipelines() {
        let pipeline = &compiled.pipeline;
        compare(&shuffled.windows, &records, &pipeline.name, &pipeline.series, &pipeline.sql);
    }
}

#[test]
fn what_is_further_out_of_order_than_the_bound_is_late_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let counts = pipeline(
        "counts",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n FROM logs GROUP BY 1, 2",
        &["module"],
        Duration::from_secs(10),
    );
    // Between the record and another of its minute there is a whole chunk of later hours.
    let padding = "x".repeat(1_000);
    let lines = backfill::chunk_bytes() / 1_000 * 5 / 2;
    let mut records = vec![request(START, "a", 200)];
    records.extend((0..lines as i64).map(|nth| request(START + 2 * 60 * MINUTE + nth, &padding, 200)));
    records.push(request(START, "a", 200));
    let path = write(folder.path(), "late.ndjson", &records);
    let set = compiled(vec![counts]);
    let heard = backfill_of(std::slice::from_ref(&path), &set);
    assert_eq!(heard.late(), 1);
    let counted = heard.windows.iter().map(|window| window["n"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(counted + 1, records.len() as u64);
    let patient = Settings { disorder: 3 * 60 * MINUTE, ..Settings::default() };
    assert_eq!(backfill_with(&[path], &set, &patient).late(), 0);
}

/// Backfill of the outage against a stream of it.
fn equals_the_stream(log: Arc<dyn Log>, prefix: &str) {
    let folder = tempfile::tempdir().unwrap();
    let records = outage();
    let partitions = 4;
    let mut flow = Flow::new(log, prefix, partitions, shipped());
    let topic = flow.runtime.topics.logs();
    // So that every partition of metrics has come as far as those of logs.
    let closer = serde_json::to_vec(&json!({ "timestamp": START + 90 * MINUTE, "event": "closer" })).expect("JSON");
    flow.append(&topic, records.iter().enumerate().map(|(nth, value)| (nth as i32 % partitions, value.as_slice())));
    flow.append(&topic, (0..partitions).map(|partition| (partition, closer.as_slice())));
    flow.start();
    flow.wait_until_closed(START + 60 * MINUTE);
    flow.stop();
    let streamed = flow.read(&flow.runtime.topics.windows()).iter().map(Output::json).collect::<Vec<_>>();
    let detections = flow.read(&flow.runtime.topics.remediation());
    let set = compiled(shipped());
    let heard = backfill_of(&[write(folder.path(), "outage.ndjson", &records)], &set);
    assert!(!detections.is_empty());
    assert_eq!(heard.said(), said(&detections));
    for compiled in set.pipelines().iter().filter(|compiled| compiled.pipeline.source == Source::Logs) {
        let pipeline = &compiled.pipeline;
        let rows = compare(&heard.windows, &records, &pipeline.name, &pipeline.series, &pipeline.sql);
        assert_eq!(rows, compare(&streamed, &records, &pipeline.name, &pipeline.series, &pipeline.sql));
    }
}

#[test]
fn backfill_equals_streaming_in_process() {
    equals_the_stream(Arc::new(EmbeddedLog::new(EmbeddedSettings::default())), "");
}

#[test]
fn backfill_equals_streaming_through_kafka() {
    let kafka = crate::kafka_or_skip!();
    equals_the_stream(Arc::new(connect(&kafka.brokers, &[]).expect("Kafka")), &unique_prefix());
}

#[test]
fn the_same_input_gives_the_same_bits_on_any_number_of_cores() {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = STATEMENTS.iter().map(|(name, series, sql)| pipeline(name, sql, series, Duration::from_secs(10)));
    let set = compiled(pipelines.collect());
    let path = write(folder.path(), "all.ndjson", &records(3, 40_000));
    let with = |workers| {
        backfill_with(std::slice::from_ref(&path), &set, &Settings { workers, ..Settings::default() }).windows
    };
    let one = with(1);
    assert!(!one.is_empty());
    assert!(one == with(2) && one == with(5));
}

/// The windows of one pipeline are the rows of another, which closes its own when nothing more can come.
#[test]
fn a_pipeline_over_windows_equals_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let first = pipeline(
        "by_organisation",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module, count(*) AS requests
         FROM logs WHERE event = 'http_request' GROUP BY 1, 2, 3",
        &["organisation_id", "module"],
        Duration::from_secs(10),
    );
    let mut second = pipeline(
        "by_module",
        "SELECT tumble(window_start, INTERVAL '5 minutes') AS window_start, module, sum(requests) AS requests
         FROM by_organisation GROUP BY 1, 2",
        &["module"],
        Duration::ZERO,
    );
    second.source = Source::Windows("by_organisation".to_owned());
    let records = outage();
    let heard = backfill_of(&[write(folder.path(), "all.ndjson", &records)], &compiled(vec![second, first]));
    let direct = "SELECT tumble(timestamp, INTERVAL '5 minutes') AS window_start, module, count(*) AS requests
                  FROM logs WHERE event = 'http_request' GROUP BY 1, 2";
    assert_eq!(compare(&heard.windows, &records, "by_module", &["module"], direct), 6);
}

/// Disorder is waited for before the first row too, but the pipeline is not watched from there on.
#[test]
fn what_is_known_counts_from_the_first_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut exceptions = shipped().into_iter().find(|pipeline| pipeline.name == "module_exceptions").unwrap();
    exceptions.rules[0].warmup_windows = 3;
    exceptions.rules[0].inhibits.clear();
    let padding = "x".repeat(1_000);
    let rows = backfill::chunk_bytes() as i64 / 1_000 * 3;
    let step = 10 * MINUTE / rows;
    let mut records = (0..rows).map(|nth| request(START + nth * step, &padding, 200)).collect::<Vec<_>>();
    let exception = |time: i64, name: &str| {
        let record = json!({ "timestamp": time, "module": "a", "exception_type": name, "handled": false });
        serde_json::to_vec(&record).expect("JSON")
    };
    records.insert((6 * MINUTE / step) as usize, exception(START + 6 * MINUTE, "New"));
    records.insert((MINUTE / step) as usize, exception(START + MINUTE, "Known"));
    let heard = backfill_of(&[write(folder.path(), "a.ndjson", &records)], &compiled(vec![exceptions]));
    let said = heard.detections.iter().map(|detection| detection.series.text("exception_type")).collect::<Vec<_>>();
    assert_eq!(said, [Some("New")]);
}
