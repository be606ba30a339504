//! Records at a steady rate, and what must become of those that Kafka accepted, in plain Rust.
//!
//! The truth is what stands in the input, not what was meant to: that is what Maturion promises about. So the producer may
//! repeat a record, and may be replaced together with what it holds: librdkafka 2.12 forgets its brokers when one tells it
//! that there are none, as one does that has just started (confluentinc/librdkafka#5301).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maturion::log::{Log, Partition, Position, Record};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value;

/// Records in a second.
pub const RATE: i64 = 20_000;
pub const PARTITIONS: i32 = 6;
/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;
const SECOND: i64 = 1_000_000;
/// The windows of the pipeline.
const WINDOW: i64 = 2 * SECOND;
const ORGANISATIONS: i64 = 5;
const MODULES: i64 = 4;
/// One record in so many is followed by one that is none.
const BAD_EVERY: i64 = 5_000;
/// The limit of the rule, and what is well again.
const LIMIT: f64 = 0.2;
const RECOVERED: f64 = 0.16;
/// A producer that makes no progress for so long is replaced.
const STUCK_AFTER: Duration = Duration::from_secs(40);

pub const PIPELINE: &str = r#"
name = "requests"
source = "logs"
sql = "requests.sql"
series = ["organisation_id", "module"]
lateness = "30s"

[[rule]]
name = "error_rate"
technique = "threshold"
measure = "error_rate"
above = 0.2
severity = "high"
clear_for = "1s"
"#;

pub const SQL: &str = "SELECT tumble(timestamp, INTERVAL '2 seconds') AS window_start, organisation_id, module,
       count(*) AS requests,
       count(*) FILTER (WHERE status_code >= 500) AS errors,
       sum(duration_ms) AS duration_ms,
       avg(CASE WHEN status_code >= 500 THEN 1.0 ELSE 0.0 END) AS error_rate
FROM logs WHERE event = 'http_request'
GROUP BY 1, 2, 3
";

/// Window start, organisation, module.
pub type Place = (i64, i64, i64);

/// One series in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    pub requests: i64,
    pub errors: i64,
    pub duration_ms: f64,
}

impl Row {
    pub fn error_rate(&self) -> f64 {
        self.errors as f64 / self.requests as f64
    }
}

/// What Kafka accepted, and therefore what must come out.
#[derive(Debug, Default)]
pub struct Truth {
    pub records: i64,
    pub windows: BTreeMap<Place, Row>,
    /// Records that are none, by partition and offset.
    pub bad: BTreeMap<(i32, i64), Vec<u8>>,
}

impl Truth {
    /// Reads the whole input.
    fn read(log: &dyn Log, topic: &str) -> Truth {
        let topic: Arc<str> = topic.into();
        let partitions = (0..PARTITIONS).map(|number| Partition { topic: Arc::clone(&topic), number });
        let partitions = partitions.collect::<Vec<_>>();
        let bounds = log.bounds(&partitions).expect("bounds");
        let starts = partitions.into_iter().map(|partition| Position { partition, offset: 0 }).collect::<Vec<_>>();
        let mut reader = log.reader(&starts).expect("a reader");
        let mut truth = Truth::default();
        let is_behind = |at: &Position| at.offset < bounds[at.partition.number as usize].1;
        while reader.positions().expect("positions").iter().any(is_behind) {
            reader.poll(Duration::from_millis(100), 10_000, &mut |record| truth.count(record)).expect("read");
        }
        truth
    }

    fn count(&mut self, record: &Record<'_>) {
        let value = record.value.expect("no tombstones");
        let Ok(body) = serde_json::from_slice::<Value>(value) else {
            self.bad.insert((record.partition, record.offset), value.to_vec());
            return;
        };
        if body["event"] != "http_request" {
            return;
        }
        let time = body["timestamp"].as_i64().expect("a time");
        let place = (time - time.rem_euclid(WINDOW), number(&body["organisation_id"]), number(&body["module"]));
        self.records += 1;
        let row = self.windows.entry(place).or_default();
        row.requests += 1;
        row.errors += i64::from(body["status_code"] == 503);
        // Whole numbers, so that no order of adding them matters.
        row.duration_ms += body["duration_ms"].as_f64().expect("a number");
    }

