//! `maturion demo`: the whole of Maturion against a simulated platform on which things go wrong by script.
//!
//! | thread | what it does |
//! |---|---|
//! | [`feed`] | writes the platform's telemetry: hours of history at once, then live traffic with incidents |
//! | [`follow`] | reads the output topics as any consumer could |
//! | the caller's | prints what is injected and what is detected, until time is up or Ctrl-C |
//!
//! What is printed is what is on the topics: the demo never looks inside the roles, and never decides what counts as
//! detected but by place and time. [`story`], [`scorecard`] and [`screen`] know no clock and no I/O.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use crate::config::{Brokers, Config};
use crate::generate::{GenerateError, LogDestination};
use crate::log::topics::Topics;
use crate::log::{Log, LogError};
use crate::model::action::Mode;
use crate::model::pipeline::Micros;
use crate::roles::runtime::{self, OpenError, Runtime};
use crate::roles::{Doors, RolesError};
use crate::serve::ServeError;
use crate::store::Store;
use feed::{Controls, StoryClock};
use follow::Deed;
use plant::Plant;
use screen::Style;
use sighting::Sighting;
use story::Story;
use telling::Telling;

pub mod feed;
pub mod follow;
mod plant;
pub mod scorecard;
pub mod screen;
pub mod sighting;
pub mod story;
mod telling;
mod terminal;

/// What `maturion demo` takes.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// Stops by itself after this many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(5..))]
    pub seconds: Option<u64>,
    /// The platform's seed: the same seed gives the same story
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Records per second while it is live
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(5_000..=500_000))]
    pub rate: u32,
    /// Kafka to use instead of the embedded log; the demo's topics get a prefix of their own
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
}

/// Why a demo ended early.
#[derive(Debug, Error)]
pub enum DemoError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Roles(#[from] RolesError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Feed(#[from] GenerateError),
    #[error("a role stopped; its reason is in the log above")]
    RoleStopped,
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("a thread of the demo ended by a defect")]
    Panicked,
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl DemoError {
    /// True if other arguments or files are needed, rather than another try.
    pub fn is_unusable(&self) -> bool {
        matches!(self, DemoError::Open(error) if error.is_configuration())
    }
}

/// What the threads tell the one that prints.
#[derive(Debug)]
pub enum Happening {
    /// All history is in the log.
    HistoryWritten {
        records: u64,
        took: Duration,
    },
    /// So many windows were closed, the last of them ending then.
    WindowsClosed {
        closed: u64,
        until: Micros,
    },
    /// The incident of this number began.
    Injected(usize),
    /// The incident of this number ended, then.
    Over(usize, Micros),
    StoryEnded,
    Seen(Box<Sighting>),
    /// Something was decided or done about an incident.
    Done(Box<Deed>),
    /// A message that cannot be read.
    Odd(String),
    Failed(DemoError),
}

/// The stage on which the roles already play.
pub struct Stage<'a> {
    pub log: Arc<dyn Log>,
    pub topics: Topics,
    /// Where the HTTP door is.
    pub door: String,
    /// True once a role has ended, which it should not.
    pub has_failed: &'a dyn Fn() -> bool,
    /// True once the user wants it to end.
    pub stop: &'a AtomicBool,
}

/// Starts every role on a log of its own, plays the story, and stops them. `stop` ends it early.
pub fn run(options: &DemoOptions, mut config: Config, stop: &AtomicBool) -> Result<(), DemoError> {
    config.kafka.brokers = options.brokers.clone().map_or(Brokers::Embedded, Brokers::Kafka);
    if options.brokers.is_some() {
        // Neither the platform's own topics nor those of an earlier demo, whose event time has gone further.
        config.kafka.topic_prefix = format!("{}demo.{}.", config.kafka.topic_prefix, chrono::Utc::now().timestamp());
        let topics = Topics::new(&config.kafka.topic_prefix);
        topics.ensure(runtime::connect(&config)?.as_ref(), runtime::partitions(&config))?;
    }
    // What a demo says is gone when it ends, so its tables are, too.
    let folder = DemoFolder::new();
    config.store.url = folder.url();
    let controls = Arc::new(Controls::default());
    let plant = Plant::start(&controls)?;
    config.mode = Mode::Act;
    config.controls = vec![plant.control()?];
    let runtime = Runtime::open(&config)?;
    let store = runtime::open_store(&config, &runtime.set).map_err(OpenError::from)?;
    let limits = runtime.store_limits(&config);
    let door = open_door(&runtime, config.clone(), &store)?;
    let mut roles = runtime.start(true, true)?;
    runtime.fill(&store, limits, &mut roles)?;
    // What is done about it is timed by the platform's own clock.
    let actor = Runtime { clock: Arc::new(StoryClock::new(&controls)), ..runtime.clone() };
    actor.remediate(&config, Some(runtime.tables(&store)), &mut roles)?;
    let stage = Stage {
        log: Arc::clone(&runtime.log),
        topics: runtime.topics.clone(),
        door: format!("http://{}/status", door.address()),
        has_failed: &|| roles.has_ended(),
        stop,
    };
    let played = play(options, &stage, &controls, terminal::style(), &mut io::stdout());
    let stopped = roles.stop();
    door.stop();
    played.and(stopped.map_err(DemoError::Roles))
}

