//! Silences: for a while, nothing is done and nobody is called about what these labels describe.
//!
//! A maintenance window is a silence that was planned. Both have an owner, a reason and an end: a silence that nobody
//! remembers hides the next outage. What is silenced still goes its way, is recorded, and is told when the silence ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Incident;
use crate::model::detection::label_text;
use crate::model::pipeline::Micros;
use crate::model::time::rfc3339;

/// Silences at a time; more make every decision slower.
pub const SILENCES_MAX: usize = 1_000;
/// The longest silence: longer than any maintenance, shorter than anybody's memory.
pub const LONGEST: Micros = 30 * 24 * 3_600 * 1_000_000;
/// The longest text of a silence, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;
/// Labels of one silence.
const LABELS_MAX: usize = 16;

/// One silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    pub id: String,
    /// What it describes: `pipeline`, `rule` and labels of the series, all of which must be equal.
    pub labels: BTreeMap<String, String>,
    pub owner: String,
    pub reason: String,
    #[serde(with = "rfc3339")]
    pub from: Micros,
    #[serde(with = "rfc3339")]
    pub until: Micros,
}

/// Why a silence is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SilenceError {
    #[error("a silence needs an id, an owner and a reason, each of at most {TEXT_BYTES_MAX} bytes")]
    Nameless,
    #[error("a silence needs 1 to {LABELS_MAX} labels: one without labels would silence everything")]
    Labels,
    #[error("a silence ends after it begins, within 30 days, and not in the past")]
    End,
    #[error("there are {SILENCES_MAX} silences already; end some first")]
    Full,
}

impl Silence {
    /// Checks what a person wrote.
    pub fn check(&self, now: Micros) -> Result<(), SilenceError> {
        let is_text = |text: &String| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
        if ![&self.id, &self.owner, &self.reason].into_iter().all(is_text) {
            return Err(SilenceError::Nameless);
        }
        let is_short = |(name, value): (&String, &String)| is_text(name) && value.len() <= TEXT_BYTES_MAX;
        if self.labels.is_empty() || self.labels.len() > LABELS_MAX || !self.labels.iter().all(is_short) {
            return Err(SilenceError::Labels);
        }
        let length = self.until.saturating_sub(self.from);
        if length <= 0 || length > LONGEST || self.until <= now {
            return Err(SilenceError::End);
        }
        Ok(())
    }

    /// True if it describes the incident.
    pub fn describes(&self, incident: &Incident) -> bool {
        self.labels.iter().all(|(name, value)| match name.as_str() {
            "pipeline" => incident.pipeline == *value,
            "rule" => incident.rule == *value,
            label => label_text(&incident.series, label).as_deref() == Some(value),
        })
    }

    fn holds(&self, now: Micros) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// The silences that are known: from the configuration, and from people.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    by_id: BTreeMap<String, Silence>,
}

impl Silences {
    /// Takes a silence, in place of one of the same id.
    pub fn take(&mut self, silence: Silence) -> Result<(), SilenceError> {
        if self.by_id.len() >= SILENCES_MAX && !self.by_id.contains_key(&silence.id) {
            return Err(SilenceError::Full);
        }
        self.by_id.insert(silence.id.clone(), silence);
        Ok(())
    }

    /// Ends a silence. None: there is none of that id.
    pub fn end(&mut self, id: &str) -> Option<Silence> {
        self.by_id.remove(id)
    }

    /// Forgets those that are over, and names them.
    pub fn expire(&mut self, now: Micros) -> Vec<String> {
        let over = self.by_id.values().filter(|silence| silence.until <= now).map(|silence| silence.id.clone());
        let over = over.collect::<Vec<_>>();
        over.iter().for_each(|id| drop(self.by_id.remove(id)));
        over
    }

    /// The silence that covers an incident now.
    pub fn of(&self, incident: &Incident, now: Micros) -> Option<&Silence> {
        self.by_id.values().find(|silence| silence.holds(now) && silence.describes(incident))
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.by_id.values()
    }
}
