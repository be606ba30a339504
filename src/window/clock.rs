//! Event time: how far a source has come, from what stage one says about its partitions.
//!
//! A [`SourceClock`] is a pure function of the heartbeats it has seen, in their order: wall time is what a heartbeat
//! recorded, never what a clock says now, so a replay decides the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::pipeline::Micros;

/// What stage one says about one input partition, last in each of its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The input topic, or `windows/PIPELINE` for rows that re-enter stage one.
    pub source: String,
    pub partition: i32,
    /// How many partitions the input has; all of them must report.
    pub partitions: i32,
    /// The next offset to be read.
    pub position: i64,
    /// The end of the partition when the heartbeat was made.
    pub end: i64,
    /// The largest event time read so far in this partition since the last start of its reader, if any.
    pub event_time: Option<Micros>,
    /// The wall clock of the process that made the heartbeat.
    pub wall: Micros,
}

/// The progress of one input partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartitionClock {
    position: i64,
    event_time: Option<Micros>,
    wall: Micros,
    /// The wall time since which the reader has stood at the end of the partition.
    at_end_since: Option<Micros>,
}

/// The event time of one source: the minimum over its partitions, idle ones set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceClock {
    partitions: BTreeMap<i32, PartitionClock>,
    /// How many partitions must have reported.
    expected: i32,
    /// What [`SourceClock::advance`] returned last: event time never goes back.
    reached: Option<Micros>,
}

impl SourceClock {
    /// Takes a heartbeat in. One that is older than what is known (from a former owner) changes nothing.
    pub fn observe(&mut self, heartbeat: &Heartbeat) {
        self.expected = self.expected.max(heartbeat.partitions);
        let clock = self.partitions.entry(heartbeat.partition).or_default();
        if heartbeat.position < clock.position {
            return;
        }
        let moved = heartbeat.position > clock.position;
        clock.position = heartbeat.position;
        clock.event_time = clock.event_time.max(heartbeat.event_time);
        clock.wall = clock.wall.max(heartbeat.wall);
        clock.at_end_since = match clock.at_end_since {
            _ if heartbeat.position < heartbeat.end => None,
            Some(since) if !moved => Some(since),
            _ => Some(heartbeat.wall),
        };
    }

    /// The watermark: no partition that counts is behind it. `None` until every partition has reported and one has
    /// rows. A partition that stood at its end for `idle_after` does not count; when none counts, event time goes on
    /// with the recorded wall time from the moment the last one became idle.
    pub fn advance(&mut self, idle_after: Micros) -> Option<Micros> {
        if (self.partitions.len() as i64) < i64::from(self.expected) || self.expected == 0 {
            return self.reached;
        }
        let active = self.partitions.values().filter(|clock| !clock.is_idle(idle_after));
        let slowest = active.map(|clock| clock.event_time).min();
        let now = match slowest {
            // An active partition without a row yet holds everything back.
            Some(event_time) => event_time,
            None => self.all_idle(idle_after),
        };
        self.reached = self.reached.max(now);
        self.reached
    }

    /// What [`SourceClock::advance`] returned last.
    pub fn reached(&self) -> Option<Micros> {
        self.reached
    }

    /// The largest event time that any partition has reported.
    pub fn latest(&self) -> Option<Micros> {
        self.partitions.values().filter_map(|clock| clock.event_time).max()
    }

    fn all_idle(&self, idle_after: Micros) -> Option<Micros> {
        let latest = self.partitions.values().filter_map(|clock| clock.event_time).max()?;
        let idle_since = self.partitions.values().filter_map(|clock| clock.at_end_since).max()?;
        let wall = self.partitions.values().map(|clock| clock.wall).max()?;
        let idle_for = wall.saturating_sub(idle_since.saturating_add(idle_after));
        Some(latest.saturating_add(idle_for.max(0)))
    }
}

impl PartitionClock {
    fn is_idle(&self, idle_after: Micros) -> bool {
        self.at_end_since.is_some_and(|since| self.wall.saturating_sub(since) >= idle_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Micros = 10;

    fn beat(partition: i32, position: i64, end: i64, event_time: Option<Micros>, wall: Micros) -> Heartbeat {
        Heartbeat { source: "logs".into(), partition, partitions: 2, position, end, event_time, wall }
    }

    fn clock(beats: &[Heartbeat]) -> SourceClock {
        let mut clock = SourceClock::default();
        for beat in beats {
            clock.observe(beat);
            clock.advance(IDLE);
        }
        clock
    }

    #[test]
    fn a_partition_that_never_reported_holds_everything_back() {
        assert_eq!(clock(&[beat(0, 5, 9, Some(100), 0)]).reached(), None);
    }

    #[test]
    fn the_slowest_partition_decides() {
        assert_eq!(clock(&[beat(0, 5, 9, Some(100), 0), beat(1, 5, 9, Some(70), 0)]).reached(), Some(70));
    }

    #[test]
    fn an_active_partition_without_rows_holds_everything_back() {
        assert_eq!(clock(&[beat(0, 5, 9, Some(100), 0), beat(1, 0, 9, None, 0)]).reached(), None);
    }

    #[test]
    fn a_partition_at_its_end_is_idle_only_after_a_time() {
        let mut clock = clock(&[beat(0, 5, 9, Some(100), 0), beat(1, 5, 5, Some(70), 0), beat(1, 5, 5, Some(70), 9)]);
        assert_eq!(clock.reached(), Some(70));
        clock.observe(&beat(1, 5, 5, Some(70), 10));
        assert_eq!(clock.advance(IDLE), Some(100));
    }

    #[test]
    fn a_partition_that_wakes_up_does_not_set_event_time_back() {
        let beats = [
            beat(0, 5, 9, Some(100), 0),
            beat(1, 5, 5, Some(70), 0),
            beat(1, 5, 5, Some(70), 10),
            beat(1, 6, 9, Some(71), 11),
        ];
        assert_eq!(clock(&beats).reached(), Some(100));
    }

    #[test]
    fn when_all_are_idle_event_time_goes_on_with_recorded_wall_time() {
        let beats = [
            beat(0, 5, 5, Some(100), 0),
            beat(1, 5, 5, Some(70), 3),
            beat(0, 5, 5, Some(100), 20),
            beat(1, 5, 5, None, 25),
        ];
        assert_eq!(clock(&beats).reached(), Some(100 + 25 - 13));
    }

    #[test]
    fn a_former_owner_cannot_set_a_partition_back() {
        let beats = [
            beat(0, 8, 9, Some(100), 0),
            beat(1, 5, 9, Some(90), 0),
            beat(0, 7, 7, Some(80), 50),
            beat(0, 7, 7, Some(80), 90),
        ];
        assert_eq!(clock(&beats).reached(), Some(90));
    }

    #[test]
    fn state_survives_being_written_and_read() {
        let clock = clock(&[beat(0, 5, 9, Some(100), 0), beat(1, 5, 5, Some(70), 0)]);
        let text = serde_json::to_string(&clock).unwrap();
        assert_eq!(serde_json::from_str::<SourceClock>(&text).unwrap(), clock);
    }
}
