//! Scaling out: more processes, more partitions and a hot key change who works, never what comes out.
//!
//! A process is a [`Runtime`] of its own name here: groups, transactions and state are the same as between processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::pipeline::Source;
use maturion::roles::{RunningRoles, Runtime};
use maturion::serve::status::{PartitionStatus, Stage, StatusBoard};
use maturion::window::partial::{self, LabelReader};
use serde_json::json;

use crate::flow::{Flow, Output, pipeline, shipped};
use crate::kafka::{Kafka, unique_prefix};
use crate::kafka_or_skip;
use crate::oracle::compare;
use crate::subject::{Subject, connect, eventually};
use crate::whole::{MINUTE, START, outage, said};

const PARTITIONS: i32 = 4;
/// A member that dies keeps its place for as long; the broker's minimum, so that the tests need not wait longer.
const BRIEF: [(&str, &str); 1] = [("session.timeout.ms", "6000")];

/// Several instances of one installation.
struct Crowd {
    flow: Flow,
    members: BTreeMap<&'static str, (Runtime, RunningRoles)>,
    inputs: i32,
}

impl Crowd {
    fn new(kafka: &Kafka) -> Crowd {
        let log = Arc::new(connect(&kafka.brokers, &BRIEF).expect("Kafka"));
        let logs_only = shipped().into_iter().filter(|pipeline| pipeline.source == Source::Logs);
        let flow = Flow::new(log, &unique_prefix(), PARTITIONS, logs_only.collect());
        Crowd { flow, members: BTreeMap::new(), inputs: PARTITIONS }
    }

    fn join(&mut self, name: &'static str) {
        let board = Arc::new(StatusBoard::new(name));
        let runtime = Runtime { instance: name.to_owned(), board, ..self.flow.runtime.clone() };
        let roles = runtime.start(true, true).expect("started");
        self.members.insert(name, (runtime, roles));
    }

