//! The actor: who owns `maturion.intents`, what it knows, and what it has its hands do.

use std::collections::{BTreeSet, HashSet};

use super::hands::{Finished, Hands, Task};
use super::notices::Notices;
use super::proposals::{Proposals, change_words};
use super::tickets::{Moment, Tickets};
use super::windows::Windows;
use crate::audit::{Chain, Checkpoint, Notary};
use crate::decide::Policy;
use crate::events;
use crate::incident::attempt::{Answer, Call};
use crate::incident::book::outputs::Outputs;
use crate::incident::book::{Book, COMMAND, Command, DETECTION};
use crate::incident::{ProposalNote, TicketNote};
use crate::model::pipeline::Micros;
use crate::roles::runtime::micros;
use crate::tickets::edit::NumberChange;
use crate::tickets::github::{Done, Outcome, Proposed, TicketError};

/// What the owner of `maturion.intents` knows.
pub(super) struct Actor {
    pub(super) book: Book,
    pub(super) chain: Chain,
    pub(super) notary: Option<Notary>,
    pub(super) windows: Windows,
    pub(super) tickets: Option<Tickets>,
    pub(super) proposals: Option<Proposals>,
    pub(super) notices: Option<Notices>,
    /// What the hands are at.
    pub(super) in_flight: BTreeSet<Key>,
    /// Attempts whose call has not been made, for sure: this process wrote that it is going to be.
    pub(super) unsent: HashSet<String>,
}

/// One thing that the hands do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Call(String, Call),
    Look(String),
    Witness(String),
    Ticket(String),
    /// One at a time.
    Propose,
    Deliver(String),
}

impl Actor {
    /// True if something is to be written.
    pub(super) fn has_more(&self, now: Micros) -> bool {
        let has_told = self.notices.as_ref().is_some_and(|notices| notices.is_changed() || notices.is_due(now));
        self.book.has_outputs() || has_told || self.is_signing(now)
    }

    /// Tells tickets and notices what changed; what follows is done after the commit.
    pub(super) fn tell(&mut self, outputs: &Outputs, now: Micros) {
        if let Some(tickets) = &mut self.tickets {
            outputs.changed.iter().for_each(|id| tickets.changed(id));
        }
        if let Some(proposals) = &mut self.proposals {
            outputs.changed.iter().for_each(|id| proposals.changed(id));
        }
        if let Some(notices) = &mut self.notices {
            notices.hear(&outputs.news, &self.book, now);
        }
    }

    /// What signs the chain up to its end, if that is due.
    pub(super) fn checkpoint(&self, now: Micros) -> Option<Checkpoint> {
        self.notary.as_ref()?.due(self.chain.head(), now)
    }

    fn is_signing(&self, now: Micros) -> bool {
        self.notary.as_ref().is_some_and(|notary| notary.is_due(self.chain.head(), now))
    }

    /// What was sent is written.
    pub(super) fn committed(&mut self, now: Micros) {
        let is_signed = self.is_signing(now);
        if let Some(notary) = self.notary.as_mut().filter(|_| is_signed) {
            notary.committed(self.chain.head(), now);
        }
    }

    pub(super) fn read(&mut self, inbox: &[(Vec<u8>, String, Vec<u8>)], now: Micros) {
        for (kind, event_type, value) in inbox {
            if kind == DETECTION {
                // What is refused is in the audit.
                if let Err(error) = self.book.hear(event_type, value, now) {
                    events::claim_refused(error.word());
                }
            } else if kind == COMMAND {
                let command = serde_json::from_slice(value).ok().filter(Command::is_signed);
                if command.is_none_or(|command| self.book.command(command, now).is_err()) {
                    events::claim_refused("unusable command");
                }
            } else {
                events::claim_refused("unknown kind");
            }
        }
    }

    pub(super) fn hear_answers(&mut self, hands: &mut impl Hands, at: Moment) {
        let now = at.wall;
        for finished in hands.finished() {
            match finished {
                Finished::Call { incident_id, action_id, call, answer } => {
                    self.in_flight.remove(&Key::Call(action_id.clone(), call));
                    self.unsent.remove(&action_id);
                    if call == Call::Snapshot && matches!(answer, Answer::Done(_)) {
                        self.unsent.insert(action_id.clone());
                    }
                    self.book.answer(&incident_id, &action_id, call, answer, now);
                }
                Finished::Look { incident_id, state } => {
                    self.in_flight.remove(&Key::Look(incident_id.clone()));
                    match state {
                        Ok(state) => self.book.reading(&incident_id, &state, now),
                        Err(reason) => events::reading_failed(&incident_id, &reason),
                    }
                }
                Finished::Witness { incident_id, witness } => {
                    self.in_flight.remove(&Key::Witness(incident_id.clone()));
                    self.book.witness(&incident_id, witness);
                }
                Finished::Ticket { incident_id, written, outcome } => {
                    self.in_flight.remove(&Key::Ticket(incident_id.clone()));
                    self.ticket_written(&incident_id, written, outcome, at);
                }
                Finished::Propose { incident_id, action_id, change, outcome } => {
                    self.in_flight.remove(&Key::Propose);
                    self.proposed(&incident_id, action_id, &change, outcome, at);
                }
                Finished::Deliver { delivery_id, sent } => {
                    self.in_flight.remove(&Key::Deliver(delivery_id.clone()));
                    if let Some(notices) = &mut self.notices {
                        notices.answered(&delivery_id, &sent, now);
                    }
                }
            }
        }
    }

