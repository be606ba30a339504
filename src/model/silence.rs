//! Silences: what people ask for when they do not want to be told, or know better for a while.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::pipeline::Micros;
use super::time::rfc3339;

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

/// Why a silence cannot be meant so.
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

    /// True while it lasts.
    pub fn holds(&self, now: Micros) -> bool {
        (self.from..self.until).contains(&now)
    }
}
