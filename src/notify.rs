//! Notices: who is told of an incident, when, and through which channel.
//!
//! ```text
//!  Notice ──▶ Router ──▶ Delivery ──▶ Sender ──▶ webhook, Slack, PagerDuty, Alertmanager, mail
//!  what       pure: whom, when,       one request, judged: done, again later, or in vain
//!  happened   grouped, repeated
//! ```
//!
//! [`Router`] decides, and does nothing else: no clock, no I/O; its state is plain data that is kept with the
//! rest of what was committed, its timers are deadlines in that state. [`send::Sender`] sends one delivery and keeps nothing. The
//! caller keeps deliveries until they are sent.
//!
//! - **Whoever was told that something began is told that it ended**, in every case.
//! - No two deliveries have one id. A delivery that is sent twice is the same to its receiver.
//! - What is urgent is told at once; the rest waits for its group. Too many messages become a digest.
//! - Words are scrubbed when they come in ([`scrub`](crate::scrub)), so the state holds nothing personal either.

use serde::{Deserialize, Serialize};

use crate::config::notify::Issue;
use crate::model::pipeline::{Micros, Severity};

mod alerts;
mod mail;
mod payload;
mod router;
mod routing;
pub mod send;
mod state;

pub use router::Router;
pub use routing::Routing;
pub use state::State;

/// Something that happened to an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub incident: String,
    /// How often the incident was opened anew.
    pub epoch: u64,
    pub what: What,
    pub issue: Issue,
    pub severity: Severity,
    /// What happened in a few words.
    pub title: String,
    pub module: Option<String>,
    /// The ticket's address.
    pub ticket: Option<String>,
    /// Incidents of one group are told together: the module, or what caused them.
    pub group: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Opened,
    /// Severity, kind or words are others.
    Changed,
    /// Somebody looks after it.
    Acknowledged {
        by: String,
    },
    Resolved,
    /// Maturion gives it to people.
    Escalated {
        reason: Reason,
    },
}

/// Why people are called: the plan's four reasons, and silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    BeyondScope,
    RepeatedFailure,
    Ambiguity,
    HighRisk,
    /// The first contact did not acknowledge in time.
    Unacknowledged,
}

impl Reason {
    pub fn words(self) -> &'static str {
        match self {
            Reason::BeyondScope => "beyond what may be fixed automatically",
            Reason::RepeatedFailure => "automatic fixes failed repeatedly",
            Reason::Ambiguity => "the cause is unclear, or there are several solutions",
            Reason::HighRisk => "the change that would help is risky",
            Reason::Unacknowledged => "nobody has acknowledged it in time",
        }
    }
}

/// One message to one contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The same delivery has the same id, and no other has.
    pub id: String,
    pub contact: String,
    pub kind: Kind,
    /// What trigger, acknowledgement and resolution have in common: the incident's id, or that of a group.
    pub alert: String,
    pub group: String,
    pub at: Micros,
    pub entries: Vec<Entry>,
    /// Incidents that are not listed.
    pub more: u64,
    /// Why people are called, if not because it began.
    pub reason: Option<Reason>,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It began, or still lasts and nobody has acknowledged it.
    Trigger,
    /// Some of it is over, or it is worse.
    Update,
    Acknowledge,
    Resolve,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Trigger => "trigger",
            Kind::Update => "update",
            Kind::Acknowledge => "acknowledge",
            Kind::Resolve => "resolve",
        }
    }
}

/// One incident in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub incident: String,
    pub epoch: u64,
    pub issue: Issue,
    pub severity: Severity,
    pub title: String,
    pub module: Option<String>,
    pub ticket: Option<String>,
    pub opened: Micros,
    pub resolved: Option<Micros>,
    pub acknowledged: Option<String>,
    /// How long an answer may take.
    pub respond_within: Micros,
}
