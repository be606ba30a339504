//! From a validated configuration to what the roles share: the log, the topics, the compiled pipelines, the board.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::observe::{self, Observing};
use super::remediate::hands::{PlatformHands, Reach};
use super::remediate::witness::Tables as LogTables;
use super::remediate::{Remediate, RemediateSettings, Signing};
use super::store::{StoreLimits, StoreWorker};
use super::{Clock, Doors, RolesError, RunningRoles, SystemClock, detect, intake};
use crate::act::Adapters;
use crate::config::{Brokers, Config};
use crate::decide::Policy;
use crate::decode::DecodeLimits;
use crate::evaluate::{CompileError, PipelineSet, tables};
use crate::events;
use crate::incident::book::Settings;
use crate::log::embedded::{EmbeddedLog, EmbeddedSettings};
use crate::log::kafka::{KafkaLog, KafkaSettings};
use crate::log::topics::{Partitions, Topics};
use crate::log::{Log, LogError};
use crate::model::pipeline::Micros;
use crate::notify::Routing;
use crate::notify::send::Sender as Channels;
use crate::pipelines::{self, PipelineError};
use crate::query::TableSource;
use crate::serve::status::{RoleState, StatusBoard};
use crate::store::scan::table_source;
use crate::store::{Location, Store, StoreError};

/// Panes that are open for longer than this are written down, so that a restart reads about two of these again at most.
/// Shorter writes more, longer reads more.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(60);

