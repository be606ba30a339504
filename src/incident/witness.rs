//! What the logs say about an incident, as far as it may leave: looked up once, then kept with the incident, so that its
//! ticket says the same whoever goes on.

use serde::{Deserialize, Serialize};

use crate::model::trace::TraceId;

/// See the module's head. Nothing in it is as telemetry had it but numbers and trace ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Lines of logs, scrubbed and cut.
    pub lines: Vec<String>,
    /// Requests that belong to the incident.
    pub traces: Vec<TraceId>,
    /// Different users of what failed. `None`: not known.
    pub users: Option<u64>,
    /// Different organisations of what failed. `None`: not known.
    pub organisations: Option<u64>,
    /// Why the logs were not asked, or did not answer.
    pub unheard: Option<Unheard>,
}

/// Why there are no lines, although there may be some in the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unheard {
    NoStore,
    Unreadable,
    Late,
}

impl Unheard {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Unheard::NoStore => "the agent had no tables to look in",
            Unheard::Unreadable => "the tables could not be read",
            Unheard::Late => "the tables did not answer in time",
        }
    }
}

impl Witness {
    /// Nobody was heard.
    pub fn unheard(why: Unheard) -> Witness {
        Witness { unheard: Some(why), ..Witness::default() }
    }
}
