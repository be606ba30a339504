//! Rows as columns of equal width, for people. Rows hold what producers wrote, so no control character reaches a terminal.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Output, OutputError};

/// Rows that are looked at for the width of the columns, before the first is written. Later ones may be wider.
const LOOK_AHEAD: usize = 1_000;
/// No column is made wider than this for one long value.
const WIDTH_MAX: usize = 60;

/// Writes a table.
pub struct Table {
    names: Vec<String>,
    waiting: Vec<Vec<String>>,
    /// Known once the first rows were seen.
    widths: Option<Vec<usize>>,
    rows: usize,
}

impl Table {
    /// A table without rows yet.
    pub fn new(schema: &SchemaRef) -> Table {
        let names = schema.fields().iter().map(|field| printable(field.name())).collect();
        Table { names, waiting: vec![], widths: None, rows: 0 }
    }

    /// Writes what waits, the names first if nothing was written before.
    fn written(&mut self) -> Vec<u8> {
        let mut text = String::new();
        let widths = match self.widths.take() {
            Some(widths) => widths,
            None => {
                let widths = widths(&self.names, &self.waiting);
                line(&mut text, &self.names, &widths);
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                line(&mut text, &rule, &widths);
                widths
            }
        };
        for row in self.waiting.drain(..) {
            line(&mut text, &row, &widths);
        }
        self.widths = Some(widths);
        text.into_bytes()
    }
}

impl Output for Table {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, OutputError> {
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(OutputError::new)?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.value(row).try_to_string().map(|cell| printable(&cell)));
            self.waiting.push(cells.collect::<Result<_, _>>().map_err(OutputError::new)?);
        }
        self.rows += batch.num_rows();
        let looked_far_enough = self.widths.is_some() || self.waiting.len() >= LOOK_AHEAD;
        Ok(if looked_far_enough { self.written() } else { vec![] })
    }

    fn end(&mut self) -> Result<Vec<u8>, OutputError> {
        let mut output = self.written();
        let plural = if self.rows == 1 { "" } else { "s" };
        output.extend_from_slice(format!("({} row{plural})\n", self.rows).as_bytes());
        Ok(output)
    }
}

fn printable(cell: &str) -> String {
    cell.replace(char::is_control, "\u{fffd}")
}

fn widths(names: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |(column, name): (usize, &String)| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).min(WIDTH_MAX).max(name.chars().count())
    };
    names.iter().enumerate().map(width).collect()
}

fn line(text: &mut String, cells: &[String], widths: &[usize]) {
    let start = text.len();
    for (cell, width) in cells.iter().zip(widths) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{cell:width$}  ");
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}