/// Partial states of one transaction; beyond it the transaction is committed early. More holds more memory and sends
/// fewer, larger messages.
pub const AGGREGATE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why a process cannot begin.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Pipelines(#[from] PipelineError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{}", .0.join("; "))]
    Topics(Vec<String>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// True if a file is wrong, false if the world is.
    pub fn is_configuration(&self) -> bool {
        match self {
            OpenError::Pipelines(_) | OpenError::Compile(_) => true,
            OpenError::Log(error) => matches!(error, LogError::Setting(_)),
            OpenError::Store(error) => matches!(error, StoreError::Location { .. }),
            OpenError::Topics(_) => false,
        }
    }
}

/// What the roles of one process share.
#[derive(Clone)]
pub struct Runtime {
    pub log: Arc<dyn Log>,
    pub topics: Topics,
    pub set: Arc<PipelineSet>,
    pub board: Arc<StatusBoard>,
    pub clock: Arc<dyn Clock>,
    /// The instance's name: stable across restarts, so that a restart takes over from its predecessor at once.
    pub instance: String,
    /// How many partitions the topics keyed by series have.
    pub partitions: i32,
    pub limits: DecodeLimits,
    /// Records that intake aggregates at once.
    pub batch_rows: usize,
    /// See [`AGGREGATE_BYTES_MAX`].
    pub aggregate_bytes_max: usize,
    pub intake_commit_interval: Duration,
    pub detect_commit_interval: Duration,
    pub idle_after: Duration,
    /// Rejected records that become a dead letter of their own, per second.
    pub dead_letters_per_second: u64,
    /// See [`SNAPSHOT_INTERVAL`].
    pub snapshot_interval: Duration,
}

/// Loads and plans the configured pipelines.
pub fn compile(config: &Config) -> Result<PipelineSet, OpenError> {
    Ok(PipelineSet::compile(pipelines::load(&config.pipelines)?)?)
}

/// Connects to the configured log; the embedded one is new and empty each time.
pub fn connect(config: &Config) -> Result<Arc<dyn Log>, LogError> {
    Ok(match &config.kafka.brokers {
        Brokers::Embedded => Arc::new(EmbeddedLog::new(EmbeddedSettings::default())),
        Brokers::Kafka(brokers) => Arc::new(KafkaLog::connect(KafkaSettings {
            brokers: brokers.clone(),
            properties: config.kafka.properties.clone(),
        })?),
    })
}

/// Opens the configured store, with a column for each measure of these pipelines.
pub fn open_store(config: &Config, set: &PipelineSet) -> Result<Arc<Store>, StoreError> {
    Store::open(&Location::parse(&config.store.url, &config.store.folder)?, &tables::measures(set))
}

/// As many partitions of every kind as the configuration says.
pub fn partitions(config: &Config) -> Partitions {
    Partitions { inputs: config.kafka.partitions, series: config.kafka.partitions }
}

impl Runtime {
    /// Compiles the pipelines, then connects. The embedded log gets its topics; Kafka's must be there and right.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let set = Arc::new(compile(config)?);
        let log = connect(config)?;
        let topics = Topics::new(&config.kafka.topic_prefix);
        let partitions = partitions(config);
        if config.kafka.brokers == Brokers::Embedded {
            topics.ensure(log.as_ref(), partitions)?;
            events::log_is_embedded();
        }
        let faults = topics.check(log.as_ref(), partitions, longest_window_ms(&set))?;
        if !faults.is_empty() {
            return Err(OpenError::Topics(faults));
        }
        Ok(Self {
            board: Arc::new(StatusBoard::new(log.describe_self()).of(config.instance.name.as_str())),
            clock: Arc::new(SystemClock::default()),
            log,
            topics,
            set,
            instance: config.instance.name.clone(),
            partitions: partitions.series,
            limits: DecodeLimits { ahead_max: micros(config.intake.max_ahead), ..DecodeLimits::default() },
            batch_rows: config.intake.batch_rows,
            aggregate_bytes_max: AGGREGATE_BYTES_MAX,
            intake_commit_interval: config.intake.commit_interval,
            detect_commit_interval: config.detect.commit_interval,
            idle_after: config.intake.idle_after,
            dead_letters_per_second: config.intake.dead_letters_per_second,
            snapshot_interval: SNAPSHOT_INTERVAL,
        })
    }

    /// Opens the doors. Without `source` there are no tables to ask about here: SQL over HTTP is refused, and the
    /// PostgreSQL door stays closed.
    pub fn serve(&self, config: &Config, source: Option<TableSource>) -> Result<Doors, RolesError> {
        let doors = Doors::open(self, config, source)?;
        self.board.role("serve", RoleState::Running);
        Ok(doors)
    }

    /// Starts to observe the other processes, and this one as `[watch]` says. `works` if it has a stage to tell of.
    pub fn observe(&self, config: &Config, works: bool) -> Result<Observing, RolesError> {
        observe::start(self, works, config.watch.interval)
    }

    /// The tables of sessions over an open store.
    pub fn tables(&self, store: &Arc<Store>) -> TableSource {
        let clock = Arc::clone(&self.clock);
        table_source(Arc::clone(store), move || clock.wall())
    }

    /// What `[store]` says of commits and memory.
    pub fn store_limits(&self, config: &Config) -> StoreLimits {
        StoreLimits {
            commit_interval: config.store.commit_interval,
            chunk_bytes_max: config.store.chunk_bytes_max,
            hot_bytes_max: config.store.memory_bytes_max,
            log_id: match config.kafka.brokers {
                // It begins at offset 0 each time, and what the store has of another time is not in it.
                Brokers::Embedded => format!("embedded-{}:", self.clock.wall()),
                Brokers::Kafka(_) => String::new(),
            },
            accept_gap: config.store.accept_gap,
        }
    }

    /// Starts the worker that fills an open store.
    pub fn fill(&self, store: &Arc<Store>, limits: StoreLimits, running: &mut RunningRoles) -> Result<(), RolesError> {
        let (runtime, store) = (self.clone(), Arc::clone(store));
        running.spawn("store", &self.board, move |stop| {
            Ok(StoreWorker::new(runtime.clone(), Arc::clone(&store), limits.clone())?.run(stop)?)
        })
    }

    /// Starts the worker that decides, and does what the configuration allows. Tickets show lines of logs from the tables of
    /// this process, or without `source` from what others have committed.
    pub fn remediate(
        &self,
        config: &Config,
        source: Option<TableSource>,
        running: &mut RunningRoles,
    ) -> Result<(), RolesError> {
        let has_contacts = !config.notify.contacts.is_empty();
        let settings = RemediateSettings {
            policy: Arc::new(Policy::compile(&config.remediate.policy.read()?, &config.remediate.targets)?),
            book: Settings { mode: config.mode, ..Settings::default() },
            kill_switch: config.remediate.kill_switch_file.clone(),
            signing: config
                .audit
                .key
                .clone()
                .map(|key| Signing { key, interval: micros(config.audit.checkpoint_interval) }),
            silences: config.silences.clone(),
            tickets: config.github.clone(),
            routing: has_contacts.then(|| Routing::of(&config.notify)),
        };
        let reach = Reach {
            adapters: Arc::new(Adapters::new(&config.controls, &config.commands)?),
            github: config.github.clone(),
            logs: Some(match source {
                Some(source) => LogTables::Here(source),
                None => LogTables::Committed { url: config.store.url.clone(), folder: config.store.folder.clone() },
            }),
            sender: Some(Arc::new(Channels::new(&config.notify)?)).filter(|_| has_contacts),
        };
        let runtime = self.clone();
        running.spawn("remediate", &self.board, move |stop| {
            let hands = PlatformHands::new(&reach)?;
            Ok(Remediate::new(runtime.clone(), settings.clone(), hands).run(stop)?)
        })
    }

    /// Starts one worker of each stage that is asked for.
    pub fn start(&self, with_intake: bool, with_detect: bool) -> Result<RunningRoles, RolesError> {
        let mut running = RunningRoles::default();
        if with_detect {
            let runtime = self.clone();
            running.spawn("detect", &self.board, move |stop| Ok(detect::Detect::new(runtime.clone()).run(stop)?))?;
        }
        if with_intake {
            let runtime = self.clone();
            running.spawn("intake", &self.board, move |stop| Ok(intake::Intake::new(runtime.clone())?.run(stop)?))?;
        }
        Ok(running)
    }
}

/// The longest window of any pipeline with its lateness: inputs must be kept for longer than that.
pub fn longest_window_ms(set: &PipelineSet) -> i64 {
    let length =
        |compiled: &crate::evaluate::Compiled| compiled.plan.panes.size.saturating_add(compiled.pipeline.lateness);
    set.pipelines().iter().map(length).max().unwrap_or(0) / 1_000
}

/// A length of wall time in event time's unit.
pub(super) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
