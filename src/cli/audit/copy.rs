//! The table `audit`, read in the order of the topic, each row compared with the entry that it holds.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};

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
    let schema = audit();
    let column = |name: &str, of: &DataType| {
        let missing = || Failure::work(format!("the table `audit` has no column `{name}`"));
        cast(batch.column_by_name(name).ok_or_else(missing)?, of).map_err(Failure::work)
    };
    let texts = column("entry", &DataType::Utf8)?;
    let (partitions, offsets) =
        (column("kafka_partition", &DataType::Int32)?, column("kafka_offset", &DataType::Int64)?);
    let texts = texts.as_string::<i32>();
    for row in 0..batch.num_rows() {
        let text = if texts.is_valid(row) { texts.value(row) } else { "" };
        verifier.take(text.as_bytes());
        let place = Place {
            partition: partitions.as_primitive::<Int32Type>().value(row),
            offset: offsets.as_primitive::<Int64Type>().value(row),
        };
        let mut made = AuditTable::default();
        if made.push(text.as_bytes(), place).is_err() {
            continue;
        }
        let made = made.finish().map_err(Failure::work)?;
        for (field, expected) in schema.fields().iter().zip(made.columns()) {
            let found = column(field.name(), field.data_type())?.slice(row, 1);
            if found.as_ref() != expected.as_ref() {
                verifier.refuse(format!("its column `{}` says something else", field.name()));
            }
        }
    }
    Ok(())
}
