//! A flood of series that nobody has seen: does memory stay flat?
//!
//! `cargo bench --bench flood` writes logs of ever new organisations as fast as both stages take them, for ten minutes
//! (`MATURION_BENCH_SECONDS` changes that), on real Kafka, and prints the resident memory of the process, which writes,
//! computes and detects. The default limits hold.

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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka::{Broker, PARTITIONS, runtime, shipped};
use maturion::log::Outgoing;
use maturion::roles::Runtime;
use maturion::serve::status::Stage;

/// 2025-12-03T10:00:00Z, in milliseconds.
const START_MS: u64 = 1_764_756_000_000;
/// Records of one second of event time, so that a window of a minute has more than ten times the limit of series.
const PER_SECOND: u64 = 20_000;
/// The writer waits when it is so far ahead of stage one.
const AHEAD_MAX: u64 = 500_000;
const SAMPLE: Duration = Duration::from_secs(15);

fn main() {
    let seconds = std::env::var("MATURION_BENCH_SECONDS").map_or(600, |text| text.parse().expect("a number"));
    let broker = Broker::find();
    let runtime = runtime(&broker.address, "flood.", {
        let mut pipelines = shipped(&["api_errors"]);
        pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.rules).for_each(|rule| rule.inhibits.clear());
        pipelines
    });
    let running = runtime.start(true, true).expect("started");
    let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (runtime, written, stop) = (runtime.clone(), Arc::clone(&written), Arc::clone(&stop));
        std::thread::spawn(move || write(&runtime, &written, &stop))
    };
    let started = Instant::now();
    println!("seconds  records, million  resident MiB  open series  watched series");
    let mut samples = Vec::new();
    while started.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(SAMPLE);
        assert!(!running.has_ended(), "{:?}", runtime.board.snapshot());
        let resident = resident_mib();
        samples.push(resident);
        let status = runtime.board.snapshot();
        let pipeline = status.pipelines.first();
        println!(
            "{:7}  {:16.1}  {resident:12.0}  {:11}  {:14}",
            started.elapsed().as_secs(),
            written.load(Ordering::Relaxed) as f64 / 1e6,
            pipeline.map_or(0, |pipeline| pipeline.open_series),
            pipeline.map_or(0, |pipeline| pipeline.watched_series),
        );
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
    let (first, second) = samples.split_at(samples.len() / 2);
    let peak = |samples: &[f64]| samples.iter().fold(0.0_f64, |peak, sample| peak.max(*sample));
    println!("peak of the first half {:.0} MiB, of the second {:.0} MiB", peak(first), peak(second));
    running.stop().expect("stopped");
}

fn write(runtime: &Runtime, written: &AtomicU64, stop: &AtomicBool) {
    let (topic, appender) = (runtime.topics.logs(), runtime.log.appender().expect("an appender"));
    while !stop.load(Ordering::Relaxed) {
        let row = written.load(Ordering::Relaxed);
        if row.is_multiple_of(10_000) && row.saturating_sub(read(runtime)) > AHEAD_MAX {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let time = START_MS + row * 1_000 / PER_SECOND;
        let value = format!(
            r#"{{"timestamp":{time},"organisation_id":"org_{row}","module":"module-{}","event":"http_request","status_code":200}}"#,
            row % 7
        );
        let (partition, value) = (Some((row % PARTITIONS as u64) as i32), Some(value.as_bytes()));
        appender.append(Outgoing { topic: &topic, partition, value, ..Outgoing::default() }).expect("appended");
        written.store(row + 1, Ordering::Relaxed);
    }
}

/// How many records stage one has read.
fn read(runtime: &Runtime) -> u64 {
    let topic = runtime.topics.logs();
    let status = runtime.board.snapshot();
    let logs = status.partitions.iter().filter(|it| it.stage == Stage::Intake && it.topic == topic);
    logs.map(|partition| partition.position.max(0) as u64).sum()
}

fn resident_mib() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages.split_whitespace().nth(1).expect("resident pages").parse::<f64>().expect("a number");
    pages * 4_096.0 / f64::from(1 << 20)
}
