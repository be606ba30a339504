//! Takes a body apart into its records without changing a byte of them.
//!
//! A body that begins with `[` is one array, whose elements are the records. Every other body is a sequence of JSON
//! values between white space: one object, or NDJSON.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a body has no records.
#[derive(Debug, Error)]
pub enum SplitError {
    #[error("the body is empty; send a JSON object, an array of objects or one object per line")]
    Empty,
    /// The message ends with the line and column.
    #[error("the body is not valid JSON: {0}; nothing was written")]
    Malformed(serde_json::Error),
    #[error("the body has more than {max} records; send it in parts (nothing was written)")]
    TooManyRecords { max: usize },
    #[error("record {index} has {bytes} bytes, the limit is {max} (nothing was written)")]
    RecordTooLarge { index: usize, bytes: usize, max: usize },
}

/// The records of a body in their order, `records_max` at most and each of `bytes_max` bytes at most.
pub fn split(body: &[u8], records_max: usize, bytes_max: usize) -> Result<Vec<&RawValue>, SplitError> {
    let records = match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(SplitError::Empty),
        Some(b'[') => array(body, records_max)?,
        Some(_) => sequence(body, records_max)?,
    };
    match records.iter().position(|record| record.get().len() > bytes_max) {
        Some(at) => Err(SplitError::RecordTooLarge { index: at + 1, bytes: records[at].get().len(), max: bytes_max }),
        None => Ok(records),
    }
}

fn sequence(body: &[u8], max: usize) -> Result<Vec<&RawValue>, SplitError> {
    let mut records = Vec::new();
    for record in Deserializer::from_slice(body).into_iter::<&RawValue>() {
        if records.len() == max {
            return Err(SplitError::TooManyRecords { max });
        }
        records.push(record.map_err(SplitError::Malformed)?);
    }
    Ok(records)
}

fn array(body: &[u8], max: usize) -> Result<Vec<&RawValue>, SplitError> {
    let mut records = Vec::new();
    let mut source = Deserializer::from_slice(body);
    let read = source.deserialize_seq(Elements { records: &mut records, max }).and_then(|()| source.end());
    match read {
        Ok(()) => Ok(records),
        Err(_) if records.len() > max => Err(SplitError::TooManyRecords { max }),
        Err(error) => Err(SplitError::Malformed(error)),
    }
}

/// Collects an array's elements and stops one after the limit.
struct Elements<'a, 'de> {
    records: &'a mut Vec<&'de RawValue>,
    max: usize,
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(record) = elements.next_element()? {
            self.records.push(record);
            if self.records.len() > self.max {
                return Err(A::Error::custom("too many records"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(body: &str) -> Vec<&str> {
        split(body.as_bytes(), 10, 100).unwrap().into_iter().map(RawValue::get).collect()
    }

    fn refusal(body: &str) -> String {
        split(body.as_bytes(), 3, 10).unwrap_err().to_string()
    }

    #[test]
    fn an_object_an_array_and_lines_are_told_apart() {
        assert_eq!(records(" {\"a\": 1}\n"), ["{\"a\": 1}"]);
        assert_eq!(records("{\n \"a\": 1\n}"), ["{\n \"a\": 1\n}"]);
        assert_eq!(records("\n[ {\"a\":1} , {} ]"), ["{\"a\":1}", "{}"]);
        assert_eq!(records("{\"a\":1}\r\n\r\n{\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(records("[]"), [""; 0]);
    }

    #[test]
    fn what_is_json_but_no_record_is_kept_for_the_dead_letters() {
        assert_eq!(records("[1, null, \"x\", [2]]"), ["1", "null", "\"x\"", "[2]"]);
        assert_eq!(records("{\"n\": 1e999, \"n\": 1.10}"), ["{\"n\": 1e999, \"n\": 1.10}"]);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        assert!(refusal("{}\n{\"a\":}").contains("line 2 column 6"), "{}", refusal("{}\n{\"a\":}"));
        assert!(refusal("[{},\n{]").contains("line 2 column 2"), "{}", refusal("[{},\n{]"));
        for body in ["[1", "[1] 2", "[1,]", "hello", "{\"a\":\"\u{1}\"}", "\u{feff}{}"] {
            assert!(refusal(body).contains("not valid JSON"), "{body}");
        }
        assert!(split(b"{\"a\":\"\xff\"}", 3, 10).is_err());
        assert!(refusal(" \n").contains("empty"));
    }

    #[test]
    fn limits_are_exact() {
        assert!(split(b"[1,2,3]", 3, 10).is_ok() && split(b"1 2 3", 3, 10).is_ok());
        assert!(refusal("[1,2,3,4]").contains("more than 3 records"));
        assert!(refusal("1 2 3 4").contains("more than 3 records"));
        assert!(split(b"1234567890", 3, 10).is_ok());
        assert!(refusal("[1,12345678901]").contains("record 2 has 11 bytes"));
    }

    #[test]
    fn a_deep_body_does_not_overflow_the_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(split(deep.as_bytes(), 10, 100).is_err());
        let closed = format!("{}{}", deep, "]".repeat(1_000_000));
        assert!(split(closed.as_bytes(), 10, 10_000_000).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_records_or_refused(body: Vec<u8>) {
            let _ = split(&body, 10, 100);
        }

        #[test]
        fn values_survive_in_either_layout(values in prop::collection::vec("\\PC{0,8}", 1..9)) {
            let texts: Vec<String> = values.iter().map(|value| serde_json::json!({ "m": value }).to_string()).collect();
            let (lines, array) = (texts.join("\n"), format!("[{}]", texts.join(",")));
            prop_assert_eq!(records(&lines), texts.clone());
            prop_assert_eq!(records(&array), texts);
        }
    }
}
