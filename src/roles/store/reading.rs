//! One input partition of the store: its records decoded to rows of its table.
//!
//! A record that is no row (the dead letters have it, or another version wrote it) only advances the offset.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::range;
use crate::decode::{Decoder, Incoming, Table};
use crate::evaluate::tables::{AuditTable, DetectionTable, IncidentTable, Place, WindowTable};
use crate::log::Record;
use crate::model::pipeline::Micros;
use crate::model::schema::StoreTable;
use crate::roles::Runtime;
use crate::store::Store;
use crate::store::chunk::{Input, OffsetRange};

pub(super) struct Reading {
    pub(super) table: StoreTable,
    pub(super) input: Input,
    /// The offset after the last record that was visited.
    pub(super) next: i64,
    /// The largest event time of telemetry.
    pub(super) latest: Option<Micros>,
    /// What the group was told of [`Reading::next`].
    pub(super) told: i64,
    published: i64,
    rows: Rows,
}

enum Rows {
    Telemetry(Box<Decoder>),
    Windows(WindowTable),
    Detections(DetectionTable),
    Incidents(IncidentTable),
    Audit(AuditTable),
}

impl Reading {
    /// Reads from `start`; what is between `covered`, which the store has, and there is gone from Kafka.
    pub(super) fn new(
        runtime: &Runtime,
        store: &Store,
        (table, input): (StoreTable, Input),
        covered: i64,
        start: i64,
    ) -> Self {
        let telemetry = |table| Rows::Telemetry(Box::new(Decoder::new(table, runtime.limits)));
        let rows = match table {
            StoreTable::Logs => telemetry(Table::Logs),
            StoreTable::Metrics => telemetry(Table::Metrics),
            StoreTable::Windows => Rows::Windows(WindowTable::new(&measures(store))),
            StoreTable::Detections => Rows::Detections(DetectionTable::default()),
            StoreTable::IncidentChanges => Rows::Incidents(IncidentTable::default()),
            StoreTable::Audit => Rows::Audit(AuditTable::default()),
        };
        Self { table, input, next: start, latest: None, told: start, published: covered, rows }
    }

    pub(super) fn push(&mut self, record: &Record<'_>) {
        self.next = record.offset + 1;
        let Some(value) = record.value else { return };
        let (partition, offset) = (record.partition, record.offset);
        let place = Place { partition, offset };
        // What is no row is told of where it is handled: by intake, with a dead letter.
        match &mut self.rows {
            Rows::Telemetry(decoder) => {
                let incoming = Incoming { value, kafka_timestamp_ms: record.timestamp_ms, partition, offset };
                self.latest = self.latest.max(decoder.push(&incoming).ok());
            }
            Rows::Windows(table) => drop(table.push(value, &record.headers, place)),
            Rows::Detections(table) => drop(table.push(value, &record.headers, place)),
            Rows::Incidents(table) => drop(table.push(value, place)),
            Rows::Audit(table) => drop(table.push(value, place)),
        }
    }

    pub(super) fn has_read(&self) -> bool {
        self.next > self.published
    }

    /// The rows since the last call, and the offsets they come from.
    pub(super) fn finish(&mut self) -> Result<(OffsetRange, RecordBatch), ArrowError> {
        let batch = match &mut self.rows {
            Rows::Telemetry(decoder) => decoder.finish()?,
            Rows::Windows(table) => table.finish()?,
            Rows::Detections(table) => table.finish()?,
            Rows::Incidents(table) => table.finish()?,
            Rows::Audit(table) => table.finish()?,
        };
        let read = range(self.published, self.next);
        self.published = self.next;
        Ok((read, batch))
    }
}

/// The measures that the table `windows` of this store has.
fn measures(store: &Store) -> Vec<String> {
    let fixed = StoreTable::Windows.schema();
    let names = store.schema(StoreTable::Windows).fields().iter().map(|field| field.name().clone());
    names.filter(|name| fixed.column_with_name(name).is_none()).collect()
}
