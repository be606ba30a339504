//! Rows of the table `detections`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns::{Cell, Columns};
use super::{Place, RowError, time};
use crate::model::detection::{Change, Detection};
use crate::model::schema::{StoreTable, detections};

/// Collects messages of the remediation topic as rows, for one batch after the other.
pub struct DetectionTable {
    columns: Columns,
}

/// The body of a message, as it was written.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    organisation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    module: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detection_id: Cow<'a, str>,
    #[serde(borrow)]
    incident_id: Cow<'a, str>,
    #[serde(borrow)]
    pipeline: Cow<'a, str>,
    #[serde(borrow)]
    rule: Cow<'a, str>,
    #[serde(borrow)]
    technique: Cow<'a, str>,
    #[serde(borrow)]
    series: Option<&'a RawValue>,
    #[serde(borrow)]
    window_start: Cow<'a, str>,
    #[serde(borrow)]
    window_end: Cow<'a, str>,
    complete: bool,
    #[serde(borrow)]
    measure: Cow<'a, str>,
    value: Option<f64>,
    samples: Option<u64>,
    threshold: Option<f64>,
    #[serde(borrow)]
    baseline: Option<&'a RawValue>,
    score: Option<f64>,
    #[serde(borrow)]
    severity: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    remedy: Option<&'a RawValue>,
    #[serde(borrow)]
    evidence_sql: Cow<'a, str>,
}

/// What the headers say about a message.
struct Head<'a> {
    change: Change,
    event_id: &'a str,
}

impl Default for DetectionTable {
    fn default() -> Self {
        DetectionTable { columns: Columns::new(detections()) }
    }
}

impl DetectionTable {
    /// The columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    /// How many rows the next batch has so far.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.columns.len() == 0
    }

    /// Appends a message as one row, or says why not and appends nothing.
    pub fn push(&mut self, value: &[u8], headers: &[(&str, &[u8])], place: Place) -> Result<(), RowError> {
        let event_type = header(headers, "ce_type")?;
        let change = [Change::Opened, Change::Updated, Change::Resolved]
            .into_iter()
            .find(|change| change.event_type() == event_type)
            .ok_or_else(|| unreadable(format!("its `ce_type` is \"{event_type}\"")))?;
        self.append(value, &Head { change, event_id: header(headers, "ce_id")? }, place)
    }

    /// Appends a detection that was never in Kafka.
    pub fn push_detection(&mut self, detection: &Detection, place: Place) -> Result<(), RowError> {
        let value = serde_json::to_vec(detection).map_err(|error| unreadable(error.to_string()))?;
        self.append(&value, &Head { change: detection.change, event_id: &detection.event_id() }, place)
    }

    fn append(&mut self, value: &[u8], head: &Head<'_>, place: Place) -> Result<(), RowError> {
        let body: Body<'_> = serde_json::from_slice(value).map_err(|error| unreadable(error.to_string()))?;
        let start = time(StoreTable::Detections, "window_start", Some(&body.window_start))?;
        let end = time(StoreTable::Detections, "window_end", Some(&body.window_end))?;
        self.columns.append(|name| match name {
            // A change happens when the window ends that showed it.
            "time" | "window_end" => Cell::Time(end),
            "window_start" => Cell::Time(start),
            "change" => Cell::Text(head.change.name()),
            "event_id" => Cell::Text(head.event_id),
            "complete" => Cell::Truth(body.complete),
            "samples" => body.samples.and_then(|samples| i64::try_from(samples).ok()).map_or(Cell::Null, Cell::Whole),
            "kafka_partition" => Cell::Whole(place.partition.into()),
            "kafka_offset" => Cell::Whole(place.offset),
            name => body.number(name).map(Cell::Number).or(body.text(name).map(Cell::Text)).unwrap_or(Cell::Null),
        });
        Ok(())
    }

    /// The rows since the last call. It fails only if the schema has a column that no builder fills.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.columns.finish()
    }
}

impl Body<'_> {
    fn number(&self, name: &str) -> Option<f64> {
        match name {
            "value" => self.value,
            "threshold" => self.threshold,
            "score" => self.score,
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match name {
            "organisation_id" => self.organisation_id.as_deref(),
            "module" => self.module.as_deref(),
            "detection_id" => Some(&self.detection_id),
            "incident_id" => Some(&self.incident_id),
            "pipeline" => Some(&self.pipeline),
            "rule" => Some(&self.rule),
            "technique" => Some(&self.technique),
            "series" => self.series.map(RawValue::get),
            "measure" => Some(&self.measure),
            "baseline" => self.baseline.map(RawValue::get),
            "severity" => Some(&self.severity),
            "scope" => Some(&self.scope),
            "remedy" => self.remedy.map(RawValue::get),
            "evidence_sql" => Some(&self.evidence_sql),
            _ => None,
        }
    }
}

fn unreadable(reason: String) -> RowError {
    RowError { table: StoreTable::Detections, reason }
}

