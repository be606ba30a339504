//! How a log record is written: the fields of the contract, in one order.

use super::activity::What;
use super::chance::Chance;
use super::json::{ObjectWriter, push_integer};
use super::platform::{MODULES, ORGANISATIONS, pair};
use crate::model::pipeline::Micros;

/// The release that all modules run.
const RELEASE: &str = "2025.12.1";

/// Who did it, and where.
pub(super) struct Who {
    organisation: usize,
    module: usize,
    user: i64,
    trace: (u64, u64),
}

impl Who {
    pub(super) fn new(chance: &mut Chance, organisation: usize, module: usize) -> Self {
        let users = ORGANISATIONS.get(organisation).map_or(1, |one| one.users);
        Self { organisation, module, user: chance.below(users) as i64, trace: (chance.next(), chance.next()) }
    }

    pub(super) fn key(&self) -> usize {
        pair(self.organisation, self.module)
    }

    fn write_head(&self, object: &mut ObjectWriter<'_>, time: Micros, source: Option<&str>, level: &str, event: &str) {
        object.plain_text("timestamp", |out| push_time(out, time));
        object.optional_text("organisation_id", ORGANISATIONS.get(self.organisation).map(|one| one.id));
        let module = MODULES.get(self.module);
        object.optional_text("module", module.map(|module| module.name));
        object.optional_text("source", source.or(module.map(|module| module.source)));
        object.text("level", level);
        object.text("event", event);
    }

    fn write_person(&self, object: &mut ObjectWriter<'_>) {
        object.plain_text("user_id", |out| {
            out.extend_from_slice(b"user_");
            push_integer(out, self.user);
        });
        object.plain_text("client_ip", |out| {
            out.extend_from_slice(b"10.");
            for (part, end) in [(self.organisation as i64, "."), (self.user / 256, "."), (self.user % 256, "")] {
                push_integer(out, part);
                out.extend_from_slice(end.as_bytes());
            }
        });
    }

    fn write_trace(&self, object: &mut ObjectWriter<'_>) {
        object.plain_text("trace_id", |out| {
            push_hex(out, self.trace.0);
            push_hex(out, self.trace.1);
        });
    }
}

/// Appends a request.
#[expect(clippy::too_many_arguments, reason = "the fields of one record, each named where it is written")]
pub(super) fn write_request(
    out: &mut Vec<u8>,
    time: Micros,
    who: &Who,
    method: &str,
    route: &str,
    status: i64,
    duration_ms: f64,
    bytes: i64,
) {
    let level = match status {
        500.. => "ERROR",
        400.. => "WARN",
        _ => "INFO",
    };
    ObjectWriter::write(out, |object| {
        who.write_head(object, time, None, level, "http_request");
        object.integer("status_code", status);
        object.thousandths("duration_ms", (duration_ms * 10.0).round() as i64 * 100);
        object.text("route", route);
        object.text("method", method);
        who.write_person(object);
        who.write_trace(object);
        object.object("attributes", |attributes| attributes.integer("bytes", bytes));
    });
}

/// Appends an exception, as `exceptions` and the plan's critical level read it.
pub(super) fn write_exception(
    out: &mut Vec<u8>,
    time: Micros,
    who: &Who,
    exception: &str,
    text: &str,
    route: Option<&str>,
    handled: bool,
) {
    ObjectWriter::write(out, |object| {
        who.write_head(object, time, None, if handled { "WARN" } else { "ERROR" }, "exception");
        object.text("message", text);
        object.optional_text("route", route);
        object.text("exception_type", exception);
        object.boolean("handled", handled);
        who.write_trace(object);
        object.object("attributes", |attributes| attributes.text("release", RELEASE));
    });
}

/// Appends anything that is neither a request nor an exception.
pub(super) fn write_event(out: &mut Vec<u8>, time: Micros, who: &Who, what: What, duration_ms: f64, rows: i64) {
    let (source, level, event, message) = match what {
        What::Request { route, .. } => (None, "INFO", "http_request", route),
        What::LoginFailure => (None, "WARN", "login_failure", "invalid login credentials"),
        What::Export => (Some("audit"), "INFO", "export", "risk assessments exported as CSV"),
        What::Integration => (None, "INFO", "integration", "delivered to webhook"),
        What::SlowQuery { statement } => (Some("database"), "WARN", "slow_query", statement),
        What::DataChange { table, .. } => (Some("audit"), "INFO", "data_change", table),
    };
    ObjectWriter::write(out, |object| {
        who.write_head(object, time, source, level, event);
        object.text("message", message);
        match what {
            What::SlowQuery { .. } | What::Integration => {
                object.thousandths("duration_ms", (duration_ms * 10.0).round() as i64 * 100);
            }
            What::DataChange { operation, .. } => {
                object.text("operation", operation);
                object.integer("rows_affected", rows);
            }
            What::Export => object.integer("rows_affected", rows * 100),
            What::LoginFailure | What::Request { .. } => {}
        }
        who.write_person(object);
        who.write_trace(object);
        object.object("attributes", |attributes| attributes.text("release", RELEASE));
    });
}

/// Appends RFC 3339 with milliseconds. Days become a date as in Howard Hinnant's "chrono-compatible low-level date
/// algorithms"; formatting through `chrono` would be the most expensive part of a record.
pub(super) fn push_time(out: &mut Vec<u8>, time: Micros) {
    let ms = time.div_euclid(1_000);
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let fields = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (of_day / 3_600_000, 2, b':'),
        (of_day / 60_000 % 60, 2, b':'),
        (of_day / 1_000 % 60, 2, b'.'),
        (of_day % 1_000, 3, b'Z'),
    ];
    for (value, digits, end) in fields {
        push_padded(out, value, digits);
        out.push(end);
    }
}

fn push_padded(out: &mut Vec<u8>, value: i64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b'0' + (value / 10_i64.pow(place)).rem_euclid(10) as u8);
    }
}

fn push_hex(out: &mut Vec<u8>, value: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend(value.to_be_bytes().iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
}
