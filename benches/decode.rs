//! Rows per second that one core decodes. Run: `cargo bench --bench decode`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};

/// As many as a micro-batch of the consumer.
const ROWS: usize = 8192;
/// 2025-12-03T10:00:00Z.
const START_MS: i64 = 1_764_756_000_000;

/// A web request in about 320 bytes, with two attributes of its own and one unknown field.
fn log(row: usize) -> String {
    let (organisation, route, milli) = (row % 12, row % 40, row % 1000);
    let status = if row.is_multiple_of(50) { 500 } else { 200 };
    format!(
        r#"{{"timestamp":"2025-12-03T10:{:02}:{:02}.{milli:03}Z","organisation_id":"org_{organisation}","module":"threat-analysis","source":"edge","level":"INFO","event":"http_request","status_code":{status},"duration_ms":{}.{},"route":"/api/v1/items/{route}","method":"GET","user_id":"user_{row}","attributes":{{"region":"eu-west-1","cached":false}},"request_id":"r-{row}"}}"#,
        row / 60 % 60,
        row % 60,
        row % 700,
        row % 10,
    )
}

fn metric(row: usize) -> String {
    format!(
        r#"{{"timestamp":{},"organisation_id":"org_{}","module":"threat-analysis","name":"cpu_utilisation","value":0.{:03},"unit":"1","attributes":{{"host":"node-{}"}}}}"#,
        START_MS + row as i64,
        row % 12,
        row % 1000,
        row % 8,
    )
}

fn decode(criterion: &mut Criterion, name: &str, table: Table, record: impl Fn(usize) -> String) {
    let records: Vec<String> = (0..ROWS).map(record).collect();
    let bytes: usize = records.iter().map(String::len).sum();
    let mut group = criterion.benchmark_group(format!("decode/{name} of {} bytes", bytes / ROWS));
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut decoder = Decoder::new(table, DecodeLimits::default());
    group.bench_function("rows", |bencher| {
        bencher.iter(|| {
            for (offset, record) in records.iter().enumerate() {
                let kafka_timestamp_ms = Some(START_MS + 3_600_000);
                let value = record.as_bytes();
                let incoming = Incoming { value, kafka_timestamp_ms, partition: 0, offset: offset as i64 };
                assert!(decoder.push(&incoming).is_ok());
            }
            assert!(black_box(decoder.finish()).is_ok());
        })
    });
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    decode(criterion, "logs", Table::Logs, log);
    decode(criterion, "metrics", Table::Metrics, metric);
}

criterion_group!(all, benches);
criterion_main!(all);
