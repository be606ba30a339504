//! Notices: what the router says about the book's news, kept with everything else until it has arrived.
//!
//! What is silenced is told when the silence ends, if it still lasts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::notify::Issue;
use crate::events;
use crate::incident::book::Book;
use crate::incident::book::outputs::{News, NewsKind};
use crate::incident::{EscalationReason, Incident};
use crate::model::pipeline::{Micros, Scope, Severity};
use crate::notify::send::SendError;
use crate::notify::{Delivery, Kind, Notice, Reason, Router, Routing, State, What};
use crate::roles::runtime::micros;

/// Deliveries that wait for their channel; further ones that begin or repeat something are dropped, and said to be. More
/// makes what is written with each transaction larger.
const WAITING_MAX: usize = 2_000;

/// What is kept of notices, under one key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    state: State,
    waiting: BTreeMap<String, Waiting>,
    held: BTreeSet<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    delivery: Delivery,
    attempts: u32,
    not_before: Micros,
}

/// See the module's head.
pub(super) struct Notices {
    router: Router,
    waiting: BTreeMap<String, Waiting>,
    /// Incidents that were silenced when they began.
    held: BTreeSet<String>,
    is_changed: bool,
}

impl Notices {
    pub(super) fn new(routing: Routing, kept: Kept) -> Notices {
        let Kept { state, waiting, held } = kept;
        Notices { router: Router::new(routing, state), waiting, held, is_changed: false }
    }

    /// Hears what happened, and what time it is.
    pub(super) fn hear(&mut self, news: &[News], book: &Book, now: Micros) {
        for one in news {
            let Some(incident) = book.incident(&one.incident_id) else { continue };
            if matches!(one.kind, NewsKind::Resolved | NewsKind::Acknowledged { .. }) {
                self.is_changed |= self.held.remove(&one.incident_id);
            } else if book.silences().of(incident, now).is_some() {
                self.is_changed |= self.held.insert(one.incident_id.clone());
                continue;
            }
            let said = self.router.notice(&notice(incident, &one.kind), now);
            self.take(said, now);
            self.is_changed = true;
        }
        self.release(book, now);
        if self.is_due(now) {
            let said = self.router.tick(now);
            self.take(said, now);
            self.is_changed = true;
        }
    }

    /// Tells what was silenced, once it is not any more.
    fn release(&mut self, book: &Book, now: Micros) {
        let is_audible =
            |id: &&String| book.incident(id).is_none_or(|incident| book.silences().of(incident, now).is_none());
        for id in self.held.iter().filter(is_audible).cloned().collect::<Vec<_>>() {
            self.held.remove(&id);
            self.is_changed = true;
            if let Some(incident) = book.incident(&id).filter(|incident| incident.is_firing) {
                let said = self.router.notice(&notice(incident, &NewsKind::Opened), now);
                self.take(said, now);
            }
        }
    }

    fn take(&mut self, deliveries: Vec<Delivery>, now: Micros) {
        for delivery in deliveries {
            let may_be_dropped = !matches!(delivery.kind, Kind::Resolve | Kind::Acknowledge);
            if self.waiting.len() >= WAITING_MAX && may_be_dropped {
                events::notice_dropped(&delivery.contact, "too many wait for their channel");
                continue;
            }
            self.waiting.insert(delivery.id.clone(), Waiting { delivery, attempts: 0, not_before: now });
        }
    }

    /// What is to be sent now.
    pub(super) fn due(&self, now: Micros) -> impl Iterator<Item = &Delivery> {
        self.waiting.values().filter(move |one| one.not_before <= now).map(|one| &one.delivery)
    }

    /// A channel has answered.
    pub(super) fn answered(&mut self, id: &str, answer: &Result<(), SendError>, now: Micros) {
        let Some(one) = self.waiting.get_mut(id) else { return };
        self.is_changed = true;
        one.attempts += 1;
        let wait = answer.as_ref().err().map(|error| (error, error.wait(one.attempts)));
        match wait {
            Some((_, Some(wait))) => one.not_before = now.saturating_add(micros(wait)),
            Some((error, None)) => {
                events::notice_dropped(&one.delivery.contact, &error.to_string());
                self.waiting.remove(id);
            }
            None => drop(self.waiting.remove(id)),
        }
    }

    /// True if time alone has something to say.
    pub(super) fn is_due(&self, now: Micros) -> bool {
        self.router.next_deadline().is_some_and(|at| at <= now)
    }

    /// True if there is something new to be kept.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// What is to be kept now.
    pub(super) fn kept(&mut self) -> Kept {
        self.is_changed = false;
        Kept { state: self.router.state().clone(), waiting: self.waiting.clone(), held: self.held.clone() }
    }
}

fn notice(incident: &Incident, kind: &NewsKind) -> Notice {
    Notice {
        incident: incident.incident_id.clone(),
        epoch: incident.epoch.into(),
        what: match kind {
            NewsKind::Opened => What::Opened,
            NewsKind::Changed => What::Changed,
            NewsKind::Acknowledged { by } => What::Acknowledged { by: by.clone() },
            NewsKind::Resolved => What::Resolved,
            NewsKind::Escalated(reason) => What::Escalated { reason: reason_of(*reason) },
        },
        issue: issue(incident),
        severity: incident.severity,
        title: incident.summary(),
        module: incident.module.clone(),
        ticket: incident.ticket.as_ref().map(|ticket| ticket.issue.clone()),
        group: incident.module.clone().unwrap_or_else(|| incident.pipeline.clone()),
    }
}

fn reason_of(reason: EscalationReason) -> Reason {
    match reason {
        EscalationReason::BeyondScope => Reason::BeyondScope,
        EscalationReason::RepeatedFailure => Reason::RepeatedFailure,
        EscalationReason::Ambiguous => Reason::Ambiguity,
        EscalationReason::HighRisk => Reason::HighRisk,
        EscalationReason::Unanswered => Reason::Unacknowledged,
    }
}

/// The row of the plan's table of contacts.
fn issue(incident: &Incident) -> Issue {
    match (incident.scope, incident.severity) {
        (_, Severity::Critical) => Issue::CriticalPlatform,
        (Scope::Architecture, _) => Issue::Architecture,
        (_, Severity::High) => Issue::High,
        (_, Severity::Medium | Severity::Low) => Issue::Medium,
    }
}
