//! The Arrow schemas of `logs` and `metrics`: the only place where a column's name and type are spelled.

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

/// The columns that no producer sets, and that are therefore never null: event time and where the record stands in Kafka.
const REQUIRED: [&str; 3] = ["timestamp", "kafka_partition", "kafka_offset"];

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
