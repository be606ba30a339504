//! Decoding: the bytes of telemetry records become Arrow batches, or reasons why not.
//!
//! Every record becomes exactly one row or one [`Rejection`], and a rejection leaves the batch as it was. No input panics,
//! recurses or changes how a later record is read. `decode` never reads a clock, a topic or a file, and never looks at a
//! tombstone: a record without a value is its caller's to skip.
//!
//! # What a record may be
//!
//! A JSON object in UTF-8 (a byte order mark is skipped), nested at most [`DEPTH_MAX`] levels. A known field that is null
//! is absent; one that occurs twice is refused as ambiguous. Text is never taken for a number, nor a number for text.
//! Integers may be written `200`, `200.0` or `2e2`. No field is mandatory, in metrics neither: a missing value is null,
//! which every aggregate but `count(*)` skips.
//!
//! `attributes` is the text of one JSON object: the record's unknown fields, in their order, then the members of its own
//! `attributes` object, all as they were written. A key that is in both is in the text twice, because neither may be
//! dropped; readers that keep the last, as most do, see the record's own `attributes`.
//!
//! Event time is `timestamp` (see [`timestamp`]), else Kafka's timestamp. Farther ahead of Kafka's timestamp than
//! [`DecodeLimits::ahead_max`] it is refused, because one such record would close every window; judging by Kafka's
//! timestamp and not by a clock, a replay decides the same.

mod columns;
mod fields;
mod habit;
mod json;
mod level;
mod number;
mod rejection;
#[cfg(test)]
mod tests;
pub mod timestamp;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::model::pipeline::Micros;
use crate::model::schema;
use columns::{Column, Rest};
use fields::{Fields, Kind, Row, Slot};
use habit::Habit;
use json::Members;
pub use json::{DEPTH_MAX, SyntaxError};
pub use rejection::Rejection;

/// What the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    Logs,
    Metrics,
}

impl Table {
    /// The schema of the batches.
    pub fn schema(self) -> SchemaRef {
        match self {
            Table::Logs => schema::logs(),
            Table::Metrics => schema::metrics(),
        }
    }
}

/// What is refused for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// How far event time may be ahead of the record's Kafka timestamp. Raising it lets one wrong clock close windows early.
    pub ahead_max: Micros,
    /// The largest value, in bytes. Kafka itself allows no more than 2 GiB.
    pub record_bytes_max: usize,
}

impl Default for DecodeLimits {
    /// 5 minutes, and 1 MiB, which is also Kafka's default.
    fn default() -> Self {
        DecodeLimits { ahead_max: 300_000_000, record_bytes_max: 1024 * 1024 }
    }
}

/// One record as it came from Kafka.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub value: &'a [u8],
    /// In milliseconds since the Unix epoch; before 1970 or from 2200 on it counts as none.
    pub kafka_timestamp_ms: Option<i64>,
    pub partition: i32,
    pub offset: i64,
}

/// Collects rows for one batch after the other.
pub struct Decoder {
    schema: SchemaRef,
    limits: DecodeLimits,
    fields: Fields,
    habit: Habit,
    columns: Vec<Column>,
    /// The places of the columns that somebody reads.
    read: Vec<usize>,
    rows: usize,
    /// The text of `attributes` while it is put together.
    attributes: String,
    /// Somebody reads `attributes`.
    keeps_attributes: bool,
    scratch: String,
}

impl Decoder {
    /// An empty decoder for one table.
    pub fn new(table: Table, limits: DecodeLimits) -> Self {
        let schema = table.schema();
        let fields = Fields::new(&schema);
        let kinds = fields.columns.iter().zip(schema.fields());
        let columns = kinds.map(|(field, column)| Column::new(field.kind, column.data_type())).collect::<Vec<_>>();
        let read = (0..columns.len()).collect();
        let record_bytes_max = limits.record_bytes_max.min(i32::MAX as usize);
        let limits = DecodeLimits { record_bytes_max, ..limits };
        let (attributes, scratch) = (String::new(), String::new());
        let (habit, keeps_attributes) = (Habit::new(), true);
        Decoder { schema, limits, fields, habit, columns, read, rows: 0, attributes, keeps_attributes, scratch }
    }

    /// Leaves the columns at other places null, where they may be, because nobody reads them. A record is rejected for what
    /// is wrong with it all the same.
    pub fn with_columns(mut self, needed: &[usize]) -> Self {
        for (place, (column, field)) in self.columns.iter_mut().zip(self.schema.fields()).enumerate() {
            if field.is_nullable() && !needed.contains(&place) {
                self.keeps_attributes &= !matches!(column, Column::Attributes(_));
                *column = Column::unread(field.data_type());
                self.read.retain(|read| *read != place);
            }
        }
        self
    }

