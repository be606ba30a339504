//! The simulated platform as load.

use super::destination::Destination;
use super::report::Tally;
use super::{GenerateError, GenerateOptions};
use crate::model::pipeline::Micros;
use crate::simulate::{MINUTE, SECOND, Settings, Shape, Simulator, script};

/// Records per second of event time when no rate is asked for.
const EVENT_RATE: f64 = 1_000.0;
/// How long ago unpaced telemetry starts if nothing says how much there will be.
const LOOK_BACK: Micros = 24 * 60 * MINUTE;
/// When the first incident starts.
const FIRST_INCIDENT: Micros = 10 * MINUTE;

/// A simulator and where its event time ends.
#[derive(Debug)]
pub struct Simulated {
    simulator: Simulator,
    end: Option<Micros>,
}

impl Simulated {
    /// With a rate: traffic of just that rate from `start` on, one second of event time a second. Without: day-shaped
    /// traffic as fast as possible, which ends at `now` unless a start is given. `now` is in microseconds.
    pub fn new(options: &GenerateOptions, now: Micros) -> Result<Self, GenerateError> {
        let is_endless = options.records.is_none() && options.seconds.is_none();
        if options.rate.is_none() && is_endless {
            let hint = "without an end it never stops: add --records or --seconds, or a --rate";
            return Err(GenerateError::Unusable(hint.to_owned()));
        }
        let span = |records: u64| (records as f64 / EVENT_RATE * SECOND as f64) as Micros;
        let (records_per_second, shape, default_start) = match (options.rate, options.records) {
            (Some(rate), _) => (f64::from(rate), Shape::Flat, now),
            (None, Some(records)) => (EVENT_RATE, Shape::Flat, now - span(records)),
            (None, None) => (EVENT_RATE, Shape::Day, now - LOOK_BACK),
        };
        let start = options.start.unwrap_or(default_start);
        let incidents = if options.incidents { script(start + FIRST_INCIDENT) } else { Vec::new() };
        let settings = Settings { seed: options.seed, records_per_second, shape, incidents, ..Settings::default() };
        let ends = options.start.is_none() && options.rate.is_none() && options.records.is_none();
        Ok(Self { simulator: Simulator::new(settings, start), end: ends.then_some(now) })
    }

    /// Sends telemetry until it is enough.
    pub fn send(mut self, tally: &mut Tally, destination: &mut dyn Destination) -> Result<(), GenerateError> {
        while self.end.is_none_or(|end| self.simulator.now() < end) {
            for record in self.simulator.next_batch().iter() {
                if !tally.is_next_due() {
                    return Ok(());
                }
                destination.send(record.kind, Some(record.key), record.value)?;
                tally.count(Some(record.time), record.value.len());
            }
        }
        Ok(())
    }
}
