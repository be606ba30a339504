//! What travels through `maturion.partials`: partial states, heartbeats and the state of inhibiting rules.
//!
//! Every message of one series of one pipeline goes to the same partition. `partial` decides which, and turns batches
//! into bytes and back; a message that it does not understand is named, never guessed at.

use std::io::Cursor;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh64::xxh64;

use super::clock::Heartbeat;
use super::plan::{ROWS_COLUMN, WindowPlan};
use crate::model::pipeline::{Definition, Micros, RuleName, Severity};
use crate::model::series::{Label, Series};

/// The header that says what a message is: `partial`, `heartbeats`, `inhibition` or `definition`.
pub const KIND: &str = "kind";
/// The header of a partial that names its pipeline.
pub const PIPELINE: &str = "pipeline";
/// The header of a partial that carries [`WindowPlan::version`].
pub const VERSION: &str = "version";

/// A partial larger than this is cut into several messages: well below the 1 MB that brokers accept by default.
const MESSAGE_BYTES_MAX: usize = 512 * 1024;

/// A message that cannot be read.
#[derive(Debug, Error)]
pub enum PartialError {
    #[error("a partial of `{pipeline}` cannot be read: {reason}; it was written by another version, or damaged")]
    Unreadable { pipeline: String, reason: String },
    #[error("a message of the unknown kind `{0}` stands in the partials; it was written by a newer version")]
    UnknownKind(String),
}

/// A rule that other rules stay silent for began to fire, changed its severity, or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inhibition {
    pub rule: RuleName,
    pub series: Series,
    /// `None`: it fires no more.
    pub severity: Option<Severity>,
    /// The end of the window that decided it.
    pub since: Micros,
}

/// A message of the partials, understood.
#[derive(Debug)]
pub enum Message {
    Partial {
        pipeline: String,
        version: String,
        bytes: Vec<u8>,
    },
    Heartbeats(Vec<Heartbeat>),
    Inhibition(Inhibition),
    /// Explains the partials of one version of a pipeline, before the first of them.
    Definition(Definition),
}

/// Reads a message from its headers and value.
pub fn read_message(headers: &[(&str, &[u8])], value: &[u8]) -> Result<Message, PartialError> {
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    let unreadable =
        |error: serde_json::Error| PartialError::Unreadable { pipeline: header(KIND), reason: error.to_string() };
    match header(KIND).as_str() {
        "partial" => {
            Ok(Message::Partial { pipeline: header(PIPELINE), version: header(VERSION), bytes: value.to_vec() })
        }
        "heartbeats" => serde_json::from_slice(value).map(Message::Heartbeats).map_err(unreadable),
        "inhibition" => serde_json::from_slice(value).map(Message::Inhibition).map_err(unreadable),
        "definition" => serde_json::from_slice(value).map(Message::Definition).map_err(unreadable),
        other => Err(PartialError::UnknownKind(other.to_owned())),
    }
}

/// The partition of a series of a pipeline: XXH64, seed 0, of the pipeline's name, a zero byte and the series' key.
pub fn partition_of(pipeline: &str, series: &Series, partitions: i32) -> i32 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(pipeline.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&series.key());
    let partitions = partitions.max(1);
    // The remainder is smaller than an i32, so the cast is exact.
    (xxh64(&bytes, 0) % partitions.unsigned_abs() as u64) as i32
}

/// The rows of a partial, by the partition that each belongs to.
pub fn route(plan: &WindowPlan, partial: &RecordBatch, partitions: i32) -> Result<Vec<(i32, RecordBatch)>> {
    let names = plan.series.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    let keys = &partial.columns()[1..=names.len()];
    let labels = LabelReader::new(&names, keys)?;
    let mut rows = vec![Vec::<u32>::new(); usize::try_from(partitions.max(1)).unwrap_or(1)];
    for row in 0..partial.num_rows() {
        let partition = partition_of(&plan.pipeline, &labels.series(row), partitions);
        rows[partition as usize].push(row as u32);
    }
    let filled = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    filled
        .map(|(partition, rows)| Ok((partition as i32, take_record_batch(partial, &UInt32Array::from(rows))?)))
        .collect()
}

