//! What exactly-once costs: one backlog drained with and without transactions, at several commit intervals, for few and
//! for many series, on real Kafka, in one run.
//!
//! `cargo bench --bench cost` writes a million logs of about 120 bytes for each number of series
//! (`MATURION_BENCH_RECORDS` changes that) and drains each backlog in a process of its own. "Without" is the same
//! Maturion on a log whose sessions write with a plain idempotent producer and commit offsets apart from their outputs:
//! it would lose or repeat results at a crash, and exists only here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/loose.rs"]
mod loose;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{Broker, PARTITIONS, connect, cost, runtime, shipped};
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, Outgoing, Partition};
use maturion::model::pipeline::Pipeline;
use maturion::serve::status::{RoleState, RoleStatus, Stage};

/// 2025-12-03T10:00:00Z, in milliseconds.
const START_MS: i64 = 1_764_756_000_000;
/// Records of one second of event time: a backlog of a million is a quarter of an hour.
const PER_SECOND: u64 = 1_000;
const SERIES: [u64; 3] = [100, 10_000, 100_000];
const INTERVALS_MS: [u64; 4] = [50, DEFAULT_INTERVAL_MS, 1_000, 5_000];
const DEFAULT_INTERVAL_MS: u64 = 200;

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "drain", brokers, prefix, mode, interval, records] => {
            let interval = Duration::from_millis(interval.parse().expect("a number"));
            drain(brokers, prefix, mode == &"with", interval, records.parse().expect("a number"));
        }
        _ => compare(),
    }
}

/// One row of the table.
struct Cost {
    rate: f64,
    microseconds: f64,
    peak: f64,
    partial_bytes: f64,
}

fn compare() {
    let records = std::env::var("MATURION_BENCH_RECORDS").map_or(1_000_000, |text| text.parse().expect("a number"));
    let broker = Broker::find();
    println!("series  interval  transactions  records/s  µs/record  peak MiB  partials, bytes/record");
    let mut nth = 0;
    let mut run = |series: u64, mode: &str, interval: u64| {
        nth += 1;
        // Every run has a backlog of its own: what one leaves in the page cache must not help the next.
        let prefix = format!("cost{nth}.");
        fill(&broker.address, &prefix, series, records);
        let cost = measure(&broker.address, &prefix, mode, interval, records);
        println!(
            "{series:6}  {interval:5} ms  {mode:<12}  {:9.0}  {:9.2}  {:8.0}  {:8.1}",
            cost.rate, cost.microseconds, cost.peak, cost.partial_bytes
        );
        cost.rate
    };
    for series in SERIES {
        for interval in INTERVALS_MS {
            // At the default interval more often, and in both orders: that ratio has a bar.
            let rounds = if interval == DEFAULT_INTERVAL_MS { 3 } else { 1 };
            let (mut with, mut without) = (0.0, 0.0);
            for round in 0..rounds {
                if round % 2 == 0 {
                    with += run(series, "with", interval);
                }
                without += run(series, "without", interval);
                if round % 2 == 1 {
                    with += run(series, "with", interval);
                }
            }
            println!("        of the throughput without: {:.2}", with / without);
        }
    }
}

fn measure(brokers: &str, prefix: &str, mode: &str, interval: u64, records: u64) -> Cost {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["drain", brokers, prefix, mode, &interval.to_string(), &records.to_string()])
        .output()
        .expect("a process of its own");
    assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8_lossy(&output.stdout).lines().last().expect("a line").to_owned();
    let numbers = line.split_whitespace().map(|number| number.parse::<f64>().expect("a number")).collect::<Vec<_>>();
    let [wall, processor, peak, bytes] = numbers[..] else { panic!("{line}") };
    let records = records as f64;
    Cost { rate: records / wall, microseconds: processor / records * 1e6, peak, partial_bytes: bytes / records }
}

