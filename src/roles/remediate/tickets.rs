//! Tickets: which incidents have one, and what should stand in it.
//!
//! What should stand in a ticket is a function of the incident; what was last written there is a hash in the incident's
//! state. As long as the two differ there is something to do, whatever was killed in between. Before a ticket is first
//! written, the logs are asked once; what they say is in the incident's state, too.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::incident::attempt::Stage;
use crate::incident::book::Book;
use crate::incident::claim::RuleFacts;
use crate::incident::witness::Unheard;
use crate::incident::{Incident, Phase};
use crate::model::pipeline::{Micros, Severity, Source, Technique};
use crate::roles::remediate::hands::Task;
use crate::roles::remediate::witness::Question;
use crate::tickets::render::Style;
use crate::tickets::report::{self, Affected, Numbers, Report, Whom};
use crate::tickets::{Identity, render};

/// An incident that nothing was done about has a ticket after this time: what passes by itself needs none.
const TICKET_AFTER: Micros = 3 * 60 * 1_000_000;
/// The shortest time between two edits of one ticket.
const EDIT_INTERVAL: Micros = 20 * 1_000_000;

/// What a ticket says of logs that were asked and have no line.
const NO_LINES: &str = "the logs of that time and place have none";

/// See the module's head.
pub(super) struct Tickets {
    style: Style,
    repository: String,
    /// Incidents whose ticket is to be looked at, and from when on, by a clock that never goes back: GitHub's patience is not
    /// counted in the time of a story or of a replay.
    due: BTreeMap<String, Micros>,
    /// Incidents whose ticket is left alone until then, whatever changes: it was just edited, or GitHub asked to wait.
    resting: BTreeMap<String, Micros>,
}

impl Tickets {
    /// Looks at every incident once.
    pub(super) fn new(style: Style, repository: String, book: &Book) -> Tickets {
        let due = book.incidents().map(|incident| (incident.incident_id.clone(), Micros::MIN)).collect();
        Tickets { style, repository, due, resting: BTreeMap::new() }
    }

    /// An incident changed.
    pub(super) fn changed(&mut self, id: &str) {
        self.due.insert(id.to_owned(), Micros::MIN);
    }

    /// It is looked at again then, and not before.
    pub(super) fn again(&mut self, id: &str, at: Micros) {
        self.resting.insert(id.to_owned(), at);
        self.due.insert(id.to_owned(), at);
    }

    /// The issue as people call it: `owner/name#12`.
    pub(super) fn name(&self, number: u64) -> String {
        format!("{}#{number}", self.repository)
    }

    /// What is to be written now; `is_busy` for those that are being written.
    pub(super) fn tasks(&mut self, book: &Book, is_busy: impl Fn(&str) -> bool, at: Moment) -> Vec<Task> {
        let mut tasks = Vec::new();
        self.resting.retain(|_, until| *until > at.elapsed);
        let is_due = |(id, due): &(&String, &Micros)| {
            **due <= at.elapsed && !self.resting.contains_key(id.as_str()) && !is_busy(id)
        };
        let due = self.due.iter().filter(is_due).map(|(id, _)| id.clone());
        for id in due.collect::<Vec<_>>() {
            self.due.remove(&id);
            let Some(incident) = book.incident(&id) else { continue };
            match wanted(incident, at.wall) {
                Wanted::No => {}
                Wanted::Later(wait) => drop(self.due.insert(id, at.elapsed.saturating_add(wait))),
                Wanted::Yes => tasks.extend(self.task(incident, book)),
            }
        }
        tasks
    }

    fn task(&self, incident: &Incident, book: &Book) -> Option<Task> {
        let id = incident.incident_id.clone();
        if incident.witness.is_none() && incident.ticket.is_none() {
            return Some(Task::Witness { incident_id: id, question: Question::of(incident) });
        }
        // Ids and fingerprints are hexadecimal, as the book hears no others.
        let identity = Identity::new(&id, incident.epoch.into(), &incident.fingerprint).ok()?;
        let facts = book.rules().get(&incident.rule_name());
        let desired = render(&report(incident, identity.clone(), facts), &self.style);
        let written = hash(&format!("{desired:?}"));
        let note = incident.ticket.as_ref();
        if note.is_some_and(|note| note.written == written) {
            return None;
        }
        let known = note.and_then(|note| note.number);
        Some(Task::Ticket { incident_id: id, identity, known, desired, written })
    }

    /// When the ticket may be edited next, after it was written.
    pub(super) fn written(&mut self, id: &str, elapsed: Micros) {
        self.again(id, elapsed.saturating_add(EDIT_INTERVAL));
    }
}

/// A moment on both hands of the worker's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) wall: Micros,
    pub(super) elapsed: Micros,
}

/// Whether an incident has a ticket.
enum Wanted {
    Yes,
    /// After this time, perhaps.
    Later(Micros),
    No,
}

