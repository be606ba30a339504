//! One input topic of intake: its records decoded, counted and aggregated, or set aside with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::IntakeError;
use super::rejected::Rejected;
use crate::decode::{Decoder, Incoming, Table};
use crate::evaluate::shard::{LOGS_SOURCE, METRICS_SOURCE};
use crate::log::{Partition, Record};
use crate::model::pipeline::{Micros, Source};
use crate::roles::Runtime;
use crate::window::aggregator::Aggregator;

/// One input topic: its decoder and the pipelines that read it.
pub(super) struct TableIntake {
    pub(super) topic: Arc<str>,
    pub(super) source: &'static str,
    pub(super) decoder: Decoder,
    pub(super) aggregators: Vec<Aggregator>,
    /// Records read and records decoded since the last commit.
    pub(super) visited: u64,
    pub(super) decoded: u64,
    /// How many partitions the topic has.
    pub(super) partitions: i32,
}

/// How far one input partition was read.
pub(super) struct PartitionIntake {
    pub(super) table: usize,
    pub(super) read: Mark,
    pub(super) committed: Mark,
    /// The end of the partition when it was last asked for.
    pub(super) end: i64,
}

/// A point in an input partition. An abort goes back to the last committed one with all that was known there: event time
/// must not be ahead of the rows that are read again.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// The next offset after the last record visited.
    pub(super) offset: i64,
    /// The largest event time until there, since the worker began to read.
    pub(super) event_time: Option<Micros>,
}

impl TableIntake {
    pub(super) fn new(runtime: &Runtime, source: Source, topic: &str) -> Result<Self, IntakeError> {
        let (table, name) = match source {
            Source::Metrics => (Table::Metrics, METRICS_SOURCE),
            _ => (Table::Logs, LOGS_SOURCE),
        };
        let aggregators = runtime.set.reading(&source).map(|compiled| {
            Aggregator::new(&compiled.plan)
                .map_err(|source| IntakeError::Compute { pipeline: compiled.pipeline.name.clone(), source })
        });
        Ok(Self {
            topic: topic.into(),
            source: name,
            decoder: Decoder::new(table, runtime.limits),
            aggregators: aggregators.collect::<Result<_, _>>()?,
            visited: 0,
            decoded: 0,
            partitions: 0,
        })
    }

    pub(super) fn size(&self) -> usize {
        self.aggregators.iter().map(Aggregator::size).sum()
    }

    pub(super) fn aggregate(&mut self) -> Result<(), IntakeError> {
        if self.decoder.is_empty() {
            return Ok(());
        }
        let batch = self.decoder.finish()?;
        for aggregator in &mut self.aggregators {
            let pipeline = &aggregator.plan().pipeline.clone();
            aggregator.push(&batch).map_err(|source| IntakeError::Compute { pipeline: pipeline.clone(), source })?;
        }
        Ok(())
    }

    /// Forgets everything that was not committed.
    pub(super) fn clear(&mut self) -> Result<(), IntakeError> {
        self.aggregate()?;
        for aggregator in &mut self.aggregators {
            let pipeline = aggregator.plan().pipeline.clone();
            aggregator.finish().map_err(|source| IntakeError::Compute { pipeline, source })?;
        }
        Ok(())
    }
}

/// One record: into a batch, or to the dead letters. A tombstone only advances the offset.
pub(super) fn visit(
    tables: &mut [TableIntake],
    partitions: &mut BTreeMap<Partition, PartitionIntake>,
    rejected: &mut Rejected,
    record: &Record<'_>,
) {
    let known = partitions
        .iter_mut()
        .find(|(partition, _)| partition.number == record.partition && partition.topic.as_ref() == record.topic);
    let Some((partition, intake)) = known else { return };
    intake.read.offset = record.offset + 1;
    let table = &mut tables[intake.table];
    table.visited += 1;
    let Some(value) = record.value else { return };
    let incoming =
        Incoming { value, kafka_timestamp_ms: record.timestamp_ms, partition: record.partition, offset: record.offset };
    match table.decoder.push(&incoming) {
        Ok(event_time) => {
            table.decoded += 1;
            intake.read.event_time = intake.read.event_time.max(Some(event_time));
        }
        Err(rejection) => rejected.push(super::position(partition, record.offset), value, rejection),
    }
}
