//! A closed window's rows, as the detector and the topic `maturion.windows` want them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::json::LineDelimitedWriter;
use datafusion::common::Result;

use super::partial::LabelReader;
use super::plan::WindowPlan;
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;
use crate::model::series::Series;

/// The series of each row.
pub fn series_of(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<Series>> {
    let names = plan.series.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    let columns = plan.series.iter().map(|(_, place)| rows.column(*place).clone()).collect::<Vec<_>>();
    let labels = LabelReader::new(&names, &columns)?;
    Ok((0..rows.num_rows()).map(|row| labels.series(row)).collect())
}

/// The named columns as numbers, row by row: `measures[row][column]`; null is `None`.
pub fn measures_of(rows: &RecordBatch, columns: &[String]) -> Result<Vec<Vec<Option<f64>>>> {
    let columns = columns.iter().map(|name| match rows.column_by_name(name) {
        Some(column) => cast(column, &DataType::Float64),
        None => Ok(arrow::array::new_null_array(&DataType::Float64, rows.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    let columns = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect::<Vec<_>>();
    let value = |column: &arrow::array::Float64Array, row| column.is_valid(row).then(|| column.value(row));
    Ok((0..rows.num_rows()).map(|row| columns.iter().map(|column| value(column, row)).collect()).collect())
}

/// Each row as the JSON of `maturion.windows`: pipeline, window and the statement's columns.
pub fn to_json(plan: &WindowPlan, start: Micros, end: Micros, rows: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let others = (0..rows.num_columns()).filter(|column| *column != plan.window_start).collect::<Vec<_>>();
    let rows = rows.project(&others)?;
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write(&rows)?;
    writer.finish()?;
    let head = format!(
        "{{\"pipeline\":\"{}\",\"window_start\":\"{}\",\"window_end\":\"{}\"",
        plan.pipeline,
        format_time(start),
        format_time(end)
    );
    let lines = LineDelimitedWriter::into_inner(writer);
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| line.len() > 1);
    Ok(lines.map(|line| join(head.as_bytes(), line)).collect())
}

/// Puts the head's members before those of the row, which is a JSON object.
fn join(head: &[u8], row: &[u8]) -> Vec<u8> {
    let mut value = head.to_vec();
    if row != b"{}" {
        value.push(b',');
    }
    value.extend_from_slice(row.get(1..).unwrap_or_default());
    value
}
