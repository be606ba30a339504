//! Limits: what happens to series, windows and rows beyond them. Nothing is lost, and what is known is not displaced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::evaluate::PipelineSet;
use maturion::evaluate::shard::{LOGS_SOURCE, Outputs, Shard, VERSIONS_MAX};
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::pipeline::{Limits, Micros};
use maturion::window::aggregator::Aggregator;
use maturion::window::clock::Heartbeat;
use maturion::window::open::{OpenWindows, WindowRows};
use maturion::window::partial::Message;
use maturion::window::plan::WindowPlan;
use maturion::window::rows;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::flow::{Flow, Output, pipeline};
use crate::straight::Straight;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
/// 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000 * SECOND;
const TUMBLE: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n,
                             sum(duration_ms) AS total FROM logs GROUP BY 1, 2";
const HOP: &str =
    "SELECT hop(timestamp, INTERVAL '1 minute', INTERVAL '5 minutes') AS window_start, module, count(*) AS n,
                          sum(duration_ms) AS total FROM logs GROUP BY 1, 2";

fn plan(sql: &str) -> Arc<WindowPlan> {
    let pipeline = pipeline("limited", sql, &["module"], Duration::ZERO);
    Arc::new(WindowPlan::new(&pipeline, None).unwrap_or_else(|error| panic!("{error}")))
}

/// The partial of these rows: event time and module.
fn partial(plan: &Arc<WindowPlan>, rows: &[(Micros, String)]) -> RecordBatch {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits { ahead_max: Micros::MAX, ..DecodeLimits::default() });
    for (time, module) in rows {
        let value = json!({ "timestamp": time, "module": module, "duration_ms": 1 }).to_string();
        let record = Incoming { value: value.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset: 0 };
        decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
    }
    let mut aggregator = Aggregator::new(plan).expect("an aggregator");
    aggregator.push(&decoder.finish().expect("a batch")).expect("aggregated");
    aggregator.finish().expect("states").expect("rows")
}

/// Window start, module and count of each row.
fn said(plan: &WindowPlan, window: &WindowRows) -> Vec<(Micros, String, u64)> {
    let lines = rows::to_json(plan, window.start, window.end, &window.rows).expect("JSON");
    let row = |line: Vec<u8>| {
        let row: Value = serde_json::from_slice(&line).expect("JSON");
        (window.start, row["module"].as_str().expect("a module").to_owned(), row["n"].as_u64().expect("a count"))
    };
    let mut rows = lines.into_iter().map(row).collect::<Vec<_>>();
    rows.sort();
    rows
}

/// The first `most` modules of a window by arrival with their counts, and the count of all others.
fn folded(arrived: &[String], most: usize) -> Vec<(String, u64)> {
    let mut known: Vec<(String, u64)> = Vec::new();
    let mut others = 0;
    for module in arrived {
        match known.iter().position(|(name, _)| name == module) {
            Some(place) => known[place].1 += 1,
            None if known.len() < most => known.push((module.clone(), 1)),
            None => others += 1,
        }
    }
    known.extend((others > 0).then(|| ("(overflow)".to_owned(), others)));
    known.sort();
    known
}

#[test]
fn series_beyond_the_limit_are_one_series_whoever_came_first_stays_and_no_restart_changes_that() {
    let seed = 20_261_122;
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let plan = plan(TUMBLE);
    for round in 0..40 {
        let limits = Limits { series: 1 + round % 13, ..Limits::default() };
        let mut windows = OpenWindows::new(&plan, 0, None).with_limits(limits);
        let mut arrived = Vec::new();
        for offset in 0..30 {
            let rows = (0..chance.random_range(1..20)).map(|_| format!("m{}", chance.random_range(0..40)));
            let rows = rows.map(|module| (START, module)).collect::<Vec<_>>();
            windows.merge(offset, &partial(&plan, &rows)).expect("merged");
            arrived.extend(rows.into_iter().map(|(_, module)| module));
            assert!(windows.series() <= 2 * limits.series + 1, "{} series are held", windows.series());
            if chance.random_bool(0.2) {
                // What was written down holds everything up to here; what was not is read again.
                windows.snapshots(offset + 1).expect("snapshots");
                let written = windows.snapshots(offset + 1).expect("snapshots");
                if !written.is_empty() {
                    windows = OpenWindows::new(&plan, 0, None).with_limits(limits);
                    written.into_iter().for_each(|pane| windows.restore(pane).expect("restored"));
                }
            }
        }
        let window = windows.close_next(START + MINUTE).expect("closed").expect("a window");
        let rows = said(&plan, &window).into_iter().map(|(_, module, count)| (module, count)).collect::<Vec<_>>();
        assert_eq!(rows, folded(&arrived, limits.series), "round {round}");
        assert_eq!(window.has_overflow, rows.len() > limits.series);
    }
}

