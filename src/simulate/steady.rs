//! What comes at its fixed second, whoever works: one CPU and one memory sample a minute and pair of organisation and
//! module, and the exceptions that each module throws and handles every ten minutes.

use super::chance::{Chance, mix};
use super::incident::{Effect, Incident};
use super::json::ObjectWriter;
use super::moment::Moment;
use super::platform::{MODULES, ORGANISATIONS, pair};
use super::record::{Who, push_time, write_exception};
use super::{Batch, Kind, MINUTE, SECOND};
use crate::model::pipeline::Micros;

/// Seconds between two samples of one metric.
const SAMPLE_EVERY_S: i64 = 60;
/// Seconds between two handled exceptions of one pair.
const EXCEPTION_EVERY_S: i64 = 600;
/// How long a leak takes to fill the memory.
const LEAK: Micros = 2 * MINUTE;
/// What one pair samples.
const METRICS: [&str; 2] = ["cpu_percent", "memory_percent"];

/// How many metric records a second of event time brings, on average.
pub(super) fn metrics_per_second() -> f64 {
    (ORGANISATIONS.len() * MODULES.len() * METRICS.len()) as f64 / SAMPLE_EVERY_S as f64
}

/// Adds what is due in the second that starts at `start`.
pub(super) fn push(batch: &mut Batch, chance: &mut Chance, start: Micros, moment: &Moment<'_>) {
    let second = start.div_euclid(SECOND);
    for organisation in 0..ORGANISATIONS.len() {
        for (number, module) in MODULES.iter().enumerate() {
            let pair = pair(organisation, number);
            let due = |every: i64| (second + mix(pair as u64).rem_euclid(every as u64) as i64).rem_euclid(every) == 0;
            if due(SAMPLE_EVERY_S) {
                push_samples(batch, chance, start, moment, organisation, number);
            }
            if due(EXCEPTION_EVERY_S) {
                let who = Who::new(chance, organisation, number);
                let (exception, text) = module.exception;
                batch.push(start, Kind::Logs, pair, |out| {
                    write_exception(out, start, &who, exception, text, None, true)
                });
            }
        }
    }
    for incident in moment.incidents.iter().filter(|incident| incident.is_active(start)) {
        push_new_exceptions(batch, chance, start, incident);
    }
}

fn push_samples(
    batch: &mut Batch,
    chance: &mut Chance,
    time: Micros,
    moment: &Moment<'_>,
    organisation: usize,
    module: usize,
) {
    let Some(normal) = MODULES.get(module) else { return };
    let leak =
        moment.of_pair(time, organisation, module).find_map(|incident| leaked(incident, time, normal.memory_percent));
    let levels = [normal.cpu_percent, leak.unwrap_or(normal.memory_percent)];
    for ((name, level), wobble) in METRICS.iter().zip(levels).zip([4.0, 1.0]) {
        let value = (level + wobble * chance.normal()).clamp(0.0, 100.0);
        batch.push(time, Kind::Metrics, pair(organisation, module), |out| {
            ObjectWriter::write(out, |object| {
                object.plain_text("timestamp", |out| push_time(out, time));
                object.optional_text("organisation_id", ORGANISATIONS.get(organisation).map(|one| one.id));
                object.text("module", normal.name);
                object.text("name", name);
                object.thousandths("value", (value * 100.0).round() as i64 * 10);
                object.text("unit", "percent");
            });
        });
    }
}

/// Memory in use while a leak goes on.
fn leaked(incident: &Incident, time: Micros, normal: f64) -> Option<f64> {
    let Effect::Memory { percent } = incident.effect else { return None };
    let filled = ((time - incident.start) as f64 / LEAK as f64).min(1.0);
    Some(normal + (percent - normal) * filled)
}

fn push_new_exceptions(batch: &mut Batch, chance: &mut Chance, time: Micros, incident: &Incident) {
    let Effect::NewException { exception, per_minute } = incident.effect else { return };
    let module = MODULES.iter().position(|module| Some(module.name) == incident.module).unwrap_or(0);
    for _ in 0..chance.poisson(per_minute / 60.0) {
        // The largest organisations work most and therefore meet it first.
        let who = Who::new(chance, chance.clone().below(4) as usize, module);
        let text = "cannot read property \"impact\" of undefined";
        batch.push(time, Kind::Logs, who.key(), |out| {
            write_exception(out, time, &who, exception, text, Some("/api/risks/matrix"), false);
        });
    }
}
