//! What the benchmarks on real Kafka share: a broker, a whole Maturion on it, and what the process cost.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use maturion::decode::DecodeLimits;
use maturion::evaluate::PipelineSet;
use maturion::log::kafka::{KafkaLog, KafkaSettings};
use maturion::log::topics::{Partitions, Topics};
use maturion::model::pipeline::Pipeline;
use maturion::roles::{Runtime, SystemClock};
use maturion::serve::status::StatusBoard;

pub const PARTITIONS: i32 = 4;

/// A broker for one benchmark: `MATURION_TEST_KAFKA`, or one that is started and ends with the benchmark.
pub struct Broker {
    pub address: String,
    _node: Option<Child>,
}

impl Broker {
    pub fn find() -> Broker {
        if let Ok(address) = std::env::var("MATURION_TEST_KAFKA") {
            return Broker { address, _node: None };
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka");
        let mut node = Command::new(script)
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/kafka runs");
        // Up to the last line: the script would end with a pipe that is closed while it still writes.
        let lines = BufReader::new(node.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut address = None;
        for line in lines {
            address = address.or(line.strip_prefix("brokers ").map(str::to_owned));
            if line.starts_with("log ") {
                break;
            }
        }
        Broker { address: address.expect("scripts/kafka says where it listens"), _node: Some(node) }
    }
}

pub fn connect(brokers: &str) -> Arc<KafkaLog> {
    let settings = KafkaSettings { brokers: brokers.to_owned(), properties: Default::default() };
    Arc::new(KafkaLog::connect(settings).unwrap_or_else(|error| panic!("{error}")))
}

/// Maturion with its default settings on topics of this prefix, which are created where they are missing.
pub fn runtime(brokers: &str, prefix: &str, pipelines: Vec<Pipeline>) -> Runtime {
    let log = connect(brokers);
    let topics = Topics::new(prefix);
    topics.ensure(log.as_ref(), Partitions { inputs: PARTITIONS, series: PARTITIONS }).expect("topics");
    let defaults = maturion::config::Config::defaults().expect("defaults");
    Runtime {
        board: Arc::new(StatusBoard::new("kafka")),
        clock: Arc::new(SystemClock::default()),
        log,
        topics,
        set: Arc::new(PipelineSet::compile(pipelines).unwrap_or_else(|error| panic!("{error}"))),
        instance: format!("{prefix}bench"),
        partitions: PARTITIONS,
        limits: DecodeLimits { ahead_max: i64::MAX, ..DecodeLimits::default() },
        batch_rows: defaults.intake.batch_rows,
        aggregate_bytes_max: maturion::roles::runtime::AGGREGATE_BYTES_MAX,
        intake_commit_interval: defaults.intake.commit_interval,
        detect_commit_interval: defaults.detect.commit_interval,
        idle_after: Duration::from_secs(3_600),
        dead_letters_per_second: 1_000_000,
        snapshot_interval: maturion::roles::runtime::SNAPSHOT_INTERVAL,
    }
}

/// The shipped pipelines of these names.
pub fn shipped(names: &[&str]) -> Vec<Pipeline> {
    let all = maturion::pipelines::load(&maturion::config::PipelineFiles::Shipped).expect("shipped pipelines");
    all.into_iter().filter(|pipeline| names.contains(&pipeline.name.as_str())).collect()
}

/// Processor seconds of this process so far, and its peak memory in MiB, as the kernel counts them.
pub fn cost() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace().collect::<Vec<_>>();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024;
    // The kernel counts in hundredths of a second.
    ((ticks(11) + ticks(12)) / 100.0, peak)
}
