//! What people and jobs do on the platform, and the log record that each of it leaves.

use super::chance::Chance;
use super::moment::{Moment, Trouble};
use super::record::{Who, write_event, write_exception, write_request};
use super::{Batch, Kind};
use crate::model::pipeline::Micros;

/// The share of requests that the client got wrong.
const CLIENT_ERRORS: f64 = 0.02;
/// The share of an incident's failing requests, at the route that throws, that leave an exception, too.
const EXCEPTION_PER_ERROR: f64 = 0.5;

/// One thing that is done, and how often.
#[derive(Clone, Copy, Debug)]
struct Activity {
    module: usize,
    /// How often, compared with the others.
    weight: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Request { method: &'static str, route: &'static str, median_ms: f64, spread: f64 },
    LoginFailure,
    Export,
    Integration,
    SlowQuery { statement: &'static str },
    DataChange { operation: &'static str, table: &'static str },
}

/// A request: method, route, and its duration's median and spread (of the logarithm: lognormal).
const fn request(
    module: usize,
    weight: usize,
    method: &'static str,
    route: &'static str,
    median_ms: f64,
    spread: f64,
) -> Activity {
    Activity { module, weight, what: What::Request { method, route, median_ms, spread } }
}

const fn change(module: usize, weight: usize, operation: &'static str, table: &'static str) -> Activity {
    Activity { module, weight, what: What::DataChange { operation, table } }
}

const fn slow(module: usize, weight: usize, statement: &'static str) -> Activity {
    Activity { module, weight, what: What::SlowQuery { statement } }
}

/// Modules are numbered as in [`super::MODULES`]; weights add up to 1,000.
const ACTIVITIES: [Activity; 37] = [
    request(0, 90, "GET", "/api/threats", 42.0, 0.5),
    request(0, 40, "GET", "/api/threats/{id}", 28.0, 0.45),
    request(0, 45, "POST", "/api/threats/analyse", 190.0, 0.5),
    slow(0, 5, "SELECT * FROM threats JOIN assets ON threats.asset_id = assets.id WHERE severity >= \"high\""),
    change(0, 12, "insert", "threats"),
    change(0, 3, "delete", "threats"),
    request(1, 80, "GET", "/api/vulnerabilities", 55.0, 0.5),
    request(1, 25, "POST", "/api/vulnerabilities/import", 240.0, 0.45),
    request(1, 20, "PATCH", "/api/vulnerabilities/{id}", 48.0, 0.4),
    change(1, 15, "update", "vulnerabilities"),
    request(2, 75, "GET", "/api/risks/matrix", 120.0, 0.55),
    request(2, 35, "GET", "/api/risks", 44.0, 0.45),
    request(2, 20, "PUT", "/api/risks/{id}", 66.0, 0.4),
    change(2, 12, "update", "risks"),
    slow(2, 3, "SELECT likelihood, impact, count(*) FROM risks GROUP BY 1, 2"),
    request(3, 60, "GET", "/api/pit/projects", 38.0, 0.45),
    request(3, 40, "GET", "/api/pit/tasks", 35.0, 0.45),
    request(3, 20, "POST", "/api/pit/tasks", 58.0, 0.4),
    change(3, 14, "insert", "tasks"),
    change(3, 3, "delete", "tasks"),
    request(4, 25, "GET", "/api/watchdog/triggers", 30.0, 0.4),
    request(4, 10, "POST", "/api/watchdog/evaluate", 160.0, 0.5),
    request(5, 20, "POST", "/api/exports", 260.0, 0.4),
    request(5, 30, "GET", "/api/exports/{id}", 33.0, 0.4),
    Activity { module: 5, weight: 12, what: What::Export },
    request(6, 70, "POST", "/auth/token", 62.0, 0.4),
    request(6, 45, "GET", "/auth/session", 14.0, 0.4),
    Activity { module: 6, weight: 8, what: What::LoginFailure },
    request(7, 30, "POST", "/api/integrations/webhook", 85.0, 0.5),
    request(7, 15, "GET", "/api/integrations", 26.0, 0.4),
    Activity { module: 7, weight: 12, what: What::Integration },
    request(8, 40, "GET", "/dashboard", 95.0, 0.5),
    request(8, 25, "GET", "/api/dashboard/widgets", 70.0, 0.5),
    slow(8, 2, "SELECT date_trunc('day', created_at), count(*) FROM audit_log GROUP BY 1"),
    request(9, 24, "GET", "/api/notifications", 18.0, 0.4),
    request(9, 10, "POST", "/api/notifications/send", 74.0, 0.4),
    change(9, 5, "update", "notifications"),
];

/// The activities, ready to be picked by their weights.
#[derive(Debug)]
pub(super) struct Activities {
    slots: Vec<u8>,
}

impl Activities {
    pub(super) fn new() -> Self {
        let times = |(number, activity): (u8, &Activity)| std::iter::repeat_n(number, activity.weight);
        Self { slots: (0_u8..).zip(&ACTIVITIES).flat_map(times).collect() }
    }

    /// Adds the record of something that this organisation does, and the exception that it may end in.
    pub(super) fn push(
        &self,
        batch: &mut Batch,
        chance: &mut Chance,
        moment: &Moment<'_>,
        organisation: usize,
        time: Micros,
    ) {
        let slot = chance.below(self.slots.len() as u64) as usize;
        let number = self.slots.get(slot).map_or(0, |number| usize::from(*number));
        let Some(activity) = ACTIVITIES.get(number) else { return };
        let who = Who::new(chance, organisation, activity.module);
        match activity.what {
            What::Request { method, route, median_ms, spread } => {
                let trouble = moment.trouble(time, organisation, activity.module);
                let (status, exception) = outcome(chance, &trouble, route);
                let duration_ms = median_ms * trouble.slower * (spread * chance.normal()).exp();
                let bytes = 200 + chance.below(40_000) as i64;
                batch.push(time, Kind::Logs, who.key(), |out| {
                    write_request(out, time, &who, method, route, status, duration_ms, bytes);
                });
                if let Some(exception) = exception {
                    let text = "canceling statement due to statement timeout";
                    batch.push(time, Kind::Logs, who.key(), |out| {
                        write_exception(out, time, &who, exception, text, Some(route), false);
                    });
                }
            }
            other => {
                let (duration_ms, rows) = (900.0 * (0.4 * chance.normal()).exp(), 1 + chance.below(3) as i64);
                batch.push(time, Kind::Logs, who.key(), |out| write_event(out, time, &who, other, duration_ms, rows));
            }
        }
    }
}

/// Status and unhandled exception of a request.
fn outcome(chance: &mut Chance, trouble: &Trouble, route: &str) -> (i64, Option<&'static str>) {
    const CLIENT_STATUS: [i64; 4] = [404, 401, 403, 429];
    let roll = chance.unit();
    if roll < trouble.errors {
        let here = trouble.exception.filter(|(_, place)| *place == route && chance.hits(EXCEPTION_PER_ERROR));
        return (500, here.map(|(exception, _)| exception));
    }
    if roll > 1.0 - CLIENT_ERRORS {
        return (CLIENT_STATUS[(chance.next() % 4) as usize], None);
    }
    (200, None)
}
