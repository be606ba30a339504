//! Rows of the tables as values.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use serde_json::{Map, Value};

use super::ExplainError;
use crate::model::detection::BaselineSummary;
use crate::model::pipeline::Micros;
use crate::model::schema::timestamp_type;

/// Everything that was said about one detection.
#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    pub detection_id: String,
    pub incident_id: String,
    pub pipeline: String,
    pub rule: String,
    pub technique: String,
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    /// The labels of the series.
    pub series: Map<String, Value>,
    pub measure: String,
    pub remedy: Option<Map<String, Value>>,
    pub evidence_sql: String,
    /// In the order in which they were said; never empty.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub change: String,
    pub severity: String,
    pub window_start: Micros,
    pub window_end: Micros,
    pub value: Option<f64>,
    pub samples: Option<f64>,
    pub threshold: Option<f64>,
    pub score: Option<f64>,
    pub baseline: Option<BaselineSummary>,
}

/// The measure in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub start: Micros,
    /// `None` if the row has no number there.
    pub value: Option<f64>,
}

impl Messages {
    /// Of the rows of `detections` that [`super::detection_sql`] gave.
    pub fn read(detection_id: &str, rows: &[RecordBatch]) -> Result<Self, ExplainError> {
        let mut messages = Vec::new();
        for batch in rows {
            let batch = Rows(batch);
            for row in 0..batch.0.num_rows() {
                messages.push(batch.message(row)?);
            }
        }
        // What a detection is does not change; the evidence grows with it, and the last message has all.
        let last = rows.iter().rev().find(|batch| batch.num_rows() > 0);
        let Some(last) = last else { return Err(ExplainError::Unknown(detection_id.to_owned())) };
        let (last, row) = (Rows(last), last.num_rows() - 1);
        Ok(Self {
            detection_id: detection_id.to_owned(),
            incident_id: last.needed_text("incident_id", row)?,
            pipeline: last.needed_text("pipeline", row)?,
            rule: last.needed_text("rule", row)?,
            technique: last.needed_text("technique", row)?,
            organisation_id: last.text("organisation_id", row)?,
            module: last.text("module", row)?,
            series: last.object("series", row)?.unwrap_or_default(),
            measure: last.needed_text("measure", row)?,
            remedy: last.object("remedy", row)?,
            evidence_sql: last.needed_text("evidence_sql", row)?,
            messages,
        })
    }
}

/// The windows of the detection's series.
pub(super) fn windows(rows: &[RecordBatch], messages: &Messages) -> Result<Vec<Window>, ExplainError> {
    let mut windows = Vec::new();
    for batch in rows {
        let batch = Rows(batch);
        for row in 0..batch.0.num_rows() {
            let values = batch.object("row", row)?.unwrap_or_default();
            if messages.series.iter().all(|(name, label)| values.get(name) == Some(label)) {
                let value = values.get(&messages.measure).and_then(Value::as_f64);
                windows.push(Window { start: batch.time("window_start", row)?, value });
            }
        }
    }
    Ok(windows)
}

/// A batch whose columns are asked for by name. Their types may be siblings of those that the tables have.
struct Rows<'a>(&'a RecordBatch);

impl Rows<'_> {
    fn message(&self, row: usize) -> Result<Message, ExplainError> {
        let baseline = self.text("baseline", row)?.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Message {
            change: self.needed_text("change", row)?,
            severity: self.needed_text("severity", row)?,
            window_start: self.time("window_start", row)?,
            window_end: self.time("window_end", row)?,
            value: self.number("value", row)?,
            samples: self.number("samples", row)?,
            threshold: self.number("threshold", row)?,
            score: self.number("score", row)?,
            baseline: baseline.map_err(|error| unreadable("baseline", &error))?,
        })
    }

    fn column(&self, name: &str, data_type: &DataType) -> Result<ArrayRef, ExplainError> {
        let column = self.0.column_by_name(name);
        let column = column.ok_or_else(|| ExplainError::Rows(format!("there is no column `{name}`")))?;
        cast(column, data_type).map_err(|error| unreadable(name, &error))
    }

    fn text(&self, name: &str, row: usize) -> Result<Option<String>, ExplainError> {
        let column = self.column(name, &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        Ok(column.is_valid(row).then(|| column.value(row).to_owned()))
    }

    fn needed_text(&self, name: &str, row: usize) -> Result<String, ExplainError> {
        self.text(name, row)?.ok_or_else(|| ExplainError::Rows(format!("`{name}` is null")))
    }

    fn number(&self, name: &str, row: usize) -> Result<Option<f64>, ExplainError> {
        let column = self.column(name, &DataType::Float64)?;
        let column = column.as_primitive::<Float64Type>();
        Ok(column.is_valid(row).then(|| column.value(row)))
    }

    fn time(&self, name: &str, row: usize) -> Result<Micros, ExplainError> {
        let column = self.column(name, &timestamp_type())?;
        let column = column.as_primitive::<TimestampMicrosecondType>();
        if column.is_valid(row) { Ok(column.value(row)) } else { Err(ExplainError::Rows(format!("`{name}` is null"))) }
    }

    fn object(&self, name: &str, row: usize) -> Result<Option<Map<String, Value>>, ExplainError> {
        let object = self.text(name, row)?.map(|text| serde_json::from_str(&text)).transpose();
        object.map_err(|error| unreadable(name, &error))
    }
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> ExplainError {
    ExplainError::Rows(format!("`{name}` cannot be read ({error})"))
}
