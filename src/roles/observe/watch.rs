//! How the agent is, as metric records: a function of statuses and times, without a clock or a log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::pipeline::{AGENT_MODULE, Micros};
use crate::serve::status::{Stage, Status};

/// Pipelines that are told of, by name.
const PIPELINES_MAX: usize = 1_000;

/// What must be remembered from one time to the next.
#[derive(Debug, Default)]
pub struct Watch {
    /// The watermark of each pipeline, and since when it stands there.
    watermarks: BTreeMap<String, (Micros, Micros)>,
    /// Records read, and those of them that were rejected, when they were told last.
    told: Option<(u64, u64)>,
}

impl Watch {
    /// The records of this moment. `read` and `rejected` are totals of this process, the status is of all.
    pub fn records(&mut self, status: &Status, read: u64, rejected: u64, now: Micros) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        let mut record = |name: &str, value: f64, unit: &str, attributes: Value| {
            let mut attributes = attributes;
            attributes["instance"] = json!(status.instance);
            let record = json!({
                "timestamp": now, "organisation_id": null, "module": AGENT_MODULE,
                "name": name, "value": value, "unit": unit, "attributes": attributes,
            });
            records.push(record.to_string().into_bytes());
        };
        for stage in [Stage::Intake, Stage::Detect] {
            let rows = status.partitions.iter().filter(|row| row.stage == stage);
            if let Some(lag) = rows.map(|row| row.lag).max() {
                record("maturion_lag_records", lag as f64, "records", json!({ "stage": stage }));
            }
        }
        let watermarks = status.pipelines.iter().filter_map(|known| Some((&known.pipeline, known.watermark_us?)));
        let watermarks: BTreeMap<&String, Micros> = watermarks.take(PIPELINES_MAX).collect();
        self.watermarks.retain(|pipeline, _| watermarks.contains_key(pipeline));
        for (pipeline, watermark) in watermarks {
            let stands = self.watermarks.entry(pipeline.clone()).or_insert((watermark, now));
            if stands.0 != watermark {
                *stands = (watermark, now);
            }
            let (gap, delay) = (seconds(now - stands.1), seconds(now - watermark));
            record("maturion_evaluation_gap_seconds", gap, "s", json!({ "pipeline": pipeline }));
            record("maturion_watermark_delay_seconds", delay, "s", json!({ "pipeline": pipeline }));
        }
        if let Some((read_before, rejected_before)) = self.told.replace((read, rejected)) {
            let since = |now: u64, before: u64| now.saturating_sub(before) as f64;
            record("maturion_records_read", since(read, read_before), "records", json!({}));
            record("maturion_dead_letters", since(rejected, rejected_before), "records", json!({}));
        }
        records
    }
}

fn seconds(length: Micros) -> f64 {
    length as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::status::{PipelineReport, Progress, StatusBoard};

    const SECOND: Micros = 1_000_000;
    const START: Micros = 1_764_756_000_000_000;

    /// Name, value, and the attribute that is not the instance.
    fn told(records: &[Vec<u8>]) -> Vec<(String, f64, String)> {
        let one = |record: &Vec<u8>| {
            let record: Value = serde_json::from_slice(record).unwrap();
            assert_eq!((record["module"].as_str(), record["organisation_id"].is_null()), (Some("maturion"), true));
            assert_eq!(record["attributes"]["instance"], "a");
            let of = [&record["attributes"]["stage"], &record["attributes"]["pipeline"]];
            let of = of.iter().find_map(|value| value.as_str()).unwrap_or_default().to_owned();
            (record["name"].as_str().unwrap().to_owned(), record["value"].as_f64().unwrap(), of)
        };
        records.iter().map(one).collect()
    }

    fn status(lag: i64, watermark: Option<Micros>) -> Status {
        let board = StatusBoard::new("").of("a");
        board.intake("telemetry.logs", 0, Progress { position: 1, end_offset: 1, watermark: None });
        board.intake("telemetry.logs", 1, Progress { position: 1, end_offset: 1 + lag, watermark: None });
        let report = PipelineReport { pipeline: "errors", watermark, ..PipelineReport::default() };
        board.detect("maturion.partials", 0, Progress::default(), &[report]);
        board.snapshot()
    }

    #[test]
    fn the_worst_partition_and_what_stands_still_are_told() {
        let mut watch = Watch::default();
        watch.records(&status(0, Some(START)), 100, 1, START + SECOND);
        let records = told(&watch.records(&status(7, Some(START)), 150, 3, START + 11 * SECOND));
        let expected = [
            ("maturion_lag_records", 7.0, "intake"),
            ("maturion_lag_records", 0.0, "detect"),
            ("maturion_evaluation_gap_seconds", 10.0, "errors"),
            ("maturion_watermark_delay_seconds", 11.0, "errors"),
            ("maturion_records_read", 50.0, ""),
            ("maturion_dead_letters", 2.0, ""),
        ];
        let expected = expected.map(|(name, value, of)| (name.to_owned(), value, of.to_owned()));
        assert_eq!(records, expected);
        let moved = told(&watch.records(&status(7, Some(START + SECOND)), 150, 3, START + 21 * SECOND));
        assert_eq!(moved[2].1, 0.0, "it moved");
    }

    #[test]
    fn nothing_is_told_of_what_is_not_known() {
        assert_eq!(told(&Watch::default().records(&StatusBoard::new("").of("a").snapshot(), 5, 5, START)), []);
        let without_watermark = told(&Watch::default().records(&status(0, None), 5, 5, START));
        assert_eq!(without_watermark.len(), 2, "{without_watermark:?}");
    }
}