/// A batch as the values of one or more messages.
pub fn encode(batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    let bytes = writer.into_inner()?;
    if bytes.len() <= MESSAGE_BYTES_MAX || batch.num_rows() < 2 {
        return Ok(vec![bytes]);
    }
    let half = batch.num_rows() / 2;
    let indices = |from: usize, to: usize| UInt32Array::from_iter_values(from as u32..to as u32);
    let mut messages = encode(&take_record_batch(batch, &indices(0, half))?)?;
    messages.extend(encode(&take_record_batch(batch, &indices(half, batch.num_rows()))?)?);
    Ok(messages)
}

/// The batch in a message's value; its columns must be exactly those of `schema`.
pub fn decode(pipeline: &str, schema: &SchemaRef, bytes: &[u8]) -> Result<RecordBatch, PartialError> {
    let unreadable = |reason: String| PartialError::Unreadable { pipeline: pipeline.to_owned(), reason };
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| unreadable(error.to_string()))?;
    if reader.schema() != *schema {
        return Err(unreadable("its columns are not those of the pipeline".to_owned()));
    }
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(error.to_string()))?;
    arrow::compute::concat_batches(schema, &batches).map_err(|error| unreadable(error.to_string()))
}

/// The number of rows behind a partial whose version nobody here knows; 0 if it is no partial at all.
pub fn rows_behind(bytes: &[u8]) -> u64 {
    let Ok(batches) = StreamReader::try_new(Cursor::new(bytes), None) else { return 0 };
    let rows = |batch: RecordBatch| {
        let rows = batch.column_by_name(ROWS_COLUMN)?.as_primitive_opt::<Int64Type>()?;
        Some(rows.iter().flatten().map(|rows| u64::try_from(rows).unwrap_or(0)).sum::<u64>())
    };
    batches.filter_map(|batch| rows(batch.ok()?)).sum()
}

/// Reads the labels of a batch's rows.
pub struct LabelReader<'a> {
    columns: Vec<(&'a str, LabelColumn)>,
}

enum LabelColumn {
    Text(arrow::array::StringArray),
    Int(arrow::array::Int64Array),
    Bool(BooleanArray),
}

impl<'a> LabelReader<'a> {
    /// `columns[i]` holds the label `names[i]`: text, integers or booleans, as [`WindowPlan`] has made sure.
    pub fn new(names: &[&'a str], columns: &[ArrayRef]) -> Result<Self> {
        let column = |(name, column): (&&'a str, &ArrayRef)| {
            let column = match column.data_type() {
                DataType::Boolean => LabelColumn::Bool(column.as_boolean().clone()),
                data_type if data_type.is_integer() => {
                    let column = arrow::compute::cast(column, &DataType::Int64)?;
                    LabelColumn::Int(column.as_primitive::<Int64Type>().clone())
                }
                _ => LabelColumn::Text(arrow::compute::cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
            };
            Ok((*name, column))
        };
        Ok(Self { columns: names.iter().zip(columns).map(column).collect::<Result<_>>()? })
    }

    /// The series of a row.
    pub fn series(&self, row: usize) -> Series {
        let label = |column: &LabelColumn| match column {
            LabelColumn::Text(values) if values.is_valid(row) => Label::Text(values.value(row).to_owned()),
            LabelColumn::Int(values) if values.is_valid(row) => Label::Int(values.value(row)),
            LabelColumn::Bool(values) if values.is_valid(row) => Label::Bool(values.value(row)),
            _ => Label::Null,
        };
        Series(self.columns.iter().map(|(name, column)| ((*name).to_owned(), label(column))).collect())
    }
}
