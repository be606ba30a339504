//! Attempts: one action on one target, from the audited intent to its proof.
//!
//! ```text
//!   intended ──snapshot──▶ applying ──apply──▶ settling ──time──▶ proving ──samples──▶ verified ──expires──▶ reverting
//!      │                      │                                      │ no proof in time                        │
//!      │ nothing was sent     │ refused                              ▼                                         ▼
//!      └──────────────────────┴────────▶ failed               rolling_back ──▶ rolled_back | stuck         reverted
//! ```
//!
//! Each arrow is committed before the next call is made, so whoever goes on after a crash knows what may have been done:
//! in `intended` nothing was, in `applying` perhaps. A call that may have been made is made again only if the control plane
//! does one thing once for one key; else it counts as made, and the samples tell.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::proof::Proof;
use crate::model::action::{Action, Intent};
use crate::model::pipeline::Micros;
use crate::model::time::{rfc3339, rfc3339_or_null};

/// The pause after the first call that should take a change back and was not answered; it doubles …
const REVERT_PAUSE: Micros = 15 * 1_000_000;
/// … so many times, to 16 minutes.
const REVERT_DOUBLINGS: u32 = 6;
/// Calls that take a change back, about six hours of them; after that people must.
const REVERTS_MAX: u32 = 30;

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Decided and audited; nothing was done.
    Intended,
    /// The state before is known; the call may have been made.
    Applying,
    /// It was done, and needs time to show.
    Settling,
    /// Samples from after it decide.
    Proving,
    Verified,
    /// It did not help: the state before is being restored.
    RollingBack,
    RolledBack,
    /// Its time is over: the temporary change is being taken back.
    Reverting,
    Reverted,
    /// Nothing was changed.
    Failed,
    /// It did not help or its time is over, and it cannot be taken back: for people.
    Stuck,
}

impl Stage {
    /// The stage in a word or two, joined by `_`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Intended => "intended",
            Stage::Applying => "applying",
            Stage::Settling => "settling",
            Stage::Proving => "proving",
            Stage::Verified => "verified",
            Stage::RollingBack => "rolling_back",
            Stage::RolledBack => "rolled_back",
            Stage::Reverting => "reverting",
            Stage::Reverted => "reverted",
            Stage::Failed => "failed",
            Stage::Stuck => "stuck",
        }
    }
}

/// One attempt, as it stands in the incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The intent's key: the idempotency key of everything that is done for it.
    pub action_id: String,
    #[serde(flatten)]
    pub intent: Intent,
    pub stage: Stage,
    /// Grows with every attempt of the installation, and when a temporary change is over: a control plane that remembers it refuses whoever comes from the past.
    pub token: u64,
    #[serde(with = "rfc3339")]
    pub intended_at: Micros,
    #[serde(with = "rfc3339_or_null")]
    pub applied_at: Option<Micros>,
    /// Calls that take it back and were not answered.
    #[serde(default)]
    pub revert_failures: u32,
    /// When the next of them is due.
    #[serde(default, with = "rfc3339_or_null")]
    pub retry_at: Option<Micros>,
    /// The next deadline: of settling, of proving, or of a temporary effect.
    #[serde(with = "rfc3339_or_null")]
    pub due_at: Option<Micros>,
    #[serde(with = "rfc3339_or_null")]
    pub ended_at: Option<Micros>,
    pub before: Option<Value>,
    pub after: Option<Value>,
    pub proof: Proof,
    /// Why it ended as it did, in words.
    pub outcome: Option<String>,
}

/// A call that is to be made for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub call: Call,
    pub token: u64,
    pub intent: Intent,
    pub before: Option<Value>,
}

/// The calls of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Snapshot,
    Apply,
    Revert,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done; what the control plane said.
    Done(Value),
    /// The control plane refused: nothing was changed.
    Refused(String),
    /// It was not sent, or could not be: nothing was changed.
    NotSent(String),
    /// It was sent, and nobody knows what came of it.
    Unknown(String),
}

impl Attempt {
    /// An attempt that was decided.
    pub fn new(intent: Intent, token: u64, now: Micros) -> Attempt {
        Attempt {
            action_id: intent.key(),
            intent,
            stage: Stage::Intended,
            token,
            intended_at: now,
            applied_at: None,
            revert_failures: 0,
            retry_at: None,
            due_at: None,
            ended_at: None,
            before: None,
            after: None,
            proof: Proof::default(),
            outcome: None,
        }
    }

