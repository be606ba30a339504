//! Running a case: its records through both stages, in steps of event time.

use std::sync::Arc;

use super::{CaseError, Input, Lines, Said};
use crate::backfill::{BackfillError, Episodes};
use crate::config::document::Origin;
use crate::decode::{DecodeLimits, Decoder, Incoming, Rejection, Table};
use crate::evaluate::PipelineSet;
use crate::evaluate::shard::{Outputs, ShardError};
use crate::evaluate::single::SingleShard;
use crate::model::pipeline::{Micros, Source};
use crate::window::aggregator::Aggregator;

/// Event time between two looks at open windows: a `continuous` rule fires that much later at most.
const STEP: Micros = 5_000_000;

/// One record with its event time.
struct Record {
    time: Micros,
    table: Table,
    bytes: Vec<u8>,
}

/// What the pipelines say of these records.
pub(super) fn run(set: &Arc<PipelineSet>, inputs: &[Input]) -> Result<Said, CaseError> {
    let mut records = records(inputs)?;
    records.sort_by_key(|record| record.time);
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(Said::default()) };
    let (start, end) = (first.time, last.time);
    let mut said = Listener { said: Said { start, ..Said::default() }, episodes: Episodes::default() };
    let mut stage_one = [StageOne::new(set, Table::Logs)?, StageOne::new(set, Table::Metrics)?];
    let mut stage_two = SingleShard::new(set).map_err(BackfillError::from)?;
    for step in records.chunk_by(|one, next| one.time.div_euclid(STEP) == next.time.div_euclid(STEP)) {
        for record in step {
            let stage = usize::from(record.table == Table::Metrics);
            stage_one[stage].push(record)?;
        }
        for stage in &mut stage_one {
            stage.hand_on(&mut stage_two)?;
        }
        let reached = step.last().map_or(start, |record| record.time);
        stage_two.look_and_advance(reached, &mut |outputs| said.take(outputs))?;
    }
    stage_two.end(end, &mut |outputs| said.take(outputs))?;
    Ok(said.finish())
}

/// Everything that the inputs hold, each record with its time.
fn records(inputs: &[Input]) -> Result<Vec<Record>, CaseError> {
    let mut clocks = [Table::Logs, Table::Metrics].map(|table| Decoder::new(table, DecodeLimits::default()));
    let mut time_of = |table: Table, bytes: &[u8]| {
        let clock = &mut clocks[usize::from(table == Table::Metrics)];
        let time = clock.push(&incoming(bytes));
        // Only the time is wanted here.
        if clock.len() >= 1_024 {
            let _ = clock.finish();
        }
        time
    };
    let mut records = Vec::new();
    for input in inputs {
        match input {
            Input::Lines(lines) => read_lines(lines, &mut time_of, &mut records)?,
            Input::Generator(generator) => generator.visit(&mut |table, bytes| {
                // A generator writes what the decoder reads.
                if let Ok(time) = time_of(table, bytes) {
                    records.push(Record { time, table, bytes: bytes.to_vec() });
                }
            }),
        }
    }
    Ok(records)
}

/// The event time of a record, or why it has none.
type TimeOf<'a> = dyn FnMut(Table, &[u8]) -> Result<Micros, Rejection> + 'a;

fn read_lines(lines: &Lines, time_of: &mut TimeOf<'_>, records: &mut Vec<Record>) -> Result<(), CaseError> {
    for (number, line) in lines.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let table = lines.table.unwrap_or_else(|| table_of(line));
        let time = time_of(table, line.as_bytes()).map_err(|rejection| {
            let reason = format!("record {}: {rejection}", number + 1);
            Origin::File(lines.position.as_str().into()).error(reason)
        })?;
        records.push(Record { time, table, bytes: line.as_bytes().to_vec() });
    }
    Ok(())
}

/// A record with a name and a value is a metric.
fn table_of(line: &str) -> Table {
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap_or_default();
    if record.contains_key("name") && record.contains_key("value") { Table::Metrics } else { Table::Logs }
}

fn incoming(value: &[u8]) -> Incoming<'_> {
    Incoming { value, kafka_timestamp_ms: None, partition: -1, offset: -1 }
}

/// The decoder and the aggregators of one table.
struct StageOne {
    decoder: Decoder,
    aggregators: Vec<(usize, Aggregator)>,
}

impl StageOne {
    fn new(set: &PipelineSet, table: Table) -> Result<Self, BackfillError> {
        let source = if table == Table::Metrics { Source::Metrics } else { Source::Logs };
        let mut aggregators = Vec::new();
        for compiled in set.reading(&source) {
            let name = &compiled.pipeline.name;
            let aggregator = Aggregator::new(&compiled.plan);
            let aggregator = aggregator.map_err(|source| BackfillError::Compute { pipeline: name.clone(), source })?;
            aggregators.extend(set.place(name).map(|place| (place, aggregator)));
        }
        Ok(Self { decoder: Decoder::new(table, DecodeLimits::default()), aggregators })
    }

    fn push(&mut self, record: &Record) -> Result<(), BackfillError> {
        let pushed = self.decoder.push(&incoming(&record.bytes));
        pushed.map(|_| ()).map_err(|rejection| BackfillError::Rows(rejection.to_string()))
    }

    fn hand_on(&mut self, stage_two: &mut SingleShard) -> Result<(), BackfillError> {
        if self.decoder.is_empty() {
            return Ok(());
        }
        let batch = self.decoder.finish().map_err(|error| BackfillError::Rows(error.to_string()))?;
        for (place, aggregator) in &mut self.aggregators {
            let states = aggregator.push(&batch).and_then(|()| aggregator.finish());
            let states = states
                .map_err(|source| BackfillError::Compute { pipeline: aggregator.plan().pipeline.clone(), source })?;
            states.map_or(Ok(()), |states| stage_two.merge(*place, &states))?;
        }
        Ok(())
    }
}

/// Collects what is said.
struct Listener {
    said: Said,
    episodes: Episodes,
}

impl Listener {
    fn take(&mut self, outputs: &Outputs) -> Result<(), BackfillError> {
        for row in &outputs.windows {
            let window = serde_json::from_slice(&row.json);
            self.said.windows.push(window.map_err(|error| BackfillError::Rows(error.to_string()))?);
        }
        let ended = outputs.detections.iter().filter_map(|detection| self.episodes.take(detection));
        self.said.episodes.extend(ended);
        Ok(())
    }

    fn finish(mut self) -> Said {
        self.said.episodes.extend(self.episodes.into_open());
        self.said.episodes.sort_by_key(|episode| episode.opened);
        self.said
    }
}

impl From<ShardError> for CaseError {
    fn from(error: ShardError) -> Self {
        CaseError::Evaluate(error.into())
    }
}
