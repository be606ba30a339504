//! Proposals: which changes that helped should be made for good, and what is said to whoever decides that.
//!
//! An action changed one number, and was verified. Where that number stands in the repository is configured; then a draft
//! pull request proposes the change there, once for each incident, and for one change while any incident remembers it.
//! That it is going to be proposed is in the incident's state before anything is sent, and then what became of it: so it is
//! proposed again only if nobody knows whether it was, and by nobody else.

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

/// How often it is looked whether the same change, which another incident is proposing, is settled.
const OTHERS_WAIT: Micros = 1_000_000;

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

    /// The next proposal, and what is to be noted. That it is going to be made is noted first, so that no other incident
    /// proposes the same meanwhile, whoever dies.
    pub(super) fn next(&mut self, book: &Book, at: Moment) -> (Option<Task>, Vec<(String, ProposalNote)>) {
        let mut notes = Vec::new();
        let due = self.due.iter().filter(|(_, due)| **due <= at.elapsed).map(|(id, _)| id.clone());
        for id in due.collect::<Vec<_>>() {
            self.due.remove(&id);
            let Some((incident, wanted)) = book.incident(&id).and_then(|one| Some((one, self.wanted(one)?))) else {
                continue;
            };
            if incident.proposal.is_some() {
                return (self.task(incident, &wanted), notes);
            }
            match others(book, &notes, &wanted) {
                None => notes.push((id, wanted.note())),
                Some(note) if !note.is_settled => self.again(&id, at.elapsed.saturating_add(OTHERS_WAIT)),
                Some(note) => notes.push((id, ProposalNote { action_id: wanted.attempt.action_id.clone(), ..note })),
            }
        }
        (None, notes)
    }

    /// A change of an incident that was verified, and of whose proposal nothing is settled. The ticket comes first, as the proposal names it.
    fn wanted<'a>(&'a self, incident: &'a Incident) -> Option<Wanted<'a>> {
        if incident.proposal.as_ref().is_some_and(|note| note.is_settled) || incident.ticket.is_none() {
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

/// What other incidents have of the same change: a pull request, or the intent to make one.
fn others(book: &Book, notes: &[(String, ProposalNote)], wanted: &Wanted<'_>) -> Option<ProposalNote> {
    let words = change_words(&wanted.change);
    let written = book.incidents().filter_map(|other| other.proposal.as_deref());
    let same = written.chain(notes.iter().map(|(_, note)| note)).filter(|note| note.change == words);
    same.filter(|note| note.number.is_some() || !note.is_settled).max_by_key(|note| note.is_settled).cloned()
}

impl Wanted<'_> {
    /// Before anything is sent.
    fn note(&self) -> ProposalNote {
        ProposalNote {
            action_id: self.attempt.action_id.clone(),
            change: change_words(&self.change),
            is_settled: false,
            number: None,
            words: String::new(),
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
