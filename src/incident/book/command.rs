//! What people ask of the book, as it stands on `maturion.intents`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::silence::{Silence, SilenceError};

/// The longest name of a person, in bytes.
pub const PERSON_BYTES_MAX: usize = 200;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Somebody is on it: nobody else needs to be woken.
    Acknowledge {
        incident_id: String,
        by: String,
    },
    /// Somebody has looked: attempts may begin anew.
    Unlock {
        incident_id: String,
        by: String,
    },
    Silence {
        silence: Silence,
        by: String,
    },
    EndSilence {
        id: String,
        by: String,
    },
}

/// Why a command is not followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    #[error("there is no incident of that id")]
    UnknownIncident,
    #[error(transparent)]
    Silence(#[from] SilenceError),
}

impl Command {
    /// True if it says who asks, in a name of this world.
    pub fn is_signed(&self) -> bool {
        let (Command::Acknowledge { by, .. }
        | Command::Unlock { by, .. }
        | Command::Silence { by, .. }
        | Command::EndSilence { by, .. }) = self;
        is_person(by)
    }
}

/// True if it can be the name of a person.
pub fn is_person(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= PERSON_BYTES_MAX && !name.chars().any(char::is_control)
}
