//! Every closed window against plain DataFusion: the same statement as a batch over the same records.
//!
//! Records are generated (disorder within the lateness, several partitions, nulls, odd strings, empty windows, few and
//! many groups); proptest prints the input that fails. Counts, keys and texts must be equal, floats within 1e-9.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::log::Log;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::model::schema::timestamp_type;
use maturion::window::functions::window_functions;
use maturion::window::quantile;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::flow::{Flow, pipeline};
use crate::kafka::unique_prefix;
use crate::subject::connect;

/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;
const SECOND: i64 = 1_000_000;
const LATENESS: Duration = Duration::from_secs(10);
const PARTITIONS: i32 = 3;

/// One statement per shape: keys, filters, expressions, HAVING, no keys, overlapping windows.
pub const STATEMENTS: [(&str, &[&str], &str); 5] = [
    (
        "by_tenant",
        &["organisation_id", "module"],
        "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, organisation_id, module, count(*) AS requests,
                sum(duration_ms) AS total_ms, avg(duration_ms) AS mean_ms, min(duration_ms) AS fastest,
                max(message) AS last_words, stddev(duration_ms) AS spread,
                count(*) FILTER (WHERE status_code >= 500) AS errors,
                sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) * 100.0 / count(*) AS error_percent
         FROM logs WHERE event = 'http_request' GROUP BY 1, 2, 3",
    ),
    (
        "by_route",
        &["place"],
        "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, lower(route) AS place, count(*) AS requests,
                approx_distinct(user_id) AS users
         FROM logs WHERE route IS NOT NULL GROUP BY tumble(timestamp, INTERVAL '10 seconds'), lower(route) HAVING count(*) > 1",
    ),
    (
        "everything",
        &[],
        "SELECT tumble(timestamp, INTERVAL '7 seconds') AS window_start, count(*) AS records, bool_or(handled) AS handled,
                bit_xor(status_code) AS mixed, corr(status_code, duration_ms) AS related
         FROM logs GROUP BY 1",
    ),
    (
        "by_status",
        &["status_code", "handled"],
        "SELECT count(*) AS records, handled, tumble(timestamp, INTERVAL '1 minute') AS window_start, status_code
         FROM (SELECT timestamp, handled, status_code FROM logs WHERE level <> 'DEBUG') AS loud GROUP BY 3, 2, 4",
    ),
    (
        "hopping",
        &["module"],
        "SELECT hop(timestamp, INTERVAL '10 seconds', INTERVAL '35 seconds') AS window_start, module, count(*) AS requests,
                avg(duration_ms) AS mean_ms FROM logs GROUP BY 1, 2",
    ),
];

const HOP: &str = "hop(timestamp, INTERVAL '10 seconds', INTERVAL '35 seconds')";
const HOP_SLIDE: i64 = 10 * SECOND;
const HOP_SIZE: i64 = 35 * SECOND;

/// A generated record: the partition it goes to and its fields.
#[derive(Clone, Debug)]
struct Sample {
    partition: i32,
    time: i64,
    fields: Map<String, Value>,
}

impl Sample {
    fn bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.insert("timestamp".to_owned(), json!(self.time));
        serde_json::to_vec(&fields).expect("JSON")
    }
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => "[a-c]".prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!("")),
        1 => any::<String>().prop_map(Value::from),
    ]
}

