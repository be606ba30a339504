//! Rows as Parquet files of a Delta table: sorted, so that a statement opens little; divided by day and by how long
//! they are kept, so that expiry deletes whole files.
//!
//! The schema of the files is the table's with plain texts instead of views, then the two partition columns.

use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, RecordBatch, new_null_array};
use arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::Add;
use object_store::ObjectStore;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::StoreError;
use super::files::{DAY, KEPT_DAYS};
use super::retention::{self, DAY_MICROS};
use crate::model::schema::StoreTable;

/// Rows of one row group: what a statement reads at least. Fewer prune better and compress worse.
const ROW_GROUP_ROWS: usize = 64 * 1024;
/// A file is closed at this size.
const FILE_BYTES_MAX: NonZeroU64 = NonZeroU64::MIN.saturating_add(128 * 1024 * 1024 - 1);
/// Columns, from the left, whose least and largest value stand in the log. The wide texts come after them.
pub const INDEXED_COLUMNS: usize = 4;

/// What a table's files have: plain texts for views, and the partition columns at the end.
pub fn stored_schema(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    let partition = [Field::new(DAY, DataType::Date32, true), Field::new(KEPT_DAYS, DataType::Int32, true)];
    let fields = schema.fields().iter().map(plain).chain(partition.map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows with the columns of a table in SQL; a column that they do not have is null.
pub fn conform(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch, StoreError> {
    let column = |field: &Arc<Field>| match rows.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Writes rows of `table` (of its SQL schema) as files below `folder`; the actions that add them.
pub async fn write(
    table: StoreTable,
    schema: &SchemaRef,
    folder: Arc<dyn ObjectStore>,
    batches: &[RecordBatch],
) -> Result<Vec<Add>, StoreError> {
    let stored = stored_schema(schema);
    let sorted = sorted(table, &concat_batches(schema, batches)?)?;
    let rows = divided(table, &stored, &sorted)?;
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let partition = vec![DAY.to_owned(), KEPT_DAYS.to_owned()];
    let indexed = stored.fields().iter().take(INDEXED_COLUMNS).map(|field| field.name().clone()).collect();
    let config = WriterConfig::new(
        stored,
        partition,
        Some(properties),
        Some(FILE_BYTES_MAX),
        None,
        Default::default(),
        Some(indexed),
    );
    let mut writer = DeltaWriter::new(folder, config);
    writer.write(&rows).await?;
    Ok(writer.close().await?)
}

/// By organisation, module and event time: the rows of one tenant and module lie together, in time. Windows by pipeline
/// first: every question about them names one.
fn sorted(table: StoreTable, rows: &RecordBatch) -> Result<RecordBatch, StoreError> {
    let first = (table == StoreTable::Windows).then_some("pipeline");
    let columns = first.into_iter().chain(["organisation_id", "module", table.time_column()]);
    let columns = columns.filter_map(|name| rows.column_by_name(name));
    let columns = columns.map(|values| SortColumn { values: Arc::clone(values), options: None });
    let order = lexsort_to_indices(&columns.collect::<Vec<_>>(), None)?;
    let columns = rows.columns().iter().map(|column| take(column, &order, None)).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

fn divided(table: StoreTable, stored: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch, StoreError> {
    let times = rows.column_by_name(table.time_column()).ok_or_else(|| StoreError::Schema(table.name()))?;
    let days = times.as_primitive::<TimestampMicrosecondType>();
    let days: Date32Array = days.unary(|time| i32::try_from(time.div_euclid(DAY_MICROS)).unwrap_or(i32::MAX));
    let plain = rows.columns().iter().zip(stored.fields()).map(|(column, field)| cast(column, field.data_type()));
    let mut columns = plain.collect::<Result<Vec<ArrayRef>, _>>()?;
    columns.push(Arc::new(days));
    columns.push(Arc::new(retention::kept_days(table, rows)));
    Ok(RecordBatch::try_new(Arc::clone(stored), columns)?)
}
