//! Rows as an Arrow IPC stream: types and all.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;

use super::{Output, OutputError};

/// Writes an Arrow IPC stream.
pub struct ArrowStream(StreamWriter<Vec<u8>>);

impl ArrowStream {
    /// The schema is part of the first output.
    pub fn new(schema: &SchemaRef) -> Result<ArrowStream, OutputError> {
        StreamWriter::try_new(vec![], schema).map(ArrowStream).map_err(OutputError::new)
    }

    fn taken(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}

impl Output for ArrowStream {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, OutputError> {
        self.0.write(batch).map_err(OutputError::new)?;
        Ok(self.taken())
    }

    fn end(&mut self) -> Result<Vec<u8>, OutputError> {
        self.0.finish().map_err(OutputError::new)?;
        Ok(self.taken())
    }
}
