//! What a record must become, by other means: `serde_json` trees and `chrono`. The fuzz target uses it too.

use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::decode::{DecodeLimits, Decoder, Incoming, Table};

/// The end of the accepted times, 2200-01-01T00:00:00Z, in µs.
const YEAR_2200: i64 = 7_258_118_400_000_000;

/// The members of an object in their order, with duplicates.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The verdict on a record or on a value.
enum Verdict<T> {
    Good(T),
    Bad,
    /// A float is too coarse to tell.
    Unknown,
}
use Verdict::{Bad, Good, Unknown};

/// Pushes the records through one decoder and panics where a verdict or a cell of the batch is not the oracle's.
pub fn check(table: Table, limits: DecodeLimits, records: &[Incoming<'_>]) {
    let mut decoder = Decoder::new(table, limits);
    let mut expected = Vec::new();
    for record in records {
        let text = String::from_utf8_lossy(record.value);
        let result = decoder.push(record);
        if let Err(reason) = &result {
            assert!(reason.to_string().len() < 400, "the reason quotes too much: {reason}");
        }
        match (judge(table, limits, record), result) {
            (Good(mut row), Ok(time)) => {
                row.check_time(time, &text);
                row.cells.insert("timestamp".into(), time.into());
                expected.push(Some(row.cells));
            }
            (Unknown, Ok(_)) => expected.push(None),
            (Bad | Unknown, Err(_)) => {}
            (Good(_), Err(reason)) => panic!("refused for `{reason}`: {text}"),
            (Bad, Ok(_)) => panic!("accepted: {text}"),
        }
    }
    assert_eq!(decoder.len(), expected.len());
    let batch = decoder.finish().expect("the columns fit the schema");
    assert_eq!(batch.schema(), table.schema());
    assert_eq!(batch.num_rows(), expected.len());
    for (row, cells) in expected.iter().enumerate() {
        cells.iter().for_each(|cells| check_row(&batch, row, cells));
    }
}

struct Row {
    cells: Map<String, Value>,
    time: i64,
    /// How far off the time may be, because it went through a float here.
    tolerance: i64,
}

impl Row {
    fn check_time(&self, time: i64, text: &str) {
        assert!((time - self.time).abs() <= self.tolerance, "event time {time}, expected {}: {text}", self.time);
    }
}

fn judge(table: Table, limits: DecodeLimits, record: &Incoming<'_>) -> Verdict<Row> {
    let kafka = record.kafka_timestamp_ms.filter(|ms| (0..YEAR_2200 / 1000).contains(ms)).map(|ms| ms * 1000);
    let Ok(text) = std::str::from_utf8(record.value) else { return Bad };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) if record.value.len() <= limits.record_bytes_max => {}
        Err(error) if error.to_string().starts_with("number out of range") => return Unknown,
        _ => return Bad,
    }
    let members: Members<'_> = serde_json::from_str(text).expect("it is an object");
    let known = known_fields(table);
    let mut cells = Map::new();
    let (mut unknown, mut own, mut time) = (Map::new(), None, None);
    let mut vague = false;
    for (name, raw) in &members.0 {
        let value: Value = serde_json::from_str(raw.get()).expect("it was read before");
        let Some(data_type) = known.iter().find(|(known, _)| known == name).map(|(_, data_type)| data_type) else {
            unknown.insert(name.clone(), value);
            continue;
        };
        if members.0.iter().filter(|(other, _)| other == name).count() > 1 {
            return Bad;
        }
        if value.is_null() {
            continue;
        }
        match (name.as_str(), value) {
            ("timestamp", value) => match event_time(&value) {
                Good(found) => time = Some(found),
                Bad => return Bad,
                Unknown => vague = true,
            },
            ("attributes", Value::Object(members)) => own = Some(members),
            ("attributes", _) => return Bad,
            (_, value) => match cell(name, data_type, value, raw.get()) {
                Good(value) => drop(cells.insert(name.clone(), value)),
                Bad => return Bad,
                Unknown => vague = true,
            },
        }
    }
    if vague {
        return Unknown;
    }
    let Some((time, tolerance)) = time.or(kafka.map(|time| (time, 0))) else { return Bad };
    match kafka.map(|kafka| time - kafka - limits.ahead_max) {
        Some(excess) if excess.abs() <= tolerance && tolerance > 0 => return Unknown,
        Some(excess) if excess > 0 => return Bad,
        _ => {}
    }
    if own.is_some() || !unknown.is_empty() {
        unknown.extend(own.unwrap_or_default());
        cells.insert("attributes".into(), Value::Object(unknown));
    }
    cells.insert("kafka_partition".into(), record.partition.into());
    cells.insert("kafka_offset".into(), record.offset.into());
    Good(Row { cells, time, tolerance })
}