/// A folder for as long as a demo lasts.
struct DemoFolder(PathBuf);

impl DemoFolder {
    fn new() -> DemoFolder {
        DemoFolder(std::env::temp_dir().join(format!("maturion-demo-{}", std::process::id())))
    }

    fn url(&self) -> String {
        format!("file:{}", self.0.display())
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        // What cannot be removed now the system removes some day.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens the HTTP door, on a free port if the configured one is taken: a demo must not fail for that.
fn open_door(runtime: &Runtime, mut config: Config, store: &Arc<Store>) -> Result<Doors, RolesError> {
    match runtime.serve(&config, Some(runtime.tables(store))) {
        Err(RolesError::Serve(ServeError::InUse { .. })) => {
            config.serve.http.set_port(0);
            runtime.serve(&config, Some(runtime.tables(store)))
        }
        other => other,
    }
}

/// Plays the story on a stage until it is over, and tells it on `out`. A closed `out` ends it quietly.
pub fn play(
    options: &DemoOptions,
    stage: &Stage<'_>,
    controls: &Arc<Controls>,
    style: Style,
    out: &mut dyn Write,
) -> Result<(), DemoError> {
    let length = options.seconds.map(Duration::from_secs);
    let story = Story::new(chrono::Utc::now().timestamp_micros(), options.seed, options.rate, length);
    let (tell, told) = channel();
    let threads = start_threads(stage, &story, controls, &tell)?;
    drop(tell);
    let mut telling = Telling::new(story, length, style, Arc::clone(controls), out);
    let result = telling.tell(stage, &told);
    controls.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| DemoError::Panicked)?;
    }
    match result.and_then(|()| telling.summary(stage)) {
        Err(DemoError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// What one thread does.
type Work = Box<dyn FnOnce(&Controls, &Sender<Happening>) -> Result<(), DemoError> + Send>;

/// Starts the feed and the followers; each reports its own failure.
fn start_threads(
    stage: &Stage<'_>,
    story: &Story,
    controls: &Arc<Controls>,
    tell: &Sender<Happening>,
) -> Result<Vec<thread::JoinHandle<()>>, DemoError> {
    let (topics, log) = (&stage.topics, &stage.log);
    let destination = LogDestination::new(log.appender()?, topics);
    let spawn = |name: &str, work: Work| {
        let (controls, tell) = (Arc::clone(controls), tell.clone());
        let body = move || {
            if let Err(error) = work(&controls, &tell) {
                // If nobody listens any more the demo is over, and so is the failure.
                let _ = tell.send(Happening::Failed(error));
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(body).map_err(DemoError::Thread)
    };
    let (story, remediation, windows) = (story.clone(), topics.remediation(), topics.windows());
    let (first, second, third) = (Arc::clone(log), Arc::clone(log), Arc::clone(log));
    let audit = topics.audit();
    Ok(vec![
        spawn("demo-feed", Box::new(move |controls, tell| Ok(feed::feed(&story, destination, controls, tell)?)))?,
        spawn(
            "demo-detections",
            Box::new(move |controls, tell| Ok(follow::detections(first.as_ref(), &remediation, controls, tell)?)),
        )?,
        spawn(
            "demo-windows",
            Box::new(move |controls, tell| Ok(follow::windows(second.as_ref(), &windows, controls, tell)?)),
        )?,
        spawn(
            "demo-deeds",
            Box::new(move |controls, tell| Ok(follow::audit(third.as_ref(), &audit, controls, tell)?)),
        )?,
    ])
}
