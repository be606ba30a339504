//! Changing a pipeline while it runs: every row is in exactly one version's window, nothing is judged on half of the
//! truth, and what did not change goes on.

use std::sync::Arc;
use std::time::Duration;

use maturion::evaluate::PipelineSet;
use maturion::evaluate::shard::{LOGS_SOURCE, Outputs, Shard};
use maturion::log::Log;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::detection::Change;
use maturion::model::pipeline::{Direction, Evaluate, Level, Micros, Pipeline, Rule, Scope, Severity, Technique};
use maturion::window::clock::Heartbeat;
use maturion::window::partial::Message;
use serde_json::{Value, json};

use crate::flow::{Flow, Output, pipeline};

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
const HOUR: Micros = 60 * MINUTE;
/// 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000 * SECOND;
const PARTITIONS: i32 = 4;
const BEFORE: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n,
                             avg(duration_ms) AS mean FROM logs GROUP BY 1, 2";
/// One more column; what was there stays.
const WITH_MORE: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n,
                                avg(duration_ms) AS mean, max(duration_ms) AS worst FROM logs GROUP BY 1, 2";
/// The same column, computed from other rows.
const OTHERWISE: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n,
                                avg(duration_ms) AS mean FROM logs WHERE duration_ms > 1 GROUP BY 1, 2";
const LONGER: &str = "SELECT tumble(timestamp, INTERVAL '2 minutes') AS window_start, module, count(*) AS n,
                             avg(duration_ms) AS mean FROM logs GROUP BY 1, 2";

fn requests(sql: &str, rules: Vec<Rule>) -> Pipeline {
    Pipeline { rules, ..pipeline("requests", sql, &["module"], Duration::from_secs(10)) }
}

fn rule(technique: Technique, measure: &str, limit: f64) -> Rule {
    Rule {
        name: "watched".to_owned(),
        technique,
        measure: measure.to_owned(),
        levels: vec![Level { severity: Severity::High, limit, for_: 0 }],
        direction: Direction::Above,
        samples: None,
        min_samples: 1,
        rate: false,
        clear_for: 5 * MINUTE,
        recovery: 0.8,
        min_effect: 0.0,
        evaluate: Evaluate::OnClose,
        warmup_windows: 10,
        scope: Scope::Trivial,
        remedy: None,
        inhibits: Vec::new(),
    }
}

fn embedded() -> Arc<dyn Log> {
    Arc::new(EmbeddedLog::new(EmbeddedSettings::default()))
}

fn record(time: Micros, module: &str, duration_ms: i64) -> Vec<u8> {
    json!({ "timestamp": time, "module": module, "duration_ms": duration_ms }).to_string().into_bytes()
}

/// Ten records a minute of two modules, from minute to minute, spread over the partitions.
fn append_minutes(flow: &Flow, minutes: std::ops::Range<i64>, duration_ms: i64) -> u64 {
    let topic = flow.runtime.topics.logs();
    let records = minutes
        .flat_map(|minute| (0..10).map(move |nth| (minute, nth)))
        .map(|(minute, nth)| {
            let module = if nth % 2 == 0 { "even" } else { "odd" };
            record(START + minute * MINUTE + nth * 6 * SECOND, module, duration_ms)
        })
        .collect::<Vec<_>>();
    let spread = records.iter().enumerate().map(|(nth, value)| (nth as i32 % PARTITIONS, value.as_slice()));
    flow.append(&topic, spread);
    records.len() as u64
}

/// Lets every window up to `minute` close.
fn close(flow: &Flow, minute: i64) {
    let value = record(START + (minute + 10) * MINUTE, "closer", 1);
    flow.append(&flow.runtime.topics.logs(), (0..PARTITIONS).map(|partition| (partition, value.as_slice())));
    flow.wait_until_closed(START + (minute + 4) * MINUTE);
}

/// Each row of the windows but the closers': start, module, count, completeness.
fn windows(flow: &Flow) -> Vec<(String, String, u64, bool)> {
    let row = |output: &Output| {
        let is_complete = !output.headers.iter().any(|(name, value)| name == "complete" && value == "false");
        let row = output.json();
        let text = |key: &str| row[key].as_str().expect("text").to_owned();
        (text("window_start"), text("module"), row["n"].as_u64().expect("a count"), is_complete)
    };
    let rows = flow.read(&flow.runtime.topics.windows());
    let mut rows = rows.iter().map(row).filter(|(_, module, ..)| module != "closer").collect::<Vec<_>>();
    rows.sort();
    rows
}

/// The rows that a window has in full, and the rows that are in parts of one.
fn sums(windows: &[(String, String, u64, bool)]) -> (u64, u64) {
    let sum = |complete: bool| windows.iter().filter(|row| row.3 == complete).map(|row| row.2).sum();
    (sum(true), sum(false))
}

