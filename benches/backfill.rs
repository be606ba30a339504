//! Backfill beside DuckDB: the same files, the same GROUP BY, the same answer, and how long each takes.
//!
//! `cargo bench --bench backfill` writes 5 million logs (`MATURION_BENCH_RECORDS` changes that) as NDJSON and as Parquet,
//! then lets each read them three times and takes the best. DuckDB comes from PyPI into a virtual environment of its own
//! (`MATURION_BENCH_PYTHON` names a Python that has it already).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/python.rs"]
mod python;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use maturion::backfill::{self, BackfillError, Files, History, Progress, Rejected, Settings, Sink};
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::evaluate::PipelineSet;
use maturion::evaluate::shard::Outputs;
use maturion::model::pipeline::{Limits, Pipeline, Source};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use python::python;

const RUNS: usize = 3;
/// 2025-12-03T10:00:00Z.
const START_MS: u64 = 1_764_756_000_000;
/// Rows of a row group.
const GROUP_ROWS: usize = 500_000;

const SQL: &str =
    "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module, count(*) AS requests,
    count(*) FILTER (WHERE status_code >= 500) AS errors, avg(duration_ms) AS mean
    FROM logs WHERE event = 'http_request' GROUP BY 1, 2, 3";

/// The same in DuckDB's words. It is told the columns, as the pipelines are.
const SCRIPT: &str = r#"
import duckdb, sys, time
file, rounds = sys.argv[1], int(sys.argv[2])
duckdb.sql("SET TimeZone = 'UTC'")
duckdb.sql("SET enable_progress_bar = false")
columns = "{timestamp: 'BIGINT', organisation_id: 'VARCHAR', module: 'VARCHAR', event: 'VARCHAR', status_code: 'INTEGER', duration_ms: 'DOUBLE'}"
if file.endswith('.parquet'):
    source, minute = f"read_parquet('{file}')", "epoch_us(time_bucket(INTERVAL '1 minute', timestamp))"
else:
    source, minute = f"read_json('{file}', format = 'newline_delimited', columns = {columns})", "timestamp // 60000 * 60000000"
sql = f"""SELECT {minute} AS w, organisation_id, module, count(*) AS requests,
    count(*) FILTER (WHERE status_code >= 500) AS errors, avg(duration_ms) AS mean
    FROM {source} WHERE event = 'http_request' GROUP BY 1, 2, 3"""
best = None
for _ in range(rounds):
    began = time.perf_counter()
    rows = duckdb.sql(sql).fetchall()
    took = time.perf_counter() - began
    best = took if best is None else min(best, took)
print(best)
for w, organisation, module, requests, errors, mean in rows:
    print(f"{w} {organisation} {module}\t{requests}\t{errors}\t{mean!r}")
"#;

/// Window and series, and what was counted.
type Answer = BTreeMap<String, (u64, u64, f64)>;