fn header<'a>(headers: &[(&str, &'a [u8])], name: &str) -> Result<&'a str, RowError> {
    let found = headers.iter().find(|(header, _)| *header == name);
    let text = found.and_then(|(_, value)| std::str::from_utf8(value).ok());
    text.ok_or_else(|| unreadable(format!("it has no header `{name}`")))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
    use arrow::util::display::array_value_to_string;

    use super::*;
    use crate::model::detection::{BaselineSummary, ProposedAction};
    use crate::model::pipeline::{Scope, Severity};
    use crate::model::series::{Label, Series};

    const PLACE: Place = Place { partition: 2, offset: 7 };

    fn detection() -> Detection {
        let labels = [("organisation_id", Label::Null), ("module", Label::Text("risk \"matrix\"".into()))];
        Detection {
            change: Change::Updated,
            update: 1,
            detection_id: "d1".into(),
            pipeline: "api_errors".into(),
            rule: "error_rate".into(),
            technique: "ratio",
            organisation_id: None,
            module: Some("risk \"matrix\"".into()),
            series: Series(labels.map(|(name, label)| (name.to_owned(), label)).into()),
            window_start: 1_764_756_000_000_000,
            window_end: 1_764_756_060_500_000,
            complete: true,
            measure: "errors".into(),
            value: Some(0.101),
            samples: Some(4_210),
            threshold: None,
            baseline: Some(BaselineSummary { center: 1.0, spread: 0.5, lower: 0.0, upper: 2.0, windows: 64 }),
            score: Some(33.4),
            severity: Severity::High,
            scope: Scope::CodeMinor,
            remedy: Some(ProposedAction { action: "restart".into(), target: None }),
            incident_id: "i1".into(),
            evidence_sql: "SELECT 1\nFROM windows".into(),
        }
    }

    /// What `roles::detect` sends.
    fn message(detection: &Detection) -> (Vec<u8>, [(&'static str, Vec<u8>); 2]) {
        let headers = [
            ("ce_type", detection.change.event_type().as_bytes().to_vec()),
            ("ce_id", detection.event_id().into_bytes()),
        ];
        (serde_json::to_vec(detection).unwrap(), headers)
    }

    fn push(table: &mut DetectionTable, value: &[u8], headers: &[(&'static str, Vec<u8>)]) -> Result<(), RowError> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect::<Vec<_>>();
        table.push(value, &headers, PLACE)
    }

    #[test]
    fn every_part_of_a_detection_has_its_column() {
        let mut table = DetectionTable::default();
        table.push_detection(&detection(), PLACE).unwrap();
        let batch = table.finish().unwrap();
        assert!(table.is_empty());
        let text = |name: &str| {
            let column = batch.column_by_name(name).unwrap();
            column.is_valid(0).then(|| array_value_to_string(column, 0).unwrap())
        };
        for (name, expected) in [
            ("change", "updated"),
            ("detection_id", "d1"),
            ("incident_id", "i1"),
            ("pipeline", "api_errors"),
            ("rule", "error_rate"),
            ("technique", "ratio"),
            ("module", "risk \"matrix\""),
            ("series", r#"{"organisation_id":null,"module":"risk \"matrix\""}"#),
            ("measure", "errors"),
            ("baseline", r#"{"center":1.0,"spread":0.5,"lower":0.0,"upper":2.0,"windows":64}"#),
            ("severity", "high"),
            ("scope", "code_minor"),
            ("remedy", r#"{"action":"restart","target":null}"#),
            ("evidence_sql", "SELECT 1\nFROM windows"),
            ("event_id", detection().event_id().as_str()),
            ("complete", "true"),
        ] {
            assert_eq!(text(name).as_deref(), Some(expected), "{name}");
        }
        let time = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!(time("window_start"), 1_764_756_000_000_000);
        assert_eq!((time("window_end"), time("time")), (1_764_756_060_500_000, 1_764_756_060_500_000));
        let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(0);
        assert_eq!((number("value"), number("score")), (0.101, 33.4));
        assert_eq!((text("threshold"), text("organisation_id")), (None, None));
        assert_eq!(batch.column_by_name("samples").unwrap().as_primitive::<Int64Type>().value(0), 4_210);
        assert_eq!(batch.column_by_name("kafka_partition").unwrap().as_primitive::<Int32Type>().value(0), 2);
        assert_eq!(batch.column_by_name("kafka_offset").unwrap().as_primitive::<Int64Type>().value(0), 7);
    }

    #[test]
    fn the_topic_and_the_core_give_the_same_row() {
        let (mut of_topic, mut of_core) = (DetectionTable::default(), DetectionTable::default());
        for detection in [detection(), Detection { remedy: None, baseline: None, ..detection() }] {
            let (value, headers) = message(&detection);
            push(&mut of_topic, &value, &headers).unwrap();
            of_core.push_detection(&detection, PLACE).unwrap();
        }
        let rows = of_topic.finish().unwrap();
        assert_eq!(rows, of_core.finish().unwrap());
        assert!(rows.column_by_name("remedy").unwrap().is_null(1));
        assert!(rows.column_by_name("baseline").unwrap().is_null(1));
    }

    #[test]
    fn what_is_no_detection_is_refused_and_leaves_no_part_of_a_row() {
        let mut table = DetectionTable::default();
        let (value, headers) = message(&detection());
        assert!(push(&mut table, &value, &headers[..1]).unwrap_err().reason.contains("ce_id"));
        let of_tomorrow = [("ce_type", b"maturion.detection.opened.v2".to_vec()), headers[1].clone()];
        assert!(push(&mut table, &value, &of_tomorrow).unwrap_err().reason.contains("opened.v2"));
        push(&mut table, b"{}", &headers).unwrap_err();
        let without_end = String::from_utf8(value.clone()).unwrap().replace("2025-12-03T10:01:00.500Z", "soon");
        assert!(push(&mut table, without_end.as_bytes(), &headers).unwrap_err().reason.contains("window_end"));
        push(&mut table, &value, &headers).unwrap();
        assert_eq!(table.finish().unwrap().num_rows(), 1);
    }
}