fn changed(from: &str, to: &str) -> (Flow, u64) {
    let log = embedded();
    let mut flow = Flow::new(Arc::clone(&log), "t.", PARTITIONS, vec![requests(from, vec![])]);
    flow.start();
    let mut rows = append_minutes(&flow, 0..6, 5);
    // Half of the seventh minute; its window is open when the process stops.
    let module = |nth| if nth % 2 == 0 { "even" } else { "odd" };
    let half = (0..5).map(|nth| record(START + 6 * MINUTE + nth * SECOND, module(nth), 5)).collect::<Vec<_>>();
    flow.append(&flow.runtime.topics.logs(), half.iter().map(|value| (0, value.as_slice())));
    rows += 5;
    flow.wait_until_closed(START + 5 * MINUTE);
    flow.stop();
    let mut flow = Flow::new(log, "t.", PARTITIONS, vec![requests(to, vec![])]);
    flow.start();
    rows += append_minutes(&flow, 6..12, 5);
    close(&flow, 12);
    flow.stop();
    (flow, rows)
}

#[test]
fn a_changed_statement_loses_no_row_and_marks_the_window_that_both_have_rows_of() {
    let (flow, rows) = changed(BEFORE, WITH_MORE);
    let windows = windows(&flow);
    let (whole, parts) = sums(&windows);
    assert_eq!(whole + parts, rows, "{windows:#?}");
    // Twelve minutes of which the seventh is split; both versions write their part of it.
    assert_eq!(parts, 15, "{windows:#?}");
    assert_eq!(whole, 110);
    let split = windows.iter().filter(|row| !row.3).map(|row| row.0.as_str()).collect::<Vec<_>>();
    assert!(split.len() == 4 && split.iter().all(|start| *start == "2025-12-03T10:06:00Z"), "{split:?}");
    let mut whole = windows.iter().filter(|row| row.3).map(|row| (&row.0, &row.1)).collect::<Vec<_>>();
    whole.dedup();
    assert_eq!(whole.len(), 22, "a window was written twice: {windows:#?}");
}

#[test]
fn a_changed_window_length_loses_no_row() {
    let (flow, rows) = changed(BEFORE, LONGER);
    let windows = windows(&flow);
    let (whole, parts) = sums(&windows);
    assert_eq!(whole + parts, rows, "{windows:#?}");
    assert!(parts > 0 && whole > 0, "{windows:#?}");
}

#[test]
fn processes_with_the_old_and_the_new_file_side_by_side_lose_no_row_and_judge_no_part() {
    let log = embedded();
    // A half of the records is below the limit: whoever judged parts would fire.
    let few = || Rule { direction: Direction::Below, ..rule(Technique::Threshold, "n", 4.0) };
    let mut old = Flow::new(Arc::clone(&log), "t.", PARTITIONS, vec![requests(BEFORE, vec![few()])]);
    old.start();
    let mut rows = append_minutes(&old, 0..3, 5);
    old.wait_until_closed(START + 2 * MINUTE);
    let start_new = |name: &str| {
        let mut new = Flow::new(Arc::clone(&log), "t.", PARTITIONS, vec![requests(WITH_MORE, vec![few()])]);
        new.runtime.instance = name.to_owned();
        new.start();
        new
    };
    let (mut new, mut third) = (start_new("new"), start_new("third"));
    // The old file and the new one are both at work on logs before the next records come.
    let owns = |flow: &Flow| {
        let status = flow.runtime.board.snapshot();
        status.partitions.iter().filter(|partition| partition.topic == flow.runtime.topics.logs()).count()
    };
    crate::subject::eventually("both files are at work", || {
        owns(&old) > 0 && owns(&new) + owns(&third) > 0 && owns(&old) + owns(&new) + owns(&third) == PARTITIONS as usize
    });
    rows += append_minutes(&new, 3..9, 5);
    let read = |flow: &Flow| {
        let status = flow.runtime.board.snapshot();
        let logs =
            status.partitions.iter().filter(|it| it.topic == flow.runtime.topics.logs() && it.owner == status.instance);
        logs.map(|partition| partition.position as u64).sum::<u64>()
    };
    crate::subject::eventually("everybody reads what is theirs", || read(&old) + read(&new) + read(&third) == rows);
    old.stop();
    third.stop();
    let value = record(START + 30 * MINUTE, "closer", 1);
    new.append(&new.runtime.topics.logs(), (0..PARTITIONS).map(|partition| (partition, value.as_slice())));
    new.wait_until_closed(START + 20 * MINUTE);
    new.stop();
    let windows = windows(&new);
    let (whole, parts) = sums(&windows);
    assert_eq!(whole + parts, rows, "{windows:#?}");
    assert!(parts > 0, "the versions never ran side by side: {windows:#?}");
    let fired = new.read(&new.runtime.topics.remediation());
    let of_modules = fired.iter().map(Output::json).filter(|body| body["module"] != "closer");
    assert_eq!(of_modules.collect::<Vec<_>>(), Vec::<Value>::new());
}

