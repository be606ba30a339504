//! Silences in force: for a while, nothing is done and nobody is called about what these labels describe.
//!
//! A maintenance window is a silence that was planned. Both have an owner, a reason and an end: a silence that nobody
//! remembers hides the next outage. What is silenced still goes its way, is recorded, and is told when the silence ends.

use std::collections::BTreeMap;

use super::Incident;
use crate::model::detection::label_text;
use crate::model::pipeline::Micros;
use crate::model::silence::{SILENCES_MAX, Silence, SilenceError};

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
        self.by_id.values().find(|silence| silence.holds(now) && describes(silence, incident))
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.by_id.values()
    }
}

/// True if all its labels are those of the incident.
fn describes(silence: &Silence, incident: &Incident) -> bool {
    silence.labels.iter().all(|(name, value)| match name.as_str() {
        "pipeline" => incident.pipeline == *value,
        "rule" => incident.rule == *value,
        label => label_text(&incident.series, label).as_deref() == Some(value),
    })
}
