//! What goes wrong on the platform: when, where, and which rules should say so.

use super::platform::{MODULES, ORGANISATIONS, shares};
use super::{MINUTE, Shape};
use crate::model::pipeline::Micros;

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Unique in its script, fit for a log line.
    pub name: &'static str,
    /// One sentence for people.
    pub story: &'static str,
    /// Event time of its first moment.
    pub start: Micros,
    pub duration: Micros,
    /// The module it happens in; `None`: all of them.
    pub module: Option<&'static str>,
    /// The organisation it happens to; `None`: all of them.
    pub organisation: Option<&'static str>,
    pub effect: Effect,
    /// The shipped rules that should fire, as `pipeline.rule`.
    pub expects: &'static [&'static str],
}

/// What an incident does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// This share of requests is answered 500; at one route, half of those leave an unhandled exception: its type, the route.
    Errors { share: f64, exception: Option<(&'static str, &'static str)> },
    /// Requests take this many times as long.
    Slow { factor: f64 },
    /// `memory_percent` climbs within two minutes to this value.
    Memory { percent: f64 },
    /// An exception type that nobody has seen before: so many a minute, unhandled.
    NewException { exception: &'static str, per_minute: f64 },
}

impl Incident {
    /// The first moment after it.
    pub fn end(&self) -> Micros {
        self.start + self.duration
    }

    /// True while it goes on.
    pub fn is_active(&self, time: Micros) -> bool {
        (self.start..self.end()).contains(&time)
    }

    /// True if it concerns this pair. `None` stands for all, and all are concerned by what happens to one.
    pub fn concerns(&self, organisation: Option<&str>, module: Option<&str>) -> bool {
        let meets = |mine: Option<&str>, other: Option<&str>| mine.is_none() || other.is_none() || mine == other;
        meets(self.organisation, organisation) && meets(self.module, module)
    }
}

/// How long [`script`] lasts from its first incident to the end of its last.
pub const SCRIPT_DURATION: Micros = 26 * MINUTE;

/// The plan's worked example first, then one incident of each other kind, each in a module of its own.
pub fn script(start: Micros) -> Vec<Incident> {
    let one_organisation_start = start + 19 * MINUTE;
    vec![
        Incident {
            name: "threat_errors",
            story: "the threat module answers 500 to 10 % of requests",
            start,
            duration: 9 * MINUTE,
            module: Some(MODULES[0].name),
            organisation: None,
            effect: Effect::Errors { share: 0.10, exception: Some(("QueryTimeout", "/api/threats/analyse")) },
            expects: &["module_exceptions.unhandled_exception", "module_api_errors.error_rate"],
        },
        Incident {
            name: "new_exception",
            story: "a release of the risk matrix throws an exception that nobody has seen",
            start: start + 4 * MINUTE,
            duration: 4 * MINUTE,
            module: Some(MODULES[2].name),
            organisation: None,
            effect: Effect::NewException { exception: "MatrixDimensionMismatch", per_minute: 12.0 },
            expects: &["module_exceptions.unhandled_exception"],
        },
        Incident {
            name: "slow_exports",
            story: "exports take forty times as long as they should",
            start: start + 8 * MINUTE,
            duration: 6 * MINUTE,
            module: Some(MODULES[5].name),
            organisation: None,
            effect: Effect::Slow { factor: 40.0 },
            expects: &["module_api_latency.slow"],
        },
        Incident {
            name: "full_memory",
            story: "the vulnerability module leaks memory until 96 % is used",
            start: start + 12 * MINUTE,
            duration: 9 * MINUTE,
            module: Some(MODULES[1].name),
            organisation: None,
            effect: Effect::Memory { percent: 96.0 },
            expects: &["module_resources.memory"],
        },
        Incident {
            name: "one_organisation",
            story: "4 % of one organisation's requests to PIT fail, and nobody else's",
            start: one_organisation_start,
            duration: 6 * MINUTE,
            module: Some(MODULES[3].name),
            organisation: Some(middling_organisation(one_organisation_start)),
            effect: Effect::Errors { share: 0.04, exception: None },
            expects: &["api_errors.error_rate"],
        },
    ]
}

/// The organisation that has about a seventh of the traffic at this time of day: enough to be sure of its own errors, too
/// little to lift the rate of the whole module above 1 %.
fn middling_organisation(time: Micros) -> &'static str {
    let distance = |share: f64| (share - 0.15).abs();
    let shares = shares(Shape::Day, time);
    let found = ORGANISATIONS.iter().zip(shares).min_by(|one, other| distance(one.1).total_cmp(&distance(other.1)));
    found.map_or(ORGANISATIONS[0].id, |(organisation, _)| organisation.id)
}
