//! `maturion backfill --write` and `--input table`: results are stored once, whoever dies and however many compute them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use maturion::backfill::{self, Batches, History, Settings};
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::store::chunk::{Input, OffsetRange};
use maturion::store::history::StoredHistory;
use maturion::store::scan::table_source;
use maturion::store::{Location, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Heard, backfill_with, compiled, write};
use crate::flow::shipped;
use crate::whole::{MINUTE, START, outage};

const WAIT: Duration = Duration::from_secs(120);
/// Of the long job: so many series in each of so many minutes.
const SERIES: i64 = 10_000;
const MINUTES: i64 = 30;

/// The wall time of every question: nothing of the outage has expired.
fn now() -> i64 {
    START + 24 * 60 * MINUTE
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.args(arguments).current_dir(folder).env_clear().env("MATURION__STORE__URL", "file:store");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output of a command that succeeds.
#[track_caller]
fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn run(folder: &Path, arguments: &[&str]) -> String {
    succeed(&command(folder, arguments).output().unwrap())
}

fn open(folder: &Path) -> Arc<Store> {
    Store::open(&Location::existing("file:store", folder).unwrap(), &[]).unwrap()
}

/// The rows of a statement over a store that nobody writes to.
fn rows(folder: &Path, sql: &str) -> Vec<RecordBatch> {
    let tables = table_source(open(folder), now)(&Principal::Operator);
    let context = SessionContext::new();
    for (name, provider) in tables.providers {
        context.register_table(name, provider).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { context.sql(sql).await?.collect().await }).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[track_caller]
fn number(folder: &Path, sql: &str) -> i64 {
    rows(folder, sql)[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// The windows as they were said, in that order.
fn said(folder: &Path) -> Vec<String> {
    let batches = rows(folder, "SELECT row FROM windows ORDER BY kafka_offset");
    let texts = |batch: &RecordBatch| {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(texts).collect()
}

#[test]
fn results_are_stored_and_a_second_time_is_told_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "outage.ndjson", &outage());
    let out = run(folder.path(), &["backfill", "--input", "outage.ndjson", "--write"]);
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("stored 270 rows of windows and 2 rows of detections in file:store (job "), "{out}");
    let counts = || {
        ["windows", "detections", "logs"].map(|table| number(folder.path(), &format!("SELECT count(*) FROM {table}")))
    };
    assert_eq!(counts(), [270, 2, 0]);
    let requests = "SELECT CAST(sum(requests) AS BIGINT) FROM windows WHERE pipeline = 'api_errors'";
    assert_eq!(number(folder.path(), requests), outage().len() as i64);
    fs::rename(folder.path().join("outage.ndjson"), folder.path().join("renamed.ndjson")).unwrap();
    let again = run(folder.path(), &["backfill", "--input", "renamed.ndjson", "--write"]);
    assert!(again.starts_with("the results of this backfill are in file:store already (job "), "{again}");
    assert_eq!((again.lines().count(), counts()), (1, [270, 2, 0]));
    // Another question is another job.
    let one = ["backfill", "--input", "renamed.ndjson", "--write", "--pipelines", "api_errors", "--to"];
    let out = run(folder.path(), &[&one[..], &["2025-12-03T10:01:00Z"]].concat());
    assert!(out.contains("stored 3 rows of windows and 0 rows of detections"), "{out}");
    assert_eq!(counts(), [273, 2, 0]);
}

/// One pipeline without rules, and a history that fills many commits.
fn long_job() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["pipelines", "sql"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let pipeline =
        "name = \"counts\"\nsource = \"logs\"\nsql = \"counts.sql\"\nseries = [\"module\"]\nlateness = \"0s\"\n";
    fs::write(folder.path().join("pipelines/counts.toml"), pipeline).unwrap();
    let sql =
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS n FROM logs GROUP BY 1, 2";
    fs::write(folder.path().join("sql/counts.sql"), sql).unwrap();
    let record = |nth: i64| {
        let (time, module) = (START + nth * MINUTE / SERIES, nth % SERIES);
        format!("{{\"timestamp\":{time},\"module\":\"module {module}\"}}").into_bytes()
    };
    write(folder.path(), "long.ndjson", &(0..SERIES * MINUTES).map(record).collect::<Vec<_>>());
    folder
}

const LONG_JOB: [&str; 6] = ["backfill", "--input", "long.ndjson", "--write", "--disorder", "1s"];

/// Each row of the long job is there once.
#[track_caller]
fn is_whole(folder: &Path) {
    let all = SERIES * MINUTES;
    assert_eq!(number(folder, "SELECT count(*) FROM windows"), all);
    assert_eq!(number(folder, "SELECT count(DISTINCT kafka_offset) FROM windows"), all);
    assert_eq!(number(folder, "SELECT count(DISTINCT (module, window_start)) FROM windows"), all);
}

fn commits(folder: &Path) -> usize {
    let log = fs::read_dir(folder.join("store/windows/_delta_log")).into_iter().flatten();
    log.filter(|entry| entry.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|end| end == "json")))
        .count()
}

