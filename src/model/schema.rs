//! The tables of the store and their Arrow schemas: the only place where a column's name and type are spelled.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The type of every event time: microseconds since the Unix epoch, UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    table(&[
        ("timestamp", timestamp_type()),
        ("organisation_id", DataType::Utf8View),
        ("module", DataType::Utf8View),
        ("source", DataType::Utf8View),
        ("level", DataType::Utf8View),
        ("event", DataType::Utf8View),
        ("message", DataType::Utf8View),
        ("status_code", DataType::Int32),
        ("duration_ms", DataType::Float64),
        ("route", DataType::Utf8View),
        ("method", DataType::Utf8View),
        ("user_id", DataType::Utf8View),
        ("client_ip", DataType::Utf8View),
        ("trace_id", DataType::Utf8View),
        ("exception_type", DataType::Utf8View),
        ("handled", DataType::Boolean),
        ("operation", DataType::Utf8View),
        ("rows_affected", DataType::Int64),
        ("attributes", DataType::Utf8View),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
    ])
});

static METRICS: LazyLock<SchemaRef> = LazyLock::new(|| {
    table(&[
        ("timestamp", timestamp_type()),
        ("organisation_id", DataType::Utf8View),
        ("module", DataType::Utf8View),
        ("name", DataType::Utf8View),
        ("value", DataType::Float64),
        ("unit", DataType::Utf8View),
        ("attributes", DataType::Utf8View),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
    ])
});

static WINDOWS: LazyLock<SchemaRef> = LazyLock::new(|| {
    table(&[
        ("window_start", timestamp_type()),
        ("organisation_id", DataType::Utf8View),
        ("module", DataType::Utf8View),
        ("pipeline", DataType::Utf8View),
        ("window_end", timestamp_type()),
        ("complete", DataType::Boolean),
        ("row", DataType::Utf8View),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
    ])
});

static DETECTIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    table(&[
        ("time", timestamp_type()),
        ("organisation_id", DataType::Utf8View),
        ("module", DataType::Utf8View),
        ("change", DataType::Utf8View),
        ("detection_id", DataType::Utf8View),
        ("incident_id", DataType::Utf8View),
        ("pipeline", DataType::Utf8View),
        ("rule", DataType::Utf8View),
        ("technique", DataType::Utf8View),
        ("series", DataType::Utf8View),
        ("window_start", timestamp_type()),
        ("window_end", timestamp_type()),
        ("complete", DataType::Boolean),
        ("measure", DataType::Utf8View),
        ("value", DataType::Float64),
        ("samples", DataType::Int64),
        ("threshold", DataType::Float64),
        ("baseline", DataType::Utf8View),
        ("score", DataType::Float64),
        ("severity", DataType::Utf8View),
        ("scope", DataType::Utf8View),
        ("remedy", DataType::Utf8View),
        ("evidence_sql", DataType::Utf8View),
        ("event_id", DataType::Utf8View),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
    ])
});

static INCIDENT_CHANGES: LazyLock<SchemaRef> = LazyLock::new(|| {
    table(&[
        ("changed_at", timestamp_type()),
        ("organisation_id", DataType::Utf8View),
        ("module", DataType::Utf8View),
        ("incident_id", DataType::Utf8View),
        ("revision", DataType::Int64),
        ("epoch", DataType::Int64),
        ("pipeline", DataType::Utf8View),
        ("rule", DataType::Utf8View),
        ("series", DataType::Utf8View),
        ("phase", DataType::Utf8View),
        ("severity", DataType::Utf8View),
        ("scope", DataType::Utf8View),
        ("opened_at", timestamp_type()),
        ("resolved_at", timestamp_type()),
        ("attempts", DataType::Utf8View),
        ("ticket", DataType::Utf8View),
        ("acknowledged", DataType::Utf8View),
        ("evidence_sql", DataType::Utf8View),
        ("state", DataType::Utf8View),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
    ])
});

