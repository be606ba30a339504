//! Telemetry records as they are: nothing of a line changes but, if it is shifted, its timestamp.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Replayed;
use crate::decode::timestamp;
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;
use crate::simulate::Kind;

/// The fields that matter here, as they are written.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// Writes the record of one line: a metric if it has a name and a value, else a log.
pub(super) fn convert(line: &str, shift: Micros, out: &mut Vec<u8>) -> Result<Replayed, String> {
    if !line.trim_start().starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    let fields: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let stamp = fields.timestamp.map(RawValue::get);
    let time = stamp.and_then(read_time).map(|time| time + shift);
    match (stamp, time) {
        (Some(stamp), Some(time)) if shift != 0 => {
            // The raw value borrows from the line, so its address tells where in the line it stands.
            let start = stamp.as_ptr().addr().wrapping_sub(line.as_ptr().addr());
            let (before, rest) = line.split_at_checked(start).ok_or("no place of the timestamp")?;
            let after = rest.get(stamp.len()..).unwrap_or_default();
            for part in [before, "\"", &format_time(time), "\"", after] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        _ => out.extend_from_slice(line.as_bytes()),
    }
    let kind = if fields.name.is_some() && fields.value.is_some() { Kind::Metrics } else { Kind::Logs };
    Ok(Replayed { kind, key: None, time })
}

fn read_time(stamp: &str) -> Option<Micros> {
    match serde_json::from_str::<&str>(stamp) {
        Ok(text) => timestamp::from_text(text).ok(),
        Err(_) => {
            timestamp::from_number(stamp).ok().filter(|_| stamp.starts_with(|first: char| first.is_ascii_digit()))
        }
    }
}
