//! Peak memory with 100,000 series in two open one-minute windows of the latency pipeline, 50 values in each.
//!
//! `cargo bench --bench memory` runs both stages in one process, in the order of arrival, without a log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail loudly"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::sync::Arc;
use std::time::Instant;

use kafka::{cost, shipped};
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::window::aggregator::Aggregator;
use maturion::window::open::OpenWindows;
use maturion::window::plan::WindowPlan;

const SERIES: usize = 100_000;
const VALUES: usize = 50;
const MINUTE_MS: i64 = 60_000;
/// 2025-12-03T10:00:00Z.
const START_MS: i64 = 1_764_756_000_000;
/// Rows of one transaction of stage one.
const TRANSACTION: usize = 50_000;

fn main() {
    let pipeline = shipped(&["api_latency"]).remove(0);
    let plan = Arc::new(WindowPlan::new(&pipeline, None).unwrap_or_else(|error| panic!("{error}")));
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    let mut aggregator = Aggregator::new(&plan).expect("an aggregator");
    let mut windows = OpenWindows::new(&plan, pipeline.lateness, None);
    let started = Instant::now();
    let mut offset = 0;
    for window in 0..2 {
        for row in 0..SERIES * VALUES {
            let (series, nth) = (row % SERIES, row / SERIES);
            let value = format!(
                r#"{{"timestamp":{},"organisation_id":"org_{}","module":"module-{}","event":"http_request","duration_ms":{}}}"#,
                START_MS + window * MINUTE_MS + (nth as i64 * MINUTE_MS / VALUES as i64),
                series / 10,
                series % 10,
                // Spread over three decades, so that no two values of a series share a bucket by construction.
                10.0 * 1.15_f64.powi(nth as i32) + series as f64 / SERIES as f64,
            );
            let record = Incoming { value: value.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset: 0 };
            decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
            if decoder.len() == TRANSACTION {
                aggregator.push(&decoder.finish().expect("a batch")).expect("aggregated");
                let partial = aggregator.finish().expect("states").expect("rows");
                windows.merge(offset, &partial).expect("merged");
                offset += 1;
            }
        }
    }
    let (cpu, peak) = cost();
    println!(
        "{SERIES} series, 2 windows, {VALUES} values each: {peak} MiB peak, {cpu:.1} s of processor, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let closing = Instant::now();
    let closed = windows.close_next(i64::MAX / 2).expect("closed").expect("a window");
    println!(
        "closing a window of {} series: {:.2} s; {} MiB peak",
        closed.rows.num_rows(),
        closing.elapsed().as_secs_f64(),
        cost().1
    );
    assert_eq!(closed.rows.num_rows(), SERIES);
}
