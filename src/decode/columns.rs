//! The columns of a batch under construction.

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, StringViewBuilder,
    TimestampMicrosecondBuilder, new_null_array,
};
use arrow::datatypes::DataType;

use super::Incoming;
use super::fields::{Kind, Slot};
use super::json::unescape;
use crate::model::pipeline::Micros;

/// The block in which a column collects text longer than 12 bytes. Fixed: arrow's own grows to 2 MB and stays there, for
/// each column of every later batch, however small.
const TEXT_BLOCK_BYTES: u32 = 64 * 1024;

/// One column.
pub enum Column {
    Time(TimestampMicrosecondBuilder),
    Text(StringViewBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Attributes(StringViewBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    /// A column that nobody reads: nulls, of which each batch takes as many as it has rows.
    Unread(ArrayRef),
}

/// What a row has beside the fields of its record.
pub struct Rest<'a> {
    pub time: Micros,
    pub attributes: Option<&'a str>,
    pub record: &'a Incoming<'a>,
}

impl Column {
    pub fn new(kind: Kind, data_type: &DataType) -> Self {
        let text = || StringViewBuilder::new().with_fixed_block_size(TEXT_BLOCK_BYTES);
        match kind {
            Kind::Time => Column::Time(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone())),
            Kind::Text | Kind::Level => Column::Text(text()),
            Kind::Int32 => Column::Int32(Int32Builder::new()),
            Kind::Int64 => Column::Int64(Int64Builder::new()),
            Kind::Float => Column::Float(Float64Builder::new()),
            Kind::Bool => Column::Bool(BooleanBuilder::new()),
            Kind::Attributes => Column::Attributes(text()),
            Kind::Partition => Column::Partition(Int32Builder::new()),
            Kind::Offset => Column::Offset(Int64Builder::new()),
        }
    }

    /// Appends one value; `scratch` is for text with escapes.
    #[inline(always)]
    pub fn append(&mut self, slot: &Slot<'_>, rest: &Rest<'_>, scratch: &mut String) {
        match (self, slot) {
            (Column::Time(column), _) => column.append_value(rest.time),
            (Column::Attributes(column), _) => column.append_option(rest.attributes),
            (Column::Partition(column), _) => column.append_value(rest.record.partition),
            (Column::Offset(column), _) => column.append_value(rest.record.offset),
            (Column::Text(column), Slot::Text(text)) => column.append_value(text),
            (Column::Text(column), Slot::Escaped(raw)) => {
                scratch.clear();
                unescape(raw, scratch);
                column.append_value(&*scratch);
            }
            (Column::Int32(column), Slot::Int(value)) => column.append_option(i32::try_from(*value).ok()),
            (Column::Int64(column), Slot::Int(value)) => column.append_value(*value),
            (Column::Float(column), Slot::Float(value)) => column.append_value(*value),
            (Column::Bool(column), Slot::Bool(value)) => column.append_value(*value),
            (column, _) => column.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Column::Text(column) | Column::Attributes(column) => column.append_null(),
            Column::Time(column) => column.append_null(),
            Column::Int32(column) | Column::Partition(column) => column.append_null(),
            Column::Int64(column) | Column::Offset(column) => column.append_null(),
            Column::Float(column) => column.append_null(),
            Column::Bool(column) => column.append_null(),
            Column::Unread(_) => {}
        }
    }

    /// A column that nobody reads.
    pub fn unread(data_type: &DataType) -> Self {
        Column::Unread(new_null_array(data_type, 0))
    }

    /// The values appended since the last call, which are `rows`.
    pub fn finish(&mut self, rows: usize) -> ArrayRef {
        let builder: &mut dyn ArrayBuilder = match self {
            Column::Text(column) | Column::Attributes(column) => column,
            Column::Time(column) => column,
            Column::Int32(column) | Column::Partition(column) => column,
            Column::Int64(column) | Column::Offset(column) => column,
            Column::Float(column) => column,
            Column::Bool(column) => column,
            Column::Unread(nulls) => {
                if nulls.len() < rows {
                    *nulls = new_null_array(nulls.data_type(), rows);
                }
                return nulls.slice(0, rows);
            }
        };
        builder.finish()
    }
}
