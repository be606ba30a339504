//! Doing it: the adapters through which an action that was decided reaches the platform, and nothing else does.
//!
//! An [`Adapter`] reads the state before, applies and reverts. What may be called and run is what the operator wrote in
//! `[[control]]` and `[[command]]`; names and numbers of an intent only fill the places of a template, encoded for where they
//! stand. An attempt that failed says which of three it is: refused, never sent, or sent without an answer that tells. Only
//! after the second of them is it certain that trying again does not do it twice.
//!
//! `act` decides nothing, remembers nothing, follows no redirect and starts no shell. No secret and nothing that the other side
//! answered is part of an error.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Control, Program};
use crate::model::action::{Action, AdapterSpec, Intent};

mod address;
mod command;
mod http;
mod process;
mod template;

/// The most that is read of an answer or an output, in bytes. A state before is kept in every entry of the audit.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is to be carried out.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub action: &'a Action,
    pub intent: &'a Intent,
    /// Of the lease on the target. The platform refuses one that is smaller than one it has seen.
    pub fencing_token: u64,
}

/// The state before, as the platform tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(pub serde_json::Map<String, serde_json::Value>);

impl Snapshot {
    /// A number in it.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(serde_json::Value::as_f64)
    }

    /// Reads the text of a JSON object.
    fn from_json(text: &[u8]) -> Result<Snapshot, ActError> {
        match serde_json::from_slice(text) {
            Ok(serde_json::Value::Object(state)) => Ok(Snapshot(state)),
            _ => Err(ActError::Refused("what came is not a JSON object".to_owned())),
        }
    }
}

/// Why something was not done, as far as that is known.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ActError {
    /// The other side has said no: nothing was done.
    #[error("refused: {0}")]
    Refused(String),
    /// It never left this process: nothing was done.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It was sent, and nobody knows whether it was done.
    #[error("sent, and nobody knows whether it was done: {0}")]
    Unknown(String),
}

/// A way to the platform.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// True if it can carry out this action as it is configured.
    fn supports(&self, action: &Action) -> bool;

    /// Reads the state before; empty if the action has nothing to read. Changes nothing, so it may be repeated.
    async fn snapshot(&self, order: &Order<'_>) -> Result<Snapshot, ActError>;

    /// Does it.
    async fn apply(&self, order: &Order<'_>) -> Result<(), ActError>;

    /// Takes it back, to the state before.
    async fn revert(&self, order: &Order<'_>, before: &Snapshot) -> Result<(), ActError>;
}

/// The adapters of an installation.
pub struct Adapters(Vec<Box<dyn Adapter>>);

impl Adapters {
    /// Adapters for what is configured. Connects to nothing and starts nothing.
    pub fn new(controls: &[Control], commands: &[Program]) -> Result<Adapters, ActError> {
        let commands: BTreeMap<_, _> =
            commands.iter().map(|command| (command.name.clone(), command.program.clone())).collect();
        Ok(Adapters(vec![Box::new(http::Http::new(controls)?), Box::new(command::Command::new(commands))]))
    }

    /// The adapter for an action, if what it needs is configured.
    pub fn of(&self, action: &Action) -> Option<&dyn Adapter> {
        self.0.iter().find(|adapter| adapter.supports(action)).map(Box::as_ref)
    }

    /// What is missing for an action, in a sentence.
    pub fn missing(&self, action: &Action) -> Option<String> {
        let name = action.kind.name();
        let wanted = match &action.adapter {
            AdapterSpec::Http(spec) => format!("the control `{}`, and no [[control]] has that name", spec.control),
            AdapterSpec::Command(spec) => format!("the command `{}`, and no [[command]] has that name", spec.command),
        };
        self.of(action).is_none().then(|| format!("{name} needs {wanted}"))
    }
}
