//! Keeping to a rate.

use std::thread;
use std::time::{Duration, Instant};

/// Below this a sleep costs more than it keeps.
const SLEEP_MIN: Duration = Duration::from_millis(2);

/// A steady rate since its start. After a delay it catches up, so that the mean holds.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// Records per second; `None`: as fast as possible.
    rate: Option<u32>,
}

impl Pace {
    pub fn new(rate: Option<u32>) -> Self {
        Self { began: Instant::now(), rate }
    }

    /// Waits until it is time for the record that follows `sent` others.
    pub fn wait(&self, sent: u64) {
        if let Some(rate) = self.rate {
            self.wait_until(Duration::from_secs_f64(sent as f64 / f64::from(rate)));
        }
    }

    /// Waits until this long after the start.
    pub fn wait_until(&self, due: Duration) {
        let early = due.saturating_sub(self.elapsed());
        if early >= SLEEP_MIN {
            thread::sleep(early);
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