fn fields(groups: u32) -> impl Strategy<Value = Map<String, Value>> {
    let status = prop_oneof![8 => Just(json!(200)), 2 => (500..505).prop_map(Value::from), 1 => Just(Value::Null)];
    let duration =
        prop_oneof![6 => (0.0..10_000.0f64).prop_map(Value::from), 1 => Just(Value::Null), 1 => Just(json!(0))];
    let level = prop_oneof![Just("INFO"), Just("debug"), Just("Error")];
    let event = prop_oneof![4 => Just("http_request"), 1 => Just("export")];
    let handled = prop_oneof![Just(json!(true)), Just(json!(false)), Just(Value::Null)];
    (text(), text(), status, duration, level, event, handled, 0..groups, text()).prop_map(
        |(organisation, module, status, duration, level, event, handled, route, message)| {
            let record = json!({
                "organisation_id": organisation, "module": module, "status_code": status, "duration_ms": duration,
                "level": level, "event": event, "handled": handled, "route": format!("/Route/{route}"),
                "user_id": format!("u{}", route % 7), "message": message,
            });
            match record {
                Value::Object(fields) => fields,
                _ => Map::new(),
            }
        },
    )
}

/// Records in the order of arrival: event time goes on with gaps, each record up to nine seconds behind it.
fn samples(records: usize, groups: u32) -> impl Strategy<Value = Vec<Sample>> {
    let step = prop_oneof![20 => 0..400_000i64, 1 => Just(40 * SECOND)];
    let one = (0..PARTITIONS, step, 0..9 * SECOND, fields(groups));
    prop::collection::vec(one, 1..records).prop_map(|drawn| {
        let mut now = START;
        let sample = |(partition, step, behind, fields)| {
            now += step;
            Sample { partition, time: now - behind, fields }
        };
        drawn.into_iter().map(sample).collect()
    })
}

/// Runs the statements as a stream and as a batch, and compares every row of every window.
fn check(log: Arc<dyn Log>, prefix: &str, samples: &[Sample]) {
    let pipelines = STATEMENTS.iter().map(|(name, series, sql)| pipeline(name, sql, series, LATENESS)).collect();
    let mut flow = Flow::new(log, prefix, PARTITIONS, pipelines);
    let topic = flow.runtime.topics.logs();
    let records = samples.iter().map(|sample| (sample.partition, sample.bytes())).collect::<Vec<_>>();
    let half = records.len() / 2;
    let part =
        |from: usize, to: usize| records[from..to].iter().map(|(partition, value)| (*partition, value.as_slice()));
    flow.append(&topic, part(0, half));
    flow.start();
    flow.append(&topic, part(half, records.len()));
    // One record per partition from far later closes everything before it.
    let end = samples.iter().map(|sample| sample.time).max().unwrap_or(START) + 600 * SECOND;
    let closer = serde_json::to_vec(&json!({ "timestamp": end, "event": "closer", "level": "DEBUG" })).expect("JSON");
    flow.append(&topic, (0..PARTITIONS).map(|partition| (partition, closer.as_slice())));
    flow.wait_until_closed(end - 120 * SECOND);
    flow.stop();
    let streamed = flow.read(&flow.runtime.topics.windows()).iter().map(|output| output.json()).collect::<Vec<_>>();
    let records = samples.iter().map(Sample::bytes).collect::<Vec<_>>();
    for (name, series, sql) in STATEMENTS {
        compare(&streamed, &records, name, series, sql);
    }
}

/// The streamed rows of a pipeline against its statement over all records: the same windows and series, each once, and
/// the same values. Returns how many rows there are.
pub fn compare<S: AsRef<str>>(streamed: &[Value], records: &[Vec<u8>], name: &str, series: &[S], sql: &str) -> usize {
    let of_pipeline = streamed.iter().filter(|row| row["pipeline"] == name);
    let streamed = keyed(of_pipeline.map(|row| row.as_object().expect("an object").clone()).collect(), series);
    let batch = keyed(batch(records, sql), series);
    assert_eq!(streamed.keys().collect::<Vec<_>>(), batch.keys().collect::<Vec<_>>(), "{name}: windows and series");
    for (key, expected) in &batch {
        for (column, expected) in expected {
            let streamed = &streamed[key][column];
            assert!(is_same(expected, streamed), "{name} {key} {column}: batch {expected}, stream {streamed}");
        }
    }
    batch.len()
}

