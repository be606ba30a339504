//! From a producer to the remediation topic, on real Kafka, under load.
//!
//! `cargo bench --bench latency` writes 20,000 records a second and, five times a second, an exception that nobody has
//! seen; the shipped `continuous` rule opens a detection for each. Printed is the time from handing the record to the
//! producer to reading the detection with a read_committed consumer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::{Broker, PARTITIONS, cost, runtime, shipped};
use maturion::log::{Outgoing, Partition, Position};

const RATE: u64 = 20_000;
const PROBES: usize = 200;
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

fn main() {
    let broker = Broker::find();
    let runtime =
        runtime(&broker.address, "latency.", shipped(&["module_exceptions", "module_api_errors", "api_errors"]));
    let running = runtime.start(true, true).expect("started");
    let topic: std::sync::Arc<str> = runtime.topics.remediation().into();
    let start = |number| Position { partition: Partition { topic: std::sync::Arc::clone(&topic), number }, offset: 0 };
    let mut reader = runtime.log.reader(&(0..PARTITIONS).map(start).collect::<Vec<_>>()).expect("a reader");
    let sender = std::thread::spawn({
        let runtime = runtime.clone();
        move || send(&runtime)
    });
    let mut seen = BTreeMap::new();
    let deadline = Instant::now() + PROBE_INTERVAL * PROBES as u32 + Duration::from_secs(30);
    while seen.len() < PROBES && Instant::now() < deadline {
        assert!(!running.has_ended(), "{:?}", runtime.board.snapshot());
        reader
            .poll(Duration::from_millis(5), 100, &mut |record| {
                let body: serde_json::Value = serde_json::from_slice(record.value.unwrap_or_default()).expect("JSON");
                if let Some(probe) = body["series"]["exception_type"].as_str() {
                    seen.entry(probe.to_owned()).or_insert_with(Instant::now);
                }
            })
            .expect("polled");
    }
    let sent = sender.join().expect("sent");
    let mut latencies =
        sent.iter().filter_map(|(probe, at)| Some(seen.get(probe)?.duration_since(*at))).collect::<Vec<_>>();
    latencies.sort();
    assert_eq!(latencies.len(), PROBES, "every probe is detected");
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_millis();
    println!(
        "{RATE} records/s, {PROBES} probes: p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    let (cpu, peak) = cost();
    println!("producer and Maturion together: {cpu:.1} s of processor, {peak} MiB peak");
    running.stop().expect("stopped");
}

/// The load, spread evenly; when each probe was handed to the producer.
fn send(runtime: &maturion::roles::Runtime) -> Vec<(String, Instant)> {
    let appender = runtime.log.appender().expect("an appender");
    let topic = runtime.topics.logs();
    let append = |partition: u64, value: &str| {
        let (partition, value) = (Some((partition % PARTITIONS as u64) as i32), Some(value.as_bytes()));
        appender.append(Outgoing { topic: &topic, partition, value, ..Outgoing::default() }).expect("appended");
    };
    let started = Instant::now();
    let (mut row, mut probes) = (0_u64, Vec::new());
    while probes.len() < PROBES {
        let due = (started.elapsed().as_secs_f64() * RATE as f64) as u64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
        while row < due {
            row += 1;
            append(
                row,
                &format!(
                    r#"{{"timestamp":{now},"organisation_id":"org_{}","module":"module-{}","level":"INFO","event":"http_request","status_code":200,"duration_ms":{},"route":"/api/items/{}","method":"GET","user_id":"user_{row}","trace_id":"{row:032x}"}}"#,
                    row % 12,
                    row % 7,
                    row % 300,
                    row % 40
                ),
            );
        }
        // The first seconds belong to the assignment of partitions, not to the way of a record.
        if started.elapsed() > Duration::from_secs(5) + PROBE_INTERVAL * probes.len() as u32 {
            let name = format!("Probe{}", probes.len());
            append(
                row,
                &format!(
                    r#"{{"timestamp":{now},"organisation_id":"org_1","module":"module-1","level":"ERROR","event":"exception","exception_type":"{name}","route":"/api/items","handled":false}}"#
                ),
            );
            probes.push((name, Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    appender.flush(Duration::from_secs(30)).expect("acknowledged");
    probes
}
