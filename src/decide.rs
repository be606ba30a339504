//! From an intent to a permission: may this be done, now, to this target, and why or why not?
//!
//! [`Policy`] is compiled once from three files: the catalogue of actions, the Cedar policies and their schema. [`Policy::decide`]
//! asks ten questions in one order and stops at the first that is answered with no. Each is a function that can be read, in `steps`:
//!
//! ```text
//!  intent ─▶ gate ─▶ signal ─▶ floor ─▶ permit ─▶ range ─▶ key ─▶ lease ─▶ budget ─▶ breaker ─▶ blast radius ─▶ act
//!              │        │        │        │ Cedar     │       │       │         │          │             │     observe
//!              └────────┴────────┴────────┴───────────┴───────┴───────┴─────────┴──────────┴─────────────┴──▶ refuse
//! ```
//!
//! The floor is code below the policy: what the plan prohibits is refused whatever a file says. What is not known counts against
//! acting: an unknown organisation, an unknown number of tenants, a value nobody has read.
//!
//! `decide` never reads a clock, a file or what happened: all it knows of the world is in [`Circumstances`], so that a
//! decision can be repeated later from what was written down about it. It never does anything.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::document::DocumentError;
use crate::config::{NamedText, PolicyTexts};
use crate::model::action::{Action, ActionKind, Intent, Mode};
use crate::model::pipeline::{Micros, Scope, Severity};

use catalogue::Catalogue;
use permission::Permissions;

mod catalogue;
mod floor;
mod permission;
mod sentence;
mod steps;

pub use sentence::sentence;
pub use steps::{ATTEMPTS_MAX, BREAKER_HALF_OPENS_AFTER, BREAKER_OPENS_AT, not_before};

/// As a number of tenants: all of them, however many there are.
pub const EVERYONE: u32 = u32::MAX;

/// Everything that a decision depends on besides the intent and the policy. All of it is counted by the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    pub now: Micros,
    pub mode: Mode,
    pub kill_switch: bool,
    /// The silence or maintenance window that covers the incident, in the words of its owner.
    pub silenced_by: Option<String>,
    /// Of the incident, after it was raised or lowered by evidence.
    pub severity: Severity,
    /// Of the rule that fired: what kind of change would help.
    pub scope: Scope,
    /// The signal has changed too often to be believed.
    pub flapping: bool,
    /// The window that fired holds all of its rows.
    pub window_complete: bool,
    /// The rule's baseline has learnt enough; true for a rule without one.
    pub baseline_warm: bool,
    /// The target has sent telemetry. Asked only where no list of targets is configured.
    pub target_seen: bool,
    /// Organisations that the action would touch, or [`EVERYONE`]; 0: nobody knows.
    pub tenants_affected: u32,
    /// The value of the action's parameter, as it was read just now.
    pub value_before: Option<f64>,
    /// Who works on the target.
    pub lease: Option<Lease>,
    /// Actions begun within the last hour.
    pub actions_last_hour: Counts,
    /// Attempts of this action on this module that ended without a proof, since the last one with a proof.
    pub unverified_in_a_row: u32,
    /// When the last of them began.
    pub last_unverified: Option<Micros>,
    /// Attempts of this action already made in this incident.
    pub attempts: u32,
    /// Those of them that ended without a proof.
    pub attempts_unverified: u32,
    pub last_attempt: Option<Micros>,
    /// This action on this target waits for a person.
    pub locked: bool,
    /// When this action was last begun on this target, in any incident.
    pub last_on_target: Option<Micros>,
    /// Modules of the platform that are unhealthy, of so many.
    pub unhealthy_modules: u32,
    pub modules: u32,
}

impl Default for Circumstances {
    /// Of these nothing is allowed: nothing is known.
    fn default() -> Self {
        Circumstances {
            now: 0,
            mode: Mode::Observe,
            kill_switch: false,
            silenced_by: None,
            severity: Severity::Low,
            scope: Scope::Architecture,
            flapping: false,
            window_complete: false,
            baseline_warm: false,
            target_seen: false,
            tenants_affected: 0,
            value_before: None,
            lease: None,
            actions_last_hour: Counts::default(),
            unverified_in_a_row: 0,
            last_unverified: None,
            attempts: 0,
            attempts_unverified: 0,
            last_attempt: None,
            locked: false,
            last_on_target: None,
            unhealthy_modules: 0,
            modules: 0,
        }
    }
}

/// A claim on a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The id of the action it was taken for.
    pub holder: String,
    pub until: Micros,
}

/// How many actions were begun: on the target, of the kind, for the organisation, and at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub target: u32,
    pub action: u32,
    pub organisation: u32,
    pub overall: u32,
}

/// What was decided, and everything that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub verdict: Verdict,
    /// The steps in order, up to the first that was not passed.
    pub reasons: Vec<Reason>,
    /// Of the policy that decided.
    pub policy_hash: String,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Act,
    /// It would be done, but the mode is observe.
    Observe,
    Refuse,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub step: Step,
    pub passed: bool,
    pub text: String,
}

