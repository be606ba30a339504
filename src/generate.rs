//! `maturion generate`: load and replay. The simulated platform, or files of real logs and metrics, as records on Kafka
//! or in a running embedded instance.
//!
//! Malformed input is counted and named by its line, and never stops the rest. `generate` never decodes what it sends:
//! whether a record is valid is for the receiver to say.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use thiserror::Error;

use crate::config::Config;
use crate::log::LogError;
use crate::model::pipeline::Micros;

mod destination;
mod pace;
mod replay;
mod report;
mod simulated;

pub use destination::{Destination, HttpDestination, LogDestination};
pub use pace::Pace;
pub use replay::{Format, Labels, Malformed, Replay};
pub use report::{Report, Tally};
pub use simulated::Simulated;

/// What `maturion generate` takes.
#[derive(Clone, Debug, Default, Args)]
pub struct GenerateOptions {
    /// Records per second; without it, as fast as possible
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Stops after this many records
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,
    /// Stops after this many seconds
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// The simulated platform's seed: the same seed, rate and start give the same bytes
    #[arg(long, default_value_t = 1, conflicts_with = "replay")]
    pub seed: u64,
    /// Event time of the first simulated record, in RFC 3339 [default: now with --rate, else as long ago as the records last]
    #[arg(long, value_name = "TIME", conflicts_with = "replay", value_parser = parse_start)]
    pub start: Option<Micros>,
    /// Plays the scripted incidents, the first of them after ten minutes of event time
    #[arg(long, conflicts_with = "replay")]
    pub incidents: bool,
    /// Sends the records of this file instead of simulated ones; .gz is unpacked
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// What the file holds [default: by its name]
    #[arg(long, value_enum, requires = "replay")]
    pub format: Option<Format>,
    /// Moves all event times of the file so that the last one is now
    #[arg(long, requires = "replay")]
    pub shift_to_now: bool,
    /// The organisation that web requests and CSV values belong to
    #[arg(long, value_name = "ORG", requires = "replay")]
    pub organisation: Option<String>,
    /// The module that web requests and CSV values belong to
    #[arg(long, value_name = "MODULE", requires = "replay")]
    pub module: Option<String>,
    /// The metric that CSV values are of [default: the file's name]
    #[arg(long, value_name = "NAME", requires = "replay")]
    pub name: Option<String>,
    /// Kafka to write to, instead of the configured one
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "to")]
    pub brokers: Option<String>,
    /// A running instance to send to over HTTP, as http://host:port
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
}

/// Why nothing more was generated.
#[derive(Debug, Error)]
pub enum GenerateError {
    #[error(
        "the embedded log lives inside a running instance: send to it with --to http://host:port, or name Kafka with --brokers"
    )]
    NoDestination,
    #[error("{0}")]
    Unusable(String),
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("{}: no line of it is {format}; {first}", file.display())]
    NothingReadable { file: PathBuf, format: &'static str, first: Malformed },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{url} does not take records: {reason}")]
    Http { url: String, reason: String },
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}

impl GenerateError {
    /// True if other arguments are needed, rather than another try.
    pub fn is_unusable(&self) -> bool {
        matches!(self, GenerateError::NoDestination | GenerateError::Unusable(_))
    }
}

/// Generates as the options say, waits until everything is acknowledged, and prints one summary line.
pub fn run(options: &GenerateOptions, config: &Config) -> Result<(), GenerateError> {
    let mut destination = destination::open(options, config)?;
    let began = Instant::now();
    let mut tally = Tally::new(Pace::new(options.rate), options.records, options.seconds);
    match &options.replay {
        Some(file) => replay_file(file, options, &mut tally, destination.as_mut())?,
        None => Simulated::new(options, now())?.send(&mut tally, destination.as_mut())?,
    }
    destination.finish()?;
    report::print(&tally.report(began.elapsed())).map_err(GenerateError::Output)
}

fn replay_file(
    file: &Path,
    options: &GenerateOptions,
    tally: &mut Tally,
    destination: &mut dyn Destination,
) -> Result<(), GenerateError> {
    let labels = Labels {
        organisation: options.organisation.clone(),
        module: options.module.clone(),
        name: options.name.clone(),
    };
    let replay = Replay::new(file, options.format, labels)?;
    let shift = if options.shift_to_now { replay.last_time()?.map_or(0, |last| now() - last) } else { 0 };
    replay.send(shift, tally, destination)
}

fn now() -> Micros {
    chrono::Utc::now().timestamp_micros()
}

fn parse_start(text: &str) -> Result<Micros, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros()).map_err(|_| "not RFC 3339, as 2025-12-03T10:00:00Z".to_owned())
}
