//! Files of Parquet: which of their columns are read, and their row groups.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::files::Needed;
use crate::decode::Table;
use crate::model::pipeline::Micros;
use crate::model::schema::timestamp_type;

/// Rows that are read and aggregated at once.
const BATCH_ROWS: usize = 8_192;

/// One file, opened again for each row group: readers of one file descriptor would move each other.
pub(super) struct ParquetFile {
    path: PathBuf,
    pub(super) table: Table,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// For each row group the least event time in it and in those after it, where the file says so.
    rests: Vec<Option<Micros>>,
    /// Columns that the table does not have.
    pub(super) unknown: Vec<String>,
}

impl ParquetFile {
    /// Reads the metadata of a file; what it holds its columns tell, unless `table` does.
    pub(super) fn open(path: &Path, table: Option<Table>, needed: &Needed) -> Result<Self, String> {
        let in_words = |error: parquet::errors::ParquetError| error.to_string();
        let file = File::open(path).map_err(|error| error.to_string())?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(in_words)?;
        let schema = Arc::clone(metadata.schema());
        let has = |name: &str| schema.column_with_name(name).is_some();
        let guess = if has("name") && has("value") { Table::Metrics } else { Table::Logs };
        let table = table.unwrap_or(guess);
        check_time(&schema)?;
        let columns = table.schema();
        let names = schema.fields().iter().map(|field| field.name());
        let unknown = names.filter(|name| columns.column_with_name(name).is_none()).cloned().collect();
        let read = needed.of(table).iter().map(|column| columns.field(*column).name().as_str());
        let read = read.chain(["timestamp"]).filter_map(|name| Some(schema.column_with_name(name)?.0));
        let mask = ProjectionMask::roots(metadata.parquet_schema(), read);
        let rests = rests(&metadata, &schema);
        // Text is copied once less if it is read as views; a file that cannot be read so is read as it is.
        let options = ArrowReaderOptions::new().with_schema(with_views(&schema));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).unwrap_or(metadata);
        Ok(Self { path: path.to_owned(), table, metadata, mask, rests, unknown })
    }

    /// How many row groups it has.
    pub(super) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// Bytes of a row group, as they are on disk.
    pub(super) fn bytes_of(&self, row_group: usize) -> u64 {
        let bytes = self.metadata.metadata().row_group(row_group).compressed_size();
        u64::try_from(bytes).unwrap_or(0)
    }

    /// The least event time from a row group on; `None` if the file does not say.
    pub(super) fn rest(&self, row_group: usize) -> Option<Micros> {
        if row_group >= self.rests.len() { Some(Micros::MAX) } else { self.rests[row_group] }
    }

    /// The rows of a row group, with the columns that are needed.
    pub(super) fn read(&self, row_group: usize) -> Result<ParquetRecordBatchReader, String> {
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let builder = builder.with_row_groups(vec![row_group]).with_projection(self.mask.clone());
        builder.with_batch_size(BATCH_ROWS).build().map_err(|error| error.to_string())
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn check_time(schema: &Schema) -> Result<(), String> {
    match schema.column_with_name("timestamp").map(|(_, field)| field.data_type()) {
        Some(DataType::Timestamp(..)) => Ok(()),
        Some(other) => Err(format!("its column `timestamp` is {other}; it must be a timestamp")),
        None => Err("it has no column `timestamp`".to_owned()),
    }
}

fn with_views(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// For each row group the least event time from it on.
fn rests(metadata: &ArrowReaderMetadata, schema: &Schema) -> Vec<Option<Micros>> {
    let groups = metadata.metadata().row_groups();
    let Some(mins) = mins(metadata, schema) else { return vec![None; groups.len()] };
    let Ok(mins) = cast(&mins, &timestamp_type()) else { return vec![None; groups.len()] };
    let mins = mins.as_primitive::<TimestampMicrosecondType>();
    let mut rest = Some(Micros::MAX);
    let mut rests = Vec::with_capacity(groups.len());
    for group in (0..groups.len()).rev() {
        let min = mins.is_valid(group).then(|| mins.value(group));
        rest = rest.zip(min).map(|(rest, min)| rest.min(min));
        rests.push(rest);
    }
    rests.reverse();
    rests
}

fn mins(metadata: &ArrowReaderMetadata, schema: &Schema) -> Option<arrow::array::ArrayRef> {
    let converter = StatisticsConverter::try_new("timestamp", schema, metadata.parquet_schema()).ok()?;
    converter.row_group_mins(metadata.metadata().row_groups()).ok()
}

/// The rows of a batch whose event time is null, and the others.
pub(super) fn split_by_time(batch: RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>), String> {
    let times = batch.column_by_name("timestamp").ok_or("it has no column `timestamp`")?;
    if times.null_count() == 0 {
        return Ok((batch, None));
    }
    let in_words = |error: arrow::error::ArrowError| error.to_string();
    let (has, has_not) = (arrow::compute::is_not_null(times), arrow::compute::is_null(times));
    let with = arrow::compute::filter_record_batch(&batch, &has.map_err(in_words)?).map_err(in_words)?;
    let without = arrow::compute::filter_record_batch(&batch, &has_not.map_err(in_words)?).map_err(in_words)?;
    Ok((with, Some(without)))
}