fn main() {
    let records = std::env::var("MATURION_BENCH_RECORDS").map_or(5_000_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let (lines, columns) = (folder.path().join("logs.ndjson"), folder.path().join("logs.parquet"));
    write(&lines, &columns, records);
    let python = python(folder.path());
    for (name, file) in [("NDJSON", &lines), ("Parquet", &columns)] {
        let (ours, answer) = ours(file);
        let (theirs, expected) = theirs(&python, file);
        compare(&answer, &expected);
        let megabytes = std::fs::metadata(file).expect("a file").len() as f64 / 1e6;
        let rate = |seconds: f64| records as f64 / seconds / 1e6;
        println!(
            "{name}: {records} records, {megabytes:.0} MB, {} rows of windows, the same\n  \
             maturion {ours:.2} s, {:.2} M records/s\n  DuckDB   {theirs:.2} s, {:.2} M records/s\n  ratio {:.2}",
            answer.len(),
            rate(ours),
            rate(theirs),
            theirs / ours
        );
    }
}

fn record(nth: u64) -> String {
    let (organisation, route) = (nth % 12, nth % 40);
    let status = if nth.is_multiple_of(50) { 500 } else { 200 };
    format!(
        r#"{{"timestamp":{},"organisation_id":"org_{organisation}","module":"threat-analysis","source":"edge","level":"INFO","event":"http_request","status_code":{status},"duration_ms":{}.{},"route":"/api/v1/items/{route}","method":"GET","user_id":"user_{nth}","attributes":{{"region":"eu-west-1","cached":false}},"request_id":"r-{nth}"}}"#,
        START_MS + nth * 2,
        nth % 700,
        nth % 10,
    )
}

/// The same records in both forms.
fn write(lines: &Path, columns: &Path, records: u64) {
    let mut lines = BufWriter::with_capacity(1 << 20, File::create(lines).expect("a file"));
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let file = File::create(columns).expect("a file");
    let mut columns = ArrowWriter::try_new(file, Table::Logs.schema(), Some(properties)).expect("a writer");
    for nth in 0..records {
        let value = record(nth);
        writeln!(lines, "{value}").expect("written");
        let incoming = Incoming { value: value.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset: nth as i64 };
        decoder.push(&incoming).unwrap_or_else(|rejection| panic!("{rejection}"));
        if decoder.len() == 8_192 || nth + 1 == records {
            columns.write(&decoder.finish().expect("a batch")).expect("written");
        }
    }
    lines.flush().expect("written");
    columns.close().expect("written");
}

/// Keeps the windows.
#[derive(Default)]
struct Windows(Answer);

impl Sink for Windows {
    fn say(&mut self, _: usize, outputs: &Outputs) -> Result<(), BackfillError> {
        for row in &outputs.windows {
            let row: serde_json::Value = serde_json::from_slice(&row.json).expect("JSON");
            let text = |name: &str| row[name].as_str().expect("text").to_owned();
            let start = text("window_start").parse::<chrono::DateTime<chrono::Utc>>().expect("a time");
            let key = format!("{} {} {}", start.timestamp_micros(), text("organisation_id"), text("module"));
            let count = |name: &str| row[name].as_u64().expect("a count");
            let values = (count("requests"), count("errors"), row["mean"].as_f64().expect("a number"));
            self.0.insert(key, values);
        }
        Ok(())
    }

    fn reject(&mut self, record: &Rejected) -> Result<(), BackfillError> {
        panic!("{record:?}")
    }

    fn progress(&mut self, _: &Progress) {}
}

fn ours(file: &Path) -> (f64, Answer) {
    let pipeline = Pipeline {
        name: "bench".to_owned(),
        source: Source::Logs,
        sql: SQL.to_owned(),
        sql_file: "bench.sql".to_owned(),
        series: vec!["organisation_id".to_owned(), "module".to_owned()],
        lateness: 0,
        limits: Limits::default(),
        rules: Vec::new(),
    };
    let set = PipelineSet::compile(vec![pipeline]).unwrap_or_else(|error| panic!("{error}"));
    let sets = [Arc::new(set)];
    let mut best: Option<(f64, Answer)> = None;
    for _ in 0..RUNS {
        let (began, mut windows) = (Instant::now(), Windows::default());
        let files = Files::open(&[PathBuf::from(file)], None, &backfill::needed(&sets)).expect("files");
        let history = History::of_files(files);
        let report = backfill::run(history, &sets, &Settings::default(), &mut windows, &AtomicBool::new(false));
        report.unwrap_or_else(|error| panic!("{error}"));
        let took = began.elapsed().as_secs_f64();
        if best.as_ref().is_none_or(|(least, _)| took < *least) {
            best = Some((took, windows.0));
        }
    }
    best.expect("runs")
}

fn theirs(python: &Path, file: &Path) -> (f64, Answer) {
    let output = Command::new(python).args(["-c", SCRIPT]).arg(file).arg(RUNS.to_string()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let (best, rows) = text.split_once('\n').expect("lines");
    let row = |line: &str| {
        let [key, requests, errors, mean] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let count = |text: &str| text.parse::<u64>().expect("a count");
        (key.to_owned(), (count(requests), count(errors), mean.parse().expect("a number")))
    };
    (best.parse().expect("seconds"), rows.lines().map(row).collect())
}

fn compare(answer: &Answer, expected: &Answer) {
    assert_eq!(answer.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, (requests, errors, mean)) in expected {
        let found = answer[key];
        assert_eq!((found.0, found.1), (*requests, *errors), "{key}");
        assert!((found.2 - mean).abs() <= 1e-9 * mean.abs().max(1.0), "{key}: {} and {mean}", found.2);
    }
}
