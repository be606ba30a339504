//! Rows of the table `audit`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns::{Cell, Columns};
use super::{Place, RowError, time};
use crate::model::schema::{StoreTable, audit};

/// Collects messages of `maturion.audit` as rows, for one batch after the other. It does not judge the chain.
pub struct AuditTable {
    columns: Columns,
}

/// An entry or a checkpoint, as far as it has columns of its own.
#[derive(Deserialize)]
struct Body<'a> {
    seq: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    hash: Cow<'a, str>,
    #[serde(borrow, default)]
    previous_hash: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    organisation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    module: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    actor: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sentence: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    incident_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    action_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    action: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    decision: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasons: Option<&'a RawValue>,
    #[serde(borrow, default)]
    policy_hash: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    input_hash: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    before: Option<&'a RawValue>,
    #[serde(borrow, default)]
    after: Option<&'a RawValue>,
}

impl Default for AuditTable {
    fn default() -> Self {
        AuditTable { columns: Columns::new(audit()) }
    }
}

impl AuditTable {
    /// The columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    /// Appends a message as one row, or says why not and appends nothing.
    pub fn push(&mut self, value: &[u8], place: Place) -> Result<(), RowError> {
        let unreadable = |reason: String| RowError { table: StoreTable::Audit, reason };
        let text = std::str::from_utf8(value).map_err(|error| unreadable(error.to_string()))?;
        let body: Body<'_> = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let at = time(StoreTable::Audit, "time", Some(&body.time))?;
        let seq = i64::try_from(body.seq).map_err(|error| unreadable(format!("its `seq` is no number ({error})")))?;
        self.columns.append(|name| match name {
            "time" => Cell::Time(at),
            "seq" => Cell::Whole(seq),
            "entry" => Cell::Text(text),
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
            "kind" => Some(&self.kind),
            "hash" => Some(&self.hash),
            "previous_hash" => self.previous_hash.as_deref(),
            "organisation_id" => self.organisation_id.as_deref(),
            "module" => self.module.as_deref(),
            "actor" => self.actor.as_deref(),
            "sentence" => self.sentence.as_deref(),
            "incident_id" => self.incident_id.as_deref(),
            "action_id" => self.action_id.as_deref(),
            "action" => self.action.as_deref(),
            "target" => self.target.as_deref(),
            "decision" => self.decision.as_deref(),
            "reasons" => self.reasons.map(RawValue::get),
            "policy_hash" => self.policy_hash.as_deref(),
            "input_hash" => self.input_hash.as_deref(),
            "before" => self.before.map(RawValue::get),
            "after" => self.after.map(RawValue::get),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::util::display::array_value_to_string;

    use super::*;

    const PLACE: Place = Place { partition: 0, offset: 4 };
    const ENTRY: &str = r#"{"action":"function_recycle","action_id":"a1","actor":"west-1","after":null,"before":{"instances":2},"decision":"allow","hash":"ff","incident_id":"i1","input_hash":"ee","kind":"decision","module":"risk","of_tomorrow":1,"organisation_id":"org_1","policy_hash":"dd","previous_hash":"00","reasons":["allowed"],"sentence":"May recycle","seq":7,"target":"risk","time":"2025-12-03T10:00:00Z"}"#;
    const CHECKPOINT: &str =
        r#"{"hash":"ff","kind":"checkpoint","public_key":"aa","seq":7,"signature":"bb","time":"2025-12-03T10:00:01Z"}"#;

    fn row(batch: &RecordBatch, row: usize) -> Vec<(String, String)> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let valid = columns.filter(|(_, column)| column.is_valid(row));
        valid.map(|(field, column)| (field.name().clone(), array_value_to_string(column, row).unwrap())).collect()
    }

    #[test]
    fn every_part_of_an_entry_has_its_column() {
        let mut table = AuditTable::default();
        table.push(ENTRY.as_bytes(), PLACE).unwrap();
        table.push(CHECKPOINT.as_bytes(), PLACE).unwrap();
        let batch = table.finish().unwrap();
        let of_entry = row(&batch, 0);
        for (name, expected) in [
            ("time", "2025-12-03T10:00:00Z"),
            ("organisation_id", "org_1"),
            ("module", "risk"),
            ("kind", "decision"),
            ("seq", "7"),
            ("actor", "west-1"),
            ("sentence", "May recycle"),
            ("incident_id", "i1"),
            ("action_id", "a1"),
            ("action", "function_recycle"),
            ("target", "risk"),
            ("decision", "allow"),
            ("reasons", r#"["allowed"]"#),
            ("policy_hash", "dd"),
            ("input_hash", "ee"),
            ("before", r#"{"instances":2}"#),
            ("previous_hash", "00"),
            ("hash", "ff"),
            ("entry", ENTRY),
            ("kafka_partition", "0"),
            ("kafka_offset", "4"),
        ] {
            assert!(of_entry.contains(&(name.to_owned(), expected.to_owned())), "{name}: {of_entry:?}");
        }
        assert_eq!(of_entry.len(), 21, "all but `after`");
        let names = row(&batch, 1).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names, ["time", "kind", "seq", "hash", "entry", "kafka_partition", "kafka_offset"]);
    }

    #[test]
    fn what_is_no_entry_is_refused_and_leaves_no_part_of_a_row() {
        let mut table = AuditTable::default();
        for value in
            ["", "[]", "{}", &ENTRY.replace("2025-12-03T10", "soon"), &ENTRY.replace("\"seq\":7", "\"seq\":-7")]
        {
            assert_eq!(table.push(value.as_bytes(), PLACE).unwrap_err().table, StoreTable::Audit, "{value}");
        }
        table.push(b"\xff", PLACE).unwrap_err();
        table.push(ENTRY.as_bytes(), PLACE).unwrap();
        assert_eq!(table.finish().unwrap().num_rows(), 1);
    }
}
