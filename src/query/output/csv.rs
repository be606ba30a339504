//! Rows as CSV (RFC 4180) with a line of names. Null is nothing between commas; the empty text is `""`.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Output, OutputError};

/// Writes CSV.
pub struct Csv {
    head: Vec<u8>,
}

impl Csv {
    /// The line of names is part of the first output.
    pub fn new(schema: &SchemaRef) -> Csv {
        let mut head = vec![];
        let names = schema.fields().iter().map(|field| Some(field.name().as_str()));
        line(&mut head, names);
        Csv { head }
    }
}

impl Output for Csv {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, OutputError> {
        let mut output = std::mem::take(&mut self.head);
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(OutputError::new)?;
        // A column of the type null has no other sign of its nulls.
        let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(columns.len());
            for (nulls, column) in nulls.iter().zip(&columns) {
                let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                let cell = if is_null { Ok(None) } else { column.value(row).try_to_string().map(Some) };
                cells.push(cell.map_err(OutputError::new)?);
            }
            line(&mut output, cells.iter().map(Option::as_deref));
        }
        Ok(output)
    }

    fn end(&mut self) -> Result<Vec<u8>, OutputError> {
        Ok(std::mem::take(&mut self.head))
    }
}

/// One line. The `csv` crate has no null, so the quotes are written here.
fn line<'a>(output: &mut Vec<u8>, cells: impl Iterator<Item = Option<&'a str>>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            output.push(b',');
        }
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains([',', '"', '\r', '\n']) => {
                output.push(b'"');
                output.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                output.push(b'"');
            }
            Some(text) => output.extend_from_slice(text.as_bytes()),
        }
    }
    output.extend_from_slice(b"\r\n");
}
