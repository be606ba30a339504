//! The store's answers beside DuckDB's: the same questions over the same Parquet files, the same numbers, and how long each takes.
//!
//! `cargo bench --bench query` writes thirty days of telemetry, 2 million logs (`MATURION_BENCH_ROWS` changes that; the
//! full run is 50 million and takes some gigabytes of disk), and the windows of two pipelines over them, through the
//! store's own writer and maintenance. Then each statement is asked warm, of Maturion as a client would ask it, and of DuckDB over
//! the live files. Beside the wall time stands the mean processor time of an answer, which other work on the machine
//! disturbs less. DuckDB comes from PyPI into a virtual environment of its own (`MATURION_BENCH_PYTHON` names a Python
//! that has it already). `MATURION_BENCH_FOLDER` names a folder whose store is kept and asked again; a run that was
//! stopped while it wrote goes on there.

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
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use maturion::model::principal::Principal;
use maturion::model::schema::{StoreTable, windows_with};
use maturion::query::{Engine, Limits};
use maturion::store::chunk::{Input, OffsetRange};
use maturion::store::scan::table_source;
use maturion::store::{Location, Store};
use python::python;

/// 2026-11-01T06:00:00Z, in microseconds: the wall time of every question.
const NOW: i64 = 1_793_512_800_000_000;
const MINUTE: i64 = 60_000_000;
/// Thirty days, without an hour that would have expired.
const SPAN: i64 = (30 * 24 - 1) * 60 * MINUTE;
/// Rows of one commit: what 64 MB of them are.
const COMMIT_ROWS: i64 = 250_000;
const MODULES: i64 = 20;
const ORGANISATIONS: i64 = 50;
/// So many times each question about a few minutes is asked, each time of another module.
const ROUNDS: usize = 60;
/// And each about thirty days.
const WIDE_ROUNDS: usize = 10;
const MEASURES: [&str; 3] = ["error_rate", "errors", "requests"];

/// A statement in both tongues. `{n}` is the number of the round's module.
struct Question {
    name: &'static str,
    ours: String,
    theirs: String,
    rounds: usize,
    bar: Option<Duration>,
}

fn questions() -> Vec<Question> {
    let recent = NOW - 15 * MINUTE;
    let columns =
        "organisation_id, level, event, message, status_code, duration_ms, route, user_id, attributes, kafka_offset";
    let time = |function: &str| format!("{function}({recent})");
    vec![
        Question {
            name: "the last 15 minutes of one module",
            ours: format!(
                "SELECT timestamp, {columns} FROM logs WHERE module = 'module-{{n}}' AND timestamp >= to_timestamp_micros({recent}) ORDER BY timestamp, kafka_offset"
            ),
            theirs: format!(
                "SELECT epoch_us(timestamp), {columns} FROM logs WHERE module = 'module-{{n}}' AND timestamp >= {} ORDER BY timestamp, kafka_offset",
                time("make_timestamptz")
            ),
            rounds: ROUNDS,
            bar: Some(Duration::from_millis(200)),
        },
        by_hour("error rate per module and hour of 30 days, from windows", "tumble(window_start, INTERVAL '1 hour')"),
        by_hour("the same, with date_trunc", "date_trunc('hour', window_start)"),
        Question {
            name: "errors per module of 30 days, from logs",
            ours: "SELECT module, count(*) AS requests, count(*) FILTER (WHERE status_code >= 500) AS errors
                   FROM logs WHERE event = 'http_request' GROUP BY 1 ORDER BY 1"
                .to_owned(),
            theirs: "SELECT module, count(*) AS requests, count(*) FILTER (WHERE status_code >= 500) AS errors
                   FROM logs WHERE event = 'http_request' GROUP BY 1 ORDER BY 1"
                .to_owned(),
            rounds: WIDE_ROUNDS,
            bar: None,
        },
    ]
}

/// The error rate per module and hour, where `hour` says how Maturion is told of an hour.
fn by_hour(name: &'static str, hour: &str) -> Question {
    let statement = |hour: &str| {
        format!(
            "SELECT module, {hour} AS hour, sum(errors) AS errors, sum(requests) AS requests
             FROM windows WHERE pipeline = 'api_errors' GROUP BY 1, 2 ORDER BY 1, 2"
        )
    };
    let (ours, theirs) = (statement(hour), statement("epoch_us(date_trunc('hour', window_start))"));
    Question { name, ours, theirs, rounds: WIDE_ROUNDS, bar: Some(Duration::from_secs(1)) }
}

