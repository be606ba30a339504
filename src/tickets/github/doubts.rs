//! What may have been created without anyone knowing.
//!
//! A create whose answer was lost may have happened. So may one of a process that was killed before this one started. The list that
//! would show it may lag. Nothing is therefore created before a look that came a whole lag after the doubt began, and
//! before several looks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::pipeline::Micros;

use super::TicketError;

/// Looks before something doubtful is created.
const LOOKS: u32 = 3;
/// Creates in doubt at once; beyond it nothing is created. Each costs a line of memory.
const DOUBTS_MAX: usize = 10_000;

/// Since when something is in doubt, and how often it was looked for since.
struct Doubt {
    since: Micros,
    looks: u32,
}

pub(super) struct Doubts {
    lag: Micros,
    /// A request may take effect until then after it was sent.
    timeout: Micros,
    started: Micros,
    doubts: BTreeMap<String, Doubt>,
}

impl Doubts {
    pub(super) fn new(lag: Duration, timeout: Duration, started: Micros) -> Doubts {
        Doubts { lag: micros(lag), timeout: micros(timeout), started, doubts: BTreeMap::new() }
    }

    /// Notes a look that found nothing; `Ok` if it is certain by now that nothing is there.
    pub(super) fn look(&mut self, what: &str, now: Micros) -> Result<(), TicketError> {
        if !self.doubts.contains_key(what) {
            if now >= self.started.saturating_add(self.lag) {
                return Ok(());
            }
            self.doubt(what, self.started, now)?;
        }
        let Some(doubt) = self.doubts.get_mut(what) else { return Ok(()) };
        doubt.looks = doubt.looks.saturating_add(1);
        let over = now >= doubt.since.saturating_add(self.lag);
        if over && (doubt.looks >= LOOKS || self.lag == 0) {
            self.doubts.remove(what);
            return Ok(());
        }
        let wait = Duration::from_micros(u64::try_from(self.lag / Micros::from(LOOKS)).unwrap_or_default());
        Err(TicketError::Later {
            wait: wait.max(Duration::from_millis(100)),
            reason: "it may be there already".to_owned(),
        })
    }

    /// Notes that something is about to be created: from now on it may be there.
    pub(super) fn begin(&mut self, what: &str, now: Micros) -> Result<(), TicketError> {
        self.doubt(what, now.saturating_add(self.timeout), now)
    }

    /// Notes that it was found, or is certainly not there.
    pub(super) fn settled(&mut self, what: &str) {
        self.doubts.remove(what);
    }

    fn doubt(&mut self, what: &str, since: Micros, now: Micros) -> Result<(), TicketError> {
        if self.doubts.len() >= DOUBTS_MAX {
            let lag = self.lag;
            self.doubts.retain(|_, doubt| now < doubt.since.saturating_add(lag));
        }
        if self.doubts.len() >= DOUBTS_MAX {
            let wait = Duration::from_micros(u64::try_from(self.lag).unwrap_or_default()).max(Duration::from_secs(1));
            return Err(TicketError::Later { wait, reason: "too much may be there already".to_owned() });
        }
        self.doubts.insert(what.to_owned(), Doubt { since, looks: 0 });
        Ok(())
    }
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn doubts() -> Doubts {
        Doubts::new(Duration::from_secs(30), Duration::from_secs(5), 0)
    }

    #[test]
    fn a_new_process_looks_three_times_over_a_whole_lag() {
        let mut doubts = doubts();
        let certain = [0, 10, 20, 30].map(|second| doubts.look("a", second * SECOND).is_ok());
        assert_eq!(certain, [false, false, false, true]);
        assert!(doubts.look("b", 31 * SECOND).is_ok(), "what was never in doubt needs one look");
    }

    #[test]
    fn three_looks_in_a_hurry_are_not_enough_and_one_late_look_is_neither() {
        let mut doubts = doubts();
        doubts.begin("a", 100 * SECOND).expect("room");
        let certain = [101, 102, 103, 134, 135].map(|second| doubts.look("a", second * SECOND).is_ok());
        assert_eq!(certain, [false, false, false, false, true], "the lag counts from when the request can be over");
        doubts.begin("a", 200 * SECOND).expect("room");
        assert!(doubts.look("a", 300 * SECOND).is_err() && doubts.look("a", 301 * SECOND).is_err());
        assert!(doubts.look("a", 302 * SECOND).is_ok());
    }

    #[test]
    fn with_too_many_doubts_nothing_is_created() {
        let mut doubts = doubts();
        for nth in 0..DOUBTS_MAX {
            doubts.begin(&nth.to_string(), 100 * SECOND).expect("room");
        }
        assert!(doubts.begin("more", 100 * SECOND).is_err());
        assert!(doubts.begin("more", 200 * SECOND).is_ok(), "old doubts make room");
    }
}