/// Rows by window and series; two rows of one key would be a window emitted twice.
fn keyed<S: AsRef<str>>(rows: Vec<Map<String, Value>>, series: &[S]) -> BTreeMap<String, Map<String, Value>> {
    let mut keyed = BTreeMap::new();
    for row in rows {
        let key =
            std::iter::once("window_start").chain(series.iter().map(AsRef::as_ref)).map(|name| row[name].to_string());
        let key = key.collect::<Vec<_>>().join(" ");
        assert!(keyed.insert(key.clone(), row).is_none(), "{key} twice");
    }
    keyed
}

fn is_same(expected: &Value, streamed: &Value) -> bool {
    match (expected.as_f64(), streamed.as_f64()) {
        (Some(expected), Some(streamed)) => (expected - streamed).abs() <= 1e-9 * expected.abs().max(1.0),
        _ => expected == streamed,
    }
}

fn batch(records: &[Vec<u8>], sql: &str) -> Vec<Map<String, Value>> {
    let limits = DecodeLimits { ahead_max: i64::MAX, ..DecodeLimits::default() };
    let mut decoder = Decoder::new(Table::Logs, limits);
    for value in records {
        let record = Incoming { value, kafka_timestamp_ms: None, partition: 0, offset: 0 };
        let text = || String::from_utf8_lossy(value);
        decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}: {}", text()));
    }
    let mut records = decoder.finish().expect("a batch");
    if sql.contains(HOP) {
        records = spread_over_hops(&records);
    }
    let context = SessionContext::new();
    quantile::register(&context).expect("registered");
    for function in window_functions() {
        context.register_udf(function.as_ref().clone());
    }
    let table = MemTable::try_new(records.schema(), vec![vec![records]]).expect("a table");
    context.register_table("logs", Arc::new(table)).expect("registered");
    let sql = sql.replace(HOP, "hop_start");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let rows = runtime.block_on(async { context.sql(&sql).await?.collect().await }).expect("the batch runs");
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write_batches(&rows.iter().collect::<Vec<_>>()).expect("written");
    writer.finish().expect("written");
    let lines = writer.into_inner();
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// Each row once for each window that contains it, the window's start beside it: what `hop` means, the long way.
fn spread_over_hops(records: &RecordBatch) -> RecordBatch {
    let times = records.column_by_name("timestamp").expect("there").as_primitive::<TimestampMicrosecondType>().clone();
    let mut rows = Vec::new();
    let mut starts = Vec::new();
    for (row, time) in times.values().iter().enumerate() {
        let mut start = time.div_euclid(HOP_SLIDE) * HOP_SLIDE;
        while start + HOP_SIZE > *time {
            rows.push(row as u32);
            starts.push(start);
            start -= HOP_SLIDE;
        }
    }
    let spread = arrow::compute::take_record_batch(records, &arrow::array::UInt32Array::from(rows)).expect("taken");
    let mut fields = spread.schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    fields.push(Field::new("hop_start", timestamp_type(), false));
    let mut columns = spread.columns().to_vec();
    let starts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(starts).with_data_type(timestamp_type()));
    assert!(matches!(starts.data_type(), DataType::Timestamp(_, _)));
    columns.push(starts);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
}

fn embedded() -> Arc<dyn Log> {
    Arc::new(EmbeddedLog::new(EmbeddedSettings::default()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_in_process_equal_the_batch(samples in samples(400, 5)) {
        check(embedded(), "", &samples);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn ten_thousand_groups_in_process_equal_the_batch(samples in samples(12_000, 10_000)) {
        check(embedded(), "", &samples);
    }
}

#[test]
fn windows_through_kafka_equal_the_batch() {
    let kafka = crate::kafka_or_skip!();
    let config =
        ProptestConfig { cases: 3, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&samples(2_000, 50), |samples| {
        check(Arc::new(connect(&kafka.brokers, &[]).expect("Kafka")), &unique_prefix(), &samples);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