/// The questions, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Gate,
    Signal,
    Floor,
    Permit,
    Range,
    Key,
    Lease,
    Budget,
    Breaker,
    BlastRadius,
}

impl Verdict {
    /// The verdict in a word.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Act => "act",
            Verdict::Observe => "observe",
            Verdict::Refuse => "refuse",
        }
    }
}

impl Step {
    /// The step in a word.
    pub fn name(self) -> &'static str {
        match self {
            Step::Gate => "gate",
            Step::Signal => "signal",
            Step::Floor => "floor",
            Step::Permit => "permit",
            Step::Range => "range",
            Step::Key => "key",
            Step::Lease => "lease",
            Step::Budget => "budget",
            Step::Breaker => "breaker",
            Step::BlastRadius => "blast_radius",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.step.name(), self.text)
    }
}

/// Why there is no usable policy.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// `position` is `file:line`, or the file alone.
    #[error("{position}: {reason}")]
    Rules { position: String, reason: String },
    #[error("[remediate] `targets`: {reason}")]
    Target { reason: String },
}

impl PolicyError {
    /// What Cedar says, with the line in which it found it.
    fn cedar(file: &NamedText, error: &DetailedError) -> PolicyError {
        let offset = error.source_locations.first().map(|label| label.loc.start);
        let line = offset.map(|at| 1 + file.text.bytes().take(at).filter(|byte| *byte == b'\n').count());
        let position = line.map_or(file.name.clone(), |line| format!("{}:{line}", file.name));
        let help = error.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
        PolicyError::Rules { position, reason: format!("{}{help}", error.message).replace('\n', ", ") }
    }
}

/// What may be done, compiled.
#[derive(Debug)]
pub struct Policy {
    catalogue: Catalogue,
    permissions: Permissions,
    /// Sorted. Empty: whatever was seen.
    targets: Vec<String>,
    hash: String,
}

impl Policy {
    /// Reads the three files. `targets` are the modules that something may be done to; none: those that were seen.
    pub fn compile(texts: &PolicyTexts, targets: &[String]) -> Result<Policy, PolicyError> {
        for target in targets {
            floor::target_name(target).map_err(|reason| PolicyError::Target { reason })?;
        }
        let mut targets = targets.to_vec();
        targets.sort();
        Ok(Policy {
            catalogue: Catalogue::read(&texts.actions)?,
            permissions: Permissions::read(&texts.policy, &texts.schema)?,
            hash: hash(texts, &targets),
            targets,
        })
    }

    /// The SHA-256 of everything it was compiled from, in hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What the catalogue offers.
    pub fn actions(&self) -> &[Action] {
        &self.catalogue.actions
    }

    /// The action of that name, if the catalogue offers it.
    pub fn action(&self, name: &str) -> Option<&Action> {
        ActionKind::from_name(name).and_then(|kind| self.catalogue.action(kind))
    }

    /// How many Cedar policies there are.
    pub fn permissions(&self) -> usize {
        self.permissions.len()
    }

    /// Decides about one intent in one case. The same arguments give the same decision.
    pub fn decide(&self, intent: &Intent, case: &Circumstances) -> Decision {
        let mut reasons = Vec::with_capacity(10);
        let verdict = match self.ask(intent, case, &mut reasons) {
            Err(Refused) => Verdict::Refuse,
            Ok(()) if case.mode == Mode::Observe => Verdict::Observe,
            Ok(()) => Verdict::Act,
        };
        Decision { verdict, reasons, policy_hash: self.hash.clone() }
    }

    fn ask(&self, intent: &Intent, case: &Circumstances, reasons: &mut Vec<Reason>) -> Result<(), Refused> {
        let mut note = |step: Step, answer: Result<String, String>| {
            let passed = answer.is_ok();
            reasons.push(Reason { step, passed, text: answer.unwrap_or_else(|text| text) });
            if passed { Ok(()) } else { Err(Refused) }
        };
        note(Step::Gate, steps::gate(case))?;
        note(Step::Signal, steps::signal(case))?;
        let Some(action) = self.action(&intent.action) else {
            return note(Step::Floor, Err(format!("{} is nothing that can be done", floor::shown(&intent.action))));
        };
        note(Step::Floor, steps::floor(action, &self.targets, intent, case))?;
        note(Step::Permit, steps::permit(&self.permissions, action, intent, case))?;
        note(Step::Range, steps::range(action.parameter.as_ref(), intent.change.as_ref(), case))?;
        note(Step::Key, steps::key(intent, case))?;
        note(Step::Lease, steps::lease(intent, case))?;
        note(Step::Budget, steps::budget(&self.catalogue.budget, action, case))?;
        note(Step::Breaker, steps::breaker(case))?;
        note(Step::BlastRadius, steps::blast_radius(action, case))
    }
}

/// One answer was no.
struct Refused;

/// Length before content, so that no two policies have the same bytes.
fn hash(texts: &PolicyTexts, targets: &[String]) -> String {
    let mut hash = Sha256::new();
    let files = [&texts.actions.text, &texts.policy.text, &texts.schema.text];
    for text in files.into_iter().chain(targets) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod adversarial;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
