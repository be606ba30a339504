//! The known fields of a table, and how a JSON value becomes the value of a column.

use arrow::datatypes::{DataType, Schema};

use super::json::{Kind as Json, Value};
use super::level;
use super::number::{Decimal, Whole};
use super::rejection::{Rejection, excerpt, excerpt_number};
use super::timestamp::{self, TimeError};
use crate::model::pipeline::Micros;

/// The most columns that a table may have. Each record pays for this many.
pub const COLUMNS_MAX: usize = 24;

/// What a column holds, and so what its field must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Time,
    Text,
    Level,
    Int32,
    Int64,
    Float,
    Bool,
    Attributes,
    /// Where the record stands in Kafka: never a field of the record.
    Partition,
    Offset,
}

impl Kind {
    fn of(name: &str, data_type: &DataType) -> Self {
        match (name, data_type) {
            ("timestamp", _) => Kind::Time,
            ("level", _) => Kind::Level,
            ("attributes", _) => Kind::Attributes,
            ("kafka_partition", _) => Kind::Partition,
            ("kafka_offset", _) => Kind::Offset,
            (_, DataType::Int32) => Kind::Int32,
            (_, DataType::Int64) => Kind::Int64,
            (_, DataType::Float64) => Kind::Float,
            (_, DataType::Boolean) => Kind::Bool,
            _ => Kind::Text,
        }
    }

    /// What the field must be, in words.
    fn expected(self) -> &'static str {
        match self {
            Kind::Time => "RFC 3339 text or a number",
            Kind::Level => "text or a severity number",
            Kind::Text => "text",
            Kind::Bool => "true or false",
            Kind::Attributes => "an object",
            Kind::Int32 | Kind::Int64 | Kind::Float | Kind::Partition | Kind::Offset => "a number",
        }
    }
}

/// One value of a row, borrowed from the record. Its tag is as large as a word for [`Json`]'s reason.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u64)]
pub enum Slot<'a> {
    Null,
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// Text with escapes.
    Escaped(&'a str),
}

/// The known fields of one record, by column.
pub struct Row<'a> {
    pub slots: [Slot<'a>; COLUMNS_MAX],
    /// The columns whose field the record has, null or not.
    seen: u32,
}

impl<'a> Row<'a> {
    pub fn new() -> Self {
        Row { slots: [Slot::Null; COLUMNS_MAX], seen: 0 }
    }

    /// False if the column is taken already.
    pub fn set(&mut self, column: usize, slot: Slot<'a>) -> bool {
        let bit = 1 << column;
        let new = self.seen & bit == 0;
        self.seen |= bit;
        if let Some(place) = self.slots.get_mut(column) {
            *place = slot;
        }
        new
    }
}

/// One column of a table.
#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
}

/// The columns of one table and a hash table from name to column.
pub struct Fields {
    pub columns: Vec<Field>,
    index: [u8; INDEX_SIZE],
}

/// More than the columns, so that a search always meets an empty place; a power of two.
const INDEX_SIZE: usize = 64;
const EMPTY: u8 = u8::MAX;

impl Fields {
    pub fn new(schema: &Schema) -> Self {
        let field = |field: &arrow::datatypes::FieldRef| Field {
            name: field.name().clone(),
            kind: Kind::of(field.name(), field.data_type()),
        };
        let columns: Vec<Field> = schema.fields().iter().take(COLUMNS_MAX).map(field).collect();
        let mut index = [EMPTY; INDEX_SIZE];
        for (column, field) in (0_u8..).zip(&columns) {
            if matches!(field.kind, Kind::Partition | Kind::Offset) {
                continue;
            }
            let mut place = hash(&field.name);
            while index.get(place % INDEX_SIZE).is_some_and(|taken| *taken != EMPTY) {
                place += 1;
            }
            if let Some(free) = index.get_mut(place % INDEX_SIZE) {
                *free = column;
            }
        }
        Fields { columns, index }
    }

    /// The column of a key, if it is a known field.
    #[inline]
    pub fn find(&self, key: Value<'_>) -> Option<usize> {
        if key.kind == Json::Escaped { self.find_name(&key.text()) } else { self.find_name(key.raw) }
    }

    fn find_name(&self, name: &str) -> Option<usize> {
        let mut place = hash(name);
        loop {
            let column = usize::from(*self.index.get(place % INDEX_SIZE)?);
            let field = self.columns.get(column)?;
            if field.name == name {
                return Some(column);
            }
            place += 1;
        }
    }
}

