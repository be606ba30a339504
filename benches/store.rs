//! The store under a frequent writer: how soon rows are readable, and what commits cost after two thousand of them.
//!
//! `cargo bench --bench store` needs Kafka like the other benchmarks. Freshness is from Kafka's acknowledgement of a
//! record to the end of the SQL query that finds it, while commits and maintenance go on every second.

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

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use kafka::Broker;
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::log::Outgoing;
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::roles::store::StoreLimits;
use maturion::roles::{Clock, RunningRoles, SystemClock};
use maturion::store::chunk::{Input, OffsetRange};
use maturion::store::scan::table_source;
use maturion::store::{Location, Store};

const RECORDS: usize = 1_000;
/// Between two records, so that there is time for commits and compactions.
const PAUSE: Duration = Duration::from_millis(40);
const COMMITS: i64 = 2_000;
const ROWS: i64 = 500;
/// How many commits a row of the table sums up.
const STEP: i64 = 200;
/// Maintenance runs once a minute, two commits come in that time.
const COMMITS_PER_ROUND: i64 = 2;
const START: i64 = 1_764_756_000_000_000;
const SECOND: i64 = 1_000_000;

fn main() {
    freshness();
    endurance();
}

fn open(folder: &std::path::Path) -> Arc<Store> {
    Store::open(&Location::parse("file:store", folder).expect("a folder"), &[]).expect("a store")
}

fn wall() -> i64 {
    SystemClock::default().wall()
}

fn freshness() {
    let broker = Broker::find();
    let runtime = kafka::runtime(&broker.address, "fresh.", Vec::new());
    let folder = tempfile::tempdir().expect("a folder");
    let (store, mut roles) = (open(folder.path()), RunningRoles::default());
    let limits = StoreLimits {
        commit_interval: Duration::from_secs(1),
        chunk_bytes_max: 64 << 20,
        hot_bytes_max: 512 << 20,
        log_id: String::new(),
        accept_gap: false,
    };
    runtime.fill(&store, limits, &mut roles).expect("started");
    let stop = Arc::new(AtomicBool::new(false));
    let tending = std::thread::spawn({
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        move || {
            let mut merged = 0;
            while !stop.load(Ordering::Relaxed) {
                merged += store.maintain(StoreTable::Logs, wall()).expect("maintained").merged;
                std::thread::sleep(Duration::from_secs(1));
            }
            merged
        }
    });
    let tables = table_source(Arc::clone(&store), wall)(&Principal::Operator);
    let context = SessionContext::new();
    for (name, provider) in tables.providers {
        context.register_table(name, provider).expect("registered");
    }
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let appender = runtime.log.appender().expect("an appender");
    let topic = runtime.topics.logs();
    let mut times = Vec::new();
    for nth in 0..RECORDS {
        let value = format!(r#"{{"timestamp":{},"module":"fresh","message":"{nth}"}}"#, wall());
        let value = Some(value.as_bytes());
        appender.append(Outgoing { topic: &topic, value, ..Outgoing::default() }).expect("appended");
        appender.flush(Duration::from_secs(30)).expect("acknowledged");
        let acknowledged = Instant::now();
        let sql = format!("SELECT count(*) FROM logs WHERE message = '{nth}'");
        loop {
            (tables.renew)();
            let rows = tokio.block_on(async { context.sql(&sql).await.expect("planned").collect().await });
            if rows.expect("rows")[0].column(0).as_primitive::<Int64Type>().value(0) == 1 {
                break;
            }
        }
        times.push(acknowledged.elapsed());
        std::thread::sleep(PAUSE);
    }
    stop.store(true, Ordering::Relaxed);
    let merged = tending.join().expect("tended");
    let committed = store.view().table(StoreTable::Logs).committed.version;
    roles.stop().expect("stopped");
    times.sort();
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)].as_millis();
    println!("freshness of {RECORDS} records, during {committed} versions and {merged} merged files:");
    println!("  p50 {} ms, p90 {} ms, p99 {} ms, worst {} ms", at(0.5), at(0.9), at(0.99), at(1.0));
}

/// Rows as one commit of half a minute has them.
fn batch(commit: i64) -> arrow::array::RecordBatch {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits { ahead_max: i64::MAX, ..DecodeLimits::default() });
    for row in 0..ROWS {
        let time = START + commit * 30 * SECOND + row * SECOND / 20;
        let text = format!(
            r#"{{"timestamp":{time},"organisation_id":"org_{}","module":"module-{}","source":"edge","level":"INFO","event":"http_request","status_code":200,"duration_ms":{}}}"#,
            row % 50,
            row % 7,
            row % 977,
        );
        let offset = commit * ROWS + row;
        let incoming = Incoming { value: text.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset };
        decoder.push(&incoming).expect("a log");
    }
    decoder.finish().expect("a batch")
}

fn endurance() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let input: Input = "telemetry.logs-0".into();
    println!("{COMMITS} commits of {ROWS} rows, maintenance after every {COMMITS_PER_ROUND}:");
    println!("commits  commit p50  p99     maintenance  live files  memory");
    let (mut commits, mut rounds) = (Vec::new(), Duration::ZERO);
    for nth in 0..COMMITS {
        let range = OffsetRange { start: nth * ROWS, end: (nth + 1) * ROWS };
        store.state(StoreTable::Logs).append(&input, range, batch(nth)).expect("appended");
        let chunk = store.state(StoreTable::Logs).seal().expect("rows");
        let started = Instant::now();
        store.commit(StoreTable::Logs, &chunk).expect("committed");
        commits.push(started.elapsed());
        if (nth + 1) % COMMITS_PER_ROUND == 0 {
            let started = Instant::now();
            store.maintain(StoreTable::Logs, START).expect("maintained");
            rounds += started.elapsed();
        }
        if (nth + 1) % STEP == 0 {
            commits.sort();
            let files = store.view().table(StoreTable::Logs).committed.files.len();
            let (p50, p99) = (commits[commits.len() / 2], commits[commits.len() * 99 / 100]);
            println!(
                "{:7}  {:7.1} ms  {:5.1} ms  {:6.2} s     {files:7}     {:4.0} MiB",
                nth + 1,
                p50.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3,
                rounds.as_secs_f64(),
                resident_mib(),
            );
            (commits, rounds) = (Vec::new(), Duration::ZERO);
        }
    }
    let opened = Instant::now();
    let fresh = open(folder.path());
    let rows: u64 = fresh.view().table(StoreTable::Logs).committed.files.iter().map(|file| file.rows).sum();
    println!("opened afresh in {:.0} ms: {rows} rows", opened.elapsed().as_secs_f64() * 1e3);
    assert_eq!(rows, (COMMITS * ROWS) as u64);
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1_024.0
}
