//! Known records at a steady rate, and what must become of them, in plain Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maturion::log::{Appender, Log, LogError, Outgoing};

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
const FLUSH_WAIT: Duration = Duration::from_secs(300);

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

/// What was written, and therefore what must come out.
#[derive(Debug, Default)]
pub struct Truth {
    pub records: i64,
    pub windows: BTreeMap<Place, Row>,
    pub bad: BTreeSet<Vec<u8>>,
}

impl Truth {
    fn count(&mut self, place: Place, is_error: bool, duration_ms: i64) {
        self.records += 1;
        let row = self.windows.entry(place).or_default();
        row.requests += 1;
        row.errors += i64::from(is_error);
        // Whole numbers, so that no order of adding them matters.
        row.duration_ms += duration_ms as f64;
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

/// Records being written in a thread of their own.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Truth>,
}

impl Load {
    pub fn start(log: &dyn Log, topic: String) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, appender) = (Arc::clone(&stop), log.appender().expect("an appender"));
        Load { stop, thread: std::thread::spawn(move || write(appender.as_ref(), &topic, &stopped)) }
    }

    /// Ends it, closes every window, and tells what was written.
    pub fn end(self) -> Truth {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load was written")
    }
}

fn write(appender: &dyn Appender, topic: &str, stop: &AtomicBool) -> Truth {
    let (started, mut truth, mut nth) = (Instant::now(), Truth::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * RATE as f64) as i64;
        while nth < due && !stop.load(Ordering::Relaxed) {
            append(appender, topic, nth, &record(nth, &mut truth));
            if nth % BAD_EVERY == 0 {
                let bad = format!("{{\"nth\": {nth}, is not JSON").into_bytes();
                append(appender, topic, nth, &bad);
                truth.bad.insert(bad);
            }
            nth += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let closer = format!(r#"{{"timestamp":{},"event":"closer"}}"#, START + (nth / RATE + 3_600) * SECOND);
    (0..i64::from(PARTITIONS)).for_each(|partition| append(appender, topic, partition, closer.as_bytes()));
    appender.flush(FLUSH_WAIT).expect("every record is acknowledged");
    truth
}

fn record(nth: i64, truth: &mut Truth) -> Vec<u8> {
    let time = START + nth * SECOND / RATE;
    let start = time - time.rem_euclid(WINDOW);
    let (organisation, module) = (nth % ORGANISATIONS, (nth / ORGANISATIONS) % MODULES);
    let series = organisation * MODULES + module;
    // Each series is ill for three windows of twelve.
    let is_ill = (start / WINDOW / 3 + series) % 4 == 0;
    let round = nth / (ORGANISATIONS * MODULES);
    let is_error = if is_ill { round % 2 == 0 } else { round % 50 == 0 };
    let duration_ms = nth % 97;
    truth.count((start, organisation, module), is_error, duration_ms);
    let status = if is_error { 503 } else { 200 };
    format!(
        r#"{{"timestamp":{time},"organisation_id":"org_{organisation}","module":"module_{module}","event":"http_request","status_code":{status},"duration_ms":{duration_ms}}}"#
    )
    .into_bytes()
}

/// A full queue means that the broker is away; the record was not taken, so it may be offered again.
fn append(appender: &dyn Appender, topic: &str, nth: i64, value: &[u8]) {
    let partition = Some((nth % i64::from(PARTITIONS)) as i32);
    loop {
        let record = Outgoing { topic, partition, value: Some(value), ..Outgoing::default() };
        match appender.append(record) {
            Ok(()) => return,
            Err(LogError::Full(..)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
