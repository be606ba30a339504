//! Both stages of a window on one core: partial aggregation, merging, closing. Run: `cargo bench --bench window`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::model::pipeline::{Limits, Pipeline, Source};
use maturion::window::aggregator::Aggregator;
use maturion::window::clock::{Heartbeat, SourceClock};
use maturion::window::open::OpenWindows;
use maturion::window::plan::WindowPlan;

const ROWS: usize = 8_192;
/// 2025-12-03T10:00:00Z.
const START_MS: i64 = 1_764_756_000_000;

const ERRORS: &str =
    "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module, count(*) AS requests,
    sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors, avg(duration_ms) AS mean
    FROM logs WHERE event = 'http_request' GROUP BY 1, 2, 3";
const LATENCY: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, organisation_id, module,
    quantile(duration_ms, 0.5) AS p50, quantile(duration_ms, 0.95) AS p95, quantile(duration_ms, 0.99) AS p99
    FROM logs GROUP BY 1, 2, 3";
const HOP: &str =
    "SELECT hop(timestamp, INTERVAL '10 seconds', INTERVAL '1 hour') AS window_start, organisation_id, module,
    count(*) AS requests FROM logs GROUP BY 1, 2, 3";

fn plan(sql: &str) -> Arc<WindowPlan> {
    let pipeline = Pipeline {
        name: "bench".to_owned(),
        source: Source::Logs,
        sql: sql.to_owned(),
        sql_file: "bench.sql".to_owned(),
        series: vec!["organisation_id".to_owned(), "module".to_owned()],
        lateness: 0,
        limits: Limits::default(),
        rules: Vec::new(),
    };
    match WindowPlan::new(&pipeline, None) {
        Ok(plan) => Arc::new(plan),
        Err(error) => unreachable!("the benchmark's statements are good: {error}"),
    }
}

/// Logs of this many series, one every 10 ms of event time from `seconds` on.
fn logs(series: usize, seconds: usize) -> RecordBatch {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    for row in 0..ROWS.max(series) {
        let value = format!(
            r#"{{"timestamp":{},"organisation_id":"org_{}","module":"module-{}","event":"http_request","status_code":{},"duration_ms":{}}}"#,
            START_MS + seconds as i64 * 1_000 + (row % 900) as i64 * 10,
            row % series / 10,
            row % 10,
            if row % 50 == 0 { 500 } else { 200 },
            20 + row % 300,
        );
        let record = Incoming { value: value.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset: row as i64 };
        assert!(decoder.push(&record).is_ok());
    }
    decoder.finish().unwrap_or_else(|error| unreachable!("{error}"))
}

fn partial(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("partial/100 series");
    group.throughput(Throughput::Elements(ROWS as u64));
    let batch = logs(100, 0);
    for (name, sql) in [("count, sum, avg", ERRORS), ("three percentiles", LATENCY)] {
        let mut aggregator = Aggregator::new(&plan(sql)).unwrap_or_else(|error| unreachable!("{error}"));
        group.bench_function(name, |bencher| bencher.iter(|| aggregator.push(black_box(&batch))));
    }
    group.finish();
}

fn stage_two(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage two/1,000 series");
    group.throughput(Throughput::Elements(1_000));
    for (name, sql) in [("count, sum, avg", ERRORS), ("three percentiles", LATENCY)] {
        let plan = plan(sql);
        let states = states(&plan, 1_000, 0);
        let open = || OpenWindows::new(&plan, 0, None);
        group.bench_function(format!("merge {name}"), |bencher| {
            let mut windows = open();
            let mut offset = 0;
            bencher.iter(|| {
                offset += 1;
                windows.merge(offset, black_box(&states)).map(|late| late.len())
            });
        });
        group.bench_function(format!("close {name}"), |bencher| {
            let full = || {
                let mut windows = open();
                windows.merge(0, &states).map(|_| windows)
            };
            bencher.iter_batched(
                full,
                |windows| windows.and_then(|mut windows| windows.close_next(i64::MAX / 2)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// An hour that hops by ten seconds: 360 panes in each window, and yet a slide must cost little more than a tumble.
fn hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one slide of 1 h / 10 s, 1,000 series");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let plan = plan(HOP);
    let mut windows = OpenWindows::new(&plan, 0, None);
    let mut slide = 0;
    let panes = (0..720).map(|pane| states(&plan, 1_000, pane * 10)).collect::<Vec<_>>();
    group.bench_function("merge and close", |bencher| {
        bencher.iter(|| {
            if slide == panes.len() {
                windows = OpenWindows::new(&plan, 0, None);
                slide = 0;
            }
            let merged = windows.merge(slide as i64, &panes[slide]).map(|late| late.len());
            slide += 1;
            let now = (START_MS + slide as i64 * 10_000) * 1_000;
            while let Ok(Some(closed)) = windows.close_next(now) {
                black_box(closed.rows.num_rows());
            }
            merged
        });
    });
    group.finish();
}

fn states(plan: &Arc<WindowPlan>, series: usize, seconds: usize) -> RecordBatch {
    let mut aggregator = Aggregator::new(plan).unwrap_or_else(|error| unreachable!("{error}"));
    let states = aggregator.push(&logs(series, seconds)).and_then(|()| aggregator.finish());
    states.ok().flatten().unwrap_or_else(|| unreachable!("there are rows"))
}

fn watermark(criterion: &mut Criterion) {
    let beat = |partition, at: i64| Heartbeat {
        source: "logs".to_owned(),
        partition,
        partitions: 64,
        position: at,
        end: at + 1,
        event_time: Some(at),
        wall: at,
    };
    criterion.bench_function("watermark of 64 partitions", |bencher| {
        let mut clock = SourceClock::default();
        let mut at = 0;
        bencher.iter(|| {
            at += 1;
            clock.observe(&beat((at % 64) as i32, at));
            clock.advance(1_000_000)
        });
    });
}

criterion_group!(benches, partial, stage_two, hop, watermark);
criterion_main!(benches);
