//! Open windows written down and put back: the restart that reads no partial twice and misses none.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::window::aggregator::Aggregator;
use maturion::window::open::OpenWindows;
use maturion::window::plan::WindowPlan;
use maturion::window::rows;

use crate::flow::pipeline;

const SECOND: i64 = 1_000_000;
const HOP: &str =
    "SELECT hop(timestamp, INTERVAL '10 seconds', INTERVAL '1 minute') AS window_start, module, count(*) AS n,
                          avg(duration_ms) AS mean, quantile(duration_ms, 0.9) AS p90
                   FROM logs GROUP BY 1, 2";

/// One partial for each second: three modules, and every tenth of them with a straggler from 20 seconds before.
fn partials(plan: &Arc<WindowPlan>) -> Vec<RecordBatch> {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    let mut aggregator = Aggregator::new(plan).expect("an aggregator");
    let mut partial = |second: i64| {
        let straggler = if second % 10 == 0 && second > 20 { vec![second - 20] } else { vec![] };
        for (nth, time) in [second, second, second].into_iter().chain(straggler).enumerate() {
            let value = format!(
                r#"{{"timestamp":{},"module":"m{}","duration_ms":{}}}"#,
                1_764_756_000 + time,
                nth % 3,
                (second * 7 + nth as i64) % 100
            );
            let record = Incoming { value: value.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset: 0 };
            decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
        }
        aggregator.push(&decoder.finish().expect("a batch")).expect("aggregated");
        aggregator.finish().expect("states").expect("rows")
    };
    (0..180).map(&mut partial).collect()
}

fn close(plan: &WindowPlan, windows: &mut OpenWindows, second: usize, out: &mut Vec<String>) {
    let watermark = (1_764_756_000 + second as i64) * SECOND;
    while let Some(closed) = windows.close_next(watermark).expect("closed") {
        let lines = rows::to_json(plan, closed.start, closed.end, &closed.rows).expect("JSON");
        out.extend(lines.into_iter().map(|line| String::from_utf8(line).expect("UTF-8")));
    }
}

#[test]
fn a_restart_at_any_moment_closes_the_same_windows() {
    let pipeline = pipeline("hopping", HOP, &["module"], Duration::ZERO);
    let plan = Arc::new(WindowPlan::new(&pipeline, None).unwrap_or_else(|error| panic!("{error}")));
    let partials = partials(&plan);
    let mut expected = Vec::new();
    let mut straight = OpenWindows::new(&plan, 0, None);
    for (offset, partial) in partials.iter().enumerate() {
        straight.merge(offset as i64, partial).expect("merged");
        close(&plan, &mut straight, offset, &mut expected);
    }
    assert!(expected.len() > 40);
    for restart in (1..partials.len()).step_by(7) {
        let (mut said, mut written) = (Vec::new(), std::collections::BTreeMap::new());
        let mut windows = OpenWindows::new(&plan, 0, None);
        for (offset, partial) in partials[..restart].iter().enumerate() {
            windows.merge(offset as i64, partial).expect("merged");
            close(&plan, &mut windows, offset, &mut said);
            if offset % 15 == 14 {
                let snapshots = windows.snapshots(offset as i64 + 1).expect("snapshots");
                written.extend(snapshots.into_iter().map(|pane| (pane.start, pane)));
            }
        }
        let replay_from = windows.replay_from().unwrap_or(restart as i64) as usize;
        assert!(restart - replay_from.min(restart) <= 31, "restart at {restart} reads from {replay_from} again");
        let mut windows = OpenWindows::new(&plan, 0, windows.closed_through());
        for pane in written.into_values() {
            windows.restore(pane).expect("restored");
        }
        for (offset, partial) in partials.iter().enumerate().skip(replay_from) {
            windows.merge(offset as i64, partial).expect("merged");
            if offset >= restart {
                close(&plan, &mut windows, offset, &mut said);
            }
        }
        assert_eq!(said, expected, "restart at {restart}");
    }
}
