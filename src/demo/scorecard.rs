//! What was injected against what was detected.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sighting::Sighting;
use crate::model::detection::Change;
use crate::model::pipeline::{Micros, Severity};
use crate::simulate::{Incident, MINUTE};

/// How long after an incident a detection is still its consequence: windows that began in it close later.
const AFTERMATH: Micros = 5 * MINUTE;

/// The incidents of a story and what was seen of each.
#[derive(Clone, Debug, Default)]
pub struct Scorecard {
    pub cases: Vec<Case>,
    /// Detections that no incident explains.
    pub unexplained: Vec<String>,
    pub opened: u64,
    pub updated: u64,
    pub resolved: u64,
    /// The first message that opened a detection of an incident.
    pub first: Option<Sighting>,
    /// The severity of every open detection.
    open: BTreeMap<String, Severity>,
}

/// One incident.
#[derive(Clone, Debug)]
pub struct Case {
    pub incident: Incident,
    /// When its first record was sent, since the demo's start; `None`: not yet.
    pub injected: Option<Duration>,
    /// The rules that fired, in the order in which they did.
    pub found: Vec<Found>,
}

/// A rule that fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub rule: String,
    pub severity: Severity,
    /// From injection to reading the message.
    pub after: Duration,
}

/// What a message says that is worth a line.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Of this case, by its number; `None`: of nothing that was injected.
    Detected(Option<usize>, Option<Duration>),
    /// The severity rose.
    Worse,
    Resolved,
    /// Nothing that was not said before.
    Nothing,
}

impl Scorecard {
    pub fn new(incidents: &[Incident]) -> Self {
        let case = |incident: &Incident| Case { incident: incident.clone(), injected: None, found: Vec::new() };
        Self { cases: incidents.iter().map(case).collect(), ..Self::default() }
    }

    /// Notes that a case began, at this time since the demo's start.
    pub fn inject(&mut self, case: usize, at: Duration) {
        if let Some(case) = self.cases.get_mut(case) {
            case.injected = Some(at);
        }
    }

    /// Notes a message that was read at this time since the demo's start.
    pub fn note(&mut self, sighting: &Sighting, at: Duration) -> News {
        let (id, severity) = (&sighting.body.detection_id, sighting.body.severity);
        match sighting.change {
            Change::Resolved => {
                self.resolved += 1;
                self.open.remove(id);
                News::Resolved
            }
            Change::Updated => {
                self.updated += 1;
                let before = self.open.insert(id.clone(), severity);
                if before.is_none_or(|before| before < severity) { News::Worse } else { News::Nothing }
            }
            Change::Opened => {
                self.opened += 1;
                self.open.insert(id.clone(), severity);
                self.note_opened(sighting, at)
            }
        }
    }

    fn note_opened(&mut self, sighting: &Sighting, at: Duration) -> News {
        let rule = sighting.rule();
        let explains = |case: &Case| case.explains(sighting);
        let expected = |case: &Case| case.incident.expects.contains(&rule.as_str());
        let number = self.cases.iter().position(|case| explains(case) && expected(case));
        let Some(number) = number.or_else(|| self.cases.iter().position(explains)) else {
            self.unexplained.push(rule);
            return News::Detected(None, None);
        };
        let Some(case) = self.cases.get_mut(number) else { return News::Nothing };
        let after = at.saturating_sub(case.injected.unwrap_or(at));
        if case.found.iter().all(|found| found.rule != rule) {
            case.found.push(Found { rule, severity: sighting.body.severity, after });
        }
        self.first.get_or_insert_with(|| sighting.clone());
        News::Detected(Some(number), Some(after))
    }

    /// True if every injected incident was found by every rule that should.
    pub fn is_complete(&self) -> bool {
        self.cases.iter().all(|case| case.injected.is_none() || case.missed().next().is_none())
    }
}

impl Case {
    /// True if the detection may be a consequence of the incident: the same place, at the time.
    fn explains(&self, sighting: &Sighting) -> bool {
        let (incident, body) = (&self.incident, &sighting.body);
        self.injected.is_some()
            && incident.concerns(body.organisation_id.as_deref(), body.module.as_deref())
            && body.window_end > incident.start
            && body.window_start < incident.end() + AFTERMATH
    }

    /// The expected rules that did not fire.
    pub fn missed(&self) -> impl Iterator<Item = &'static str> {
        let silent = |rule: &&'static str| self.found.iter().all(|found| found.rule != *rule);
        self.incident.expects.iter().copied().filter(silent)
    }
}
