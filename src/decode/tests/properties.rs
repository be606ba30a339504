//! Any bytes, valid, nearly valid or garbage: one record is one row as the oracle reads it, or one rejection.

use arrow::array::Array;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::oracle;
use crate::decode::{DecodeLimits, Decoder, Incoming, Table};

/// 2025-12-03T10:00:00Z.
const KAFKA_MS: i64 = 1_764_756_000_000;

fn text() -> impl Strategy<Value = String> {
    let odd =
        select(vec!["", "null", "0", "\u{0}", "\"", "\\", "/", "😀", "ü", "\u{feff}", "\u{7f}", "a\nb\t", "org_1"]);
    let written = prop_oneof![odd.prop_map(String::from), "[a-z_]{0,20}", ".{0,30}"]
        .prop_map(|text| serde_json::to_string(&text).expect("text is JSON"));
    let escapes =
        select(vec![r#""\u0041\/""#, r#""\ud83d\ude00""#, r#""\ud800""#, r#""\u00""#, r#""\u0000""#, r#""\x""#]);
    prop_oneof![8 => written, 1 => escapes.prop_map(String::from)]
}

fn number() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "0",
        "-0",
        "-0.0",
        "200.0",
        "2e2",
        "2.5",
        "1e400",
        "1e-400",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "2147483648",
        "9223372036854775808",
        "1e",
        "NaN",
        "-Infinity",
        "0x10",
    ]);
    prop_oneof![
        odd.prop_map(String::from),
        any::<i32>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        (0..600_i32).prop_map(|number| number.to_string()),
    ]
}

