//! How long results are missing after a process was killed or stopped, on real Kafka, with 100,000 series of state.
//!
//! `cargo bench --bench recovery` runs `maturion run` in processes of its own. A pipeline with a baseline for each of
//! 100,000 series makes the state, once with windows of a minute and once of an hour; one with windows of a second in
//! every partition shows when results are back. 20,000 records arrive every second.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kafka::{Broker, PARTITIONS, connect};
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, Outgoing, Partition, Position, Reader};
use tempfile::TempDir;

const SERIES: i64 = 100_000;
const RATE: i64 = 20_000;
const SECOND: i64 = 1_000_000;
/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;
/// Event time that is written at once, before the clock begins to run.
const HISTORY: i64 = 150 * SECOND;
/// Longer than the interval at which open windows are written down.
const WARM_UP: Duration = Duration::from_secs(75);
const KILLS: usize = 5;
/// No result for so long: everything that was committed has been seen.
const QUIET: Duration = Duration::from_millis(1_500);
/// What is committed is visible after this.
const SETTLED: Duration = Duration::from_secs(1);
const RESULT_WAIT: Duration = Duration::from_secs(180);

const TICKS: &str =
    "name = \"ticks\"\nsource = \"logs\"\nsql = \"ticks.sql\"\nseries = [\"module\"]\nlateness = \"1s\"\n";
const TICKS_SQL: &str = "SELECT tumble(timestamp, INTERVAL '1 second') AS window_start, module, count(*) AS requests
FROM logs GROUP BY 1, 2\n";
const STATE: &str = r#"
name = "state"
source = "logs"
sql = "state.sql"
series = ["organisation_id", "module"]
lateness = "10s"

[[rule]]
name = "surge"
technique = "zscore"
measure = "requests"
above = 20
severity = "high"
"#;

fn main() {
    let broker = Broker::find();
    for window in ["1 minute", "1 hour"] {
        measure(&broker.address, window);
    }
}

/// A process of its own; its log is kept.
struct Process {
    child: Child,
}