fn wanted(incident: &Incident, now: Micros) -> Wanted {
    if incident.ticket.is_some() {
        return Wanted::Yes;
    }
    if !incident.is_open() || incident.rule_severity < Severity::Medium {
        return Wanted::No;
    }
    let from = incident.opened_at.saturating_add(TICKET_AFTER);
    if !incident.attempts.is_empty() || incident.escalated.is_some() || from <= now {
        Wanted::Yes
    } else {
        Wanted::Later(from.saturating_sub(now))
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The incident as its builder should learn of it.
fn report(incident: &Incident, identity: Identity, facts: Option<&RuleFacts>) -> Report {
    let (numbers, witness) = (&incident.numbers, incident.witness.as_deref());
    let technique = facts.map_or("", |facts| facts.rule.technique.name());
    Report {
        identity,
        summary: incident.summary(),
        description: description(incident),
        pipeline: incident.pipeline.clone(),
        rule: incident.rule.clone(),
        technique: technique.to_owned(),
        severity: incident.severity,
        scope: incident.scope,
        phase: incident.phase.name().to_owned(),
        open: incident.phase != Phase::Resolved,
        source: source(facts),
        whom: whom(incident),
        module: incident.module.clone(),
        affected_users: witness.and_then(|witness| witness.users).map_or(Affected::Unknown, Affected::Number),
        affected_organisations: match &incident.organisation_id {
            Some(_) => Affected::Number(1),
            None => witness.and_then(|witness| witness.organisations).map_or(Affected::All, Affected::Number),
        },
        affected_modules: incident.module.iter().cloned().collect(),
        detected_at: incident.opened_at,
        updated_at: incident.changed_at,
        resolved_at: incident.resolved_at,
        numbers: Numbers {
            measure: numbers.measure.clone(),
            value: numbers.value,
            threshold: numbers.threshold,
            samples: numbers.samples,
            score: numbers.score,
            baseline: numbers.baseline.clone(),
            window: Some((numbers.window_start, numbers.window_end)),
        },
        evidence_sql: incident.evidence_sql.clone(),
        samples: witness.map(|witness| witness.lines.clone()).unwrap_or_default(),
        traces: witness.map(|witness| witness.traces.clone()).unwrap_or_default(),
        without_samples: witness.map(|witness| witness.unheard.map_or(NO_LINES, Unheard::words)),
        attempts: incident.attempts.iter().map(attempt).collect(),
        root_cause: "Not known yet. The query below shows the numbers from the onset on.".to_owned(),
        proposal: proposal(incident),
        pull_request: incident.proposal.as_ref().and_then(|note| note.number),
        escalation: incident.escalated.as_ref().map(|escalation| escalation.reason.words().to_owned()),
    }
}

fn description(incident: &Incident) -> String {
    let whom = incident.organisation_id.as_deref().unwrap_or("every organisation");
    let place = incident.module.as_deref().unwrap_or("the platform");
    format!("The rule {}.{} fired for {place}, {whom}: {}.", incident.pipeline, incident.rule, incident.summary())
}

fn proposal(incident: &Incident) -> String {
    let words = next_step(incident);
    match incident.proposal.as_deref().filter(|note| note.is_settled) {
        Some(note) if note.number.is_some() => format!("{words} It is proposed to change {} for good.", note.change),
        Some(note) => format!("{words} No pull request proposes to change {} for good: {}.", note.change, note.words),
        None => words,
    }
}

fn next_step(incident: &Incident) -> String {
    match (incident.attempts.last().map(|attempt| attempt.stage), incident.scope) {
        (Some(Stage::Verified | Stage::Reverting | Stage::Reverted), _) => {
            "The action below brought relief and removed no cause. Find out what caused it, at a normal pace."
                .to_owned()
        }
        (Some(Stage::Intended | Stage::Applying | Stage::Settling | Stage::Proving), _) => {
            "An action is under way; whether it helps is not known yet.".to_owned()
        }
        (Some(_), _) => "The actions below did not help. Find and remove the cause.".to_owned(),
        (None, scope) => {
            format!("Nothing was done automatically. The rule expects a change of scope {}.", scope.name())
        }
    }
}

fn attempt(attempt: &crate::incident::attempt::Attempt) -> report::Attempt {
    report::Attempt {
        at: attempt.intended_at,
        action: attempt.intent.action.clone(),
        target: attempt.intent.target.clone(),
        result: attempt.stage.name().replace('_', " "),
        words: attempt.outcome.clone().unwrap_or_else(|| "not proven yet".to_owned()),
    }
}

fn whom(incident: &Incident) -> Whom {
    match incident.organisation_id.as_deref() {
        None => Whom::Platform,
        Some("unknown") => Whom::Unknown,
        Some(organisation) => Whom::Organisation(organisation.to_owned()),
    }
}

fn source(facts: Option<&RuleFacts>) -> report::Source {
    match facts {
        Some(facts) if !matches!(facts.rule.technique, Technique::Threshold) => report::Source::AnomalyDetection,
        Some(facts) if facts.source == Source::Metrics => report::Source::Metrics,
        _ => report::Source::Logs,
    }
}