static AUDIT: LazyLock<SchemaRef> = LazyLock::new(|| {
    table(&[
        ("time", timestamp_type()),
        ("organisation_id", DataType::Utf8View),
        ("module", DataType::Utf8View),
        ("kind", DataType::Utf8View),
        ("seq", DataType::Int64),
        ("actor", DataType::Utf8View),
        ("sentence", DataType::Utf8View),
        ("incident_id", DataType::Utf8View),
        ("action_id", DataType::Utf8View),
        ("action", DataType::Utf8View),
        ("target", DataType::Utf8View),
        ("decision", DataType::Utf8View),
        ("reasons", DataType::Utf8View),
        ("policy_hash", DataType::Utf8View),
        ("input_hash", DataType::Utf8View),
        ("before", DataType::Utf8View),
        ("after", DataType::Utf8View),
        ("previous_hash", DataType::Utf8View),
        ("hash", DataType::Utf8View),
        ("entry", DataType::Utf8View),
        ("kafka_partition", DataType::Int32),
        ("kafka_offset", DataType::Int64),
    ])
});

/// The columns that are never null: those that order a table, and where the record stands in Kafka.
const REQUIRED: [&str; 6] = ["timestamp", "time", "window_start", "changed_at", "kafka_partition", "kafka_offset"];

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreTable {
    Logs,
    Metrics,
    Windows,
    Detections,
    IncidentChanges,
    Audit,
}

impl StoreTable {
    /// Every table.
    pub const ALL: [StoreTable; 6] = [
        StoreTable::Logs,
        StoreTable::Metrics,
        StoreTable::Windows,
        StoreTable::Detections,
        StoreTable::IncidentChanges,
        StoreTable::Audit,
    ];

    /// Its name in SQL, and of its folder in the store.
    pub fn name(self) -> &'static str {
        match self {
            StoreTable::Logs => "logs",
            StoreTable::Metrics => "metrics",
            StoreTable::Windows => "windows",
            StoreTable::Detections => "detections",
            StoreTable::IncidentChanges => "incident_changes",
            StoreTable::Audit => "audit",
        }
    }

    /// The columns that every installation has; [`windows_with`] adds the measures to `windows`.
    pub fn schema(self) -> SchemaRef {
        match self {
            StoreTable::Logs => logs(),
            StoreTable::Metrics => metrics(),
            StoreTable::Windows => windows(),
            StoreTable::Detections => detections(),
            StoreTable::IncidentChanges => incident_changes(),
            StoreTable::Audit => audit(),
        }
    }

    /// The column of event time: by it rows are kept, found and thrown away.
    pub fn time_column(self) -> &'static str {
        match self {
            StoreTable::Logs | StoreTable::Metrics => "timestamp",
            StoreTable::Windows => "window_start",
            StoreTable::Detections | StoreTable::Audit => "time",
            StoreTable::IncidentChanges => "changed_at",
        }
    }
}

fn table(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), !REQUIRED.contains(name));
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The columns of the table `logs`. `attributes` is the text of a JSON object, or null.
pub fn logs() -> SchemaRef {
    Arc::clone(&LOGS)
}

/// The columns of the table `metrics`.
pub fn metrics() -> SchemaRef {
    Arc::clone(&METRICS)
}

/// The columns of the table `windows` that do not depend on pipelines. `row` is the text of the closed window's JSON, as
/// it stands on `maturion.windows`.
pub fn windows() -> SchemaRef {
    Arc::clone(&WINDOWS)
}

/// The columns of the table `windows` of an installation: the fixed ones, then one number for each measure. A window has
/// null in the measures of other pipelines. A measure with the name of a fixed column stands in `row` only.
pub fn windows_with(measures: &[String]) -> SchemaRef {
    let is_new = |name: &&String| WINDOWS.column_with_name(name).is_none();
    let added = measures.iter().filter(is_new).map(|name| Arc::new(Field::new(name, DataType::Float64, true)));
    Arc::new(Schema::new(WINDOWS.fields().iter().cloned().chain(added).collect::<Vec<_>>()))
}

/// The columns of the table `detections`: one row for each message of the remediation topic. `change` is opened, updated
/// or resolved; `series`, `baseline` and `remedy` are texts of JSON objects, or null.
pub fn detections() -> SchemaRef {
    Arc::clone(&DETECTIONS)
}

/// The columns of the table `incident_changes`: one row for each message of `maturion.incidents`. `series`, `attempts`,
/// `ticket` and `acknowledged` are JSON texts, or null; `state` is the message itself.
pub fn incident_changes() -> SchemaRef {
    Arc::clone(&INCIDENT_CHANGES)
}

/// The columns of the table `audit`: one row for each message of `maturion.audit`, checkpoints (of the kind `checkpoint`)
/// among them. `reasons`, `before` and `after` are JSON texts, or null; `entry` is the message itself.
pub fn audit() -> SchemaRef {
    Arc::clone(&AUDIT)
}