fn known_fields(table: Table) -> Vec<(String, DataType)> {
    let schema = table.schema();
    let fields = schema.fields().iter().filter(|field| !field.name().starts_with("kafka_"));
    fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

fn cell(name: &str, data_type: &DataType, value: Value, raw: &str) -> Verdict<Value> {
    match (data_type, value) {
        (_, value) if name == "level" => level(&value, raw),
        (DataType::Utf8View, value @ Value::String(_)) | (DataType::Boolean, value @ Value::Bool(_)) => Good(value),
        (DataType::Float64, Value::Number(number)) => Good(number.as_f64().into()),
        (DataType::Int32, Value::Number(number)) => match whole(&number, raw) {
            Good(value) if i32::try_from(value).is_ok() => Good(value.into()),
            Good(_) | Bad => Bad,
            Unknown => Unknown,
        },
        (DataType::Int64, Value::Number(number)) => match whole(&number, raw) {
            Good(value) => Good(value.into()),
            Bad => Bad,
            Unknown => Unknown,
        },
        _ => Bad,
    }
}

/// A float tells whether it is whole up to 15 digits.
fn whole(number: &serde_json::Number, raw: &str) -> Verdict<i64> {
    match (number.as_i64(), number.as_f64()) {
        (Some(value), _) => Good(value),
        (None, Some(_)) if raw.contains(['.', 'e', 'E']) && raw.len() > 15 => Unknown,
        (None, Some(value)) if value.fract() == 0.0 && value.abs() < 1e15 && value.abs() >= 1.0 => Good(value as i64),
        (None, Some(0.0)) => {
            if raw
                .split(['e', 'E'])
                .next()
                .is_some_and(|digits| digits.contains(|c: char| c.is_ascii_digit() && c != '0'))
            {
                Unknown
            } else {
                Good(0)
            }
        }
        (None, Some(value)) if value.abs() >= 1e15 && value.abs() < 1e19 && raw.contains(['e', 'E']) => Unknown,
        _ => Bad,
    }
}

fn level(value: &Value, raw: &str) -> Verdict<Value> {
    let found = match value {
        Value::String(word) => match word.to_ascii_uppercase().as_str() {
            "TRACE" | "VERBOSE" => "TRACE",
            "DEBUG" => "DEBUG",
            "INFO" | "INFORMATION" | "INFORMATIONAL" | "NOTICE" | "LOG" => "INFO",
            "WARN" | "WARNING" => "WARN",
            "ERROR" | "ERR" | "SEVERE" => "ERROR",
            "CRITICAL" | "CRIT" | "FATAL" | "ALERT" | "EMERG" | "EMERGENCY" | "PANIC" => "CRITICAL",
            _ => return Bad,
        },
        Value::Number(number) => match whole(number, raw) {
            Good(0) => return Good(Value::Null),
            Good(number @ 1..=24) => ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"][(number as usize - 1) / 4],
            Good(_) | Bad => return Bad,
            Unknown => return Unknown,
        },
        _ => return Bad,
    };
    Good(found.into())
}

/// The time in µs, and how exactly the oracle knows it.
fn event_time(value: &Value) -> Verdict<(i64, i64)> {
    let (time, tolerance) = match value {
        Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => (time.timestamp_micros(), 0),
            Err(_) => return Bad,
        },
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(number), _) => (micros_of_integer(number), 0),
            (None, Some(number)) if !(-1e-9..=1e19).contains(&number) => return Bad,
            (None, Some(number)) if (-1e-9..1e-9).contains(&number) => return Unknown,
            (None, Some(number)) => match micros_of_float(number) {
                Some(time) => (time, 2),
                None => return Unknown,
            },
            (None, None) => return Unknown,
        },
        _ => return Bad,
    };
    match time {
        _ if tolerance > 0 && ((time - YEAR_2200).abs() < 10_000_000) => Unknown,
        0..YEAR_2200 => Good((time, tolerance)),
        _ => Bad,
    }
}

fn micros_of_integer(number: u64) -> i64 {
    let digits = number.to_string().len();
    let micros = match digits {
        0..=11 => u128::from(number) * 1_000_000,
        12..=14 => u128::from(number) * 1000,
        15..=17 => u128::from(number),
        _ => u128::from(number) / 1000,
    };
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// `None` beside a change of unit.
fn micros_of_float(number: f64) -> Option<i64> {
    if [1e11, 1e14, 1e17].iter().any(|limit| (number / limit - 1.0).abs() < 1e-12) {
        return None;
    }
    let factor = match number {
        _ if number < 1e11 => 1e6,
        _ if number < 1e14 => 1e3,
        _ if number < 1e17 => 1.0,
        _ => 1e-3,
    };
    Some((number * factor) as i64)
}

fn check_row(batch: &RecordBatch, row: usize, cells: &Map<String, Value>) {
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name();
        let expected = cells.get(name).unwrap_or(&Value::Null);
        let found = read_cell(column.as_ref(), row);
        if name == "attributes" {
            let parsed = found.as_str().map_or(Value::Null, |text| serde_json::from_str(text).expect("an object"));
            assert_eq!(&parsed, expected, "`attributes` of {cells:?}");
        } else if let (DataType::Float64, Some(found), Some(expected)) =
            (field.data_type(), found.as_f64(), expected.as_f64())
        {
            // serde_json reads floats quickly, not exactly: its last digit may differ.
            assert!((found - expected).abs() <= expected.abs() * 1e-15, "`{name}` is {found} of {cells:?}");
        } else {
            assert_eq!(&found, expected, "`{name}` of {cells:?}");
        }
    }
}

/// A cell as JSON.
pub fn read_cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).into(),
        other => panic!("no table has a column of {other}"),
    }
}