    fn leave(&mut self, name: &str) {
        let (_, roles) = self.members.remove(name).expect("a member");
        roles.stop().unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// What each member says that it owns of a stage.
    fn owned(&self, stage: Stage) -> Vec<Vec<PartitionStatus>> {
        let of = |(name, (runtime, roles)): (&&str, &(Runtime, RunningRoles))| {
            let snapshot = runtime.board.snapshot();
            assert!(!roles.has_ended(), "{name}: {snapshot:?}");
            snapshot.partitions.into_iter().filter(|partition| partition.stage == stage).collect()
        };
        self.members.iter().map(of).collect()
    }

    /// Every partition of the stage has one owner, and no member owns two more than another.
    fn is_spread(&self, stage: Stage, partitions: i32) -> bool {
        let owned = self.owned(stage);
        let counts = owned.iter().map(Vec::len);
        let (least, most) = (counts.clone().min().unwrap_or(0), counts.clone().max().unwrap_or(0));
        let distinct = owned.iter().flatten().map(|owned| (&owned.topic, owned.partition)).collect::<BTreeSet<_>>();
        let all = partitions as usize;
        distinct.len() == all && counts.sum::<usize>() == all && most - least <= 1
    }

    fn wait_until_spread(&self) {
        eventually("every partition of both stages has one owner, and they are spread", || {
            std::thread::sleep(Duration::from_millis(100));
            // The metrics are an input as well, and do not grow.
            self.is_spread(Stage::Intake, self.inputs + PARTITIONS) && self.is_spread(Stage::Detect, PARTITIONS)
        });
    }

    /// Appends records in turn to the partitions of the logs.
    fn append(&self, records: &[Vec<u8>]) {
        let spread = records.iter().enumerate().map(|(nth, value)| (nth as i32 % self.inputs, value.as_slice()));
        self.flow.append(&self.flow.runtime.topics.logs(), spread);
    }

    /// Closes every window, stops everyone, and compares the windows with the batch. What was detected.
    fn finish(mut self, records: &[Vec<u8>]) -> Vec<(String, String, String)> {
        let last = START + 30 * MINUTE;
        let closer = serde_json::to_vec(&json!({ "timestamp": last + 60 * MINUTE, "event": "closer" })).expect("JSON");
        self.append(&vec![closer; self.inputs as usize]);
        eventually("every window is closed", || {
            std::thread::sleep(Duration::from_millis(100));
            let owned = self.owned(Stage::Detect).concat();
            let closed =
                owned.iter().filter(|owned| owned.watermark_us.is_some_and(|reached| reached >= last + 30 * MINUTE));
            closed.count() == PARTITIONS as usize
        });
        for name in self.members.keys().copied().collect::<Vec<_>>() {
            self.leave(name);
        }
        let topics = &self.flow.runtime.topics;
        let windows = self.flow.read(&topics.windows()).iter().map(Output::json).collect::<Vec<_>>();
        for compiled in self.flow.runtime.set.pipelines() {
            let pipeline = &compiled.pipeline;
            compare(&windows, records, &pipeline.name, &pipeline.series, &pipeline.sql);
        }
        let detections = said(&self.flow.read(&topics.remediation()));
        let ids = detections.iter().map(|(_, _, id)| id).collect::<BTreeSet<_>>();
        assert_eq!(ids.len(), detections.len(), "an event was written twice");
        detections
    }
}

#[test]
fn one_two_and_four_processes_say_the_same() {
    let kafka = kafka_or_skip!();
    let records = outage();
    let run = |names: &[&'static str]| {
        let mut crowd = Crowd::new(kafka);
        names.iter().for_each(|name| crowd.join(name));
        crowd.wait_until_spread();
        crowd.append(&records);
        crowd.finish(&records)
    };
    let alone = run(&["a"]);
    assert!(alone.iter().any(|(_, change, _)| change.contains("resolved")), "{alone:?}");
    assert_eq!(run(&["a", "b"]), alone);
    assert_eq!(run(&["a", "b", "c", "d"]), alone);
}

#[test]
fn processes_that_join_and_leave_in_the_middle_change_nothing() {
    let kafka = kafka_or_skip!();
    let records = outage();
    let mut parts = records.chunks(records.len() / 6);
    let mut crowd = Crowd::new(kafka);
    let mut go_on = |crowd: &Crowd| {
        // Before, during and after the rebalance there is something to do.
        crowd.append(parts.next().unwrap_or_default());
        crowd.wait_until_spread();
    };
    crowd.join("a");
    go_on(&crowd);
    crowd.join("b");
    go_on(&crowd);
    crowd.join("c");
    crowd.join("d");
    go_on(&crowd);
    crowd.leave("a");
    go_on(&crowd);
    crowd.leave("c");
    crowd.leave("d");
    go_on(&crowd);
    crowd.join("a");
    go_on(&crowd);
    parts.for_each(|part| crowd.append(part));
    let moved = crowd.finish(&records);
    let mut still = Crowd::new(kafka);
    still.join("a");
    still.append(&records);
    assert_eq!(still.finish(&records), moved);
}

#[test]
fn new_partitions_of_an_input_are_read_without_a_restart() {
    let kafka = kafka_or_skip!();
    let records = outage();
    let (early, late) = records.split_at(records.len() / 2);
    let mut crowd = Crowd::new(kafka);
    crowd.join("a");
    crowd.join("b");
    crowd.append(early);
    crowd.wait_until_spread();
    (Subject::kafka(kafka).grow)(&crowd.flow.runtime.topics.logs(), PARTITIONS + 2);
    crowd.inputs = PARTITIONS + 2;
    crowd.wait_until_spread();
    crowd.append(late);
    crowd.finish(&records);
}

/// Four of five records belong to one series. Stage two gets as much of it as of any other: one row per commit and window.
#[test]
fn a_hot_key_weighs_no_more_in_stage_two_than_any_other() {
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests FROM logs
               WHERE event = 'http_request' GROUP BY 1, 2";
    let counts = pipeline("counts", sql, &["module"], Duration::from_secs(5));
    let log = Arc::new(EmbeddedLog::new(EmbeddedSettings::default()));
    let mut flow = Flow::new(log, "t.", PARTITIONS, vec![counts]);
    // Nothing that was read is deleted, because it is counted afterwards.
    flow.runtime.snapshot_interval = Duration::from_secs(3_600);
    let record = |nth: i64| {
        let module = if nth % 5 == 0 { nth / 5 % 10 } else { 99 };
        let record = json!({ "timestamp": START + nth * MINUTE / 10_000, "module": format!("m{module}"), "event": "http_request" });
        serde_json::to_vec(&record).expect("JSON")
    };
    let records = (0..50_000).map(record).collect::<Vec<_>>();
    let topic = flow.runtime.topics.logs();
    flow.append(&topic, records.iter().enumerate().map(|(nth, value)| (nth as i32 % PARTITIONS, value.as_slice())));
    let closer = serde_json::to_vec(&json!({ "timestamp": START + 60 * MINUTE, "event": "closer" })).expect("JSON");
    flow.append(&topic, (0..PARTITIONS).map(|partition| (partition, closer.as_slice())));
    flow.start();
    flow.wait_until_closed(START + 30 * MINUTE);
    flow.stop();
    let windows = flow.read(&flow.runtime.topics.windows());
    assert_eq!(windows.len(), 5 * 11, "five windows of eleven series");
    let plan = &flow.runtime.set.pipelines()[0].plan;
    let (mut commits, mut rows) = (0, BTreeMap::<String, usize>::new());
    for message in flow.read(&flow.runtime.topics.partials()) {
        if message.header("kind") != "partial" {
            continue;
        }
        commits += 1;
        let batch = partial::decode(&plan.pipeline, &plan.partial_schema(), &message.value).expect("a partial");
        let labels = LabelReader::new(&["module"], &batch.columns()[1..2]).expect("labels");
        (0..batch.num_rows()).for_each(|row| *rows.entry(labels.series(row).to_json().to_string()).or_default() += 1);
    }
    let hot = rows.iter().find(|(series, _)| series.contains("m99")).map(|(_, rows)| *rows).expect("the hot series");
    let cold =
        rows.iter().filter(|(series, _)| !series.contains("m99")).map(|(_, rows)| *rows).max().unwrap_or_default();
    assert_eq!(rows.len(), 11);
    assert!(hot <= 2 * cold, "{hot} rows of the hot series, {cold} of another");
    assert!(hot <= 5 * commits, "{hot} rows of the hot series in {commits} messages");
    assert!(hot * 100 < 40_000, "{hot} rows for its 40,000 records");
}
