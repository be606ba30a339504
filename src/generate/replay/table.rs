//! CSV with a timestamp and a value in each row, as metric records.

use std::io::Read;

use chrono::NaiveDateTime;
use csv::StringRecord;

use super::{Failure, Labels, Malformed, Replayed, Visit};
use crate::decode::timestamp;
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;
use crate::simulate::Kind;
use crate::simulate::json::ObjectWriter;

/// Visits every row. Columns other than `timestamp` and `value` become attributes.
pub(super) fn visit(input: impl Read, labels: &Labels, shift: Micros, visit: &mut Visit<'_>) -> Result<(), Failure> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(input);
    let header = reader.headers().map_err(read_error)?.clone();
    let (mut row, mut value) = (StringRecord::new(), Vec::new());
    loop {
        let read = reader.read_record(&mut row);
        let line = row.position().map_or(reader.position().line(), csv::Position::line);
        value.clear();
        let record = match read {
            Ok(false) => return Ok(()),
            Ok(true) => convert(&header, &row, labels, shift, &mut value),
            Err(error) if error.is_io_error() => return Err(read_error(error)),
            Err(error) => Err(error.to_string()),
        };
        if !visit(record.map_err(|reason| Malformed { line, reason }), &value).map_err(Failure::Visit)? {
            return Ok(());
        }
    }
}

fn read_error(error: csv::Error) -> Failure {
    Failure::Read(std::io::Error::other(error))
}

/// Writes the record of one row. The key is the metric's name, so that its values stay in order.
fn convert(
    header: &StringRecord,
    row: &StringRecord,
    labels: &Labels,
    shift: Micros,
    out: &mut Vec<u8>,
) -> Result<Replayed, String> {
    let column = |name: &str| header.iter().position(|column| column == name).and_then(|at| row.get(at));
    let stamp = column("timestamp").ok_or("no column `timestamp`")?;
    let time = read_time(stamp).ok_or_else(|| format!("no time: `{stamp}`"))? + shift;
    let text = column("value").ok_or("no column `value`")?;
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.ok_or_else(|| format!("no number: `{text}`"))?;
    let others = || header.iter().zip(row).filter(|(name, _)| !matches!(*name, "timestamp" | "value"));
    ObjectWriter::write(out, |object| {
        object.text("timestamp", &format_time(time));
        object.optional_text("organisation_id", labels.organisation.as_deref());
        object.optional_text("module", labels.module.as_deref());
        object.optional_text("name", labels.name.as_deref());
        object.number("value", number);
        if others().next().is_some() {
            let attributes: serde_json::Map<_, _> =
                others().map(|(name, cell)| (name.to_owned(), cell.into())).collect();
            object.value("attributes", &attributes.into());
        }
    });
    Ok(Replayed { kind: Kind::Metrics, key: labels.name.clone(), time: Some(time) })
}

/// `2014-02-14 14:30:00` is UTC, as in the files of the Numenta Anomaly Benchmark; else as in a record.
fn read_time(text: &str) -> Option<Micros> {
    let plain = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok();
    let exact = || timestamp::from_text(text).ok();
    let number = || timestamp::from_number(text).ok().filter(|_| text.parse::<f64>().is_ok());
    plain.map(|time| time.and_utc().timestamp_micros()).or_else(exact).or_else(number)
}