#[test]
fn a_job_that_is_killed_again_and_again_ends_with_its_rows_once() {
    let folder = long_job();
    let mut chance = StdRng::seed_from_u64(11);
    let mut killed = 0;
    for _ in 0..4 {
        let before = commits(folder.path());
        let mut process = command(folder.path(), &LONG_JOB).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + WAIT;
        while commits(folder.path()) <= before && process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no commit came");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Somewhere between two commits.
        std::thread::sleep(Duration::from_millis(chance.random_range(0..200)));
        killed += usize::from(process.try_wait().unwrap().is_none());
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(killed > 1, "it ended before it was killed");
    let out = run(folder.path(), &LONG_JOB);
    assert!(out.contains(&format!("stored {} rows of windows", SERIES * MINUTES)), "{out}");
    is_whole(folder.path());
    let undisturbed = long_job();
    run(undisturbed.path(), &LONG_JOB);
    assert_eq!(said(folder.path()), said(undisturbed.path()));
    assert!(run(folder.path(), &LONG_JOB).contains("already"));
}

#[test]
fn two_processes_of_one_job_store_its_rows_once() {
    let folder = long_job();
    let both = [0, 1].map(|_| command(folder.path(), &LONG_JOB).spawn().unwrap());
    for output in both.map(Child::wait_with_output) {
        succeed(&output.unwrap());
    }
    is_whole(folder.path());
}

#[test]
fn a_reader_that_closes_the_pipe_does_not_end_what_is_stored() {
    let folder = long_job();
    let mut process = command(folder.path(), &LONG_JOB).spawn().unwrap();
    drop(process.stdout.take());
    succeed(&process.wait_with_output().unwrap());
    is_whole(folder.path());
    assert!(run(folder.path(), &LONG_JOB).contains("already"));
}

/// The records, each as a row of the table `logs` with an offset of its own.
fn decoded(records: &[Vec<u8>], first: i64) -> RecordBatch {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits { ahead_max: i64::MAX, ..DecodeLimits::default() });
    for (nth, value) in records.iter().enumerate() {
        let record = Incoming { value, kafka_timestamp_ms: None, partition: 0, offset: first + nth as i64 };
        decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
    }
    decoder.finish().unwrap()
}

/// A store with these records in `commits` files.
fn filled(folder: &Path, records: &[Vec<u8>], commits: usize) -> Arc<Store> {
    let store = Store::open(&Location::parse("file:store", folder).unwrap(), &[]).unwrap();
    let input: Input = "telemetry.logs-0".into();
    let mut start = 0;
    for part in records.chunks(records.len().div_ceil(commits)) {
        let range = OffsetRange { start, end: start + part.len() as i64 };
        store.state(StoreTable::Logs).append(&input, range, decoded(part, start)).unwrap();
        let chunk = store.state(StoreTable::Logs).seal().unwrap();
        store.commit(StoreTable::Logs, &chunk).unwrap();
        start = range.end;
    }
    store
}

#[test]
fn the_store_gives_the_detections_of_the_files_that_filled_it() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = outage();
    let set = compiled(shipped());
    let sets = [Arc::clone(&set)];
    let path = write(folder.path(), "outage.ndjson", &records);
    let (store, fewer) = (filled(folder.path(), &records, 7), filled(other.path(), &records, 2));
    let ranges = [(i64::MIN, i64::MAX), (START + 5 * MINUTE, START + 20 * MINUTE)];
    for (from, to) in ranges {
        // Even without any patience: rows come in order.
        let settings = Settings { from, to, disorder: 0, ..Settings::default() };
        let of_files =
            backfill_with(std::slice::from_ref(&path), &set, &Settings { disorder: MINUTE, ..settings.clone() });
        assert!(!of_files.detections.is_empty());
        let open = |store: &Arc<Store>| {
            let needed = backfill::needed(&sets).logs;
            let mut columns = vec!["timestamp".to_owned()];
            columns.extend(needed.iter().map(|place| Table::Logs.schema().field(*place).name().clone()));
            columns.dedup();
            StoredHistory::open(store, StoreTable::Logs, columns, (from, to), now()).unwrap()
        };
        let stored = open(&store);
        assert_eq!((stored.rows(), stored.digest()), (of_files.report.rows, open(&fewer).digest()));
        let mut heard = Heard::default();
        let history = History::of_batches(vec![Box::new(stored) as Batches], 0);
        heard.report = backfill::run(history, &sets, &settings, &mut heard, &AtomicBool::new(false)).unwrap();
        assert_eq!((heard.report.rows, heard.late()), (of_files.report.rows, 0));
        assert_eq!(heard.said(), of_files.said());
        let sorted = |windows: &[Value]| {
            let mut texts = windows.iter().map(Value::to_string).collect::<Vec<_>>();
            texts.sort();
            texts
        };
        assert_eq!(sorted(&heard.windows), sorted(&of_files.windows));
    }
}

/// The same by the command, and over rows that have not expired by the clock of this machine.
#[test]
fn the_command_reads_the_store_and_stores_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let recent = (chrono::Utc::now().timestamp_micros() - 24 * 60 * MINUTE) / MINUTE * MINUTE;
    let shifted = |record: Vec<u8>| {
        let mut record: Value = serde_json::from_slice(&record).unwrap();
        record["timestamp"] = json!(record["timestamp"].as_i64().unwrap() - START + recent);
        serde_json::to_vec(&record).unwrap()
    };
    let records = outage().into_iter().map(shifted).collect::<Vec<_>>();
    write(folder.path(), "outage.ndjson", &records);
    drop(filled(folder.path(), &records, 3));
    let of_files = run(folder.path(), &["backfill", "--input", "outage.ndjson"]);
    assert!(of_files.contains("module_api_errors.error_rate"), "{of_files}");
    assert_eq!(run(folder.path(), &["backfill", "--input", "table"]), of_files);
    let stored = run(folder.path(), &["backfill", "--input", "table", "--write"]);
    assert!(stored.contains("stored 270 rows of windows and 2 rows of detections"), "{stored}");
    assert!(run(folder.path(), &["backfill", "--input", "table", "--write"]).contains("already"));
    let refused = command(folder.path(), &["backfill", "--input", "table", "outage.ndjson"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let nowhere: PathBuf = folder.path().join("empty");
    fs::create_dir(&nowhere).unwrap();
    let refused = command(&nowhere, &["backfill", "--input", "table"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(error, "maturion: store.url = \"file:store\" cannot be used: there is no such folder\n");
}