    /// When a detection opened (`true`) or resolved, by the window that said so.
    pub fn detections(&self) -> BTreeSet<(Place, bool)> {
        let mut firing = BTreeSet::new();
        let mut said = BTreeSet::new();
        for ((start, organisation, module), row) in &self.windows {
            let series = (*organisation, *module);
            let rate = row.error_rate();
            if rate > LIMIT && firing.insert(series) {
                said.insert(((*start, *organisation, *module), true));
            } else if rate <= RECOVERED && firing.remove(&series) {
                said.insert(((*start, *organisation, *module), false));
            }
        }
        said
    }
}

/// The number at the end of a label.
pub fn number(label: &Value) -> i64 {
    let (_, number) = label.as_str().and_then(|label| label.split_once('_')).expect("a label of the load");
    number.parse().expect("a number")
}

struct Sender {
    config: ClientConfig,
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

/// Records being written in a thread of their own.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    topic: String,
}

impl Load {
    pub fn start(brokers: &str, topic: String) -> Load {
        let mut config = ClientConfig::new();
        // One request at a time keeps the order, also of what is repeated; and nothing is ever given up.
        let patient = [("acks", "all"), ("max.in.flight", "1"), ("retries", "2147483647"), ("message.timeout.ms", "0")];
        config.set("bootstrap.servers", brokers).set("linger.ms", "5");
        for (key, value) in patient {
            config.set(key, value);
        }
        let producer = config.create().expect("a producer");
        let mut sender = Sender { config, producer, topic: topic.clone() };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Load { stop, thread: std::thread::spawn(move || sender.write(&stopped)), topic }
    }

    /// Ends it, closes every window, and tells what Kafka has.
    pub fn end(self, log: &dyn Log) -> Truth {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load was written");
        Truth::read(log, &self.topic)
    }
}

impl Sender {
    fn write(&mut self, stop: &AtomicBool) {
        let (started, mut nth) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let due = (started.elapsed().as_secs_f64() * RATE as f64) as i64;
            while nth < due && !stop.load(Ordering::Relaxed) {
                self.send(nth, record(nth).as_bytes());
                if nth % BAD_EVERY == 0 {
                    self.send(nth, format!("{{\"nth\": {nth}, is not JSON").as_bytes());
                }
                nth += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let closer = format!(r#"{{"timestamp":{},"event":"closer"}}"#, START + (nth / RATE + 3_600) * SECOND);
        loop {
            (0..i64::from(PARTITIONS)).for_each(|partition| self.send(partition, closer.as_bytes()));
            if self.producer.flush(STUCK_AFTER).is_ok() {
                return;
            }
            self.replace();
        }
    }

    /// Waits while the queue is full: then the broker is away, or forgotten.
    fn send(&mut self, nth: i64, value: &[u8]) {
        let partition = (nth % i64::from(PARTITIONS)) as i32;
        let mut since = Instant::now();
        loop {
            let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(partition).payload(value);
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("{error}"),
            }
            if since.elapsed() > STUCK_AFTER {
                self.replace();
                since = Instant::now();
            }
        }
    }

    fn replace(&mut self) {
        self.producer = self.config.create().expect("a producer");
    }
}

fn record(nth: i64) -> String {
    let time = START + nth * SECOND / RATE;
    let (organisation, module) = (nth % ORGANISATIONS, (nth / ORGANISATIONS) % MODULES);
    let series = organisation * MODULES + module;
    // Each series is ill for three windows of twelve.
    let is_ill = (time / WINDOW / 3 + series) % 4 == 0;
    let round = nth / (ORGANISATIONS * MODULES);
    let is_error = if is_ill { round % 2 == 0 } else { round % 50 == 0 };
    let (status, duration_ms) = (if is_error { 503 } else { 200 }, nth % 97);
    format!(
        r#"{{"timestamp":{time},"organisation_id":"org_{organisation}","module":"module_{module}","event":"http_request","status_code":{status},"duration_ms":{duration_ms}}}"#
    )
}
