//! Stage three: detections become decisions, actions and their proof.
//!
//! ```text
//!  maturion.remediation ──(any worker)──▶ maturion.intents ──(the actor)──▶ incident::Book
//!       one transaction with its offsets       one partition                     │ one transaction with its offsets
//!                                                                                ├──▶ maturion.incidents, maturion.audit
//!                                                              after the commit  └──▶ Hands: control planes, tickets, notices
//! ```
//!
//! Decisions need to know of everything: budgets, leases, one chain of audit. So all workers pass detections on to one
//! partition, and who owns that partition is the actor; the log's group sees to it that there is one. What the actor
//! knows is committed with what it said, and nothing is done in the world before the commit that says so. So whoever
//! goes on after a crash finds every intent, and what is done for it carries the same key.
//!
//! The steps between an intent and its end have numbers in the plan: 1 to 10 are [`crate::decide`], 11 is the commit here,
//! 12 and 13 are calls of [`hands`], 14 to 16 are [`crate::incident::attempt`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use super::Runtime;
use super::audit::AuditTopicError;
use crate::audit::KeyError;
use crate::config::{self, Secret};
use crate::decide::Policy;
use crate::events;
use crate::incident::book::{DETECTION, KIND, Settings};
use crate::incident::claim::Rules;
use crate::log::{LogError, Outgoing, Partition, Position, Rebalance, Record, Session};
use crate::model::pipeline::Micros;
use crate::model::silence::Silence;
use crate::notify::Routing;
use crate::roles::runtime::micros;
use crate::serve::status::{Remediation, RoleState};
use actor::Actor;
use hands::Hands;
use tickets::Moment;

mod actor;
pub mod hands;
mod notices;
mod proposals;
mod restoring;
mod tickets;
mod windows;
pub mod witness;
mod writing;

/// Its name on the status board.
const ROLE: &str = "remediate";
/// Messages visited by one poll.
const POLL_MESSAGES_MAX: usize = 1_024;
/// The longest detection that is passed on whole, in bytes, some ten times what detect writes. Of a longer one only the
/// beginning is, so that it is refused and audited: with its headers it could be more than the topic takes.
const DETECTION_BYTES_MAX: usize = 256 << 10;
/// The longest type that a message may have, in bytes.
const EVENT_TYPE_BYTES_MAX: usize = 100;
/// How long one poll waits, and so how soon answers and deadlines are noticed.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// How often offsets alone are committed.
const QUIET_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the kill switch is looked at, and the status told how things stand.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The header that says what a detection's message is.
const EVENT_TYPE: &str = "ce_type";

