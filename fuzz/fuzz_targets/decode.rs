//! Any bytes as one record: the decoder must agree with the oracle, and never panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maturion_fuzz::decode::{DecodeLimits, Incoming, Table};
use maturion_fuzz::oracle;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses the table, and whether the record has a Kafka timestamp: 2025-12-03T10:00:00Z.
    let Some((choice, value)) = data.split_first() else { return };
    let table = if choice & 1 == 0 { Table::Logs } else { Table::Metrics };
    let kafka_timestamp_ms = (choice & 2 == 0).then_some(1_764_756_000_000);
    let record = Incoming { value, kafka_timestamp_ms, partition: 0, offset: 0 };
    oracle::check(table, DecodeLimits::default(), &[record]);
});