/// Mixes what tells the known names apart: length, first, last and middle byte.
fn hash(name: &str) -> usize {
    let byte = |at: usize| name.as_bytes().get(at).map_or(0, |byte| usize::from(*byte));
    let length = name.len();
    length + 3 * byte(0) + 5 * byte(length / 2) + 7 * byte(length.wrapping_sub(1))
}

impl Field {
    /// The value as this column's, or why it cannot be.
    #[inline(always)]
    pub fn read<'a>(&self, value: Value<'a>) -> Result<Slot<'a>, Rejection> {
        match (self.kind, value.kind) {
            (_, Json::Null) => Ok(Slot::Null),
            (Kind::Text, Json::Plain) | (Kind::Attributes, Json::Object) => Ok(Slot::Text(value.raw)),
            (Kind::Text, Json::Escaped) => Ok(Slot::Escaped(value.raw)),
            (Kind::Bool, Json::True) => Ok(Slot::Bool(true)),
            (Kind::Bool, Json::False) => Ok(Slot::Bool(false)),
            (Kind::Float, Json::Number) => self.float(value.raw),
            (Kind::Int32, Json::Number) => self.integer(value.raw, i64::from(i32::MIN), i64::from(i32::MAX)),
            (Kind::Int64, Json::Number) => self.integer(value.raw, i64::MIN, i64::MAX),
            (Kind::Level, Json::Number) => self.severity(value.raw),
            (Kind::Level, Json::Plain | Json::Escaped) => self.level(&value.text()),
            (Kind::Time, Json::Number) => self.time(timestamp::from_number(value.raw), value),
            (Kind::Time, Json::Plain | Json::Escaped) => self.time(timestamp::from_text(&value.text()), value),
            (kind, _) => Err(self.wrong_type(kind.expected(), value.name())),
        }
    }

    fn float<'a>(&self, number: &str) -> Result<Slot<'a>, Rejection> {
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Slot::Float(value)),
            _ => Err(self.out_of_range(number)),
        }
    }

    fn integer<'a>(&self, number: &str, min: i64, max: i64) -> Result<Slot<'a>, Rejection> {
        let whole = number.parse().map_or_else(|_| Decimal::read(number).whole(), Whole::Integer);
        match whole {
            Whole::Integer(value) if (min..=max).contains(&value) => Ok(Slot::Int(value)),
            Whole::Fraction => Err(Rejection::NotWhole { field: self.name.clone(), number: excerpt_number(number) }),
            Whole::Integer(_) | Whole::TooLarge => Err(self.out_of_range(number)),
        }
    }

    fn severity<'a>(&self, number: &str) -> Result<Slot<'a>, Rejection> {
        match Decimal::read(number).whole() {
            Whole::Integer(0) => Some(Slot::Null),
            Whole::Integer(severity) => level::from_severity_number(severity).map(Slot::Text),
            Whole::Fraction | Whole::TooLarge => None,
        }
        .ok_or_else(|| self.unknown_level(excerpt_number(number)))
    }

    fn level<'a>(&self, word: &str) -> Result<Slot<'a>, Rejection> {
        level::from_text(word).map(Slot::Text).ok_or_else(|| self.unknown_level(excerpt(word)))
    }

    fn time<'a>(&self, time: Result<Micros, TimeError>, value: Value<'_>) -> Result<Slot<'a>, Rejection> {
        time.map(Slot::Int).map_err(|error| {
            let field = self.name.clone();
            let number = value.kind == Json::Number;
            let value = if number { excerpt_number(value.raw) } else { excerpt(&value.text()) };
            match error {
                TimeError::Unreadable => Rejection::UnreadableTime { field, value },
                TimeError::OutOfRange => Rejection::AbsurdTime { field, value },
            }
        })
    }

    fn wrong_type(&self, expected: &'static str, found: &'static str) -> Rejection {
        Rejection::WrongType { field: self.name.clone(), expected, found }
    }

    fn out_of_range(&self, number: &str) -> Rejection {
        Rejection::OutOfRange { field: self.name.clone(), number: excerpt_number(number) }
    }

    fn unknown_level(&self, value: String) -> Rejection {
        Rejection::UnknownLevel { field: self.name.clone(), value }
    }
}
