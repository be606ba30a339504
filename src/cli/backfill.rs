//! `maturion backfill`: what the pipelines would have said over history. It never acts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::backfill::{
    self, BackfillError, Comparison, Episode, Episodes, Files, History, Progress, Rejected, Report, Settings, Sink,
};
use crate::config::document::suggestion;
use crate::config::{Config, PipelineFiles};
use crate::decode::Table;
use crate::evaluate::PipelineSet;
use crate::evaluate::shard::Outputs;
use crate::model::pipeline::Micros;
use crate::pipelines;
use crate::roles::runtime::OpenError;

use super::{Failure, output, signals};
use progress::Bar;

mod progress;
mod telling;

#[derive(Debug, Args)]
pub(super) struct BackfillArguments {
    /// Files or folders: NDJSON (.ndjson, .jsonl, .json, each also .gz or .zst) or Parquet
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// What the files hold [default: metrics where there are a name and a value, else logs]
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Leaves out what happened before, in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Micros>,
    /// Leaves out what happened from then on, in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<Micros>,
    /// Only these pipelines [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pipelines: Vec<String>,
    /// Prints what would have fired and changes nothing, which is the default
    #[arg(long)]
    dry_run: bool,
    /// Compares with other pipelines: a folder that has the folders `pipelines` and `sql`
    #[arg(long, value_name = "FOLDER")]
    compare: Option<PathBuf>,
    /// Writes the records that cannot be read to this file, unchanged
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// How far a record may be out of order within its file; more holds more windows open
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    disorder: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    Logs,
    Metrics,
}

fn parse_time(text: &str) -> Result<Micros, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros()).map_err(|_| "not RFC 3339, as 2025-12-03T10:00:00Z".to_owned())
}

/// Reads history once, and prints each detection that ended or was open in the end.
pub(super) fn backfill(config: &Config, arguments: &BackfillArguments) -> Result<(), Failure> {
    let mut sets = vec![set(&config.pipelines, &arguments.pipelines)?];
    if let Some(other) = &arguments.compare {
        sets.push(set(&folder(other)?, &arguments.pipelines)?);
    }
    let table = arguments.source.map(|source| match source {
        Source::Logs => Table::Logs,
        Source::Metrics => Table::Metrics,
    });
    let files = Files::open(&arguments.input, table, &backfill::needed(&sets))?;
    files.notes.iter().for_each(|note| output::note(note));
    let settings = Settings {
        from: arguments.from.unwrap_or(Micros::MIN),
        to: arguments.to.unwrap_or(Micros::MAX),
        disorder: Micros::try_from(arguments.disorder.as_micros()).unwrap_or(Micros::MAX),
        ..Settings::default()
    };
    let stop = signals::stop_requested().map_err(Failure::work)?;
    let mut teller = Teller::new(arguments, files.bytes)?;
    let report = run(files, &sets, &settings, &mut teller, &stop)?;
    teller.finish(&sets, &report)
}

fn run(
    files: Files,
    sets: &[Arc<PipelineSet>],
    settings: &Settings,
    teller: &mut Teller,
    stop: &AtomicBool,
) -> Result<Report, Failure> {
    let result = backfill::run(History::of_files(files), sets, settings, teller, stop);
    teller.bar.finish();
    // Whoever closed the pipe has seen enough.
    if teller.is_closed { Ok(Report::default()) } else { Ok(result?) }
}

/// The pipelines of these files that were asked for, and those that they depend on.
fn set(files: &PipelineFiles, names: &[String]) -> Result<Arc<PipelineSet>, Failure> {
    let all = pipelines::load(files).map_err(OpenError::from)?;
    let known = all.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let hint = suggestion(unknown, &known);
        return Err(Failure::Unusable(format!("--pipelines: there is no pipeline `{unknown}`; {hint}")));
    }
    Ok(Arc::new(PipelineSet::compile(pipelines::choose(all, names)).map_err(OpenError::from)?))
}

fn folder(other: &Path) -> Result<PipelineFiles, Failure> {
    let (dir, sql) = (other.join("pipelines"), other.join("sql"));
    if let Some(missing) = [&dir, &sql].into_iter().find(|path| !path.is_dir()) {
        return Err(Failure::Unusable(format!("--compare: there is no folder {}", missing.display())));
    }
    Ok(PipelineFiles::Folder { dir, sql })
}

/// Prints what backfill finds.
struct Teller {
    names: Vec<String>,
    /// For each version of the pipelines.
    episodes: [Episodes; 2],
    comparison: Option<Comparison>,
    fired: u64,
    windows: u64,
    rejected: Option<BufWriter<File>>,
    bar: Bar,
    is_closed: bool,
}

impl Teller {
    fn new(arguments: &BackfillArguments, bytes: u64) -> Result<Self, Failure> {
        let create = |path: &PathBuf| {
            let cannot = |error| Failure::Unusable(format!("--rejected: {}: {error}", path.display()));
            File::create(path).map(BufWriter::new).map_err(cannot)
        };
        Ok(Self {
            names: arguments.pipelines.clone(),
            episodes: Default::default(),
            comparison: arguments.compare.is_some().then(Comparison::default),
            fired: 0,
            windows: 0,
            rejected: arguments.rejected.as_ref().map(create).transpose()?,
            bar: Bar::new(bytes),
            is_closed: false,
        })
    }

    fn take(&mut self, version: usize, episode: Episode) -> Result<(), BackfillError> {
        match &mut self.comparison {
            Some(comparison) => comparison.take(version, episode),
            None => {
                self.fired += 1;
                self.print(&telling::line(&episode))?;
            }
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), BackfillError> {
        let printed = self.bar.aside(|| output::try_print(text));
        self.is_closed |= matches!(&printed, Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        printed.map_err(|error| BackfillError::Output(error.to_string()))
    }

    fn finish(mut self, sets: &[Arc<PipelineSet>], report: &Report) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        if let Some(mut rejected) = self.rejected.take() {
            rejected.flush().map_err(|error| Failure::work(format!("--rejected: {error}")))?;
        }
        for (version, episodes) in std::mem::take(&mut self.episodes).into_iter().enumerate() {
            let told = episodes.into_open().into_iter().try_for_each(|episode| self.take(version, episode));
            if self.is_closed {
                return Ok(());
            }
            told?;
        }
        telling::notes(report).iter().for_each(|note| output::note(note));
        let text = match self.comparison {
            Some(comparison) => telling::comparison(comparison),
            None => telling::summary(report, sets, self.windows, self.fired),
        };
        output::print(&text)?;
        telling::failure(report).map_or(Ok(()), Err)
    }
}

impl Sink for Teller {
    fn say(&mut self, set: usize, outputs: &Outputs) -> Result<(), BackfillError> {
        self.windows += outputs.windows.len() as u64;
        for detection in &outputs.detections {
            if self.names.is_empty() || self.names.contains(&detection.pipeline) {
                let ended = self.episodes.get_mut(set).and_then(|episodes| episodes.take(detection));
                ended.map_or(Ok(()), |episode| self.take(set, episode))?;
            }
        }
        Ok(())
    }

    fn reject(&mut self, record: &Rejected) -> Result<(), BackfillError> {
        let Some(file) = &mut self.rejected else { return Ok(()) };
        let written = file.write_all(&record.bytes).and_then(|()| file.write_all(b"\n"));
        written.map_err(|error| BackfillError::Output(format!("--rejected: {error}")))
    }

    fn progress(&mut self, progress: &Progress) {
        self.bar.show(progress);
    }
}
