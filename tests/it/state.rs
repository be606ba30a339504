//! State written by an earlier program: read if its form is known, named and rebuilt if it is not, never misread.
//!
//! `tests/data/state/format-2.ndjson` is what a process left in its topics when it stopped in the middle of a window.
//! `GOLDEN=write` makes the file of a new format; files of formats that were released stay as they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::{Log, Outgoing, Partition, Position};
use maturion::model::pipeline::{Direction, Evaluate, Level, Micros, Pipeline, Rule, Scope, Severity, Technique};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::flow::{Flow, Output, pipeline};

const MINUTE: Micros = 60_000_000;
/// 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000_000_000;
/// The minute in whose middle the process stopped.
const STOPPED: i64 = 12;

/// A record of one of the topics.
#[derive(Serialize, Deserialize)]
struct Line {
    topic: String,
    offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    headers: Vec<(String, String)>,
    /// Text as it is, bytes as `hex:…`, nothing for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/state/format-2.ndjson")
}

fn pipelines() -> Vec<Pipeline> {
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n,
                      avg(duration_ms) AS mean, quantile(duration_ms, 0.9) AS p90 FROM logs GROUP BY 1, 2";
    let rule = |name: &str, technique, measure: &str, limit| Rule {
        name: name.to_owned(),
        technique,
        measure: measure.to_owned(),
        levels: vec![Level { severity: Severity::High, limit, for_: 0 }],
        direction: Direction::Above,
        samples: None,
        min_samples: 1,
        rate: false,
        clear_for: 2 * MINUTE,
        recovery: 0.8,
        min_effect: 0.0,
        evaluate: Evaluate::OnClose,
        warmup_windows: 5,
        scope: Scope::Trivial,
        remedy: None,
        inhibits: Vec::new(),
    };
    let rules = vec![rule("slow", Technique::Ratio, "mean", 3.0), rule("many", Technique::Threshold, "n", 25.0)];
    vec![Pipeline { rules, ..pipeline("requests", sql, &["module"], Duration::from_secs(10)) }]
}

fn flow(log: Arc<dyn Log>) -> Flow {
    Flow::new(log, "t.", 1, pipelines())
}

/// So many records in a minute, from one part of it to another.
fn append(flow: &Flow, minute: i64, seconds: std::ops::Range<i64>) {
    let records = seconds.map(|second| {
        let time = START + minute * MINUTE + second * 1_000_000;
        json!({ "timestamp": time, "module": "web", "duration_ms": 20 + second % 3 }).to_string().into_bytes()
    });
    let records = records.collect::<Vec<_>>();
    flow.append(&flow.runtime.topics.logs(), records.iter().map(|value| (0, value.as_slice())));
}

/// Everything that stands in a topic, tombstones too.
fn lines(log: &dyn Log, topic: &str) -> Vec<Line> {
    let partition = Partition { topic: topic.into(), number: 0 };
    let (from, to) = log.bounds(std::slice::from_ref(&partition)).unwrap()[0];
    let mut reader = log.reader(&[Position { partition, offset: from }]).unwrap();
    let mut lines = Vec::new();
    while reader.positions().unwrap()[0].offset < to {
        let mut visit = |record: &maturion::log::Record<'_>| {
            let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("hex:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            };
            let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
            let (key, value) = (record.key.map(text), record.value.map(text));
            lines.push(Line { topic: topic.to_owned(), offset: record.offset, key, headers, value });
        };
        reader.poll(Duration::from_millis(50), 10_000, &mut visit).unwrap();
    }
    lines
}

fn bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("hex:") {
        Some(hex) => (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect(),
        None => text.as_bytes().to_vec(),
    }
}

