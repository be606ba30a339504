//! Actions: what the catalogue offers, and what is intended in one case.
//!
//! The kinds are a closed list. Whatever a rule, a message or a policy file says: what has no kind cannot be done.

use serde::{Deserialize, Serialize};

use super::pipeline::{Micros, Scope};
use super::series::stable_id;

/// Whether decisions become actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decides and audits, never acts.
    #[default]
    Observe,
    /// Does what policy allows.
    Act,
}

impl Mode {
    /// The mode in a word, as the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Act => "act",
        }
    }
}

/// What can be done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    FunctionRecycle,
    CacheClear,
    ScaleResources,
    RaiseRateLimit,
    EnableFallback,
    RetryJobs,
    ClearQueue,
    ResetPool,
    Reauthenticate,
}

impl ActionKind {
    pub const ALL: [ActionKind; 9] = [
        ActionKind::FunctionRecycle,
        ActionKind::CacheClear,
        ActionKind::ScaleResources,
        ActionKind::RaiseRateLimit,
        ActionKind::EnableFallback,
        ActionKind::RetryJobs,
        ActionKind::ClearQueue,
        ActionKind::ResetPool,
        ActionKind::Reauthenticate,
    ];

    /// The name in rules, in the catalogue and on the topics.
    pub fn name(self) -> &'static str {
        match self {
            ActionKind::FunctionRecycle => "function_recycle",
            ActionKind::CacheClear => "cache_clear",
            ActionKind::ScaleResources => "scale_resources",
            ActionKind::RaiseRateLimit => "raise_rate_limit",
            ActionKind::EnableFallback => "enable_fallback",
            ActionKind::RetryJobs => "retry_jobs",
            ActionKind::ClearQueue => "clear_queue",
            ActionKind::ResetPool => "reset_pool",
            ActionKind::Reauthenticate => "reauthenticate",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<ActionKind> {
        ActionKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One action of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub kind: ActionKind,
    /// What it does, in a few words: `restart edge function`.
    pub title: String,
    /// The sentence of the audit, in which `{target}`, `{organisation}`, `{from}`, `{to}` and `{reason}` are filled in.
    pub audit: String,
    /// `Trivial` or `Configuration`; the floor refuses all else.
    pub scope: Scope,
    /// Someone has looked at this change of configuration and approved it in advance.
    pub pre_approved: bool,
    /// It cannot make things much worse.
    pub low_risk: bool,
    /// Its effect ends or can be taken back.
    pub reversible: bool,
    /// It concerns one organisation, which must be known. Else it touches every organisation that uses the target.
    pub tenant_specific: bool,
    /// The number that it changes, if it changes one.
    pub parameter: Option<Parameter>,
    /// How long its effect needs: samples from before that prove nothing.
    pub settle: Micros,
    /// How long after settling a proof may take. Without one by then the attempt is unverified.
    pub verify_within: Micros,
    /// The shortest time between two of it on one target.
    pub cooldown: Micros,
    /// It is temporary: after this time it is reverted, whatever happened.
    pub expires_after: Option<Micros>,
    /// The control plane does one thing once, however often it is asked with one idempotency key. Else nothing is sent
    /// twice, even if nobody knows whether it arrived.
    pub idempotent: bool,
    pub adapter: AdapterSpec,
}

/// The number that an action changes, and how far it may.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its key in what `snapshot` reads: `requests_per_minute`.
    pub name: String,
    /// As in the audit: `per minute`, `MB`.
    pub unit: String,
    /// The new value is the present one times this.
    pub factor: f64,
    pub min: f64,
    pub max: f64,
    /// The largest difference between the present value and the new one.
    pub step_max: f64,
    /// The largest ratio between the present value and the new one, whichever is larger: 2 allows half and double.
    pub ratio_max: f64,
}

/// How an action is carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum AdapterSpec {
    /// Calls to the platform's control interface.
    Http(HttpSpec),
    /// A program from the allow-list.
    Command(CommandSpec),
}

/// The calls of an action. Paths and the texts within bodies are [templates](super::template).
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSpec {
    /// The `[[control]]` that is called: its URL and token are the operator's.
    pub control: String,
    /// Reads the state before. Its answer is a JSON object.
    pub snapshot: Option<HttpCall>,
    pub apply: HttpCall,
    pub revert: Option<HttpCall>,
    pub timeout: Micros,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCall {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// Begins with `/`.
    pub path: String,
    /// The text of a JSON object; none sends no body. A text that is nothing but `{value}` becomes the number, one that is
    /// nothing but `{before}` the state before; a body that is nothing but `"{before}"` is the state before.
    pub body: Option<String>,
}

/// The command lines of an action: arguments, each a template like those of [`HttpSpec`], never read by a shell.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec {
    /// The `[[command]]` that is run: its path is the operator's.
    pub command: String,
    /// Reads the state before. It prints a JSON object.
    pub snapshot: Option<Vec<String>>,
    pub apply: Vec<String>,
    pub revert: Option<Vec<String>>,
    pub timeout: Micros,
}

/// A change of one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueChange {
    pub parameter: String,
    pub from: f64,
    pub to: f64,
}

/// What is to be done in one case: the thing that is decided about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub incident_id: String,
    /// As the rule names it; it may name what does not exist.
    pub action: String,
    /// What it is done to: a module of the platform.
    pub target: String,
    /// For whom. None: for everyone who uses the target.
    pub organisation_id: Option<String>,
    /// Counts the attempts of this action in this incident, from 1.
    pub attempt: u32,
    pub change: Option<ValueChange>,
}

impl Intent {
    /// The idempotency key, which is also the action's id: the same intent has the same key, whoever makes it.
    pub fn key(&self) -> String {
        let organisation = self.organisation_id.as_deref().map_or(vec![0], |id| [&[1], id.as_bytes()].concat());
        stable_id(&[
            b"action",
            self.incident_id.as_bytes(),
            self.action.as_bytes(),
            self.target.as_bytes(),
            &organisation,
            &self.attempt.to_be_bytes(),
        ])
    }
}
