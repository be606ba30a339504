//! One trial: three processes, a load, whatever is done to them, and the comparison with the oracle.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use maturion::config::PipelineFiles;
use maturion::log::Log;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fleet::{Installation, Process};
use super::load::{Load, PARTITIONS, Place, Truth, number};
use super::proxy::{Proxy, Trouble};
use crate::flow::{Flow, Output};
use crate::kafka::{Kafka, unique_prefix};
use crate::subject::connect;

/// How long the outputs may take to be complete. Only a failing test waits so long.
const COMPLETE_WAIT: Duration = Duration::from_secs(300);
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// The broker, and the network to it.
pub struct Stage {
    pub kafka: Kafka,
    pub proxy: Proxy,
}

impl Stage {
    pub fn start() -> Result<Stage, String> {
        let proxy = Proxy::listen();
        let kafka = crate::kafka::start(Some(proxy.port))?;
        proxy.forward_to(kafka.proxied.as_deref().ok_or("the node has no listener for a proxy")?);
        Ok(Stage { kafka, proxy })
    }
}

pub struct Trial<'a> {
    pub stage: &'a mut Stage,
    pub chance: StdRng,
    pub processes: Vec<Process>,
    pub installation: Installation,
    name: &'static str,
    seed: u64,
    began: Instant,
    flow: Flow,
    /// Until it is ended.
    load: Option<Load>,
}

