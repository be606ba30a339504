//! The demo's plot: some hours of history, then the script, all of it in the past of the one who watches.
//!
//! Event time runs faster than the clock, so it starts early enough to end before now: records from the future would
//! rightly be refused.

use std::time::Duration;

use crate::model::pipeline::Micros;
use crate::simulate::{MINUTE, SCRIPT_DURATION, SECOND, Settings, Shape, activity, script};

/// Event time between the start of live traffic and the first incident. Meanwhile the history is worked off.
pub const LEAD_IN: Micros = 2 * MINUTE;
/// Event time after the script, in which what was detected resolves.
const TAIL: Micros = 8 * MINUTE;
/// Event time of the whole live part.
pub const LIVE: Micros = LEAD_IN + SCRIPT_DURATION + TAIL;
/// History when there is time, and when there is not: still more windows than a baseline needs to be warm.
const HISTORY: Micros = 120 * MINUTE;
const HISTORY_SHORT: Micros = 70 * MINUTE;
/// A shorter demo gets the short history.
const SHORT: Duration = Duration::from_secs(60);
/// Seconds of event time in one second: one minute, unless the demo must be over sooner.
pub const SPEED: f64 = 60.0;
const SPEED_MAX: f64 = 300.0;
/// What the end of a demo of a given length needs: the last windows, stopping, the summary.
const CLOSING: Duration = Duration::from_secs(2);

/// What happens, and when in event time.
#[derive(Clone, Debug)]
pub struct Story {
    pub settings: Settings,
    pub history_start: Micros,
    pub live_start: Micros,
    /// When the script and its aftermath are over.
    pub end: Micros,
}

impl Story {
    /// A story that ends before `now`. `rate` is records per minute of event time at the start of live traffic, which at
    /// the usual speed is also records per second of the clock.
    pub fn new(now: Micros, seed: u64, rate: u32, length: Option<Duration>) -> Self {
        let live_start = now.div_euclid(MINUTE) * MINUTE - LIVE - MINUTE;
        let history = if length.is_some_and(|length| length < SHORT) { HISTORY_SHORT } else { HISTORY };
        let settings = Settings {
            seed,
            records_per_second: f64::from(rate) / SPEED / activity(Shape::Day, live_start),
            shape: Shape::Day,
            jitter: 2 * SECOND,
            incidents: script(live_start + LEAD_IN),
        };
        Self { settings, history_start: live_start - history, live_start, end: live_start + LIVE }
    }
}

/// How fast event time must run for the live part to fit into what remains of the demo.
pub fn speed(remaining: Option<Duration>) -> f64 {
    let Some(remaining) = remaining else { return SPEED };
    let seconds = remaining.saturating_sub(CLOSING).as_secs_f64().max(1.0);
    (LIVE as f64 / SECOND as f64 / seconds).clamp(SPEED, SPEED_MAX).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_764_763_234_567_890;

    #[test]
    fn the_story_ends_before_now_and_starts_on_a_minute() {
        let story = Story::new(NOW, 1, 20_000, None);
        assert!(story.end < NOW && NOW - story.end < 3 * MINUTE);
        assert_eq!(story.live_start % MINUTE, 0);
        let incidents = &story.settings.incidents;
        assert!(incidents.iter().all(|one| one.start >= story.live_start && one.end() <= story.end));
    }

    #[test]
    fn the_rate_is_that_of_live_traffic_at_any_time_of_day() {
        for hour in 0..24 {
            let story = Story::new(NOW + hour * 60 * MINUTE, 1, 20_000, None);
            let per_minute = story.settings.records_per_second * activity(Shape::Day, story.live_start) * 60.0;
            assert!((per_minute - 20_000.0).abs() < 1.0, "{per_minute}");
        }
    }

    #[test]
    fn a_minute_is_a_second_unless_time_is_short() {
        assert_eq!(speed(None), 60.0);
        assert_eq!(speed(Some(Duration::from_secs(60))), 60.0);
        assert_eq!(speed(Some(Duration::from_secs(14))), 180.0);
        assert_eq!(speed(Some(Duration::ZERO)), SPEED_MAX);
    }
}
