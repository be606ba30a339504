//! The simulated platform: a dozen organisations of very different size, the modules they use, and what both log.
//!
//! Telemetry is a pure function of [`Settings`] and event time: the same settings give the same bytes, and a simulator
//! that starts later gives exactly the rest of one that started earlier. It never reads a clock, a file or the
//! operating system's randomness, and never looks at what it produced before.
//!
//! Records come in the order in which a log would receive them: by event time, but for a share of records that arrive up to
//! [`Settings::jitter`] late. Nothing is wrong on the platform unless an [`Incident`] says so: about 0.02 % of requests
//! fail, every exception is handled, and 95 % of requests are answered in well under a second.

mod activity;
mod chance;
mod incident;
pub mod json;
mod moment;
mod platform;
mod record;
mod steady;

use self::activity::Activities;
use crate::model::pipeline::Micros;
use chance::Chance;
use moment::Moment;
use platform::Population;

pub use incident::{Effect, Incident, SCRIPT_DURATION, script};
pub use platform::{MODULES, ORGANISATIONS, activity};

/// One second of event time.
pub const SECOND: Micros = 1_000_000;
/// One minute of event time.
pub const MINUTE: Micros = 60 * SECOND;
/// Records that one batch should hold at most, on average: about 1.5 MB.
const BATCH_RECORDS: f64 = 5_000.0;
/// The finest cut of a second into batches, so that a batch is never shorter than a millisecond of event time.
const BATCHES_PER_SECOND_MAX: i64 = 1_000;

/// What the platform is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub seed: u64,
    /// Records per second of event time, logs and metrics together: exactly so on average if `shape` is flat, else over
    /// a day. At least half of it is logs; the metrics are about [`steady::metrics_per_second`] whatever the rate.
    pub records_per_second: f64,
    pub shape: Shape,
    /// How late a record may arrive after one with a later event time.
    pub jitter: Micros,
    pub incidents: Vec<Incident>,
}

/// How traffic varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Office hours in the time zone of each organisation.
    Day,
    /// The same all day, for load of a given rate.
    Flat,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 1, records_per_second: 1_000.0, shape: Shape::Day, jitter: 2 * SECOND, incidents: Vec::new() }
    }
}

/// Which topic a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Logs,
    Metrics,
}

/// One record, ready to be written to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telemetry<'a> {
    /// Event time.
    pub time: Micros,
    pub kind: Kind,
    /// `organisation/module`.
    pub key: &'a [u8],
    /// One JSON object.
    pub value: &'a [u8],
}

/// Records of one slice of event time; its memory is used again by the next.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    keys: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Entry {
    time: Micros,
    kind: Kind,
    key: usize,
    end: usize,
}

impl Batch {
    /// The records, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = Telemetry<'_>> {
        let mut start = 0;
        self.entries.iter().filter_map(move |entry| {
            let value = self.bytes.get(start..entry.end)?;
            start = entry.end;
            Some(Telemetry { time: entry.time, kind: entry.kind, key: self.keys.get(entry.key)?, value })
        })
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Writes one record with `write`, which appends one JSON object.
    fn push(&mut self, time: Micros, kind: Kind, key: usize, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.entries.push(Entry { time, kind, key, end: self.bytes.len() });
    }
}

/// Produces the platform's telemetry, slice after slice.
#[derive(Debug)]
pub struct Simulator {
    settings: Settings,
    activities: Activities,
    population: Population,
    batches_per_second: i64,
    /// The next slice, counted from the Unix epoch.
    slice: i64,
    batch: Batch,
}

impl Simulator {
    /// A platform that is seen from `start` on, rounded down to a second.
    pub fn new(settings: Settings, start: Micros) -> Self {
        let per_second = (settings.records_per_second / BATCH_RECORDS).ceil() as i64;
        let batches_per_second = per_second.clamp(1, BATCHES_PER_SECOND_MAX);
        let batch = Batch { keys: platform::keys(), ..Batch::default() };
        let activities = Activities::new();
        let slice = start.div_euclid(SECOND) * batches_per_second;
        Self { settings, activities, population: Population::default(), batches_per_second, slice, batch }
    }

    /// The event time that the next batch starts at.
    pub fn now(&self) -> Micros {
        self.slice_start(self.slice)
    }

    /// What goes wrong, and until when: shorter where the module recovered before its time.
    pub fn incidents(&self) -> &[Incident] {
        &self.settings.incidents
    }

    /// The module was restarted: its requests fail no more from the next slice on. What else is wrong a restart does not mend,
    /// nor what is wrong with one organisation only.
    pub fn recover(&mut self, module: &str) {
        let now = self.now();
        let failing = |incident: &&mut Incident| {
            incident.module == Some(module)
                && incident.organisation.is_none()
                && incident.is_active(now)
                && matches!(incident.effect, Effect::Errors { .. })
        };
        for incident in self.settings.incidents.iter_mut().filter(failing) {
            incident.duration = now - incident.start;
        }
    }

    /// The next slice of event time: a second, or less of it if there is much to say. It may be empty. There is always a next one.
    pub fn next_batch(&mut self) -> &Batch {
        let (start, end) = (self.slice_start(self.slice), self.slice_start(self.slice + 1));
        let jitter = self.settings.jitter;
        let mut chance = Chance::new(self.settings.seed, self.slice as u64);
        let moment = Moment::new(&self.settings.incidents, start, end, jitter);
        self.population.adapt(self.settings.shape, start);
        self.batch.clear();
        if self.slice.rem_euclid(self.batches_per_second) == 0 {
            steady::push(&mut self.batch, &mut chance, start, &moment);
        }
        let count = chance.poisson(self.logs_per_second() * (end - start) as f64 / SECOND as f64);
        for number in 0..count {
            let time = start + (end - start) * number / count - chance.delay(jitter);
            let organisation = self.population.pick(&mut chance);
            self.activities.push(&mut self.batch, &mut chance, &moment, organisation, time);
        }
        self.slice += 1;
        &self.batch
    }

    fn logs_per_second(&self) -> f64 {
        let all = self.settings.records_per_second;
        (all - steady::metrics_per_second()).max(all / 2.0) * self.population.activity()
    }

    fn slice_start(&self, slice: i64) -> Micros {
        let second = slice.div_euclid(self.batches_per_second);
        let part = slice.rem_euclid(self.batches_per_second);
        second * SECOND + part * SECOND / self.batches_per_second
    }
}

#[cfg(test)]
mod tests;
