//! Proposals: which changes that helped should be made for good, and what is said to whoever decides that.
//!
//! An action changed one number, and was verified. Where that number stands in the repository is configured; then a draft
//! pull request proposes the change there, once for each incident, and for one change while any incident remembers it.
//! What became of it is in the incident's state, so it is proposed again only if nobody knows whether it was.

use std::collections::BTreeMap;

use super::hands::Task;
use super::tickets::Moment;
use crate::config::NumberPlace;
use crate::incident::attempt::{Attempt, Stage};
use crate::incident::book::Book;
use crate::incident::{Incident, ProposalNote};
use crate::model::pipeline::Micros;
use crate::model::time::format_time;
use crate::tickets::Identity;
use crate::tickets::edit::NumberChange;
use crate::tickets::proposal::{Check, Proposal};
use crate::tickets::render::Style;

/// What is done before a change is merged, by people: the plan's list.
const TO_DO: [&str; 4] =
    ["Unit tests added/updated", "Integration tests pass", "QA checklist completed", "No regression detected"];

/// See the module's head.
pub(super) struct Proposals {
    places: Vec<NumberPlace>,
    style: Style,
    /// Incidents that are to be looked at, and from when on, by a clock that never goes back.
    due: BTreeMap<String, Micros>,
}

/// What is to be proposed.
struct Wanted<'a> {
    place: &'a NumberPlace,
    attempt: &'a Attempt,
    change: NumberChange,
}

impl Proposals {
    /// Looks at every incident once.
    pub(super) fn new(places: Vec<NumberPlace>, style: Style, book: &Book) -> Proposals {
        let due = book.incidents().map(|incident| (incident.incident_id.clone(), Micros::MIN)).collect();
        Proposals { places, style, due }
    }

    /// An incident changed. One that waits goes on waiting.
    pub(super) fn changed(&mut self, id: &str) {
        self.due.entry(id.to_owned()).or_insert(Micros::MIN);
    }

    /// It is looked at again then, and not before.
    pub(super) fn again(&mut self, id: &str, at: Micros) {
        self.due.insert(id.to_owned(), at);
    }

    /// The next proposal, and what is known already. One at a time, so that none is made beside another of the same change.
    pub(super) fn next(&mut self, book: &Book, at: Moment) -> (Option<Task>, Vec<(String, ProposalNote)>) {
        let mut known = Vec::new();
        let due = self.due.iter().filter(|(_, due)| **due <= at.elapsed).map(|(id, _)| id.clone());
        for id in due.collect::<Vec<_>>() {
            self.due.remove(&id);
            let Some((incident, wanted)) = book.incident(&id).and_then(|one| Some((one, self.wanted(one)?))) else {
                continue;
            };
            let words = change_words(&wanted.change);
            let of_others = book.incidents().filter_map(|other| other.proposal.as_deref());
            if let Some(other) = of_others.filter(|note| note.number.is_some()).find(|note| note.change == words) {
                known.push((id, ProposalNote { action_id: wanted.attempt.action_id.clone(), ..other.clone() }));
                continue;
            }
            if let Some(task) = self.task(incident, &wanted) {
                return (Some(task), known);
            }
        }
        (None, known)
    }

    /// A change of an incident that was verified and not proposed yet. The ticket comes first, as the proposal names it.
    fn wanted<'a>(&'a self, incident: &'a Incident) -> Option<Wanted<'a>> {
        if incident.proposal.is_some() || incident.ticket.is_none() {
            return None;
        }
        incident.attempts.iter().filter(|attempt| has_helped(attempt)).find_map(|attempt| {
            let intent = &attempt.intent;
            let (from, to) = intent.change.as_ref().map(|change| (change.from, change.to))?;
            let place = self.places.iter().find(|place| place.action.name() == intent.action)?;
            let (path, key) = (place.path.clone(), place.key(&intent.target));
            Some(Wanted { place, attempt, change: NumberChange { path, key, from, to } })
        })
    }

    fn task(&self, incident: &Incident, wanted: &Wanted<'_>) -> Option<Task> {
        let id = incident.incident_id.clone();
        let identity = Identity::new(&id, incident.epoch.into(), &incident.fingerprint).ok()?;
        let (action_id, change) = (wanted.attempt.action_id.clone(), wanted.change.clone());
        Some(Task::Propose { incident_id: id, action_id, draft: self.draft(incident, wanted, identity), change })
    }

    fn draft(&self, incident: &Incident, wanted: &Wanted<'_>, identity: Identity) -> Proposal {
        let Wanted { place, attempt, change } = wanted;
        let Attempt { intent, proof, .. } = attempt;
        let is_for_one = intent.organisation_id.is_some();
        let whom = if is_for_one { "one organisation" } else { "everyone" };
        let lasts = if attempt.due_at.is_some() || attempt.stage != Stage::Verified {
            "That change is temporary; this one would make it permanent."
        } else {
            "This would make the repository say so, too."
        };
        let risk = if is_for_one {
            "Medium: it was verified for one organisation, and the file may concern others"
        } else {
            "Low: it was verified where it would stay"
        };
        let verified = Check { done: true, words: format!("Verified in production: {}", proof.words()) };
        let to_do = TO_DO.iter().map(|words| Check { done: false, words: (*words).to_owned() });
        Proposal {
            identity,
            summary: format!("change {} for {}", change.words(), intent.target),
            problem: format!("{}.{} fired: {}.", incident.pipeline, incident.rule, incident.summary()),
            ticket: incident.ticket.as_ref().and_then(|note| note.number),
            solution: format!(
                "The agent changed {} for {whom} at {}, and it helped: {}. {lasts}",
                change.words(),
                format_time(attempt.intended_at),
                proof.words()
            ),
            files: Vec::new(),
            checks: std::iter::once(verified).chain(to_do).collect(),
            risk: risk.to_owned(),
            rollback: "Revert this pull request".to_owned(),
            aligns_with: place
                .aligns_with
                .clone()
                .unwrap_or_else(|| "nothing is configured; for the review".to_owned()),
            reviewers: self
                .style
                .builder(Some(&intent.target))
                .map(|name| format!("{name} (code review)"))
                .into_iter()
                .collect(),
        }
    }
}

/// A change in words: two of the same words are the same change.
pub(super) fn change_words(change: &NumberChange) -> String {
    format!("{} in {}", change.words(), change.path)
}

/// True if it was verified, whatever became of its effect since.
fn has_helped(attempt: &Attempt) -> bool {
    matches!(attempt.stage, Stage::Verified | Stage::Reverting | Stage::Reverted)
}