    fn ticket_written(&mut self, id: &str, written: String, outcome: Result<Outcome, TicketError>, at: Moment) {
        let Some(tickets) = &mut self.tickets else { return };
        let later = |wait| at.elapsed.saturating_add(micros(wait));
        match outcome {
            Ok(Outcome { done: Done::Digested { again }, .. }) => tickets.again(id, later(again)),
            Ok(Outcome { number, .. }) => {
                let issue = number.map(|number| tickets.name(number)).unwrap_or_default();
                tickets.written(id, at.elapsed);
                self.book.ticket(id, TicketNote { number, issue, written });
            }
            Err(error) => {
                events::ticket_failed(id, &error.to_string());
                if let Some(wait) = error.wait() {
                    tickets.again(id, later(wait));
                }
            }
        }
    }

    fn proposed(
        &mut self,
        id: &str,
        action_id: String,
        change: &NumberChange,
        outcome: Result<Proposed, TicketError>,
        at: Moment,
    ) {
        let Some(proposals) = &mut self.proposals else { return };
        let (number, words) = match outcome {
            Ok(Proposed::Open(number)) => (Some(number), "open".to_owned()),
            Ok(Proposed::Ended(number)) => (Some(number), "merged or closed".to_owned()),
            Ok(Proposed::NothingToChange) => (None, "the file says so already".to_owned()),
            Err(error) => {
                events::proposal_failed(id, &error.to_string());
                if let Some(wait) = error.wait() {
                    return proposals.again(id, at.elapsed.saturating_add(micros(wait)));
                }
                (None, error.to_string())
            }
        };
        let change = change_words(change);
        self.book.proposed(id, ProposalNote { action_id, change, is_settled: true, number, words });
    }

    /// The next proposal. What is going to be proposed is written first, and what another incident has proposed is not done again.
    fn propose(&mut self, at: Moment) -> Option<Task> {
        let proposals = self.proposals.as_mut().filter(|_| !self.in_flight.contains(&Key::Propose))?;
        let (task, notes) = proposals.next(&self.book, at);
        for (id, note) in notes {
            self.book.proposed(&id, note);
        }
        task
    }

    /// What is to be told now.
    pub(super) fn messages(&mut self, at: Moment) -> Vec<Task> {
        let mut tasks = Vec::new();
        if let Some(tickets) = &mut self.tickets {
            let in_flight = &self.in_flight;
            let is_busy = |id: &str| {
                [Key::Witness(id.to_owned()), Key::Ticket(id.to_owned())].iter().any(|key| in_flight.contains(key))
            };
            tasks = tickets.tasks(&self.book, is_busy, at);
        }
        tasks.extend(self.propose(at));
        let deliveries = self.notices.iter().flat_map(|notices| notices.due(at.wall));
        tasks.extend(deliveries.map(|delivery| Task::Deliver { delivery: delivery.clone() }));
        tasks.retain(|task| match task {
            Task::Witness { incident_id, .. } => self.in_flight.insert(Key::Witness(incident_id.clone())),
            Task::Ticket { incident_id, .. } => self.in_flight.insert(Key::Ticket(incident_id.clone())),
            Task::Propose { .. } => self.in_flight.insert(Key::Propose),
            Task::Deliver { delivery } => self.in_flight.insert(Key::Deliver(delivery.id.clone())),
            Task::Call { .. } | Task::Look { .. } => true,
        });
        tasks
    }

    /// What is to be done now.
    pub(super) fn tasks(&mut self, policy: &Policy, now: Micros) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut not_made = Vec::new();
        for (incident, job) in self.book.jobs(now) {
            let Some(action) = policy.action(&job.intent.action) else { continue };
            let action_id = job.intent.key();
            let key = Key::Call(action_id.clone(), job.call);
            if self.in_flight.contains(&key) {
                continue;
            }
            let incident_id = incident.incident_id.clone();
            match self.instead(&action_id, job.call, action.idempotent) {
                Instead::Make => {
                    self.in_flight.insert(key);
                    tasks.push(Task::Call { incident_id, action_id, action: action.clone(), job });
                }
                Instead::Wait => {}
                Instead::Answer(answer) => not_made.push((incident_id, action_id, job.call, answer)),
            }
        }
        for (incident_id, action_id, call, answer) in not_made {
            self.book.answer(&incident_id, &action_id, call, answer, now);
        }
        for (incident_id, intent) in self.book.take_wanted() {
            let Some(action) = policy.action(&intent.action) else { continue };
            if self.in_flight.insert(Key::Look(incident_id.clone())) {
                tasks.push(Task::Look { incident_id, action: action.clone(), intent });
            }
        }
        tasks
    }

    /// What is done in place of a call that must not be made. One that may have been made already, of an action that must not
    /// be done twice, counts as made; and while the kill switch is on none is made: what was not begun ends, and what is to be
    /// taken back waits.
    fn instead(&self, action_id: &str, call: Call, is_idempotent: bool) -> Instead {
        let may_be_made = call == Call::Apply && !self.unsent.contains(action_id);
        match (self.book.is_stopped(), call) {
            (true, Call::Revert) => Instead::Wait,
            (true, _) if !may_be_made => Instead::Answer(Answer::NotSent("the kill switch is on".to_owned())),
            (true, _) => Instead::Answer(Answer::Unknown(
                "a process that ended may have done it, and the kill switch is on".to_owned(),
            )),
            (false, _) if may_be_made && !is_idempotent => {
                Instead::Answer(Answer::Unknown("the process ended while it was being done".to_owned()))
            }
            (false, _) => Instead::Make,
        }
    }
}

/// What becomes of a call.
enum Instead {
    Make,
    Wait,
    /// It is not made, and this is what is known of it.
    Answer(Answer),
}