/// Why remediate stopped.
#[derive(Debug, Error)]
pub enum RemediateError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the state of {key} cannot be read: {reason}; it was written by another version of this program")]
    State { key: String, reason: String },
    #[error("the state of {key} cannot be written: {reason}")]
    Write { key: String, reason: String },
    #[error(transparent)]
    Chain(#[from] AuditTopicError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What the role is made of, besides the log.
#[derive(Clone)]
pub struct RemediateSettings {
    pub policy: Arc<Policy>,
    pub book: Settings,
    /// Nothing is done while this file exists.
    pub kill_switch: PathBuf,
    pub signing: Option<Signing>,
    /// Maintenance that is planned.
    pub silences: Vec<Silence>,
    /// Where tickets go.
    pub tickets: Option<config::GitHub>,
    /// Who is told of what; without it nobody is.
    pub routing: Option<Routing>,
}

/// With what the audit is signed, and how often.
#[derive(Clone)]
pub struct Signing {
    pub key: Secret,
    pub interval: Micros,
}

/// One worker of stage three.
pub struct Remediate<H> {
    runtime: Runtime,
    settings: RemediateSettings,
    hands: H,
    /// The next offset of each partition that is read.
    next: BTreeMap<Partition, i64>,
    committed: BTreeMap<Partition, i64>,
    /// While it owns `maturion.intents`.
    actor: Option<Actor>,
    last_commit: Duration,
    last_look: Duration,
}

/// What one poll brought.
#[derive(Default)]
struct Mail {
    /// Detections to be passed on: the type and the body.
    forward: Vec<(Vec<u8>, Vec<u8>)>,
    /// Messages for the actor: the kind, the type and the body.
    inbox: Vec<(Vec<u8>, String, Vec<u8>)>,
}

impl<H: Hands> Remediate<H> {
    pub fn new(runtime: Runtime, settings: RemediateSettings, hands: H) -> Self {
        let now = runtime.clock.elapsed();
        let (next, committed) = (BTreeMap::new(), BTreeMap::new());
        Self { runtime, settings, hands, next, committed, actor: None, last_commit: now, last_look: Duration::ZERO }
    }

    /// Works until `stop` is set, then commits and leaves the group. Calls under way are answered to whoever goes on.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), RemediateError> {
        let mut session = self.join()?;
        let mut result = Ok(());
        while result.is_ok() && !stop.load(Ordering::Relaxed) {
            self.runtime.board.turned(ROLE);
            result = self.turn(session.as_mut());
        }
        let result = result.and_then(|()| self.commit(session.as_mut()));
        session.close();
        result
    }

    /// Joins the group; fences a predecessor of the same instance.
    pub fn join(&self) -> Result<Box<dyn Session>, RemediateError> {
        let Runtime { log, topics, instance, .. } = &self.runtime;
        let inputs = [topics.remediation(), topics.intents()];
        Ok(log.session(&topics.group(ROLE), &inputs, &topics.transactional_id(instance, ROLE))?)
    }

    /// One poll and what follows from it.
    pub fn turn(&mut self, session: &mut dyn Session) -> Result<(), RemediateError> {
        let (mail, change) = self.take(session)?;
        self.forward(session, &mail.forward)?;
        let now = self.runtime.clock.wall();
        self.look_at_switch();
        if let Some(actor) = &mut self.actor {
            actor.read(&mail.inbox, now);
            let at = Moment { wall: now, elapsed: micros(self.runtime.clock.elapsed()) };
            actor.hear_answers(&mut self.hands, at);
            actor.windows.read(&self.runtime, &mut actor.book, now)?;
            if actor.windows.is_caught_up() {
                actor.book.tick(now, actor.chain.head().seq + 1);
            }
        }
        let has_more = !mail.forward.is_empty() || self.actor.as_ref().is_some_and(|actor| actor.has_more(now));
        let is_due = self.is_behind() && self.since_commit() >= QUIET_COMMIT_INTERVAL;
        if has_more || is_due || change.is_some() {
            self.commit(session)?;
        }
        match change {
            Some(change) => self.rebalance(session, change)?,
            None => self.start_work(),
        }
        Ok(())
    }

    fn take(&mut self, session: &mut dyn Session) -> Result<(Mail, Option<Rebalance>), RemediateError> {
        let (intents, next) = (self.runtime.topics.intents(), &mut self.next);
        let mut mail = Mail::default();
        let change = session.poll(POLL_WAIT, POLL_MESSAGES_MAX, &mut |record| {
            let place = next
                .iter_mut()
                .find(|(partition, _)| partition.number == record.partition && *partition.topic == *record.topic);
            let Some((_, next)) = place else { return };
            *next = record.offset + 1;
            let value = beginning(record.value.unwrap_or_default(), DETECTION_BYTES_MAX).to_vec();
            let event_type = beginning(header(record, EVENT_TYPE), EVENT_TYPE_BYTES_MAX);
            if record.topic == intents {
                let event_type = String::from_utf8_lossy(event_type).into_owned();
                mail.inbox.push((header(record, KIND).to_vec(), event_type, value));
            } else {
                mail.forward.push((event_type.to_vec(), value));
            }
        })?;
        Ok((mail, change))
    }

    /// Passes detections on to whoever is the actor.
    fn forward(&self, session: &mut dyn Session, messages: &[(Vec<u8>, Vec<u8>)]) -> Result<(), LogError> {
        let topic = self.runtime.topics.intents();
        messages.iter().try_for_each(|(event_type, value)| {
            let headers = [(KIND, DETECTION), (EVENT_TYPE, event_type.as_slice())];
            let (partition, value) = (Some(0), Some(value.as_slice()));
            session.send(Outgoing { topic: &topic, partition, key: None, value, headers: &headers, timestamp_ms: None })
        })
    }

    fn look_at_switch(&mut self) {
        let now = self.runtime.clock.elapsed();
        let Some(actor) = &mut self.actor else { return };
        if now.saturating_sub(self.last_look) >= LOOK_INTERVAL || self.last_look == Duration::ZERO {
            self.last_look = now;
            let is_stopped = self.settings.kill_switch.exists();
            actor.book.set_kill_switch(is_stopped);
            let phases = actor.book.phases().into_iter().map(|(phase, count)| (phase.to_owned(), count)).collect();
            let mode = self.settings.book.mode.name().to_owned();
            self.runtime.board.remediation(Some(Remediation { mode, is_stopped, phases }));
        }
    }

    fn since_commit(&self) -> Duration {
        self.runtime.clock.elapsed().saturating_sub(self.last_commit)
    }

    fn is_behind(&self) -> bool {
        self.next != self.committed
    }

    /// Commits what was said with the offsets of what it was said about, or throws both away.
    fn commit(&mut self, session: &mut dyn Session) -> Result<(), RemediateError> {
        match self.send_and_commit(session) {
            Err(RemediateError::Log(LogError::Abort(reason))) => {
                events::transaction_aborted(ROLE, &reason);
                self.abort(session)
            }
            other => other,
        }
    }

    fn send_and_commit(&mut self, session: &mut dyn Session) -> Result<(), RemediateError> {
        self.last_commit = self.runtime.clock.elapsed();
        let now = self.runtime.clock.wall();
        let mut said = Vec::new();
        if let Some(actor) = &mut self.actor {
            let outputs = actor.book.take_outputs();
            actor.tell(&outputs, now);
            said = writing::send(&self.runtime, session, actor, &outputs, now)?;
        }
        let offsets =
            self.next.iter().map(|(partition, offset)| Position { partition: partition.clone(), offset: *offset });
        session.commit(&offsets.collect::<Vec<_>>())?;
        self.committed = self.next.clone();
        self.runtime.board.metrics().audited(&said);
        if let Some(actor) = &mut self.actor {
            actor.committed(now);
        }
        Ok(())
    }

    /// Everything since the last commit is forgotten, and read again.
    fn abort(&mut self, session: &mut dyn Session) -> Result<(), RemediateError> {
        self.runtime.board.metrics().aborted(ROLE);
        session.abort()?;
        let partitions = self.next.keys().cloned().collect::<Vec<_>>();
        let positions = self.restore(session, &partitions)?;
        Ok(session.rewind(&positions)?)
    }

    fn rebalance(&mut self, session: &mut dyn Session, change: Rebalance) -> Result<(), RemediateError> {
        match change {
            Rebalance::Assigned(partitions) => {
                let positions = self.restore(session, &partitions)?;
                session.assign(&positions)?;
                events::partitions_assigned(ROLE, partitions.len() as u64);
                self.runtime.board.role(ROLE, RoleState::Running);
            }
            Rebalance::Revoked(partitions) => {
                self.forget(&partitions);
                session.release(&partitions)?;
                events::partitions_revoked(ROLE, partitions.len() as u64);
            }
            Rebalance::Lost(partitions) => {
                events::partitions_lost(ROLE, partitions.len() as u64);
                self.forget(&partitions);
                self.abort(session)?;
                session.release(&partitions)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[Partition]) {
        let intents = self.runtime.topics.intents();
        for partition in partitions {
            self.next.remove(partition);
            self.committed.remove(partition);
            if *partition.topic == *intents {
                self.actor = None;
                self.runtime.board.remediation(None);
            }
        }
    }

    /// What was committed of these partitions, and of the incidents if the intents are among them.
    fn restore(
        &mut self,
        session: &mut dyn Session,
        partitions: &[Partition],
    ) -> Result<Vec<Position>, RemediateError> {
        let intents = self.runtime.topics.intents();
        let committed = session.committed(partitions)?;
        let bounds = self.runtime.log.bounds(partitions)?;
        let mut positions = Vec::with_capacity(partitions.len());
        for ((partition, committed), (earliest, _)) in partitions.iter().zip(committed).zip(bounds) {
            let offset = committed.unwrap_or(earliest).max(earliest);
            self.next.insert(partition.clone(), offset);
            self.committed.insert(partition.clone(), offset);
            positions.push(Position { partition: partition.clone(), offset });
        }
        if partitions.iter().any(|partition| *partition.topic == *intents) {
            self.runtime.board.role(ROLE, RoleState::Restoring);
            // What the hands are at they go on with, and tell whoever asks.
            let in_flight = self.actor.take().map(|actor| actor.in_flight).unwrap_or_default();
            self.actor = Some(Actor { in_flight, ..restoring::actor(&self.runtime, &self.settings)? });
            self.runtime.board.role(ROLE, RoleState::Running);
        }
        Ok(positions)
    }

    /// Steps 12 and 13, and all else that is done in the world: what is committed, and not under way.
    fn start_work(&mut self) {
        let now = self.runtime.clock.wall();
        let Some(actor) = &mut self.actor else { return };
        let at = Moment { wall: now, elapsed: micros(self.runtime.clock.elapsed()) };
        let calls = actor.tasks(&self.settings.policy, now);
        calls.into_iter().chain(actor.messages(at)).for_each(|task| self.hands.start(task));
    }
}

/// The value of a header; empty if there is none.
fn header<'a>(record: &Record<'a>, name: &str) -> &'a [u8] {
    record.headers.iter().find(|(key, _)| *key == name).map_or(&[], |(_, value)| value)
}

fn beginning(bytes: &[u8], bytes_max: usize) -> &[u8] {
    bytes.get(..bytes_max).unwrap_or(bytes)
}

/// The rules of the compiled pipelines.
fn rules(runtime: &Runtime) -> Rules {
    let current = runtime.set.pipelines().iter().filter(|compiled| compiled.is_current);
    Rules::new(current.map(|compiled| (&compiled.pipeline, compiled.plan.panes.slide)))
}
