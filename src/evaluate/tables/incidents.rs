//! Rows of the table `incident_changes`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns::{Cell, Columns};
use super::{Place, RowError, time};
use crate::model::schema::{StoreTable, incident_changes};

/// Collects messages of `maturion.incidents` as rows, for one batch after the other.
pub struct IncidentTable {
    columns: Columns,
}

/// The state of an incident, as far as it has columns of its own. What another version adds stands in `state`.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    incident_id: Cow<'a, str>,
    revision: u64,
    #[serde(borrow)]
    changed_at: Cow<'a, str>,
    #[serde(borrow, default)]
    organisation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    module: Option<Cow<'a, str>>,
    #[serde(default)]
    epoch: Option<u64>,
    #[serde(borrow, default)]
    pipeline: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    rule: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    series: Option<&'a RawValue>,
    #[serde(borrow, default)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    severity: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    opened_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    resolved_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    attempts: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ticket: Option<&'a RawValue>,
    #[serde(borrow, default)]
    acknowledged: Option<&'a RawValue>,
    #[serde(borrow, default)]
    evidence_sql: Option<Cow<'a, str>>,
}

impl Default for IncidentTable {
    fn default() -> Self {
        IncidentTable { columns: Columns::new(incident_changes()) }
    }
}

impl IncidentTable {
    /// The columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    /// Appends a message as one row, or says why not and appends nothing.
    pub fn push(&mut self, value: &[u8], place: Place) -> Result<(), RowError> {
        let table = StoreTable::IncidentChanges;
        let unreadable = |reason: String| RowError { table, reason };
        let text = std::str::from_utf8(value).map_err(|error| unreadable(error.to_string()))?;
        let body: Body<'_> = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let changed = time(table, "changed_at", Some(&body.changed_at))?;
        let known = |name: &str, text: &Option<Cow<'_, str>>| {
            text.as_deref().map(|text| time(table, name, Some(text))).transpose()
        };
        let (opened, resolved) = (known("opened_at", &body.opened_at)?, known("resolved_at", &body.resolved_at)?);
        let revision = i64::try_from(body.revision);
        let revision = revision.map_err(|error| unreadable(format!("its `revision` is no number ({error})")))?;
        let epoch = body.epoch.and_then(|epoch| i64::try_from(epoch).ok());
        self.columns.append(|name| match name {
            "changed_at" => Cell::Time(changed),
            "opened_at" => opened.map_or(Cell::Null, Cell::Time),
            "resolved_at" => resolved.map_or(Cell::Null, Cell::Time),
            "revision" => Cell::Whole(revision),
            "epoch" => epoch.map_or(Cell::Null, Cell::Whole),
            "state" => Cell::Text(text),
            "kafka_partition" => Cell::Whole(place.partition.into()),
            "kafka_offset" => Cell::Whole(place.offset),
            name => body.text(name).map_or(Cell::Null, Cell::Text),
        });
        Ok(())
    }

    /// The rows since the last call. It fails only if the schema has a column that no builder fills.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.columns.finish()
    }
}

impl Body<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        match name {
            "incident_id" => Some(&self.incident_id),
            "organisation_id" => self.organisation_id.as_deref(),
            "module" => self.module.as_deref(),
            "pipeline" => self.pipeline.as_deref(),
            "rule" => self.rule.as_deref(),
            "series" => self.series.map(RawValue::get),
            "phase" => self.phase.as_deref(),
            "severity" => self.severity.as_deref(),
            "scope" => self.scope.as_deref(),
            "attempts" => self.attempts.map(RawValue::get),
            "ticket" => self.ticket.map(RawValue::get),
            "acknowledged" => self.acknowledged.map(RawValue::get),
            "evidence_sql" => self.evidence_sql.as_deref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::util::display::array_value_to_string;

    use super::*;

    const PLACE: Place = Place { partition: 1, offset: 9 };
    const STATE: &str = r#"{"incident_id":"i1","revision":3,"epoch":1,"pipeline":"api_errors","rule":"error_rate","series":{"module":"risk"},"organisation_id":"org_1","module":"risk","phase":"acting","severity":"high","scope":"trivial","opened_at":"2025-12-03T10:00:00Z","changed_at":"2025-12-03T10:01:00.5Z","resolved_at":null,"attempts":[{"action":"function_recycle"}],"ticket":null,"acknowledged":{"by":"ann"},"evidence_sql":"SELECT 1","of_tomorrow":{"x":1}}"#;

    #[test]
    fn every_part_of_an_incident_has_its_column() {
        let mut table = IncidentTable::default();
        table.push(STATE.as_bytes(), PLACE).unwrap();
        let batch = table.finish().unwrap();
        for (name, expected) in [
            ("changed_at", Some("2025-12-03T10:01:00.500Z")),
            ("opened_at", Some("2025-12-03T10:00:00Z")),
            ("resolved_at", None),
            ("organisation_id", Some("org_1")),
            ("module", Some("risk")),
            ("incident_id", Some("i1")),
            ("revision", Some("3")),
            ("epoch", Some("1")),
            ("pipeline", Some("api_errors")),
            ("rule", Some("error_rate")),
            ("series", Some(r#"{"module":"risk"}"#)),
            ("phase", Some("acting")),
            ("severity", Some("high")),
            ("scope", Some("trivial")),
            ("attempts", Some(r#"[{"action":"function_recycle"}]"#)),
            ("ticket", None),
            ("acknowledged", Some(r#"{"by":"ann"}"#)),
            ("evidence_sql", Some("SELECT 1")),
            ("state", Some(STATE)),
            ("kafka_partition", Some("1")),
            ("kafka_offset", Some("9")),
        ] {
            let column = batch.column_by_name(name).unwrap();
            let found = column.is_valid(0).then(|| array_value_to_string(column, 0).unwrap());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        assert_eq!(batch.num_columns(), 21, "a column is not looked at here");
    }

    #[test]
    fn what_is_no_incident_is_refused_and_leaves_no_part_of_a_row() {
        let mut table = IncidentTable::default();
        for value in ["", "[]", "{}", r#"{"incident_id":"i1","revision":1}"#] {
            assert_eq!(table.push(value.as_bytes(), PLACE).unwrap_err().table, StoreTable::IncidentChanges, "{value}");
        }
        let soon = STATE.replace("\"2025-12-03T10:00:00Z\"", "\"soon\"");
        assert!(table.push(soon.as_bytes(), PLACE).unwrap_err().reason.contains("opened_at"));
        table.push(b"\xff", PLACE).unwrap_err();
        let endless = STATE.replace("\"revision\":3", "\"revision\":18446744073709551615");
        assert!(table.push(endless.as_bytes(), PLACE).unwrap_err().reason.contains("revision"));
        let least = br#"{"incident_id":"i2","revision":1,"changed_at":"2025-12-03T10:01:00Z"}"#;
        table.push(least, PLACE).unwrap();
        assert_eq!(table.finish().unwrap().num_rows(), 1);
    }
}
