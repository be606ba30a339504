//! The same backlog drained by a bare librdkafka consumer and by Maturion, on real Kafka, in one run.
//!
//! `cargo bench --bench throughput` writes 5 million 300-byte logs over 4 partitions (`MATURION_BENCH_RECORDS` changes
//! that), then drains them in a process of its own each, so that processor time and peak memory are theirs alone.
//! Maturion runs the error and latency pipelines by organisation and module (1 minute, tumbling) and one of 10 minutes
//! that hops by 1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::process::Command;
use std::time::{Duration, Instant};

use kafka::{Broker, PARTITIONS, connect, cost, runtime, shipped};
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, Outgoing};
use maturion::model::pipeline::Pipeline;
use maturion::serve::status::Stage;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

const PREFIX: &str = "throughput.";
/// 2025-12-03T10:00:00Z, in milliseconds.
const START_MS: i64 = 1_764_756_000_000;
/// Records of one second of event time.
const PER_SECOND: u64 = 2_000;

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "bare", brokers, records] => drain_bare(brokers, records.parse().expect("a number")),
        [_, "maturion", brokers, records] => drain_maturion(brokers, records.parse().expect("a number")),
        _ => compare(),
    }
}

fn compare() {
    let records = std::env::var("MATURION_BENCH_RECORDS").map_or(5_000_000, |text| text.parse().expect("a number"));
    let broker = Broker::find();
    fill(&broker.address, records);
    let run = |mode: &str| {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args([mode, &broker.address, &records.to_string()])
            .output()
            .expect("a process of its own");
        assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
        let line = String::from_utf8_lossy(&output.stdout).lines().last().expect("a line").to_owned();
        let numbers =
            line.split_whitespace().map(|number| number.parse::<f64>().expect("a number")).collect::<Vec<_>>();
        let [wall, cpu, peak] = numbers[..] else { panic!("{line}") };
        let (rate, each) = (records as f64 / wall, cpu / records as f64 * 1e6);
        println!(
            "{mode:<9} {wall:7.2} s  {rate:10.0} records/s  {each:5.2} µs of processor per record  {peak:5.0} MiB peak"
        );
        rate
    };
    let (bare, maturion) = (run("bare"), run("maturion"));
    println!("ratio     {:.2}", maturion / bare);
}

/// A web request in about 300 bytes.
fn record(row: u64, value: &mut Vec<u8>) {
    use std::io::Write as _;
    value.clear();
    let time = START_MS + (row * 1_000 / PER_SECOND) as i64;
    let status = if row.is_multiple_of(5_000) { 500 } else { 200 };
    let (organisation, module, route) = (row % 12, row % 7, row % 40);
    write!(
        value,
        r#"{{"timestamp":{time},"organisation_id":"org_{organisation}","module":"module-{module}","source":"edge","level":"INFO","event":"http_request","status_code":{status},"duration_ms":{}.5,"route":"/api/v1/items/{route}","method":"GET","user_id":"user_{}","client_ip":"10.0.{}.{}","trace_id":"{row:032x}","region":"eu-west-1"}}"#,
        20 + row % 300,
        row % 10_000,
        row % 200,
        row % 250,
    )
    .expect("memory");
}

fn fill(brokers: &str, records: u64) {
    let log = connect(brokers);
    let topics = Topics::new(PREFIX);
    topics.ensure(log.as_ref(), Partitions { inputs: PARTITIONS, series: PARTITIONS }).expect("topics");
    let (topic, appender) = (topics.logs(), log.appender().expect("an appender"));
    let (mut value, mut bytes) = (Vec::new(), 0);
    let mut append = |row: u64, partition: i32| {
        record(row, &mut value);
        bytes += value.len() as u64;
        let partition = Some(partition);
        appender
            .append(Outgoing { topic: &topic, partition, value: Some(&value), ..Outgoing::default() })
            .expect("appended");
    };
    for row in 0..records {
        append(row, (row % PARTITIONS as u64) as i32);
    }
    // One hour later, so that every window of the backlog closes.
    for partition in 0..PARTITIONS {
        append(records + 3_600 * PER_SECOND, partition);
    }
    appender.flush(Duration::from_secs(60)).expect("acknowledged");
    println!("backlog   {records} records of {} bytes over {PARTITIONS} partitions", bytes / records);
}

/// Reads and counts, nothing else, with the fetch settings that Maturion uses.
fn drain_bare(brokers: &str, records: u64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "throughput.bare")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "20")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "65536")
        .create()
        .expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(&Topics::new(PREFIX).logs(), partition, Offset::Beginning).expect("added");
    }
    consumer.assign(&partitions).expect("assigned");
    let started = Instant::now();
    let (mut seen, mut bytes) = (0, 0);
    while seen < records + PARTITIONS as u64 {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message.expect("a message").payload().map_or(0, <[u8]>::len);
            seen += 1;
        }
    }
    assert!(bytes > 0);
    report(started);
}

fn pipelines() -> Vec<Pipeline> {
    let mut pipelines = shipped(&["api_errors", "api_latency"]);
    let mut hopping = pipelines[0].clone();
    hopping.name = "errors_of_ten_minutes".to_owned();
    hopping.rules.clear();
    hopping.sql = hopping.sql.replace(
        "tumble(timestamp, INTERVAL '1 minute')",
        "hop(timestamp, INTERVAL '1 minute', INTERVAL '10 minutes')",
    );
    assert!(hopping.sql.contains("hop("));
    pipelines.push(hopping);
    pipelines
        .iter_mut()
        .flat_map(|pipeline| &mut pipeline.rules)
        .for_each(|rule| rule.inhibits.retain(|name| name.pipeline.starts_with("api_")));
    pipelines
}

fn drain_maturion(brokers: &str, records: u64) {
    let runtime = runtime(brokers, PREFIX, pipelines());
    let last = (START_MS + (records * 1_000 / PER_SECOND) as i64) * 1_000;
    let started = Instant::now();
    let running = runtime.start(true, true).expect("started");
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
    report(started);
    running.stop().expect("stopped");
}

/// Wall seconds, processor seconds and peak MiB on one line, for the process that started this one.
fn report(started: Instant) {
    let wall = started.elapsed().as_secs_f64();
    let (cpu, peak) = cost();
    println!("{wall} {cpu} {peak}");
}
