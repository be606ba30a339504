//! How many issues may still be created this hour.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::pipeline::Micros;

pub(super) const HOUR: Micros = 3_600_000_000;

/// When issues were created within the last hour; counted on GitHub once, so that a restart gives nothing away.
pub(super) struct Allowance {
    per_hour: usize,
    counted: bool,
    /// From the oldest to the newest.
    created: VecDeque<Micros>,
}

impl Allowance {
    pub(super) fn new(per_hour: usize) -> Allowance {
        Allowance { per_hour, counted: false, created: VecDeque::new() }
    }

    pub(super) fn is_counted(&self) -> bool {
        self.counted
    }

    /// How many of the newest issues have to be counted.
    pub(super) fn needed(&self) -> usize {
        self.per_hour
    }

    pub(super) fn count(&mut self, times: impl Iterator<Item = Micros>) {
        let mut times: Vec<Micros> = times.collect();
        times.sort_unstable();
        self.created = times.into();
        self.counted = true;
    }

    pub(super) fn used(&mut self, now: Micros) {
        self.created.push_back(now);
        while self.created.len() > self.per_hour {
            self.created.pop_front();
        }
    }

    /// When the next may be created, if not now.
    pub(super) fn again(&mut self, now: Micros) -> Option<Duration> {
        while self.created.front().is_some_and(|time| now.saturating_sub(*time) >= HOUR) {
            self.created.pop_front();
        }
        if self.created.len() < self.per_hour {
            return None;
        }
        let wait = self.created.front().map_or(HOUR, |oldest| oldest.saturating_add(HOUR).saturating_sub(now));
        Some(Duration::from_micros(u64::try_from(wait).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_an_hour_are_ten_in_any_hour() {
        let mut allowance = Allowance::new(10);
        allowance.count([5, 3, 4].map(|minute| minute * HOUR / 60).into_iter());
        for minute in 10..17 {
            assert_eq!(allowance.again(minute * HOUR / 60), None);
            allowance.used(minute * HOUR / 60);
        }
        assert_eq!(allowance.again(20 * HOUR / 60), Some(Duration::from_secs(43 * 60)));
        assert_eq!(allowance.again(63 * HOUR / 60), None);
    }
}
