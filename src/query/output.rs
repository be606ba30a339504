//! Rows as text or bytes: for people, for programs, for whoever wants columns.
//!
//! Every format is written as the rows come, batch by batch, and nothing of it is held back but for the table, which
//! looks at the first rows to find the width of its columns.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thiserror::Error;

pub mod arrow_stream;
pub mod csv;
pub mod json;
pub mod table;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns of equal width, for people.
    Table,
    /// One array of objects.
    Json,
    /// RFC 4180 with a line of names; null is nothing, the empty text is `""`.
    Csv,
    /// The Arrow IPC stream.
    Arrow,
}

/// Rows that cannot be written in a format.
#[derive(Debug, Error)]
#[error("the rows cannot be written: {0}")]
pub struct OutputError(String);

impl OutputError {
    fn new(reason: impl std::fmt::Display) -> OutputError {
        OutputError(reason.to_string())
    }
}

/// Writes rows of one schema: what it returns, in the order in which it returns it, is the output.
pub trait Output: Send {
    /// The next rows.
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, OutputError>;

    /// What follows the last row. Without it the output is not whole.
    fn end(&mut self) -> Result<Vec<u8>, OutputError>;
}

impl Format {
    /// A writer for rows of these columns.
    pub fn output(self, schema: &SchemaRef) -> Result<Box<dyn Output>, OutputError> {
        Ok(match self {
            Format::Table => Box::new(table::Table::new(schema)),
            Format::Json => Box::new(json::Json::new()),
            Format::Csv => Box::new(csv::Csv::new(schema)),
            Format::Arrow => Box::new(arrow_stream::ArrowStream::new(schema)?),
        })
    }

    /// The media type of the output.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Table => "text/plain; charset=utf-8",
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}