impl<'a> Trial<'a> {
    /// Three processes at work under load; the first one reaches the broker through the proxy.
    pub fn begin(name: &'static str, stage: &'a mut Stage, properties: &str) -> Trial<'a> {
        let seed = seed();
        say(&format!("{name}: MATURION_FAULTS_SEED={seed}"));
        let prefix = unique_prefix();
        let mut installation = Installation::new(&prefix, properties);
        let files = PipelineFiles::Folder {
            dir: installation.folder.path().join("pipelines"),
            sql: installation.folder.path().join("sql"),
        };
        let log: Arc<dyn Log> = Arc::new(connect(&stage.kafka.brokers, &[]).expect("Kafka"));
        let pipelines = maturion::pipelines::load(&files).unwrap_or_else(|error| panic!("{error}"));
        let flow = Flow::new(Arc::clone(&log), &prefix, PARTITIONS, pipelines);
        let proxied = format!("127.0.0.1:{}", stage.proxy.port);
        let brokers = [&proxied, &stage.kafka.brokers, &stage.kafka.brokers];
        let processes = (0..).zip(brokers).map(|(nth, brokers)| installation.start(&format!("node-{nth}"), brokers));
        let processes = processes.collect();
        let load = Load::start(&stage.kafka.brokers, flow.runtime.topics.logs());
        let mut trial = Trial {
            stage,
            chance: StdRng::seed_from_u64(seed),
            processes,
            installation,
            name,
            seed,
            began: Instant::now(),
            flow,
            load: Some(load),
        };
        // Nothing is done to processes that have not begun to work.
        let dead_letters = trial.flow.runtime.topics.dead_letter();
        trial.wait_for("the first dead letter", |flow| !read(flow, &dead_letters).is_empty());
        trial
    }

    /// Lets everything run for a while between these.
    pub fn go_on(&mut self, seconds: std::ops::Range<f64>) {
        let seconds = self.chance.random_range(seconds);
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    /// Any of the processes.
    pub fn any(&mut self) -> usize {
        self.chance.random_range(0..self.processes.len())
    }

    /// Starts a process anew under its name.
    pub fn restart(&mut self, nth: usize) {
        let (name, brokers) = (self.processes[nth].name.clone(), self.processes[nth].brokers.clone());
        self.processes[nth] = self.installation.start(&name, &brokers);
    }

    pub fn kill(&mut self) {
        let nth = self.any();
        self.processes[nth].kill();
        // Mostly the same instance is back at once; sometimes the others have to take over.
        let is_long = self.chance.random_ratio(1, 6);
        self.go_on(if is_long { 11.0..16.0 } else { 0.0..1.5 });
        self.restart(nth);
        self.go_on(1.0..4.0);
    }

    pub fn bounce(&mut self) {
        let how = if self.chance.random_bool(0.5) { "stop" } else { "kill" };
        self.stage.kafka.tell(how);
        self.go_on(0.0..8.0);
        self.stage.kafka.tell("start");
        self.go_on(3.0..8.0);
    }

    pub fn trouble(&mut self, trouble: Trouble, seconds: f64) {
        self.stage.proxy.is(trouble);
        std::thread::sleep(Duration::from_secs_f64(seconds));
        self.stage.proxy.is(Trouble::None);
        self.go_on(2.0..5.0);
    }

    /// Ends the load, waits for the last window, stops the processes, and compares. `done` says what was done.
    pub fn finish(mut self, done: &str) {
        let truth = self.load.take().expect("it runs until now").end(self.flow.runtime.log.as_ref());
        let detections = truth.detections();
        let topics = self.flow.runtime.topics.clone();
        let (windows, remediation, letters) = (topics.windows(), topics.remediation(), topics.dead_letter());
        self.wait_for("every window", |flow| read(flow, &windows).len() >= truth.windows.len());
        self.wait_for("every detection", |flow| read(flow, &remediation).len() >= detections.len());
        self.wait_for("every dead letter", |flow| read(flow, &letters).len() >= truth.bad.len());
        let ends = self.processes.iter_mut().map(Process::stop).collect::<Vec<_>>();
        compare_windows(&self.flow.read(&windows), &truth);
        compare_detections(&self.flow.read(&remediation), &detections);
        compare_dead_letters(&self.flow.read(&letters), &truth);
        let slowest = ends.into_iter().max().unwrap_or_default();
        say(&format!(
            "| {} | {done} | {} | {} | {} | {} | {} | {} s | {:.1} s |",
            self.name,
            truth.records,
            truth.windows.len(),
            detections.len(),
            truth.bad.len(),
            self.seed,
            self.began.elapsed().as_secs(),
            slowest.as_secs_f64(),
        ));
    }

    fn wait_for(&mut self, what: &str, mut is_there: impl FnMut(&Flow) -> bool) {
        let deadline = Instant::now() + COMPLETE_WAIT;
        while !is_there(&self.flow) {
            self.processes.iter_mut().for_each(Process::check);
            if Instant::now() >= deadline {
                let words = self.processes.iter().map(|process| format!("{}:\n{}", process.name, process.last_words()));
                panic!("{what} did not come\n{}", words.collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }
}

/// What is committed; a transaction that is still open is waited for by whoever asks again.
fn read(flow: &Flow, topic: &str) -> Vec<Output> {
    flow.try_read(topic).unwrap_or_default()
}

fn seed() -> u64 {
    match std::env::var("MATURION_FAULTS_SEED") {
        Ok(seed) => seed.parse().expect("MATURION_FAULTS_SEED is a number"),
        Err(_) => rand::random::<u32>().into(),
    }
}

/// Prints also when the test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn micros(time: &serde_json::Value) -> i64 {
    DateTime::parse_from_rfc3339(time.as_str().expect("text")).expect("a time").timestamp_micros()
}

fn place(body: &serde_json::Value, labels: &serde_json::Value) -> Place {
    (micros(&body["window_start"]), number(&labels["organisation_id"]), number(&labels["module"]))
}

fn compare_windows(outputs: &[Output], truth: &Truth) {
    let mut seen = BTreeSet::new();
    for output in outputs {
        let body = output.json();
        let place = place(&body, &body);
        assert!(seen.insert(place), "a window came twice: {body}");
        let expected = truth.windows.get(&place).unwrap_or_else(|| panic!("a window that never was: {body}"));
        assert_eq!(body["requests"].as_i64(), Some(expected.requests), "{body}");
        assert_eq!(body["errors"].as_i64(), Some(expected.errors), "{body}");
        assert_eq!(body["duration_ms"].as_f64(), Some(expected.duration_ms), "{body}");
        let rate = body["error_rate"].as_f64().expect("a rate");
        assert!((rate - expected.error_rate()).abs() < 1e-9, "{body}");
    }
    let missing = truth.windows.keys().filter(|place| !seen.contains(place)).collect::<Vec<_>>();
    assert!(missing.is_empty(), "{} windows are missing, the first {:?}", missing.len(), missing[0]);
}

fn compare_detections(outputs: &[Output], expected: &BTreeSet<(Place, bool)>) {
    let mut ids = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for output in outputs {
        let body = output.json();
        assert!(ids.insert(output.header("ce_id").to_owned()), "an event came twice: {body}");
        let is_opening = match output.header("ce_type") {
            "maturion.detection.opened.v1" => true,
            "maturion.detection.resolved.v1" => false,
            other => panic!("{other}: {body}"),
        };
        assert!(seen.insert((place(&body, &body["series"]), is_opening)), "a detection came twice: {body}");
    }
    let wrong = seen.symmetric_difference(expected).collect::<Vec<_>>();
    assert!(wrong.is_empty(), "{} detections are missing or wrong, the first {:?}", wrong.len(), wrong[0]);
}

fn compare_dead_letters(outputs: &[Output], truth: &Truth) {
    let mut seen = BTreeSet::new();
    for output in outputs {
        let text = String::from_utf8_lossy(&output.value);
        let place =
            (output.header("partition").parse().expect("a number"), output.header("offset").parse().expect("one"));
        assert!(seen.insert(place), "a dead letter came twice: {text}");
        assert_eq!(truth.bad.get(&place), Some(&output.value), "a dead letter of a good record, or of other bytes");
    }
    assert_eq!(seen.len(), truth.bad.len(), "dead letters are missing");
}
