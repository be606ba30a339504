//! The columns of a batch under construction.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringViewBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use crate::model::pipeline::Micros;

/// The block in which a column collects text longer than 12 bytes. Fixed: arrow's own grows to 2 MB and stays there.
const TEXT_BLOCK_BYTES: u32 = 64 * 1024;

/// One value of one row.
pub(super) enum Cell<'a> {
    Time(Micros),
    Text(&'a str),
    Number(f64),
    Whole(i64),
    Truth(bool),
    Null,
}

/// Rows of one schema.
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    Time(TimestampMicrosecondBuilder),
    Text(StringViewBuilder),
    Number(Float64Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Truth(BooleanBuilder),
}

impl Columns {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| Column::new(field.data_type())).collect();
        Columns { schema, columns, rows: 0 }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Appends one row: for each column, what `cell` says of its name.
    pub(super) fn append<'a>(&mut self, cell: impl Fn(&str) -> Cell<'a>) {
        for (field, column) in self.schema.fields().iter().zip(&mut self.columns) {
            column.append(cell(field.name()));
        }
        self.rows += 1;
    }

    /// The rows since the last call. It fails only if a column that is never null has got no value.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), self.columns.iter_mut().map(Column::finish).collect())
    }
}

impl Column {
    /// The tables have no other types than these.
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Timestamp(..) => {
                Column::Time(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::Float64 => Column::Number(Float64Builder::new()),
            DataType::Int32 => Column::Int32(Int32Builder::new()),
            DataType::Int64 => Column::Int64(Int64Builder::new()),
            DataType::Boolean => Column::Truth(BooleanBuilder::new()),
            _ => Column::Text(StringViewBuilder::new().with_fixed_block_size(TEXT_BLOCK_BYTES)),
        }
    }

    fn append(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Column::Time(column), Cell::Time(value)) => column.append_value(value),
            (Column::Text(column), Cell::Text(value)) => column.append_value(value),
            (Column::Number(column), Cell::Number(value)) => column.append_value(value),
            (Column::Int32(column), Cell::Whole(value)) => column.append_option(i32::try_from(value).ok()),
            (Column::Int64(column), Cell::Whole(value)) => column.append_value(value),
            (Column::Truth(column), Cell::Truth(value)) => column.append_value(value),
            (column, _) => column.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Column::Time(column) => column.append_null(),
            Column::Text(column) => column.append_null(),
            Column::Number(column) => column.append_null(),
            Column::Int32(column) => column.append_null(),
            Column::Int64(column) => column.append_null(),
            Column::Truth(column) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Time(column) => Arc::new(column.finish()),
            Column::Text(column) => Arc::new(column.finish()),
            Column::Number(column) => Arc::new(column.finish()),
            Column::Int32(column) => Arc::new(column.finish()),
            Column::Int64(column) => Arc::new(column.finish()),
            Column::Truth(column) => Arc::new(column.finish()),
        }
    }
}