impl Process {
    fn start(folder: &Path, name: &str) -> Process {
        let log = File::options().create(true).append(true).open(folder.join("maturion.log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_maturion"))
            .args(["run", "--roles", "intake,detect", "--instance", name])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("maturion runs");
        Process { child }
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    fn stop(&mut self) -> Duration {
        let told = Instant::now();
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        assert!(self.child.wait().expect("it ends").success());
        told.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn measure(brokers: &str, window: &str) {
    let prefix = format!("recovery-{}.", window.replace(' ', "-"));
    let (log, topics) = (connect(brokers), Topics::new(&prefix));
    topics.ensure(log.as_ref(), Partitions { inputs: PARTITIONS, series: PARTITIONS }).expect("topics");
    let folder = installation(brokers, &prefix, window);
    let stop = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let (log, topic, stop) = (Arc::clone(&log), topics.logs(), Arc::clone(&stop));
        move || send(log.as_ref(), &topic, &stop)
    });
    let mut results = Results::new(log.as_ref(), &topics.windows());
    let mut first = Process::start(folder.path(), "first");
    results.until_everywhere();
    std::thread::sleep(WARM_UP);
    println!("windows of {window}, {SERIES} series, {RATE} records/s, {PARTITIONS} partitions");

    let mut back = Vec::new();
    for _ in 0..KILLS {
        first.kill();
        results.until_quiet();
        first = Process::start(folder.path(), "first");
        let started = Instant::now();
        results.until_anywhere();
        let one = started.elapsed();
        results.until_everywhere();
        back.push((one, started.elapsed()));
        std::thread::sleep(Duration::from_secs(10));
    }
    back.sort();
    let list = |times: Vec<Duration>| {
        times.iter().map(|time| format!("{:.1}", time.as_secs_f64())).collect::<Vec<_>>().join(", ")
    };
    println!("  killed, started again: first result after {} s", list(back.iter().map(|(one, _)| *one).collect()));
    println!("    in every partition after {} s", list(back.iter().map(|(_, all)| *all).collect()));

    let mut second = Process::start(folder.path(), "second");
    std::thread::sleep(Duration::from_secs(30));
    results.until_everywhere();
    second.kill();
    let killed = Instant::now();
    results.until_all_go_on();
    println!("  one of two killed for good: every partition after {:.1} s", killed.elapsed().as_secs_f64());

    let mut third = Process::start(folder.path(), "third");
    std::thread::sleep(Duration::from_secs(30));
    results.until_everywhere();
    let ended = third.stop();
    let stopped = Instant::now();
    results.until_all_go_on();
    let (ended, everywhere) = (ended.as_secs_f64(), stopped.elapsed().as_secs_f64());
    println!("  one of two stopped for good (ended after {ended:.1} s): every partition after {everywhere:.1} s");
    stop.store(true, Ordering::Relaxed);
    load.join().expect("sent");
    drop(first);
    let said = std::fs::read_to_string(folder.path().join("maturion.log")).expect("a log");
    let restored = said.lines().filter_map(|line| Some(line.split_once("event=\"state_restored\" ")?.1));
    println!("  restores: {}", restored.collect::<Vec<_>>().join("; "));
}

fn installation(brokers: &str, prefix: &str, window: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    write(
        "maturion.toml",
        &format!(
            "[kafka]\nbrokers = \"{brokers}\"\ntopic_prefix = \"{prefix}\"\npartitions = {PARTITIONS}\n\
             [intake]\nidle_after = \"1day\"\n"
        ),
    );
    write("pipelines/ticks.toml", TICKS);
    write("sql/ticks.sql", TICKS_SQL);
    write("pipelines/state.toml", STATE);
    write(
        "sql/state.sql",
        &format!(
            "SELECT tumble(timestamp, INTERVAL '{window}') AS window_start, organisation_id, module,
                    count(*) AS requests, sum(duration_ms) AS duration_ms, quantile(duration_ms, 0.95) AS p95
             FROM logs GROUP BY 1, 2, 3\n"
        ),
    );
    folder
}

/// The load: every series in turn. Event time runs with the clock, after some history that is written at once.
fn send(log: &dyn Log, topic: &str, stop: &AtomicBool) {
    let appender = log.appender().expect("an appender");
    let (started, mut nth) = (Instant::now(), 0_i64);
    while !stop.load(Ordering::Relaxed) {
        let due = HISTORY * RATE / SECOND + (started.elapsed().as_secs_f64() * RATE as f64) as i64;
        while nth < due {
            let series = nth % SERIES;
            let value = format!(
                r#"{{"timestamp":{},"organisation_id":"org_{}","module":"module-{}","event":"http_request","duration_ms":{}}}"#,
                START + nth * SECOND / RATE,
                series / 64,
                series % 64,
                10 + nth % 977,
            );
            let partition = Some((nth % i64::from(PARTITIONS)) as i32);
            let value = Some(value.as_bytes());
            appender.append(Outgoing { topic, partition, value, ..Outgoing::default() }).expect("appended");
            nth += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a read_committed consumer sees of the results.
struct Results {
    reader: Box<dyn Reader>,
}

impl Results {
    fn new(log: &dyn Log, topic: &str) -> Results {
        let topic: Arc<str> = topic.into();
        let start = |number| Position { partition: Partition { topic: Arc::clone(&topic), number }, offset: 0 };
        Results { reader: log.reader(&(0..PARTITIONS).map(start).collect::<Vec<_>>()).expect("a reader") }
    }

    /// Reads for a moment; the partitions that had results.
    fn look(&mut self, wait: Duration) -> BTreeSet<i32> {
        let mut partitions = BTreeSet::new();
        self.reader
            .poll(wait, 100_000, &mut |record| {
                partitions.insert(record.partition);
            })
            .expect("polled");
        partitions
    }

    fn until_quiet(&mut self) {
        while !self.look(QUIET).is_empty() {}
    }

    fn until_anywhere(&mut self) {
        let deadline = Instant::now() + RESULT_WAIT;
        while self.look(Duration::from_millis(5)).is_empty() {
            assert!(Instant::now() < deadline, "no result");
        }
    }

    /// New results in every partition, after a member is gone: what was committed before that is visible within
    /// [`SETTLED`], well before anyone can have taken over.
    fn until_all_go_on(&mut self) {
        let gone = Instant::now();
        while gone.elapsed() < SETTLED {
            self.look(Duration::from_millis(5));
        }
        self.until_everywhere();
    }

    fn until_everywhere(&mut self) {
        let deadline = Instant::now() + RESULT_WAIT;
        let mut seen = BTreeSet::new();
        while seen.len() < PARTITIONS as usize {
            seen.extend(self.look(Duration::from_millis(5)));
            assert!(Instant::now() < deadline, "results in {seen:?} only");
        }
    }
}
