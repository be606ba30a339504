//! Generated records: a steady stream of one kind, and phases in which it is different.
//!
//! The same numbers give the same records. Shares are exact: of a hundred requests with `errors = 0.05`, five fail, evenly
//! spread.

use crate::config::document::{DocumentError, Located, Table};
use crate::decode;
use crate::decode::timestamp;
use crate::model::pipeline::Micros;
use crate::simulate::json::ObjectWriter;

/// Records that one generator may give: a case is to be run in a moment.
const RECORDS_MAX: f64 = 2_000_000.0;
/// When generated records begin unless a case says otherwise: 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000_000_000;
const SECOND: f64 = 1_000_000.0;

/// A stream of records.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    module: Option<String>,
    organisations: Vec<Option<String>>,
    start: Micros,
    length: Micros,
    /// The metric's name; without one, requests.
    metric: Option<String>,
    normal: Manner,
    phases: Vec<Phase>,
}

/// What records are like.
#[derive(Clone, Debug)]
struct Manner {
    /// Records per second of each organisation.
    rate: f64,
    /// The share of requests that fail.
    errors: f64,
    latency_ms: f64,
    /// The type of the exception that each request has.
    exception: Option<String>,
    is_handled: bool,
    /// Of the metric.
    value: f64,
}

/// A time in which records are different.
#[derive(Clone, Debug)]
struct Phase {
    from: Micros,
    to: Micros,
    manner: Manner,
}

const MANNER: [&str; 6] = ["rate", "errors", "latency_ms", "exception", "handled", "value"];

/// Reads `[generate]`.
pub(super) fn read(mut table: Table) -> Result<Generator, DocumentError> {
    let own = ["module", "organisation", "organisations", "start", "for", "metric", "phases"];
    table.allow_only(&[own.as_slice(), &MANNER].concat())?;
    let text = |table: &mut Table, key: &str| Ok::<_, DocumentError>(table.text(key)?.map(|text| text.value));
    let start = match table.text("start")? {
        Some(start) => timestamp::from_text(&start.value)
            .map_err(|_| start.origin.error(format!("`start` must be a time, not \"{}\"", start.value)))?,
        None => START,
    };
    let length = length(&mut table, "for")?.ok_or_else(|| table.missing("for"))?;
    let normal = manner(&mut table, &Manner::NORMAL)?;
    let phases = table.tables("phases")?.into_iter().map(|phase| read_phase(phase, &normal, length.value));
    let phases = phases.collect::<Result<Vec<_>, _>>()?;
    let organisations = match (table.text("organisation")?, table.texts("organisations")?) {
        (Some(_), Some(several)) => {
            return Err(several.origin.error("`organisation` and `organisations` exclude each other"));
        }
        (one, None) => vec![one.map(|one| one.value)],
        (None, Some(several)) => several.value.into_iter().map(Some).collect(),
    };
    let (module, metric) = (text(&mut table, "module")?, text(&mut table, "metric")?);
    let generator = Generator { module, organisations, start, length: length.value, metric, normal, phases };
    if generator.size() > RECORDS_MAX {
        return Err(length.origin.error(format!("these are more than {RECORDS_MAX} records; lower `rate` or `for`")));
    }
    Ok(generator)
}

fn read_phase(mut table: Table, normal: &Manner, length_max: Micros) -> Result<Phase, DocumentError> {
    table.allow_only(&[["from", "to"].as_slice(), &MANNER].concat())?;
    let origin = table.origin.clone();
    let from = length(&mut table, "from")?.map_or(0, |from| from.value);
    let to = length(&mut table, "to")?.map_or(length_max, |to| to.value);
    if from >= to {
        return Err(origin.error("`from` must come before `to`"));
    }
    Ok(Phase { from, to, manner: manner(&mut table, normal)? })
}

