//! What the incidents of a script do to one request.

use super::incident::{Effect, Incident};
use super::platform::{MODULES, ORGANISATIONS};
use crate::model::pipeline::Micros;

/// The share of requests that are answered 500 when all is well.
const BACKGROUND_ERRORS: f64 = 0.0002;

/// The incidents that may matter to one slice of event time.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    pub(super) incidents: Vec<&'a Incident>,
}

/// What incidents do to one request.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The probability of a 500.
    pub(super) errors: f64,
    /// The exception that half of the errors of one route leave: its type, and the route.
    pub(super) exception: Option<(&'static str, &'static str)>,
    /// The factor on durations.
    pub(super) slower: f64,
}

impl<'a> Moment<'a> {
    pub(super) fn new(incidents: &'a [Incident], start: Micros, end: Micros, jitter: Micros) -> Self {
        let overlaps = |incident: &&Incident| incident.start < end && incident.end() > start - jitter;
        Self { incidents: incidents.iter().filter(overlaps).collect() }
    }

    /// What goes wrong for a request of this pair at this time.
    pub(super) fn trouble(&self, time: Micros, organisation: usize, module: usize) -> Trouble {
        let mut trouble = Trouble { errors: BACKGROUND_ERRORS, exception: None, slower: 1.0 };
        for incident in self.of_pair(time, organisation, module) {
            match incident.effect {
                Effect::Errors { share, exception } if share > trouble.errors => {
                    (trouble.errors, trouble.exception) = (share, exception);
                }
                Effect::Slow { factor } => trouble.slower *= factor,
                _ => {}
            }
        }
        trouble
    }

    /// The incidents of one pair that go on at this time.
    pub(super) fn of_pair(
        &self,
        time: Micros,
        organisation: usize,
        module: usize,
    ) -> impl Iterator<Item = &'a Incident> {
        let organisation = ORGANISATIONS.get(organisation).map(|one| one.id);
        let module = MODULES.get(module).map(|one| one.name);
        let concerned = move |one: &&Incident| one.is_active(time) && one.concerns(organisation, module);
        self.incidents.iter().copied().filter(concerned)
    }
}