    /// True between the decision and the end of the attempt; a temporary effect that lasts is not busy.
    pub fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Verified | Stage::RolledBack | Stage::Reverted | Stage::Failed | Stage::Stuck)
    }

    /// True if its temporary change lasts, of what this intent would change.
    pub fn lasts(&self, intent: &Intent) -> bool {
        let mine = (&self.intent.action, &self.intent.target, &self.intent.organisation_id);
        !self.is_over() && mine == (&intent.action, &intent.target, &intent.organisation_id)
    }

    /// True if nothing of it is left to be done.
    pub fn is_over(&self) -> bool {
        !self.is_busy() && self.due_at.is_none()
    }

    /// True if it did not help.
    pub fn is_unverified(&self) -> bool {
        matches!(self.stage, Stage::RollingBack | Stage::RolledBack | Stage::Failed | Stage::Stuck)
    }

    /// True if the next call may be made.
    pub fn is_ready(&self, now: Micros) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// The call that is to be made next, if one is.
    pub fn job(&self) -> Option<Job> {
        let call = match self.stage {
            Stage::Intended => Call::Snapshot,
            Stage::Applying => Call::Apply,
            Stage::RollingBack | Stage::Reverting => Call::Revert,
            _ => return None,
        };
        Some(Job { call, token: self.token, intent: self.intent.clone(), before: self.before.clone() })
    }

    /// Step 12: the state before is known.
    pub(super) fn snapshot_taken(&mut self, before: Value) {
        self.before = Some(before);
        self.stage = Stage::Applying;
    }

    /// Step 13: it was done, or may have been.
    pub(super) fn applied(&mut self, after: Option<Value>, action: &Action, now: Micros) {
        self.after = after;
        self.applied_at = Some(now);
        self.stage = Stage::Settling;
        self.due_at = Some(now.saturating_add(action.settle));
        self.proof.counts_from = now.saturating_add(action.settle);
    }

    /// Step 14: its effect had time; samples from now on count.
    pub(super) fn settled(&mut self, action: &Action, now: Micros) {
        self.stage = Stage::Proving;
        self.due_at = Some(now.max(self.proof.counts_from).saturating_add(action.verify_within));
    }

    /// Step 15 and 16: it helped.
    pub(super) fn verified(&mut self, action: &Action, now: Micros) {
        self.stage = Stage::Verified;
        self.ended_at = Some(now);
        self.due_at = action.expires_after.map(|after| self.applied_at.unwrap_or(now).saturating_add(after));
        self.outcome = Some("verified on samples from after it".to_owned());
    }

    /// Step 16: it did not help. What can be taken back is.
    pub(super) fn unproven(&mut self, why: &str, can_revert: bool, now: Micros) {
        self.outcome = Some(why.to_owned());
        self.due_at = None;
        if can_revert {
            self.stage = Stage::RollingBack;
        } else {
            self.stage = Stage::RolledBack;
            self.ended_at = Some(now);
        }
    }

    /// The time of a temporary effect is over. What takes it back comes later than all that was done meanwhile, and its
    /// `token` says so.
    pub(super) fn expired(&mut self, token: u64) {
        self.token = token;
        self.stage = Stage::Reverting;
        self.due_at = None;
    }

    /// A revert was answered.
    pub(super) fn reverted(&mut self, after: Value, now: Micros) {
        self.stage = if self.stage == Stage::Reverting { Stage::Reverted } else { Stage::RolledBack };
        self.after = Some(after);
        self.ended_at = Some(now);
        (self.due_at, self.retry_at) = (None, None);
    }

    /// It ends without an effect.
    pub(super) fn failed(&mut self, why: String, now: Micros) {
        self.stage = Stage::Failed;
        self.outcome = Some(why);
        self.ended_at = Some(now);
        (self.due_at, self.retry_at) = (None, None);
    }

    /// Taking it back was not answered: once more, later and later. False: often enough.
    pub(super) fn revert_later(&mut self, now: Micros) -> bool {
        let pause = REVERT_PAUSE.saturating_mul(1 << self.revert_failures.min(REVERT_DOUBLINGS));
        self.revert_failures += 1;
        self.retry_at = Some(now.saturating_add(pause));
        self.revert_failures < REVERTS_MAX
    }

    /// It cannot be taken back.
    pub(super) fn stuck(&mut self, why: String, now: Micros) {
        self.stage = Stage::Stuck;
        self.outcome = Some(why);
        self.ended_at = Some(now);
        (self.due_at, self.retry_at) = (None, None);
    }
}