/// What is written, over what is normal.
fn manner(table: &mut Table, normal: &Manner) -> Result<Manner, DocumentError> {
    let share = table.number("errors")?;
    if let Some(wrong) = share.as_ref().filter(|share| !(0.0..=1.0).contains(&share.value)) {
        return Err(wrong.origin.error(format!("`errors` is a share from 0 to 1, not {}", wrong.value)));
    }
    let rate = table.number("rate")?;
    if let Some(wrong) = rate.as_ref().filter(|rate| !(0.0..=RECORDS_MAX).contains(&rate.value)) {
        return Err(wrong.origin.error(format!("`rate` is records per second, not {}", wrong.value)));
    }
    let number = |written: Option<Located<f64>>, normal: f64| written.map_or(normal, |written| written.value);
    Ok(Manner {
        rate: number(rate, normal.rate),
        errors: number(share, normal.errors),
        latency_ms: number(table.number("latency_ms")?, normal.latency_ms),
        exception: table.text("exception")?.map(|text| text.value).or_else(|| normal.exception.clone()),
        is_handled: table.boolean("handled")?.map_or(normal.is_handled, |handled| handled.value),
        value: number(table.number("value")?, normal.value),
    })
}

fn length(table: &mut Table, key: &str) -> Result<Option<Located<Micros>>, DocumentError> {
    let Some(written) = table.duration(key)? else { return Ok(None) };
    match Micros::try_from(written.value.as_micros()) {
        Ok(value) => Ok(Some(Located { value, origin: written.origin })),
        Err(_) => Err(written.origin.error(format!("`{key}` is too long"))),
    }
}

impl Manner {
    const NORMAL: Manner =
        Manner { rate: 5.0, errors: 0.0, latency_ms: 80.0, exception: None, is_handled: true, value: 40.0 };
}

impl Generator {
    fn table(&self) -> decode::Table {
        if self.metric.is_some() { decode::Table::Metrics } else { decode::Table::Logs }
    }

    /// About how many records there are.
    fn size(&self) -> f64 {
        let rate = self.phases.iter().map(|phase| phase.manner.rate).fold(self.normal.rate, f64::max);
        rate * self.length as f64 / SECOND * self.organisations.len() as f64
    }

    /// Each record, by event time for each organisation.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(decode::Table, &[u8])) {
        let mut value = Vec::new();
        for organisation in &self.organisations {
            let (mut at, mut number, mut failures) = (0.0, 0_u64, 0.0);
            while (at as Micros) < self.length {
                let manner = self.manner(at as Micros);
                if manner.rate <= 0.0 {
                    at += SECOND;
                    continue;
                }
                failures += manner.errors;
                let fails = failures >= 1.0 - 1e-9;
                failures -= f64::from(u8::from(fails));
                value.clear();
                self.write(organisation.as_deref(), self.start + at as Micros, manner, fails, number, &mut value);
                visit(self.table(), &value);
                number += 1;
                at += SECOND / manner.rate;
            }
        }
    }

    fn manner(&self, at: Micros) -> &Manner {
        let phase = self.phases.iter().rev().find(|phase| (phase.from..phase.to).contains(&at));
        phase.map_or(&self.normal, |phase| &phase.manner)
    }

    fn write(
        &self,
        organisation: Option<&str>,
        time: Micros,
        manner: &Manner,
        fails: bool,
        number: u64,
        out: &mut Vec<u8>,
    ) {
        ObjectWriter::write(out, |object| {
            object.number("timestamp", time as f64);
            object.optional_text("organisation_id", organisation);
            object.optional_text("module", self.module.as_deref());
            if let Some(metric) = &self.metric {
                object.text("name", metric);
                object.number("value", manner.value);
                return;
            }
            object.text("event", "http_request");
            object.text("route", "/");
            object.number("status_code", if fails { 500.0 } else { 200.0 });
            // A little spread, so that percentiles have something to do.
            object.number("duration_ms", manner.latency_ms * (1.0 + (number % 10) as f64 / 1_000.0));
            if let Some(exception) = &manner.exception {
                object.text("level", "ERROR");
                object.text("exception_type", exception);
                object.boolean("handled", manner.is_handled);
            }
        });
    }
}
