//! The table `audit`, read in the order of the topic, each row compared with the entry that it holds.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int32Type, Int64Type};

use crate::audit::Verifier;
use crate::cli::Failure;
use crate::cli::tables;
use crate::config::Config;
use crate::evaluate::tables::{AuditTable, Place};
use crate::model::schema::audit;
use crate::serve::Question;

/// Offsets that are asked for at once: their rows are sorted in memory.
const OFFSETS_AT_ONCE: i64 = 10_000;

/// Shows the whole table to a verifier.
pub(in crate::cli) fn read_table(config: &Config, verifier: &mut Verifier) -> Result<(), Failure> {
    let ask = |sql: String| -> Result<Vec<RecordBatch>, Failure> {
        tables::ask(config, Question { sql, tenant: None })?.batches.collect()
    };
    let bounds = ask("SELECT min(kafka_offset), max(kafka_offset) FROM audit".to_owned())?;
    let Some((mut from, last)) = bounds.first().and_then(ends) else { return Ok(()) };
    while from <= last {
        let to = from.saturating_add(OFFSETS_AT_ONCE);
        let rows = ask(format!(
            "SELECT * FROM audit WHERE kafka_offset >= {from} AND kafka_offset < {to} ORDER BY kafka_offset, kafka_partition"
        ))?;
        rows.iter().try_for_each(|batch| take(batch, verifier))?;
        from = to;
    }
    Ok(())
}

/// The two numbers of a row.
fn ends(batch: &RecordBatch) -> Option<(i64, i64)> {
    let number = |column: usize| {
        let column = batch.column(column).as_primitive_opt::<Int64Type>()?;
        (batch.num_rows() == 1 && column.is_valid(0)).then(|| column.value(0))
    };
    Some((number(0)?, number(1)?))
}

/// Takes each row's entry, and compares the row with what the entry makes.
fn take(batch: &RecordBatch, verifier: &mut Verifier) -> Result<(), Failure> {
    let found = conformed(batch)?;
    let texts = texts(&found)?;
    let made = made(&found, &texts)?;
    for (row, text) in texts.iter().enumerate() {
        verifier.take(text.as_bytes());
        // What makes no row was refused just now, and after that nothing is compared.
        if row < made.num_rows() {
            let differs = |column: &usize| found.column(*column).slice(row, 1) != made.column(*column).slice(row, 1);
            if let Some(column) = (0..made.num_columns()).find(differs) {
                verifier.refuse(format!("its column `{}` says something else", made.schema().field(column).name()));
            }
        }
    }
    Ok(())
}

/// The columns as the table has them, whoever sent them.
fn conformed(batch: &RecordBatch) -> Result<RecordBatch, Failure> {
    let schema = audit();
    let column = |field: &arrow::datatypes::FieldRef| {
        let missing = || Failure::work(format!("the table `audit` has no column `{}`", field.name()));
        cast(batch.column_by_name(field.name()).ok_or_else(missing)?, field.data_type()).map_err(Failure::work)
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns).map_err(Failure::work)
}

fn texts(found: &RecordBatch) -> Result<Vec<&str>, Failure> {
    let missing = || Failure::work("the table `audit` has no column `entry`");
    let texts = found.column_by_name("entry").and_then(|column| column.as_string_view_opt()).ok_or_else(missing)?;
    Ok(texts.iter().map(Option::unwrap_or_default).collect())
}

/// The rows that the entries make, up to the first that makes none.
fn made(found: &RecordBatch, texts: &[&str]) -> Result<RecordBatch, Failure> {
    let missing = || Failure::work("the table `audit` does not say where its entries stand in Kafka");
    let partitions = found.column_by_name("kafka_partition").and_then(|column| column.as_primitive_opt::<Int32Type>());
    let offsets = found.column_by_name("kafka_offset").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (partitions, offsets) = (partitions.ok_or_else(missing)?, offsets.ok_or_else(missing)?);
    let mut made = AuditTable::default();
    for (row, text) in texts.iter().enumerate() {
        let place = Place { partition: partitions.value(row), offset: offsets.value(row) };
        if made.push(text.as_bytes(), place).is_err() {
            break;
        }
    }
    made.finish().map_err(Failure::work)
}
