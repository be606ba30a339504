//! The time that workers go by: the system's, or one that a simulation turns.
//!
//! A worker asks it when to commit and what to record in a heartbeat. It never decides about data.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::pipeline::Micros;

/// A clock with two hands.
pub trait Clock: Send + Sync {
    /// Since some origin; never goes back. For intervals.
    fn elapsed(&self) -> Duration;

    /// Wall time since the Unix epoch; may jump either way. To be recorded.
    fn wall(&self) -> Micros;
}

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall(&self) -> Micros {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros::try_from(since_epoch.as_micros()).unwrap_or(Micros::MAX)
    }
}