#[test]
fn a_hopping_window_keeps_the_limit_too_and_every_row() {
    let plan = plan(HOP);
    let mut windows = OpenWindows::new(&plan, 0, None).with_limits(Limits { series: 3, ..Limits::default() });
    for minute in 0..10 {
        let rows = (0..5).map(|nth| (START + minute * MINUTE, format!("m{}", minute * 5 + nth))).collect::<Vec<_>>();
        windows.merge(minute, &partial(&plan, &rows)).expect("merged");
    }
    let window = windows.close_next(START + 5 * MINUTE).expect("closed");
    let mut closed = window.into_iter().collect::<Vec<_>>();
    while let Some(window) = windows.close_next(START + 10 * MINUTE).expect("closed") {
        closed.push(window);
    }
    let full = closed.iter().find(|window| window.start == START + 3 * MINUTE).expect("a full window");
    let rows = said(&plan, full);
    assert_eq!((rows.len(), rows.iter().map(|(_, _, count)| count).sum::<u64>()), (4, 25));
    assert!(full.has_overflow && rows.iter().any(|(_, module, _)| module == "(overflow)"));
}

#[test]
fn windows_beyond_the_limit_close_early_and_no_row_is_nowhere() {
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    for (sql, windows_of_a_row) in [(TUMBLE, 1), (HOP, 5)] {
        let plan = plan(sql);
        let limits = Limits { open_windows: 4, ..Limits::default() };
        let mut windows = OpenWindows::new(&plan, 0, None).with_limits(limits);
        let mut counts = BTreeMap::new();
        let (mut rows, mut late) = (0, 0);
        for offset in 0..60 {
            let times = (0..12).map(|_| START + chance.random_range(0..500) * MINUTE);
            let batch = times.map(|time| (time, "m".to_owned())).collect::<Vec<_>>();
            rows += batch.len() as u64;
            late += windows
                .merge(offset, &partial(&plan, &batch))
                .expect("merged")
                .iter()
                .map(|late| late.rows)
                .sum::<u64>();
            while let Some(due) = windows.overdue() {
                let window = windows.close_next(due).expect("closed").expect("the oldest window is due");
                for (start, _, count) in said(&plan, &window) {
                    assert_eq!(counts.insert(start, count), None, "a window closed twice");
                }
            }
            assert!(windows.open().0 <= 4 + windows_of_a_row, "{} panes are open", windows.open().0);
        }
        while let Some(window) = windows.close_next(START + 1_000 * MINUTE).expect("closed") {
            for (start, _, count) in said(&plan, &window) {
                assert_eq!(counts.insert(start, count), None, "a window closed twice");
            }
        }
        let in_windows = counts.values().sum::<u64>();
        if windows_of_a_row == 1 {
            assert_eq!(in_windows + late, rows);
        } else {
            // A row that is late for one of its five windows may be in the other four.
            assert!(in_windows <= windows_of_a_row as u64 * rows);
            assert!(in_windows + windows_of_a_row as u64 * late >= windows_of_a_row as u64 * rows);
        }
        assert!(late > 0, "nothing came late, so nothing was proven");
    }
}