/// DuckDB over the live files: for each line with a statement a line with the milliseconds that it took, of the wall and of
/// the processor, and its rows.
const SCRIPT: &str = r#"
import duckdb, json, sys, time
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute("SET enable_progress_bar = false")
db.execute("SET parquet_metadata_cache = true")
for table, files in json.loads(sys.stdin.readline()).items():
    names = ", ".join(f"'{file}'" for file in files)
    db.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{names}], hive_partitioning = false)")
def text(value):
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)
for line in sys.stdin:
    began, before = time.perf_counter(), time.process_time()
    rows = db.sql(json.loads(line)).fetchall()
    took = [(time.perf_counter() - began) * 1e3, (time.process_time() - before) * 1e3]
    print(json.dumps([took, ["\t".join(text(value) for value in row) for row in rows]]), flush = True)
"#;

fn main() {
    let rows = std::env::var("MATURION_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let fresh = tempfile::tempdir().expect("a folder");
    let kept = std::env::var("MATURION_BENCH_FOLDER").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(fresh.path());
    let began = Instant::now();
    let store = write(folder, rows);
    for table in [StoreTable::Logs, StoreTable::Windows] {
        let files = store.view().table(table).committed.files.clone();
        let (rows, bytes) =
            (files.iter().map(|file| file.rows).sum::<u64>(), files.iter().map(|file| file.bytes).sum::<u64>());
        println!("{}: {rows} rows in {} files, {:.0} MB", table.name(), files.len(), bytes as f64 / 1e6);
    }
    println!("written in {:.0} s", began.elapsed().as_secs_f64());
    let mut duck = Duck::start(&python(folder), folder, &store);
    let engine = Engine::start(table_source(Arc::clone(&store), || NOW), Limits::default()).expect("an engine");
    println!("{:56} {:>21} {:>21} {:>7} {:>20}", "", "Maturion p50    p95", "DuckDB p50    p95", "ratio", "processor");
    for question in questions() {
        let (mut ours, mut theirs, mut rows) = (Vec::new(), Vec::new(), 0);
        // In turn, so that whatever else the machine does falls on both. The first round fills the caches.
        for nth in 0..=question.rounds {
            let named = |sql: &str| sql.replace("{n}", &(nth as i64 % MODULES).to_string());
            let (time, found) = ask(&engine, &named(&question.ours));
            let (their_time, expected) = duck.ask(&named(&question.theirs));
            assert_eq!(found, expected, "{}", question.name);
            rows = found.len();
            if nth > 0 {
                ours.push(time);
                theirs.push(their_time);
            }
        }
        let processor =
            [&ours, &theirs].map(|times| times.iter().map(|time| time[1]).sum::<f64>() / times.len() as f64);
        let [ours, theirs] = [ours, theirs].map(|times| times.iter().map(|time| time[0]).collect::<Vec<_>>());
        let (ours, theirs) = ((at(&ours, 0.5), at(&ours, 0.95)), (at(&theirs, 0.5), at(&theirs, 0.95)));
        let bar = question.bar.map_or(String::new(), |bar| format!(", bar {bar:?}"));
        println!(
            "{:56} {:8.1} ms {:7.1} ms {:7.1} ms {:7.1} ms {:7.2} {:6.0} ms {:6.0} ms  {rows} rows, the same{bar}",
            question.name,
            ours.0,
            ours.1,
            theirs.0,
            theirs.1,
            ours.0 / theirs.0,
            processor[0],
            processor[1],
        );
    }
}

fn at(times: &[f64], share: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

/// Milliseconds of the wall and of the processor, and the rows.
fn ask(engine: &Arc<Engine>, sql: &str) -> ([f64; 2], Vec<String>) {
    let (began, before) = (Instant::now(), processor());
    let mut found = engine.run_waiting(&Principal::Operator, sql).expect("planned");
    let batches = std::iter::from_fn(|| found.wait()).collect::<Result<Vec<_>, _>>().expect("rows");
    let took = [began.elapsed().as_secs_f64() * 1e3, processor() - before];
    (took, batches.iter().flat_map(texts).collect())
}

/// Milliseconds of the processor that the threads of this process have had.
fn processor() -> f64 {
    // A thread may end meanwhile.
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        Some(times.split(' ').next()?.parse::<f64>().ok()? / 1e6)
    };
    std::fs::read_dir("/proc/self/task").expect("Linux").filter_map(of_thread).sum()
}

/// Rows as lines of texts; times as microseconds.
fn texts(batch: &RecordBatch) -> Vec<String> {
    use arrow::datatypes::DataType;
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Timestamp(..) => {
            let micros = arrow::compute::cast(column, &maturion::model::schema::timestamp_type()).expect("a time");
            arrow::compute::cast(&micros, &DataType::Int64).expect("a number")
        }
        _ => Arc::clone(column),
    };
    let columns = batch.columns().iter().map(plain).collect::<Vec<_>>();
    let options = FormatOptions::default();
    let formats = columns.iter().map(|column| ArrayFormatter::try_new(column, &options).expect("a format"));
    let formats = formats.collect::<Vec<_>>();
    let line = |row| formats.iter().map(|format| format.value(row).to_string()).collect::<Vec<_>>().join("\t");
    (0..batch.num_rows()).map(line).collect()
}

