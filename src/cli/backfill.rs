//! `maturion backfill`: what the pipelines would have said over history. It never acts.
//!
//! With `--write` what they say is stored, with `--warm-baselines` live processing begins where history ends. Results go to
//! standard output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::backfill::{
    self, BackfillError, Comparison, Episode, Episodes, Job, Progress, Rejected, Report, Settings, Sink,
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
use input::Input;
use progress::Bar;
use warming::Warming;
use writing::{Begun, Writing};

mod input;
mod progress;
mod telling;
mod warming;
mod writing;

#[derive(Debug, Args)]
pub(super) struct BackfillArguments {
    /// Files or folders: NDJSON (.ndjson, .jsonl, .json, each also .gz or .zst) or Parquet; or `table`: the store
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// What the files hold [default: metrics where there are a name and a value, else logs], or the one table to read
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
    /// Stores windows and detections in the tables of the store; again, or twice at once, it stores them once
    #[arg(long, conflicts_with_all = ["dry_run", "compare"])]
    write: bool,
    /// Lets live processing, which must not have begun, go on at the time of --to with the baselines of the history
    #[arg(long, requires = "to", conflicts_with_all = ["dry_run", "compare"])]
    warm_baselines: bool,
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

impl From<Source> for Table {
    fn from(source: Source) -> Table {
        match source {
            Source::Logs => Table::Logs,
            Source::Metrics => Table::Metrics,
        }
    }
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
    let settings = settings(arguments);
    let warming = arguments.warm_baselines.then(|| Warming::begin(config, &sets[0], &settings)).transpose()?;
    let input = Input::open(config, arguments, &sets, &settings)?;
    let writing = match arguments.write {
        true => begin_writing(config, arguments, &sets[0], &input, &settings)?,
        false => None,
    };
    if arguments.write && writing.is_none() && warming.is_none() {
        return Ok(());
    }
    let stop = signals::stop_requested().map_err(Failure::work)?;
    let mut teller = Teller::new(arguments, input.size(), writing)?;
    let report = run(input, &sets, &settings, &mut teller, &stop)?;
    teller.finish(&sets, &report)?;
    match warming {
        Some(warming) => output::print(&warming.finish(&report)?),
        None => Ok(()),
    }
}

fn settings(arguments: &BackfillArguments) -> Settings {
    Settings {
        from: arguments.from.unwrap_or(Micros::MIN),
        to: arguments.to.unwrap_or(Micros::MAX),
        disorder: Micros::try_from(arguments.disorder.as_micros()).unwrap_or(Micros::MAX),
        hands_over: arguments.warm_baselines,
        ..Settings::default()
    }
}

/// `None`, after saying so, if everything is stored already.
fn begin_writing(
    config: &Config,
    arguments: &BackfillArguments,
    set: &Arc<PipelineSet>,
    input: &Input,
    settings: &Settings,
) -> Result<Option<Box<Writing>>, Failure> {
    let job = Job::new(&input.digests()?, set, &arguments.pipelines, settings);
    match Writing::begin(config, set, &arguments.pipelines, job)? {
        Begun::Writing(writing) => Ok(Some(writing)),
        Begun::IsDone(sentence) => output::print(&sentence).map(|()| None),
    }
}

fn run(
    input: Input,
    sets: &[Arc<PipelineSet>],
    settings: &Settings,
    teller: &mut Teller,
    stop: &AtomicBool,
) -> Result<Report, Failure> {
    let result = backfill::run(input.into_history(), sets, settings, teller, stop);
    teller.bar.finish();
    // Whoever closed the pipe has seen enough, unless there is more to do than to be seen.
    if teller.is_closed && !teller.goes_on { Ok(Report::default()) } else { Ok(result?) }
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
    /// There is work to do also when nobody reads what is printed.
    goes_on: bool,
    writing: Option<Box<Writing>>,
}

impl Teller {
    fn new(arguments: &BackfillArguments, bytes: u64, writing: Option<Box<Writing>>) -> Result<Self, Failure> {
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
            goes_on: arguments.write || arguments.warm_baselines,
            writing,
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
        if self.is_closed && self.goes_on {
            return Ok(());
        }
        let printed = self.bar.aside(|| output::try_print(text));
        self.is_closed |= matches!(&printed, Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        if self.is_closed && self.goes_on {
            return Ok(());
        }
        printed.map_err(|error| BackfillError::Output(error.to_string()))
    }

    fn finish(mut self, sets: &[Arc<PipelineSet>], report: &Report) -> Result<(), Failure> {
        if self.is_closed && !self.goes_on {
            return Ok(());
        }
        if let Some(mut rejected) = self.rejected.take() {
            rejected.flush().map_err(|error| Failure::work(format!("--rejected: {error}")))?;
        }
        for (version, episodes) in std::mem::take(&mut self.episodes).into_iter().enumerate() {
            let told = episodes.into_open().into_iter().try_for_each(|episode| self.take(version, episode));
            if self.is_closed && !self.goes_on {
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
        if let Some(failure) = telling::failure(report) {
            return Err(failure);
        }
        match self.writing {
            Some(writing) => output::print(&writing.finish()?),
            None => Ok(()),
        }
    }
}

impl Sink for Teller {
    fn say(&mut self, set: usize, outputs: &Outputs) -> Result<(), BackfillError> {
        self.windows += outputs.windows.len() as u64;
        if let Some(writing) = &mut self.writing {
            writing.take(outputs)?;
        }
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
