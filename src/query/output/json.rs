//! Rows as one JSON array of objects. Times are RFC 3339 in UTC; every object has every column, null if it has no value.

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

use super::{Output, OutputError};

/// Writes a JSON array, one object per line.
#[derive(Default)]
pub struct Json {
    has_rows: bool,
}

impl Json {
    /// An array without objects yet.
    pub fn new() -> Json {
        Json::default()
    }
}

impl Output for Json {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, OutputError> {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(vec![]);
        writer.write(batch).map_err(OutputError::new)?;
        let mut output = vec![];
        // No line end stands inside of an object: JSON writes those in texts as \n.
        for object in writer.into_inner().split(|byte| *byte == b'\n').filter(|object| !object.is_empty()) {
            output.extend_from_slice(if self.has_rows { b",\n" } else { b"[" });
            output.extend_from_slice(object);
            self.has_rows = true;
        }
        Ok(output)
    }

    fn end(&mut self) -> Result<Vec<u8>, OutputError> {
        Ok(if self.has_rows { b"]\n".to_vec() } else { b"[]\n".to_vec() })
    }
}
