//! One line for each trap.

use serde_json::{Value, json};

use super::oracle::read_cell;
use crate::decode::{DecodeLimits, Decoder, Incoming, Table};

/// 2025-12-03T10:00:00Z.
const KAFKA_MS: i64 = 1_764_756_000_000;

/// The row's non-null cells without the place in Kafka, or the reason; the batch then stays empty.
fn decode(table: Table, value: impl AsRef<[u8]>, kafka_timestamp_ms: Option<i64>) -> Result<Value, String> {
    let mut decoder = Decoder::new(table, DecodeLimits::default());
    let record = Incoming { value: value.as_ref(), kafka_timestamp_ms, partition: 3, offset: 7 };
    let result = decoder.push(&record).map_err(|reason| reason.to_string());
    assert_eq!(decoder.len(), usize::from(result.is_ok()));
    let batch = decoder.finish().unwrap();
    let time = result?;
    let schema = table.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    let mut row: serde_json::Map<String, Value> = cells
        .map(|(field, column)| (field.name().clone(), read_cell(column, 0)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    assert_eq!((row.remove("kafka_partition"), row.remove("kafka_offset")), (Some(3.into()), Some(7.into())));
    assert_eq!(row.get("timestamp"), Some(&time.into()));
    Ok(Value::Object(row))
}

/// A log's cells but for the event time, which is Kafka's.
#[track_caller]
fn row(value: &str, expected: Value) {
    let mut row = decode(Table::Logs, value, Some(KAFKA_MS)).unwrap();
    assert_eq!(row.as_object_mut().unwrap().remove("timestamp"), Some((KAFKA_MS * 1000).into()));
    assert_eq!(row, expected);
}

#[track_caller]
fn rejected(value: impl AsRef<[u8]>, reason: &str) {
    assert_eq!(decode(Table::Logs, value, Some(KAFKA_MS)).unwrap_err(), reason);
}

#[track_caller]
fn time(timestamp: &str, expected_us: i64) {
    let row = decode(Table::Logs, format!(r#"{{"timestamp":{timestamp}}}"#), Some(KAFKA_MS)).unwrap();
    assert_eq!(row, json!({"timestamp": expected_us}));
}

#[track_caller]
fn bad_time(timestamp: &str, reason: &str) {
    rejected(format!(r#"{{"timestamp":{timestamp}}}"#), reason);
}

#[test]
fn every_field_of_a_log_arrives() {
    let log = json!({
        "organisation_id": "org_1", "module": "threat-analysis", "source": "edge", "level": "ERROR",
        "event": "http_request", "message": "longer than twelve bytes", "status_code": 500, "duration_ms": 12.5,
        "route": "/api/v1/items", "method": "GET", "user_id": "u1", "client_ip": "10.0.0.1", "trace_id": "t",
        "exception_type": "E", "handled": false, "operation": "insert", "rows_affected": 9_007_199_254_740_993_i64,
    });
    row(&log.to_string(), log);
}

#[test]
fn every_field_of_a_metric_arrives() {
    let metric =
        json!({"timestamp": 5, "organisation_id": "o", "module": "m", "name": "cpu", "value": 0.5, "unit": "1"});
    let mut expected = metric.clone();
    expected["timestamp"] = 5_000_000.into();
    assert_eq!(decode(Table::Metrics, metric.to_string(), None), Ok(expected));
}

#[test]
fn values_that_are_not_objects_are_rejected() {
    rejected("", "empty value");
    rejected(" \n", "empty value");
    rejected("[{}]", "not a JSON object");
    rejected("null", "not a JSON object");
    rejected("yesterday", "not a JSON object");
    rejected(b"{\"message\":\"\xff\"}", "not UTF-8 at byte 12");
    rejected(vec![b' '; 1024 * 1024 + 1], "1048577 bytes, more than the limit of 1048576");
}

#[test]
fn syntax_errors_tell_their_position() {
    rejected("{", "not JSON: the text ends in the middle at byte 1");
    rejected(r#"{"a""#, "not JSON: the text ends in the middle at byte 4");
    rejected(r#"{"a" 1}"#, "not JSON: expected `:` at byte 5");
    rejected(r#"{"a":1,}"#, "not JSON: expected a key in quotes at byte 7");
    rejected(r#"{,"a":1}"#, "not JSON: expected a key in quotes at byte 1");
    rejected(r#"{"a":1 "b":2}"#, "not JSON: expected `,` or `}` at byte 7");
    rejected(r#"{"a":[1}"#, "not JSON: expected `,` or a closing bracket at byte 7");
    rejected(r#"{"a":[1,]}"#, "not JSON: expected a value at byte 8");
    rejected(r#"{"a":01}"#, "not JSON: expected `,` or `}` at byte 6");
    rejected(r#"{"a":NaN}"#, "not JSON: expected a value at byte 5");
    rejected(r#"{"a":1.}"#, "not JSON: expected a digit at byte 7");
    rejected(r#"{"a":tru}"#, "not JSON: expected a value at byte 5");
    rejected("{} {}", "not JSON: unexpected text after the object at byte 3");
    rejected("{\"a\":\"b\nc\"}", "not JSON: unescaped control character at byte 7");
    rejected(r#"{"a":"\x"}"#, "not JSON: invalid escape at byte 6");
}

#[test]
fn half_a_surrogate_pair_is_no_text() {
    rejected(r#"{"message":"\ud83d"}"#, "not JSON: invalid escape at byte 12");
    rejected(r#"{"unknown":"\ude00\ud83d"}"#, "not JSON: invalid escape at byte 12");
    rejected(r#"{"unknown":["\ud83d\u0041"]}"#, "not JSON: invalid escape at byte 13");
    row(r#"{"message":"\ud83d\ude00"}"#, json!({"message": "😀"}));
}

#[test]
fn escapes_and_nul_are_text() {
    row(r#"{"message":"\"\\\/\b\f\n\r\t\u0000\u00fC"}"#, json!({"message": "\"\\/\u{8}\u{c}\n\r\t\0ü"}));
    row(r#"{"mod\u0075le":"m","l\u0065vel":"\u0069nfo"}"#, json!({"module": "m", "level": "INFO"}));
}

#[test]
fn a_byte_order_mark_and_white_space_around_the_object_are_skipped() {
    row("\u{feff} \r\n{ }\n", json!({}));
}

#[test]
fn deep_nesting_is_kept_up_to_the_limit_and_cannot_overflow_the_stack() {
    let nested = |depth| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    row(&nested(126), json!({"attributes": nested(126)}));
    rejected(nested(127), "not JSON: nested deeper than 127 levels at byte 131");
    rejected(nested(500_000), "not JSON: nested deeper than 127 levels at byte 131");
    rejected(r#"{"a":"#.repeat(100_000), "not JSON: nested deeper than 127 levels at byte 635");
}

#[test]
fn unknown_fields_are_kept_as_written() {
    row(r#"{"a": 1e400, "b":null,"module":"m"}"#, json!({"module": "m", "attributes": r#"{"a": 1e400,"b":null}"#}));
    row(r#"{"":{"x" : [1]}}"#, json!({"attributes": r#"{"":{"x" : [1]}}"#}));
}

#[test]
fn the_place_in_kafka_cannot_be_set_by_a_producer() {
    row(r#"{"kafka_offset":1}"#, json!({"attributes": r#"{"kafka_offset":1}"#}));
}

#[test]
fn attributes_and_unknown_fields_are_one_object() {
    row(r#"{"attributes":{"a":1},"b":2}"#, json!({"attributes": r#"{"b":2,"a":1}"#}));
    row(r#"{"b":2,"attributes":{ }}"#, json!({"attributes": r#"{"b":2}"#}));
    row(r#"{"attributes":{ "a" : 1 }}"#, json!({"attributes": r#"{ "a" : 1 }"#}));
    row(r#"{"attributes":{}}"#, json!({"attributes": "{}"}));
    row(r#"{"attributes":null}"#, json!({}));
    rejected(r#"{"attributes":[1]}"#, "`attributes` must be an object, found an array");
    rejected(r#"{"attributes":"{}"}"#, "`attributes` must be an object, found text");
}

#[test]
fn a_key_in_both_is_kept_twice_and_the_records_own_attribute_comes_last() {
    row(r#"{"attributes":{"a":1},"a":2}"#, json!({"attributes": r#"{"a":2,"a":1}"#}));
}

#[test]
fn a_known_field_that_occurs_twice_is_ambiguous() {
    rejected(r#"{"level":"INFO","level":"ERROR"}"#, "`level` occurs twice");
    rejected(r#"{"module":null,"mod\u0075le":"m"}"#, "`module` occurs twice");
    rejected(r#"{"attributes":{},"attributes":{}}"#, "`attributes` occurs twice");
}

#[test]
fn null_is_absent() {
    row(r#"{"timestamp":null,"module":null,"status_code":null,"handled":null,"level":null}"#, json!({}));
}

#[test]
fn a_wrong_type_in_a_known_field_is_rejected() {
    rejected(r#"{"status_code":"500"}"#, "`status_code` must be a number, found text");
    rejected(r#"{"duration_ms":"1"}"#, "`duration_ms` must be a number, found text");
    rejected(r#"{"user_id":42}"#, "`user_id` must be text, found a number");
    rejected(r#"{"handled":1}"#, "`handled` must be true or false, found a number");
    rejected(r#"{"message":{}}"#, "`message` must be text, found an object");
    rejected(r#"{"level":true}"#, "`level` must be text or a severity number, found true or false");
}

#[test]
fn integers_may_be_written_as_floats_but_must_fit() {
    row(r#"{"status_code":200.0,"rows_affected":12e3}"#, json!({"status_code": 200, "rows_affected": 12000}));
    row(
        r#"{"status_code":-0,"rows_affected":9223372036854775807.00}"#,
        json!({"status_code": 0, "rows_affected": i64::MAX}),
    );
    rejected(r#"{"status_code":200.5}"#, "`status_code` must be a whole number, found 200.5");
    rejected(r#"{"status_code":1e-400}"#, "`status_code` must be a whole number, found 1e-400");
    rejected(r#"{"status_code":2147483648}"#, "`status_code` is out of range: 2147483648");
    rejected(r#"{"rows_affected":9223372036854775808}"#, "`rows_affected` is out of range: 9223372036854775808");
    rejected(r#"{"rows_affected":1e99999999999}"#, "`rows_affected` is out of range: 1e99999999999");
    rejected(r#"{"duration_ms":1e400}"#, "`duration_ms` is out of range: 1e400");
}

#[test]
fn reasons_quote_only_a_beginning() {
    let digits = "9".repeat(100_000);
    rejected(
        format!(r#"{{"rows_affected":{digits}}}"#),
        &format!("`rows_affected` is out of range: {}…", "9".repeat(40)),
    );
    rejected(format!(r#"{{"level":"{digits}"}}"#), &format!("`level` is no known level: \"{}\"…", "9".repeat(40)));
}

#[test]
fn levels_become_the_six() {
    let level = |value: &str, level: &str| row(&format!(r#"{{"level":{value}}}"#), json!({"level": level}));
    for known in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"] {
        level(&format!("{known:?}"), known);
        level(&format!("{:?}", known.to_lowercase()), known);
    }
    level(r#""Warning""#, "WARN");
    level(r#""fatal""#, "CRITICAL");
    level("1", "TRACE");
    level("9.0", "INFO");
    level("17", "ERROR");
    level("24", "CRITICAL");
    row(r#"{"level":0}"#, json!({}));
    rejected(r#"{"level":25}"#, "`level` is no known level: 25");
    rejected(r#"{"level":-1}"#, "`level` is no known level: -1");
    rejected(r#"{"level":"17"}"#, r#"`level` is no known level: "17""#);
    rejected(r#"{"level":""}"#, r#"`level` is no known level: """#);
}

#[test]
fn a_timestamp_in_text_is_rfc_3339() {
    time(r#""2025-12-03T10:00:00Z""#, 1_764_756_000_000_000);
    time(r#""2025-12-03T12:30:00.5+02:30""#, 1_764_756_000_500_000);
    time(r#""2025-12-03t05:00:00.123456789-05:00""#, 1_764_756_000_123_456);
    time(r#""2016-12-31T23:59:60.25Z""#, 1_483_228_800_250_000);
    time(r#""2024-02-29 00:00:00z""#, 1_709_164_800_000_000);
    for unreadable in
        ["yesterday", "", "2025-12-03", "2025-12-03T10:00:00", "2025-02-29T10:00:00Z", "2025-12-03T24:00:00Z"]
    {
        bad_time(&format!("{unreadable:?}"), &format!("`timestamp` cannot be read: {unreadable:?}"));
    }
    bad_time(r#""1764756000""#, r#"`timestamp` cannot be read: "1764756000""#);
    bad_time("true", "`timestamp` must be RFC 3339 text or a number, found true or false");
}

#[test]
fn a_timestamp_in_numbers_is_taken_by_magnitude_exactly() {
    time("1764756000", 1_764_756_000_000_000);
    time("1764756000.1234567", 1_764_756_000_123_456);
    time("1764756000123", 1_764_756_000_123_000);
    time("1764756000123456", 1_764_756_000_123_456);
    time("1764756000123456789", 1_764_756_000_123_456);
    time("1.764756e9", 1_764_756_000_000_000);
    time("0", 0);
}

#[test]
fn an_absurd_timestamp_is_rejected() {
    bad_time("-1", "`timestamp` is not between 1970 and 2199: -1");
    bad_time("1e400", "`timestamp` is not between 1970 and 2199: 1e400");
    bad_time("99999999999", "`timestamp` is not between 1970 and 2199: 99999999999");
    bad_time(r#""1969-12-31T23:59:59Z""#, r#"`timestamp` is not between 1970 and 2199: "1969-12-31T23:59:59Z""#);
    bad_time(r#""0000-01-01T00:00:00Z""#, r#"`timestamp` is not between 1970 and 2199: "0000-01-01T00:00:00Z""#);
}

#[test]
fn a_timestamp_far_ahead_of_kafkas_is_rejected() {
    time(r#""2025-12-03T10:05:00Z""#, 1_764_756_300_000_000);
    bad_time(
        r#""2025-12-03T12:03:00Z""#,
        "`timestamp` is 2 h 3 min ahead of the record's Kafka timestamp (limit 5 min)",
    );
}

#[test]
fn without_a_timestamp_kafkas_is_taken() {
    let reason = "no `timestamp`, and the record has no Kafka timestamp either";
    assert_eq!(decode(Table::Logs, "{}", Some(1)), Ok(json!({"timestamp": 1000})));
    assert_eq!(decode(Table::Logs, r#"{"timestamp":null}"#, None), Err(reason.into()));
    assert_eq!(decode(Table::Logs, "{}", Some(-1)), Err(reason.into()));
    assert_eq!(decode(Table::Logs, "{}", Some(i64::MAX)), Err(reason.into()));
}

#[test]
fn a_rejected_record_leaves_nothing_behind() {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    let mut push = |value: &str| {
        let record = Incoming { value: value.as_bytes(), kafka_timestamp_ms: Some(0), partition: 0, offset: 0 };
        decoder.push(&record).is_ok()
    };
    assert!(push(r#"{"module":"a"}"#));
    assert!(!push(r#"{"module":"b","unknown":1,"status_code":"x"}"#));
    assert!(push(r#"{"message":"c"}"#));
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), 2);
    assert!(
        batch.column_by_name("attributes").unwrap().is_null(1) && batch.column_by_name("module").unwrap().is_null(1)
    );
    assert_eq!(decoder.finish().unwrap().num_rows(), 0);
}