    /// Appends the record as one row and returns its event time, or says why not and appends nothing.
    pub fn push(&mut self, record: &Incoming<'_>) -> Result<Micros, Rejection> {
        let text = self.limits.text(record.value)?;
        let mut found = Found { row: Row::new(), time: None, attributes: None };
        let unknown = self.keeps_attributes.then_some(&mut self.attributes);
        found.read(&self.fields, &mut self.habit, text, unknown)?;
        let time = self.limits.event_time(found.time, timestamp::from_kafka(record.kafka_timestamp_ms))?;
        let attributes = join_attributes(&mut self.attributes, found.attributes.filter(|_| self.keeps_attributes));
        let rest = Rest { time, attributes, record };
        for place in &self.read {
            if let (Some(column), Some(slot)) = (self.columns.get_mut(*place), found.row.slots.get(*place)) {
                column.append(slot, &rest, &mut self.scratch);
            }
        }
        self.rows += 1;
        Ok(time)
    }

    /// How many rows the next batch has so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows since the last call, in the order of [`Self::push`], with exactly the table's schema.
    /// It fails only if the schema has a column that no builder fills.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.columns.iter_mut().map(|column| column.finish(rows)).collect();
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)
    }
}

impl DecodeLimits {
    fn text<'a>(&self, value: &'a [u8]) -> Result<&'a str, Rejection> {
        if value.len() > self.record_bytes_max {
            return Err(Rejection::TooLarge { bytes: value.len(), limit: self.record_bytes_max });
        }
        if value.trim_ascii().is_empty() {
            return Err(Rejection::Empty);
        }
        std::str::from_utf8(value).map_err(|error| Rejection::NotUtf8 { at: error.valid_up_to() })
    }

    fn event_time(&self, own: Option<Micros>, kafka: Option<Micros>) -> Result<Micros, Rejection> {
        let time = own.or(kafka).ok_or(Rejection::NoTime)?;
        // Without a Kafka timestamp there is nothing to compare with, and the difference is zero.
        let ahead = time - kafka.unwrap_or(time);
        if ahead > self.ahead_max { Err(Rejection::Ahead { ahead, limit: self.ahead_max }) } else { Ok(time) }
    }
}

/// What a record says about itself.
struct Found<'a> {
    row: Row<'a>,
    time: Option<Micros>,
    attributes: Option<&'a str>,
}

impl<'a> Found<'a> {
    /// Reads a whole record. The unknown fields are left in `unknown`, as an object that is not yet closed, or nothing.
    fn read(
        &mut self,
        fields: &Fields,
        habit: &mut Habit,
        text: &'a str,
        mut unknown: Option<&mut String>,
    ) -> Result<(), Rejection> {
        if let Some(unknown) = &mut unknown {
            unknown.clear();
        }
        let mut members = Members::open(text).ok_or(Rejection::NotAnObject)?;
        let mut before = None;
        while let Some(start) = members.advance()? {
            let (column, place) = habit.read(&mut members, fields, start, before)?;
            before = Some(place);
            let value = members.value()?;
            let known = column.and_then(|column| Some((column, fields.columns.get(column)?)));
            let Some((column, field)) = known else {
                if let Some(unknown) = &mut unknown {
                    unknown.push(if unknown.is_empty() { '{' } else { ',' });
                    unknown.push_str(members.since(start));
                }
                continue;
            };
            let slot = field.read(value)?;
            match (field.kind, slot) {
                (Kind::Time, Slot::Int(time)) => self.time = Some(time),
                (Kind::Attributes, Slot::Text(object)) => self.attributes = Some(object),
                _ => {}
            }
            if !self.row.set(column, slot) {
                return Err(Rejection::Duplicate { field: field.name.clone() });
            }
        }
        Ok(())
    }
}

/// The unknown fields, an object that is still open or nothing, and the record's own attributes as one object.
fn join_attributes<'a>(unknown: &'a mut String, own: Option<&'a str>) -> Option<&'a str> {
    if unknown.is_empty() {
        return own;
    }
    let members = own.and_then(|own| own.strip_prefix('{')?.strip_suffix('}')).unwrap_or_default().trim();
    if !members.is_empty() {
        unknown.push(',');
        unknown.push_str(members);
    }
    unknown.push('}');
    Some(unknown)
}