fn write() -> String {
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
    let mut flow = flow(Arc::clone(&log));
    flow.start();
    for minute in 0..STOPPED {
        // The last whole minute has more than the limit.
        append(&flow, minute, 0..if minute == STOPPED - 1 { 30 } else { 20 });
    }
    append(&flow, STOPPED, 0..15);
    flow.wait_until_closed(START + (STOPPED) * MINUTE);
    let panes = flow.runtime.topics.panes();
    flow.wait_for(&panes, |panes| panes.iter().any(|pane| !pane.value.is_empty()));
    flow.stop();
    let topics = &flow.runtime.topics;
    let kept = [topics.partials(), topics.panes(), topics.baselines(), topics.progress()];
    let mut all = kept.iter().flat_map(|topic| lines(log.as_ref(), topic)).collect::<Vec<_>>();
    // Of the inputs only the number of records matters: what was read is not read again.
    let inputs = log.bounds(&[Partition { topic: topics.logs().into(), number: 0 }]).unwrap()[0].1;
    all.push(Line { topic: topics.logs(), offset: inputs - 1, key: None, headers: Vec::new(), value: None });
    all.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

/// A log as the fixture has it, but for what `change` does to each record.
fn restored(change: impl Fn(&mut Line)) -> Flow {
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
    let flow = flow(Arc::clone(&log));
    let appender = log.appender().unwrap();
    let mut next: BTreeMap<String, i64> = BTreeMap::new();
    for line in std::fs::read_to_string(file()).unwrap().lines() {
        let mut line: Line = serde_json::from_str(line).unwrap();
        change(&mut line);
        let next = next.entry(line.topic.clone()).or_default();
        let topic = line.topic.as_str();
        // Where a transaction ended there is no record; an empty one takes its offset.
        while *next < line.offset {
            let headers: &[(&str, &[u8])] = &[];
            appender.append(Outgoing { topic, partition: Some(0), headers, ..Outgoing::default() }).unwrap();
            *next += 1;
        }
        *next += 1;
        let (key, value) = (line.key.as_deref().map(bytes), line.value.as_deref().map(bytes));
        let headers = line.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect::<Vec<_>>();
        let (key, value) = (key.as_deref(), value.as_deref());
        let partition = Some(0);
        appender.append(Outgoing { topic, partition, key, value, headers: &headers, timestamp_ms: None }).unwrap();
    }
    flow
}

/// Goes on where the fixture stopped: the rest of the minute, five ordinary ones, and the end.
fn go_on(flow: &mut Flow) -> Vec<(String, u64)> {
    flow.start();
    append(flow, STOPPED, 15..20);
    (STOPPED + 1..STOPPED + 6).for_each(|minute| append(flow, minute, 0..20));
    append(flow, STOPPED + 10, 0..1);
    flow.wait_until_closed(START + (STOPPED + 9) * MINUTE);
    flow.stop();
    let row = |output: &Output| {
        let row = output.json();
        (row["window_start"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap())
    };
    flow.read(&flow.runtime.topics.windows()).iter().map(row).collect()
}

fn said(flow: &Flow) -> Vec<(String, String)> {
    let said = flow.read(&flow.runtime.topics.remediation());
    said.iter().map(|it| (it.json()["rule"].as_str().unwrap().to_owned(), it.header("ce_type").to_owned())).collect()
}

#[test]
fn state_of_this_format_is_read_and_the_open_window_completed() {
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
        std::fs::create_dir_all(file().parent().unwrap()).unwrap();
        std::fs::write(file(), write()).unwrap();
    }
    let mut flow = restored(|_| {});
    let windows = go_on(&mut flow);
    let expected = (12..18).map(|minute| (format!("2025-12-03T10:{minute}:00Z"), 20)).collect::<Vec<_>>();
    assert_eq!(windows, expected);
    // The detection that was open when the process stopped resolves; nothing opens for want of memory.
    assert_eq!(said(&flow), [("many".to_owned(), "maturion.detection.resolved.v1".to_owned())]);
}

#[test]
fn progress_of_an_older_format_gives_up_windows_that_had_begun_and_repeats_none() {
    let mut flow = restored(|line| {
        if line.topic.ends_with("maturion.progress")
            && let Some(text) = &mut line.value
        {
            *text = text.replace(r#"{"format":2"#, r#"{"format":1,"a_field_of_then":true"#);
        }
    });
    let windows = go_on(&mut flow);
    let expected = (13..18).map(|minute| (format!("2025-12-03T10:{minute}:00Z"), 20)).collect::<Vec<_>>();
    assert_eq!(windows, expected, "a window that is not whole, or one that was written before");
}

#[test]
fn state_of_series_of_an_older_format_begins_anew() {
    let mut flow = restored(|line| {
        if line.topic.ends_with("maturion.baselines")
            && let Some(text) = &mut line.value
        {
            *text = text.replace(r#""version":1"#, r#""version":0"#);
        }
    });
    let windows = go_on(&mut flow);
    assert_eq!(windows.len(), 6);
    assert_eq!(said(&flow), Vec::new());
}

#[test]
fn state_of_a_newer_program_is_refused_and_stays_as_it_is() {
    for (topic, from, to) in [
        ("maturion.progress", r#"{"format":2"#, r#"{"format":3"#),
        ("maturion.baselines", r#""version":1"#, r#""version":2"#),
    ] {
        let mut flow = restored(|line| {
            if line.topic.ends_with(topic)
                && let Some(text) = &mut line.value
            {
                *text = text.replace(from, to);
            }
        });
        flow.start();
        crate::subject::eventually("detect refuses", || {
            let status: Value = serde_json::to_value(flow.runtime.board.snapshot()).unwrap();
            status["problems"].to_string().contains("newer program")
        });
        flow.abandon();
        assert_eq!(flow.read(&flow.runtime.topics.windows()).len(), 0);
    }
}
