//! What was generated: counted while it happens, told in one line at the end.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use super::pace::Pace;
use super::replay::Malformed;
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;

/// Malformed lines that are told one by one; all of them are counted.
const TOLD_MAX: usize = 5;

/// Counts, and says when it is enough.
#[derive(Debug)]
pub struct Tally {
    pace: Pace,
    records_max: u64,
    time_max: Duration,
    report: Report,
}

/// What was generated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub records: u64,
    /// Of the values.
    pub bytes: u64,
    /// The first and the last event time.
    pub times: Option<(Micros, Micros)>,
    pub malformed: u64,
    /// The first few malformed lines.
    pub told: Vec<Malformed>,
    pub took: Duration,
}

impl Tally {
    /// Counts records sent at a pace, up to a number of records or of seconds.
    pub fn new(pace: Pace, records: Option<u64>, seconds: Option<u64>) -> Self {
        let time_max = seconds.map_or(Duration::MAX, Duration::from_secs);
        Self { pace, records_max: records.unwrap_or(u64::MAX), time_max, report: Report::default() }
    }

    /// Waits for the next record's time; false if there shall be no next one.
    pub fn is_next_due(&self) -> bool {
        if self.report.records >= self.records_max {
            return false;
        }
        self.pace.wait(self.report.records);
        self.pace.elapsed() < self.time_max
    }

    /// Counts a record that was sent.
    pub fn count(&mut self, time: Option<Micros>, bytes: usize) {
        self.report.records += 1;
        self.report.bytes += bytes as u64;
        if let Some(time) = time {
            let (first, last) = self.report.times.unwrap_or((time, time));
            self.report.times = Some((first.min(time), last.max(time)));
        }
    }

    /// Counts a line that is no record.
    pub fn count_malformed(&mut self, malformed: Malformed) {
        self.report.malformed += 1;
        if self.report.told.len() < TOLD_MAX {
            self.report.told.push(malformed);
        }
    }

    /// What was counted so far.
    pub fn so_far(&self) -> &Report {
        &self.report
    }

    /// What was counted, in this time.
    pub fn report(self, took: Duration) -> Report {
        Report { took, ..self.report }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let rate = if seconds > 0.0 { self.records as f64 / seconds } else { 0.0 };
        let megabytes = self.bytes as f64 / 1e6;
        write!(formatter, "{} records, {megabytes:.1} MB in {seconds:.1} s: {rate:.0} records/s", self.records)?;
        if let Some((first, last)) = self.times {
            write!(formatter, "; event times {} to {}", format_time(first), format_time(last))?;
        }
        if self.malformed > 0 {
            write!(formatter, "; {} malformed left out", self.malformed)?;
        }
        Ok(())
    }
}

/// Prints the summary to standard output and the malformed lines to standard error. Whoever closed a pipe has seen enough.
pub(super) fn print(report: &Report) -> io::Result<()> {
    let told = |result: io::Result<()>| match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    };
    for malformed in &report.told {
        told(writeln!(io::stderr(), "{malformed}"))?;
    }
    let untold = report.malformed - report.told.len() as u64;
    if untold > 0 {
        told(writeln!(io::stderr(), "and {untold} more"))?;
    }
    told(writeln!(io::stdout(), "{report}"))
}