/// How many windows the baseline knew when the rule fired at last, after a change of the statement.
fn baseline_windows(to: &str) -> Option<u64> {
    let ratio = || vec![rule(Technique::Ratio, "mean", 3.0)];
    let log = embedded();
    let mut flow = Flow::new(Arc::clone(&log), "t.", PARTITIONS, vec![requests(BEFORE, ratio())]);
    flow.start();
    append_minutes(&flow, 0..20, 5);
    flow.wait_until_closed(START + 18 * MINUTE);
    flow.stop();
    let mut flow = Flow::new(log, "t.", PARTITIONS, vec![requests(to, ratio())]);
    flow.start();
    append_minutes(&flow, 20..25, 5);
    append_minutes(&flow, 25..28, 500);
    close(&flow, 28);
    flow.stop();
    let said = flow.read(&flow.runtime.topics.remediation());
    let opened = said.iter().filter(|output| output.header("ce_type") == "maturion.detection.opened.v1");
    opened.map(|output| output.json()["baseline"]["windows"].as_u64().expect("a number")).max()
}

#[test]
fn the_baseline_of_an_unchanged_measure_is_kept_and_that_of_a_changed_one_is_not() {
    let kept = baseline_windows(WITH_MORE).expect("the rule fires");
    assert!(kept >= 20, "only {kept} windows are known");
    assert_eq!(baseline_windows(OTHERWISE), None, "five windows are no baseline");
}

fn beat(event_time: Micros, wall: Micros) -> Message {
    Message::Heartbeats(vec![Heartbeat {
        source: LOGS_SOURCE.to_owned(),
        partition: 0,
        partitions: 1,
        position: wall,
        end: wall + 1,
        event_time: Some(event_time),
        wall,
    }])
}

#[test]
fn a_removed_pipeline_ends_its_detections_and_leaves_nothing() {
    let firing = requests(BEFORE, vec![rule(Technique::Threshold, "n", 1.0)]);
    let other = pipeline("other", BEFORE, &["module"], Duration::ZERO);
    let both = Arc::new(PipelineSet::compile(vec![firing, other.clone()]).unwrap());
    let mut shard = Shard::new(&both, 0, 1, Micros::MAX, Default::default()).unwrap();
    let mut out = Outputs::default();
    let place = both.place("requests").unwrap();
    shard.take(0, Message::Definition(both.definition(place))).unwrap();
    for (offset, message) in partials(&both, "requests", START).into_iter().enumerate() {
        shard.take(1 + offset as i64, message).unwrap();
    }
    shard.take(10, beat(START + 5 * MINUTE, START)).unwrap();
    shard.advance(&mut out).unwrap();
    assert_eq!(out.detections.iter().map(|it| it.change).collect::<Vec<_>>(), [Change::Opened]);
    assert_eq!(out.learnt.len(), 1);

    let progress = serde_json::from_str(&serde_json::to_string(&shard.progress()).unwrap()).unwrap();
    let one = Arc::new(PipelineSet::compile(vec![other]).unwrap());
    let mut shard = Shard::new(&one, 0, 1, Micros::MAX, progress).unwrap();
    shard.restore_definition(out.learnt.remove(0)).unwrap();
    for ((_, series), state) in &out.states {
        assert!(shard.restore_series("requests", series.clone(), state.as_ref().unwrap()).unwrap());
    }
    let mut out = Outputs::default();
    // Another process may still run it.
    shard.take(11, beat(START + 6 * MINUTE, START + HOUR / 2)).unwrap();
    shard.advance(&mut out).unwrap();
    assert!(out.detections.is_empty() && out.ended.is_empty() && out.retired.is_empty());
    shard.take(12, beat(START + 7 * MINUTE, START + HOUR)).unwrap();
    shard.advance(&mut out).unwrap();
    assert_eq!(out.detections.iter().map(|it| it.change).collect::<Vec<_>>(), [Change::Resolved]);
    assert_eq!(out.ended.len(), 1);
    assert_eq!(out.retired.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["requests"]);
    assert!(!serde_json::to_string(&shard.progress()).unwrap().contains("requests"));
}

#[test]
fn partials_of_a_version_that_nobody_explained_are_late_and_not_nowhere() {
    let one = Arc::new(PipelineSet::compile(vec![requests(BEFORE, vec![])]).unwrap());
    let other = Arc::new(PipelineSet::compile(vec![requests(WITH_MORE, vec![])]).unwrap());
    let mut shard = Shard::new(&one, 0, 1, Micros::MAX, Default::default()).unwrap();
    for (offset, message) in partials(&other, "requests", START).into_iter().enumerate() {
        shard.take(offset as i64, message).unwrap();
    }
    let report = shard.report();
    assert_eq!((report[0].late_rows, report[0].foreign_messages), (3, 1));
}

/// The partials of three records of one module.
fn partials(set: &PipelineSet, name: &str, time: Micros) -> Vec<Message> {
    let plan = &set.pipelines()[set.place(name).unwrap()].plan;
    let records = (0..3).map(|nth| record(time + nth, "m", 5)).collect::<Vec<_>>();
    crate::straight::partials_of(plan, &records)
}