/// DuckDB in a process of its own.
struct Duck {
    process: Child,
    statements: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Duck {
    fn start(python: &Path, folder: &Path, store: &Store) -> Duck {
        let files = |table: StoreTable| {
            let files = store.view().table(table).committed.files.clone();
            let path = |file: &Arc<maturion::store::files::FileEntry>| {
                let below = folder.join("store").join(table.name()).join(file.path.to_string());
                below.to_string_lossy().into_owned()
            };
            (table.name(), files.iter().map(path).collect::<Vec<_>>())
        };
        let files = [StoreTable::Logs, StoreTable::Windows].map(files).into_iter().collect::<BTreeMap<_, _>>();
        let mut process = Command::new(python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut statements = process.stdin.take().expect("a pipe");
        writeln!(statements, "{}", serde_json::json!(files)).expect("told");
        let answers = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Duck { process, statements, answers }
    }

    /// Milliseconds of the wall and of the processor, and the rows.
    fn ask(&mut self, sql: &str) -> ([f64; 2], Vec<String>) {
        writeln!(self.statements, "{}", serde_json::json!(sql)).expect("asked");
        let answer = self.answers.next().expect("DuckDB is there").expect("an answer");
        serde_json::from_str(&answer).expect("an answer")
    }
}

impl Drop for Duck {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn open(folder: &Path) -> Arc<Store> {
    let location = Location::parse("file:store", folder).expect("a folder");
    Store::open(&location, &MEASURES.map(str::to_owned)).expect("a store")
}

/// A store with so many logs, and windows of two pipelines over as many series as would have rows in each minute. What is
/// there already is kept.
fn write(folder: &Path, rows: i64) -> Arc<Store> {
    let store = open(folder);
    fill(&store, StoreTable::Logs, rows, COMMIT_ROWS, &|range| logs(range, rows));
    let organisations = (rows / 5_000_000).clamp(1, 10);
    let windows = SPAN / MINUTE * MODULES * organisations * 2;
    fill(&store, StoreTable::Windows, windows, COMMIT_ROWS, &|range| self::windows(range, organisations));
    for table in [StoreTable::Logs, StoreTable::Windows] {
        while store.maintain(table, NOW).expect("maintained").merged > 0 {}
    }
    store
}

/// Commits the rows up to `rows` that are not in the store yet. The next batch is made while one is committed.
fn fill(
    store: &Store,
    table: StoreTable,
    rows: i64,
    step: i64,
    batch: &(dyn Fn(std::ops::Range<i64>) -> RecordBatch + Sync),
) {
    let input: Input = format!("bench-{}", table.name()).into();
    let written = store.offset(table, &input).expect("a store").unwrap_or(0);
    std::thread::scope(|scope| {
        let (made, batches) = std::sync::mpsc::sync_channel(0);
        scope.spawn(move || {
            for start in (written..rows).step_by(usize::try_from(step).expect("a size")) {
                let end = (start + step).min(rows);
                made.send((OffsetRange { start, end }, batch(start..end))).expect("somebody commits");
            }
        });
        for (range, batch) in batches {
            let mut state = store.state(table);
            state.append(&input, range, batch).expect("appended");
            let chunk = state.seal().expect("rows");
            drop(state);
            store.commit(table, &chunk).expect("committed");
        }
    });
}

/// As different from its neighbours as real values are.
fn mixed(nth: i64) -> u64 {
    let mut bits = nth.unsigned_abs().wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(values))
}

fn batch(schema: &arrow::datatypes::SchemaRef, rows: usize, columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let column = |field: &arrow::datatypes::FieldRef| {
        let found = columns.iter().find(|(name, _)| name == field.name());
        found.map_or_else(|| new_null_array(field.data_type(), rows), |(_, column)| Arc::clone(column))
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect()).expect("a batch")
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn logs(range: std::ops::Range<i64>, all: i64) -> RecordBatch {
    let rows = usize::try_from(range.end - range.start).expect("a size");
    let each = || range.clone().map(|nth| (nth, mixed(nth)));
    let of = |options: &[&str], bits: u64| options[bits as usize % options.len()].to_owned();
    let time = |nth: i64| NOW - SPAN + (i128::from(SPAN) * i128::from(nth) / i128::from(all)) as i64;
    let status = |bits: u64| if bits.is_multiple_of(97) { 500 } else { 200 };
    batch(
        &StoreTable::Logs.schema(),
        rows,
        vec![
            ("timestamp", times(range.clone().map(time))),
            ("organisation_id", text(each().map(|(_, bits)| format!("org_{}", (bits >> 8) % ORGANISATIONS as u64)))),
            ("module", text(each().map(|(_, bits)| format!("module-{}", (bits >> 16) % MODULES as u64)))),
            ("source", text(each().map(|(_, bits)| of(&["edge", "edge", "supabase", "frontend"], bits >> 24)))),
            ("level", text(each().map(|(_, bits)| if status(bits) == 500 { "ERROR" } else { "INFO" }.to_owned()))),
            (
                "event",
                text(
                    each().map(|(_, bits)| of(&["http_request", "http_request", "http_request", "export"], bits >> 32)),
                ),
            ),
            ("message", text(each().map(|(nth, bits)| format!("request {nth} was answered in turn {}", bits % 1_000)))),
            ("status_code", Arc::new(Int32Array::from_iter_values(each().map(|(_, bits)| status(bits))))),
            (
                "duration_ms",
                Arc::new(Float64Array::from_iter_values(each().map(|(_, bits)| (bits % 20_000) as f64 / 16.0))),
            ),
            ("route", text(each().map(|(_, bits)| format!("/api/v1/items/{}", (bits >> 40) % 200)))),
            ("method", text(each().map(|(_, bits)| of(&["GET", "GET", "POST", "DELETE"], bits >> 44)))),
            ("user_id", text(each().map(|(_, bits)| format!("user_{}", (bits >> 12) % 20_000)))),
            ("trace_id", text(each().map(|(_, bits)| format!("{bits:016x}")))),
            (
                "attributes",
                text(each().map(|(_, bits)| format!("{{\"region\":\"eu-west-{}\",\"cached\":false}}", bits % 3))),
            ),
            ("kafka_partition", Arc::new(Int32Array::from_value(0, rows))),
            ("kafka_offset", Arc::new(Int64Array::from_iter_values(range.clone()))),
        ],
    )
}

/// Windows by minute, pipeline, organisation and module.
fn windows(range: std::ops::Range<i64>, organisations: i64) -> RecordBatch {
    let rows = usize::try_from(range.end - range.start).expect("a size");
    let series = MODULES * organisations * 2;
    let time = |nth: i64| (NOW - SPAN) / MINUTE * MINUTE + nth / series * MINUTE;
    let pipeline = |nth: i64| if nth % 2 == 0 { "api_errors" } else { "api_latency" };
    let module = |nth: i64| format!("module-{}", nth / 2 % MODULES);
    let organisation = |nth: i64| format!("org_{}", nth / 2 / MODULES % organisations);
    let requests = |nth: i64| 50 + (mixed(nth) % 100) as i64;
    let errors = |nth: i64| i64::from(mixed(nth).is_multiple_of(7));
    let rate = |nth: i64| errors(nth) as f64 / requests(nth) as f64;
    let row = |nth: i64| {
        format!(
            r#"{{"pipeline":"{}","window_start":"{}","organisation_id":"{}","module":"{}","requests":{},"errors":{},"error_rate":{}}}"#,
            pipeline(nth),
            time(nth),
            organisation(nth),
            module(nth),
            requests(nth),
            errors(nth),
            rate(nth),
        )
    };
    let floats =
        |value: &dyn Fn(i64) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(range.clone().map(value))) };
    batch(
        &windows_with(&MEASURES.map(str::to_owned)),
        rows,
        vec![
            ("window_start", times(range.clone().map(time))),
            ("organisation_id", text(range.clone().map(organisation))),
            ("module", text(range.clone().map(module))),
            ("pipeline", text(range.clone().map(|nth| pipeline(nth).to_owned()))),
            ("window_end", times(range.clone().map(|nth| time(nth) + MINUTE))),
            ("complete", Arc::new(BooleanArray::from(vec![true; rows]))),
            ("row", text(range.clone().map(row))),
            ("kafka_partition", Arc::new(Int32Array::from_value(0, rows))),
            ("kafka_offset", Arc::new(Int64Array::from_iter_values(range.clone()))),
            ("requests", floats(&|nth| requests(nth) as f64)),
            ("errors", floats(&|nth| errors(nth) as f64)),
            ("error_rate", floats(&rate)),
        ],
    )
}