fn fill(brokers: &str, prefix: &str, series: u64, records: u64) {
    let log = connect(brokers);
    let topics = Topics::new(prefix);
    topics.ensure(log.as_ref(), Partitions { inputs: PARTITIONS, series: PARTITIONS }).expect("topics");
    let (topic, appender) = (topics.logs(), log.appender().expect("an appender"));
    let append = |row: u64, partition: i32| {
        let time = START_MS + (row * 1_000 / PER_SECOND) as i64;
        // A multiplier that shares no factor with the numbers of series spreads them over every second.
        let place = row.wrapping_mul(7_919) % series;
        let (organisation, module) = (place / 10, place % 10);
        let value = format!(
            r#"{{"timestamp":{time},"organisation_id":"org_{organisation}","module":"module-{module}","event":"http_request","status_code":200,"duration_ms":{}.5}}"#,
            20 + row % 300
        );
        let (partition, value) = (Some(partition), Some(value.as_bytes()));
        appender.append(Outgoing { topic: &topic, partition, value, ..Outgoing::default() }).expect("appended");
    };
    for row in 0..records {
        append(row, (row % PARTITIONS as u64) as i32);
    }
    // One hour later, so that every window of the backlog closes.
    for partition in 0..PARTITIONS {
        append(records + 3_600 * PER_SECOND, partition);
    }
    appender.flush(Duration::from_secs(60)).expect("acknowledged");
}

fn pipelines() -> Vec<Pipeline> {
    let mut pipelines = shipped(&["api_errors", "api_latency"]);
    let rules = pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.rules);
    rules.for_each(|rule| rule.inhibits.retain(|name| name.pipeline.starts_with("api_")));
    pipelines
}

fn drain(brokers: &str, prefix: &str, with_transactions: bool, interval: Duration, records: u64) {
    let mut runtime = runtime(brokers, prefix, pipelines());
    runtime.intake_commit_interval = interval;
    runtime.detect_commit_interval = interval;
    if !with_transactions {
        runtime.log = Arc::new(loose::LooseLog::new(Arc::clone(&runtime.log), brokers));
    }
    let last = (START_MS + (records * 1_000 / PER_SECOND) as i64) * 1_000;
    let running = runtime.start(true, true).expect("started");
    // From when both stages have their partitions: joining a group is not what is measured.
    let is_running = |role: &RoleStatus| role.state == RoleState::Running;
    while runtime.board.snapshot().roles.iter().filter(|role| is_running(role)).count() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (started, (before, _)) = (Instant::now(), cost());
    loop {
        let status = runtime.board.snapshot();
        let shards = status.partitions.iter().filter(|partition| partition.stage == Stage::Detect);
        let closed = shards.filter(|shard| shard.watermark_us.is_some_and(|watermark| watermark > last)).count();
        if closed == PARTITIONS as usize {
            break;
        }
        assert!(!running.has_ended(), "{status:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let wall = started.elapsed().as_secs_f64();
    let (processor, peak) = cost();
    println!("{wall} {} {peak} {}", processor - before, partial_bytes(&runtime.log, &runtime.topics));
    running.stop().expect("stopped");
}

/// The bytes of keys, headers and values in `maturion.partials`, before compression.
fn partial_bytes(log: &Arc<dyn Log>, topics: &Topics) -> u64 {
    let topic: Arc<str> = topics.partials().into();
    let partitions = (0..PARTITIONS).map(|number| Partition { topic: Arc::clone(&topic), number }).collect::<Vec<_>>();
    let bounds = log.bounds(&partitions).expect("bounds");
    let starts = partitions
        .into_iter()
        .zip(&bounds)
        .map(|(partition, (offset, _))| maturion::log::Position { partition, offset: *offset });
    let mut reader = log.reader(&starts.collect::<Vec<_>>()).expect("a reader");
    let mut bytes = 0;
    let is_behind = |at: &maturion::log::Position| at.offset < bounds[at.partition.number as usize].1;
    while reader.positions().expect("positions").iter().any(is_behind) {
        let mut visit = |record: &maturion::log::Record<'_>| {
            let headers = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers;
        };
        reader.poll(Duration::from_millis(100), 10_000, &mut visit).expect("polled");
    }
    bytes as u64
}
