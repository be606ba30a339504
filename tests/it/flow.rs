//! A whole Maturion on a log: pipelines compiled, topics made, records appended, outputs read back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use maturion::decode::DecodeLimits;
use maturion::evaluate::PipelineSet;
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, LogError, Outgoing, Partition, Position};
use maturion::model::pipeline::{Limits, Pipeline, Source};
use maturion::roles::{RunningRoles, Runtime, SystemClock};
use maturion::serve::status::StatusBoard;

/// How long a test waits for the outputs it expects before it says what came instead.
const WAIT: Duration = Duration::from_secs(60);

/// A log with topics of its own, and pipelines to run on it.
pub struct Flow {
    pub runtime: Runtime,
    roles: Option<RunningRoles>,
}

/// A record read back from an output topic.
#[derive(Clone, Debug)]
pub struct Output {
    pub headers: Vec<(String, String)>,
    pub value: Vec<u8>,
}

impl Output {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no header `{name}` in {:?}", self.headers))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value).expect("outputs are JSON")
    }
}

/// A pipeline without rules.
pub fn pipeline(name: &str, sql: &str, series: &[&str], lateness: Duration) -> Pipeline {
    Pipeline {
        name: name.to_owned(),
        source: Source::Logs,
        sql: sql.to_owned(),
        sql_file: format!("{name}.sql"),
        series: series.iter().map(|name| (*name).to_owned()).collect(),
        lateness: lateness.as_micros() as i64,
        limits: Limits::default(),
        rules: Vec::new(),
    }
}

/// The pipelines and statements in the repository.
pub fn shipped() -> Vec<Pipeline> {
    maturion::pipelines::load(&maturion::config::PipelineFiles::Shipped).expect("the shipped pipelines are good")
}

impl Flow {
    /// Makes the topics under `prefix`; nothing runs yet.
    pub fn new(log: Arc<dyn Log>, prefix: &str, partitions: i32, pipelines: Vec<Pipeline>) -> Flow {
        let topics = Topics::new(prefix);
        let counts = Partitions { inputs: partitions, series: partitions };
        topics.ensure(log.as_ref(), counts).expect("topics are made");
        let set = PipelineSet::compile(pipelines).unwrap_or_else(|error| panic!("{error}"));
        let runtime = Runtime {
            board: Arc::new(StatusBoard::new(log.describe_self())),
            clock: Arc::new(SystemClock::default()),
            log,
            topics,
            set: Arc::new(set),
            instance: format!("{prefix}test"),
            partitions,
            limits: DecodeLimits { ahead_max: i64::MAX, ..DecodeLimits::default() },
            batch_rows: 64,
            aggregate_bytes_max: maturion::roles::runtime::AGGREGATE_BYTES_MAX,
            intake_commit_interval: Duration::from_millis(50),
            detect_commit_interval: Duration::from_millis(20),
            idle_after: Duration::from_secs(3_600),
            dead_letters_per_second: 1_000_000,
            // So often that a restart in a test finds panes that were written down.
            snapshot_interval: Duration::from_millis(60),
        };
        Flow { runtime, roles: None }
    }

    pub fn start(&mut self) {
        self.roles = Some(self.runtime.start(true, true).expect("roles start"));
    }

    /// Stops every worker; one that failed fails the test.
    pub fn stop(&mut self) {
        if let Some(roles) = self.roles.take() {
            roles.stop().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Stops every worker, whatever became of it.
    pub fn abandon(&mut self) {
        if let Some(roles) = self.roles.take() {
            let _ = roles.stop();
        }
    }

    /// Appends records to a topic, `(partition, value)`, and waits for their acknowledgement.
    pub fn append<'a>(&self, topic: &str, records: impl IntoIterator<Item = (i32, &'a [u8])>) {
        let appender = self.runtime.log.appender().expect("an appender");
        for (partition, value) in records {
            let (partition, value) = (Some(partition), Some(value));
            appender.append(Outgoing { topic, partition, value, ..Outgoing::default() }).expect("appended");
        }
        appender.flush(WAIT).expect("acknowledged");
    }

    /// Everything committed to a topic so far.
    pub fn read(&self, topic: &str) -> Vec<Output> {
        self.try_read(topic).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, where the broker may be away.
    pub fn try_read(&self, topic: &str) -> Result<Vec<Output>, LogError> {
        let log = &self.runtime.log;
        let info = log.describe(&[topic.to_owned()])?.remove(0);
        let topic: Arc<str> = topic.into();
        let partitions = (0..info.partitions).map(|number| Partition { topic: Arc::clone(&topic), number });
        let partitions = partitions.collect::<Vec<_>>();
        let bounds = log.settled_bounds(&partitions)?;
        let start = |(partition, (from, _)): (&Partition, &(i64, i64))| Position {
            partition: partition.clone(),
            offset: *from,
        };
        let mut reader = log.reader(&partitions.iter().zip(&bounds).map(start).collect::<Vec<_>>())?;
        let mut outputs = Vec::new();
        let is_behind =
            |positions: &[Position]| positions.iter().any(|at| at.offset < bounds[at.partition.number as usize].1);
        while is_behind(&reader.positions()?) {
            let mut visit = |record: &maturion::log::Record<'_>| {
                outputs.push(Output {
                    headers: record
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value).into_owned()))
                        .collect(),
                    value: record.value.unwrap_or_default().to_vec(),
                });
            };
            reader.poll(Duration::from_millis(100), 10_000, &mut visit)?;
        }
        Ok(outputs)
    }

    /// Reads a topic until `is_enough`; what came instead if it never is.
    pub fn wait_for(&self, topic: &str, is_enough: impl Fn(&[Output]) -> bool) -> Vec<Output> {
        let deadline = Instant::now() + WAIT;
        loop {
            let outputs = self.read(topic);
            if is_enough(&outputs) {
                return outputs;
            }
            if let Some(roles) = &self.roles {
                assert!(!roles.has_ended(), "a role ended: {:?}", self.runtime.board.snapshot());
            }
            if Instant::now() > deadline {
                let status = self.runtime.board.snapshot();
                let last = outputs.iter().rev().take(5).map(|output| String::from_utf8_lossy(&output.value));
                panic!(
                    "not enough on {topic}: {} records, the last {:?}; {status:#?}",
                    outputs.len(),
                    last.collect::<Vec<_>>()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every pipeline with a source has closed its windows up to `micros`.
    pub fn wait_until_closed(&self, micros: i64) {
        let deadline = Instant::now() + WAIT;
        loop {
            let snapshot = self.runtime.board.snapshot();
            let detect = snapshot
                .partitions
                .iter()
                .filter(|partition| partition.stage == maturion::serve::status::Stage::Detect);
            let reached = detect.map(|partition| partition.watermark_us).collect::<Vec<_>>();
            if reached.len() == self.runtime.partitions as usize
                && reached.iter().all(|at| at.is_some_and(|at| at >= micros))
            {
                return;
            }
            if let Some(roles) = &self.roles {
                assert!(!roles.has_ended(), "a role ended: {snapshot:?}");
            }
            assert!(Instant::now() < deadline, "windows were not closed up to {micros}: {snapshot:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(roles) = self.roles.take() {
            // A test that fails already must not fail again while it unwinds.
            let _ = roles.stop();
        }
    }
}
