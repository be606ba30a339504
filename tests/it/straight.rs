//! The core in one thread, without a log: records in, windows and detections out, time given.

use std::sync::Arc;

use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::evaluate::PipelineSet;
use maturion::evaluate::shard::{LOGS_SOURCE, METRICS_SOURCE, Outputs, Shard, ShardProgress};
use maturion::model::detection::Detection;
use maturion::model::pipeline::{Micros, Pipeline, Source};
use maturion::window::aggregator::Aggregator;
use maturion::window::clock::Heartbeat;
use maturion::window::partial::{self, Message};
use maturion::window::plan::WindowPlan;

/// Stage one and one partition of stage two, wired to each other.
pub struct Straight {
    set: Arc<PipelineSet>,
    inputs: Vec<(Decoder, &'static str, Vec<Aggregator>, Option<Micros>)>,
    pub shard: Shard,
    offset: i64,
}

/// What one step wrote: detections, and windows as JSON lines.
#[derive(Default)]
pub struct Step {
    pub detections: Vec<Detection>,
    pub windows: Vec<String>,
}

impl Straight {
    pub fn new(pipelines: Vec<Pipeline>) -> Straight {
        Straight::with(Arc::new(PipelineSet::compile(pipelines).unwrap_or_else(|error| panic!("{error}"))))
    }

    pub fn with(set: Arc<PipelineSet>) -> Straight {
        let limits = DecodeLimits { ahead_max: Micros::MAX, ..DecodeLimits::default() };
        let input = |table, name, source| {
            let aggregators =
                set.reading(&source).map(|compiled| Aggregator::new(&compiled.plan).expect("an aggregator"));
            (Decoder::new(table, limits), name, aggregators.collect(), None)
        };
        let inputs =
            vec![input(Table::Logs, LOGS_SOURCE, Source::Logs), input(Table::Metrics, METRICS_SOURCE, Source::Metrics)];
        let shard = Shard::new(&set, 0, 1, Micros::MAX, ShardProgress::default()).expect("a shard");
        Straight { set, inputs, shard, offset: 0 }
    }

    /// Commits log records and metric records as one transaction would, with a heartbeat made at wall time `now`, then
    /// lets stage two do what it can.
    pub fn step(&mut self, now: Micros, logs: &[Vec<u8>], metrics: &[Vec<u8>]) -> Step {
        let mut messages = Vec::new();
        for ((decoder, name, aggregators, reached), records) in self.inputs.iter_mut().zip([logs, metrics]) {
            for value in records {
                let record = Incoming { value, kafka_timestamp_ms: None, partition: 0, offset: 0 };
                let time = decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
                *reached = (*reached).max(Some(time));
            }
            let batch = decoder.finish().expect("a batch");
            for aggregator in aggregators {
                aggregator.push(&batch).expect("aggregated");
                let states = aggregator.finish().expect("states");
                messages.extend(states.into_iter().flat_map(|states| partial_messages(aggregator.plan(), &states)));
            }
            let (source, event_time) = ((*name).to_owned(), *reached);
            // The end lies behind the position: the input is never idle, event time comes from records alone.
            let beat =
                Heartbeat { source, partition: 0, partitions: 1, position: now, end: now + 1, event_time, wall: now };
            messages.push(Message::Heartbeats(vec![beat]));
        }
        let mut step = Step::default();
        while !messages.is_empty() {
            for message in std::mem::take(&mut messages) {
                self.shard.take(self.offset, message).unwrap_or_else(|error| panic!("{error}"));
                self.offset += 1;
            }
            let mut out = Outputs::default();
            self.shard.look(&mut out).unwrap_or_else(|error| panic!("{error}"));
            self.shard.advance(&mut out).unwrap_or_else(|error| panic!("{error}"));
            for (place, states) in &out.partials {
                messages.extend(partial_messages(&self.set.pipelines()[*place].plan, states));
            }
            messages.extend(out.inhibitions.into_iter().map(Message::Inhibition));
            messages.extend((!out.frontiers.is_empty()).then_some(Message::Heartbeats(out.frontiers)));
            step.detections.extend(out.detections);
            let lines = out.windows.into_iter().map(|row| String::from_utf8(row.json).expect("UTF-8"));
            step.windows.extend(lines);
        }
        step
    }
}

fn partial_messages(plan: &WindowPlan, states: &arrow::array::RecordBatch) -> Vec<Message> {
    let values = partial::encode(states).expect("encoded");
    let message = |bytes| Message::Partial { pipeline: plan.pipeline.clone(), version: plan.version.clone(), bytes };
    values.into_iter().map(message).collect()
}

/// The messages that stage one sends for these log records of one pipeline.
pub fn partials_of(plan: &Arc<WindowPlan>, records: &[Vec<u8>]) -> Vec<Message> {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits { ahead_max: Micros::MAX, ..DecodeLimits::default() });
    for value in records {
        let record = Incoming { value, kafka_timestamp_ms: None, partition: 0, offset: 0 };
        decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
    }
    let mut aggregator = Aggregator::new(plan).expect("an aggregator");
    aggregator.push(&decoder.finish().expect("a batch")).expect("aggregated");
    let states = aggregator.finish().expect("states").expect("rows");
    partial_messages(plan, &states)
}