#[test]
fn too_many_series_are_a_detection_that_resolves_when_there_are_fewer() {
    let mut limited = pipeline("limited", TUMBLE, &["module"], Duration::ZERO);
    limited.limits.series = 5;
    let mut straight = Straight::new(vec![limited]);
    let mut said = Vec::new();
    for minute in 0..20 {
        let now = START + minute * MINUTE;
        let series = if (2..5).contains(&minute) { 9 } else { 4 };
        let record = |nth: i64| {
            json!({ "timestamp": now, "module": format!("m{minute}-{nth}"), "duration_ms": 1 }).to_string().into_bytes()
        };
        let step = straight.step(now, &(0..series).map(record).collect::<Vec<_>>(), &[]);
        said.extend(
            step.detections.into_iter().map(|it| (minute, it.change.event_type(), it.rule, it.series.to_json())),
        );
    }
    let overflow = json!({ "module": "(overflow)" });
    let expected = [
        (3, "maturion.detection.opened.v1", "series_limit".to_owned(), overflow.clone()),
        (15, "maturion.detection.resolved.v1", "series_limit".to_owned(), overflow),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_flood_of_bad_records_is_counted_in_full_and_written_in_few_dead_letters() {
    let log = std::sync::Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
    let mut flow = Flow::new(log, "t.", 2, vec![pipeline("limited", TUMBLE, &["module"], Duration::ZERO)]);
    flow.runtime.dead_letters_per_second = 5;
    let topic = flow.runtime.topics.logs();
    flow.append(&topic, (0..20_000).map(|nth| (nth % 2, b"rubbish".as_slice())));
    flow.start();
    let count = |letter: &Output| {
        let header = letter.headers.iter().find(|(name, _)| name == "count");
        header.map_or(1, |(_, count)| count.parse::<u64>().expect("a number"))
    };
    let sum = |letters: &[Output]| letters.iter().map(count).sum::<u64>();
    let letters = flow.wait_for(&flow.runtime.topics.dead_letter(), |letters| sum(letters) >= 20_000);
    flow.stop();
    assert_eq!(sum(&letters), 20_000);
    assert!(letters.len() < 2_000, "{} letters", letters.len());
    let status = flow.runtime.board.snapshot();
    assert_eq!(status.dead_letters.values().sum::<u64>(), 20_000);
    // Every record is covered by exactly one letter.
    let mut covered = [0, 0];
    for letter in &letters {
        let number = |name: &str| letter.header(name).parse::<i64>().expect("a number");
        let partition = number("partition") as usize;
        covered[partition] += if count(letter) > 1 { number("last_offset") - number("offset") + 1 } else { 1 };
        assert!(!letter.header("reason").is_empty() && letter.value == b"rubbish");
    }
    assert_eq!(covered, [10_000, 10_000]);
}

/// A flow whose intake has an hour until its next commit: what is written before that was committed early.
fn patient() -> Flow {
    let log = std::sync::Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
    let mut flow = Flow::new(log, "t.", 1, vec![pipeline("limited", TUMBLE, &["module"], Duration::ZERO)]);
    flow.runtime.intake_commit_interval = Duration::from_secs(3_600);
    flow
}

/// So many rows, each of a module of its own.
fn rows_of_their_own(rows: usize) -> Vec<Vec<u8>> {
    let record = |nth| json!({ "timestamp": START, "module": format!("m{nth}"), "duration_ms": 1 }).to_string();
    (0..rows).map(|nth| record(nth).into_bytes()).collect()
}

#[test]
fn a_transaction_with_too_much_state_is_committed_early() {
    let mut flow = patient();
    flow.runtime.aggregate_bytes_max = 100_000;
    let records = rows_of_their_own(20_000);
    flow.append(&flow.runtime.topics.logs(), records.iter().map(|value| (0, value.as_slice())));
    flow.start();
    let is_partial = |output: &Output| output.headers.iter().any(|(name, value)| name == "kind" && value == "partial");
    flow.wait_for(&flow.runtime.topics.partials(), |messages| messages.iter().any(is_partial));
    flow.stop();
}

#[test]
fn a_transaction_with_too_many_rejected_bytes_is_committed_early() {
    let mut flow = patient();
    flow.runtime.dead_letters_per_second = 1_000_000;
    let rubbish = vec![b'x'; 1_000_000];
    flow.append(&flow.runtime.topics.logs(), (0..40).map(|_| (0, rubbish.as_slice())));
    flow.start();
    flow.wait_for(&flow.runtime.topics.dead_letter(), |letters| !letters.is_empty());
    flow.stop();
}

#[test]
fn a_transaction_of_stage_two_takes_no_more_windows_than_fit() {
    let set = Arc::new(PipelineSet::compile(vec![pipeline("limited", TUMBLE, &["module"], Duration::ZERO)]).unwrap());
    let plan = &set.pipelines()[0].plan;
    let mut shard = Shard::new(&set, 0, 1, Micros::MAX, Default::default()).unwrap();
    let rows = rows_of_their_own(30_000);
    let mut offset = 0;
    for minute in 0..4 {
        let start = |value: &Vec<u8>| {
            String::from_utf8_lossy(value)
                .replace(&START.to_string(), &(START + minute * MINUTE).to_string())
                .into_bytes()
        };
        for message in crate::straight::partials_of(plan, &rows.iter().map(start).collect::<Vec<_>>()) {
            shard.take(offset, message).unwrap();
            offset += 1;
        }
    }
    let beat = Heartbeat {
        source: LOGS_SOURCE.to_owned(),
        partition: 0,
        partitions: 1,
        position: 1,
        end: 2,
        event_time: Some(START + 10 * MINUTE),
        wall: START,
    };
    shard.take(offset, Message::Heartbeats(vec![beat])).unwrap();
    let mut sizes = Vec::new();
    loop {
        let mut out = Outputs::default();
        let is_full = shard.advance(&mut out).unwrap();
        sizes.push(out.windows.len());
        if !is_full {
            break;
        }
    }
    // The last call finds nothing left.
    assert_eq!(sizes, [60_000, 60_000, 0]);
}

#[test]
fn versions_beyond_the_limit_are_forgotten_and_their_rows_late() {
    let version = |nth: usize| {
        let sql = TUMBLE.replace("sum(duration_ms)", &format!("sum(duration_ms + {nth})"));
        PipelineSet::compile(vec![pipeline("limited", &sql, &["module"], Duration::ZERO)]).unwrap()
    };
    let mut shard = Shard::new(&Arc::new(version(0)), 0, 1, Micros::MAX, Default::default()).unwrap();
    for nth in 1..=VERSIONS_MAX + 1 {
        shard.take(nth as i64, Message::Definition(version(nth).definition(0))).unwrap();
    }
    for (nth, late) in [(1, 5), (2, 5), (VERSIONS_MAX + 1, 5)] {
        let set = version(nth);
        for message in crate::straight::partials_of(&set.pipelines()[0].plan, &rows_of_their_own(5)) {
            shard.take(100 + nth as i64, message).unwrap();
        }
        assert_eq!(shard.report()[0].late_rows, late, "version {nth}");
    }
}