fn timestamp() -> impl Strategy<Value = String> {
    let valid = (0..KAFKA_MS * 1_000_000, 0..10_u32, -1439..1440_i32).prop_map(|(nanos, digits, offset)| {
        let offset = chrono::FixedOffset::east_opt(offset * 60).expect("less than a day");
        let time = chrono::DateTime::from_timestamp_nanos(nanos).with_timezone(&offset);
        let fraction = format!("{:09}", nanos % 1_000_000_000);
        let point = if digits == 0 { "" } else { "." };
        format!("\"{}{point}{}{}\"", time.format("%FT%T"), &fraction[..digits as usize], time.format("%:z"))
    });
    let odd = select(vec![
        "\"2025-02-29T00:00:00Z\"",
        "\"2025-12-03 10:00:00z\"",
        "\"2025-12-03T10:00:00\"",
        "\"2016-12-31T23:59:60Z\"",
        "\"2025-12-03T24:00:00Z\"",
        "\"1969-12-31T23:59:59Z\"",
        "\"2200-01-01T00:00:00Z\"",
        "\"2025-12-03\"",
        "\"2025-12-03T10:00:00.Z\"",
        "\"2025-12-03T10:05:00.000001Z\"",
        "\"1764756000\"",
        "1764756000.123456",
        "1764756000123.5",
        "1764756000123456789",
        "1764756300.5",
        "-1",
        "1e9",
        "99999999999",
        "100000000000",
    ]);
    let scaled =
        (0..KAFKA_MS * 1_000_000, 0..10_u32).prop_map(|(nanos, power)| (nanos / 10_i64.pow(power)).to_string());
    prop_oneof![2 => valid, 1 => odd.prop_map(String::from), 1 => scaled]
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        text(),
        number(),
        timestamp(),
        select(vec!["null", "true", "false", "{}", "[]", " {\n} "]).prop_map(String::from)
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            vec((text(), inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A field with, mostly, a value of its type.
fn member(table: Table) -> impl Strategy<Value = String> {
    let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    let level =
        select(vec!["\"info\"", "\"Warning\"", "17", "0", "25", "\"FATAL\"", "\"loud\"", "9.0"]).prop_map(String::from);
    let known = (select(names), text(), number(), level, timestamp(), value()).prop_flat_map(
        |(name, text, number, level, timestamp, value)| {
            let typed = match name.as_str() {
                "timestamp" => timestamp,
                "level" => level,
                "handled" => "true".to_owned(),
                "attributes" => format!("{{\"extra\":{value},{text}:{number}}}"),
                "status_code" | "duration_ms" | "rows_affected" | "value" => number,
                _ => text,
            };
            (
                Just(format!("\"{name}\"")),
                prop_oneof![19 => Just(typed), 1 => Just(value), 1 => Just("null".to_owned())],
            )
        },
    );
    let escaped = (Just(r#""mod\u0075le""#.to_owned()), text());
    let unknown = (text(), value());
    let space = select(vec!["", "", " ", "\n\t"]);
    (prop_oneof![12 => known, 1 => escaped, 3 => unknown], space)
        .prop_map(|((key, value), space)| format!("{space}{key}{space}:{space}{value}{space}"))
}

fn object(table: Table) -> impl Strategy<Value = Vec<u8>> {
    vec(member(table), 0..7).prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes())
}

/// An object with some bytes put in, taken out or replaced.
fn mutated(table: Table) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), select(br#"{}[]",:\ue0-9."#.to_vec())];
    (object(table), vec((any::<prop::sample::Index>(), byte, 0..3_u8), 1..4)).prop_map(|(mut bytes, changes)| {
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
        bytes
    })
}

fn record(table: Table) -> impl Strategy<Value = Vec<u8>> {
    let garbage =
        prop_oneof![vec(any::<u8>(), 0..60), r#"[\[\]{}",:0-9eE.+\\utrfalsn -]{0,60}"#.prop_map(String::into_bytes)];
    prop_oneof![6 => object(table), 3 => mutated(table), 1 => garbage]
}

fn batch(table: Table) -> impl Strategy<Value = Vec<(Vec<u8>, Option<i64>)>> {
    let kafka = prop_oneof![8 => Just(Some(KAFKA_MS)), 1 => Just(None), 1 => any::<i64>().prop_map(Some)];
    vec((record(table), kafka), 0..20)
}

fn check(table: Table, records: &[(Vec<u8>, Option<i64>)]) {
    let incoming = |(offset, (value, time)): (i64, &'_ (Vec<u8>, Option<i64>))| (offset, value.clone(), *time);
    let records: Vec<_> = (0..).zip(records).map(incoming).collect();
    let records: Vec<_> = records
        .iter()
        .map(|(offset, value, time)| Incoming { value, kafka_timestamp_ms: *time, partition: 3, offset: *offset })
        .collect();
    oracle::check(table, DecodeLimits::default(), &records);
}

fn incoming(value: &[u8], kafka_timestamp_ms: Option<i64>) -> Incoming<'_> {
    Incoming { value, kafka_timestamp_ms, partition: 3, offset: 7 }
}

/// Records of which some come again, so that what was seen before is met again.
fn repeated(table: Table) -> impl Strategy<Value = Vec<(Vec<u8>, Option<i64>)>> {
    (vec(record(table), 1..5), vec(any::<prop::sample::Index>(), 0..16))
        .prop_map(|(records, order)| order.iter().map(|at| (at.get(&records).clone(), Some(KAFKA_MS))).collect())
}

/// A decoder of which only the columns in `needed` are read, beside one of which all are.
fn check_needed(table: Table, needed: u32, records: &[(Vec<u8>, Option<i64>)]) {
    let schema = table.schema();
    let needed = (0..schema.fields().len()).filter(|place| needed & (1 << place) != 0).collect::<Vec<_>>();
    let mut whole = Decoder::new(table, DecodeLimits::default());
    let mut partly = Decoder::new(table, DecodeLimits::default()).with_columns(&needed);
    for (value, time) in records {
        let record = incoming(value, *time);
        assert_eq!(whole.push(&record), partly.push(&record), "{}", String::from_utf8_lossy(value));
    }
    let (whole, partly) = (whole.finish().unwrap(), partly.finish().unwrap());
    assert_eq!((whole.schema(), whole.num_rows()), (partly.schema(), partly.num_rows()));
    for (place, field) in schema.fields().iter().enumerate() {
        if needed.contains(&place) || !field.is_nullable() {
            assert_eq!(whole.column(place), partly.column(place), "{}", field.name());
        } else {
            assert_eq!(partly.column(place).null_count(), partly.num_rows(), "{}", field.name());
        }
    }
}

/// One decoder for all records, beside a fresh one for each.
fn check_fresh(table: Table, records: &[(Vec<u8>, Option<i64>)]) {
    let mut one = Decoder::new(table, DecodeLimits::default());
    let mut rows = Vec::new();
    for (value, time) in records {
        let (mut fresh, record) = (Decoder::new(table, DecodeLimits::default()), incoming(value, *time));
        assert_eq!(one.push(&record), fresh.push(&record), "{}", String::from_utf8_lossy(value));
        rows.push(fresh.finish().unwrap());
    }
    assert_eq!(one.finish().unwrap(), arrow::compute::concat_batches(&table.schema(), &rows).unwrap());
}

proptest! {
    #[test]
    fn every_log_is_a_row_or_a_rejection(records in batch(Table::Logs)) {
        check(Table::Logs, &records);
    }

    #[test]
    fn every_metric_is_a_row_or_a_rejection(records in batch(Table::Metrics)) {
        check(Table::Metrics, &records);
    }

    #[test]
    fn columns_that_nobody_reads_change_no_verdict_and_no_other_column(
        logs in batch(Table::Logs), metrics in batch(Table::Metrics), needed: u32
    ) {
        check_needed(Table::Logs, needed, &logs);
        check_needed(Table::Metrics, needed, &metrics);
    }

    #[test]
    fn a_record_becomes_the_same_whatever_came_before(
        logs in repeated(Table::Logs), metrics in repeated(Table::Metrics)
    ) {
        check_fresh(Table::Logs, &logs);
        check_fresh(Table::Metrics, &metrics);
    }
}
