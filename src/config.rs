//! The configuration: `maturion.toml`, environment variables over it, defaults under it, checked once.
//!
//! A [`Config`] cannot be wrong: every limit is within its range, every address parses. Nothing below the command line
//! reads the environment or the file again. Secrets are never part of a message or of `Debug` output.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::model::action::Mode;
use crate::model::silence::Silence;
use document::{DocumentError, Table};

mod asking;
mod audit;
pub mod document;
pub mod github;
pub mod notify;
mod properties;
mod proposals;
mod remediate;
mod secret;
mod sections;

pub use github::GitHub;
pub use notify::Notify;
pub use proposals::NumberPlace;
pub use remediate::{Control, NamedText, PolicyFiles, PolicyTexts, Program, Remediate};
pub use secret::Secret;
pub use sections::{brokers, is_instance_name};

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "maturion.toml";

/// Everything a user can set, validated.
#[derive(Clone, Debug)]
pub struct Config {
    pub kafka: Kafka,
    pub instance: Instance,
    pub intake: Intake,
    pub detect: Detect,
    pub store: StoreSettings,
    pub serve: Serve,
    pub query: Query,
    pub users: Vec<User>,
    pub watch: Watch,
    pub audit: Audit,
    pub pipelines: PipelineFiles,
    /// `[mode] actions`: whether decisions become actions.
    pub mode: Mode,
    pub remediate: Remediate,
    pub controls: Vec<Control>,
    pub commands: Vec<Program>,
    /// `[[silence]]`: maintenance that is planned.
    pub silences: Vec<Silence>,
    /// `[github]`, if a repository is named.
    pub github: Option<GitHub>,
    /// `[notify]`, `[[contact]]` and `[[escalation]]`.
    pub notify: Notify,
}

/// `[kafka]`: which log, and how to reach it.
#[derive(Clone)]
pub struct Kafka {
    pub brokers: Brokers,
    /// Before the name of every topic.
    pub topic_prefix: String,
    /// Partitions of every topic that `maturion topics` creates, 1 to 1,000.
    pub partitions: i32,
    /// librdkafka's properties, secrets resolved.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for Kafka {
    /// Names the properties without their values: some are secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("partitions", &self.partitions)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// Where the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brokers {
    /// In this process. Not for production.
    Embedded,
    /// Apache Kafka: `host:port`, separated by commas, as librdkafka takes it.
    Kafka(String),
}

/// `[instance]`: who this process is.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Transactional ids derive from it, so each process of an installation needs a name of its own, the same after a restart.
    pub name: String,
}

/// `[intake]`: stage one.
#[derive(Clone, Debug)]
pub struct Intake {
    /// How often partial states are committed: the larger part of the way from a record to its detection.
    /// Shorter costs a transaction more often.
    pub commit_interval: Duration,
    /// Records of one Arrow batch; more is faster until it leaves the processor's caches.
    pub batch_rows: usize,
    /// How far a record's timestamp may lie after its Kafka timestamp before it is a dead letter.
    pub max_ahead: Duration,
    /// Rejected records that become a dead letter of their own, per second of this process; more writes more when a producer
    /// goes mad.
    pub dead_letters_per_second: u64,
    /// How long a partition without new records holds the windows back.
    pub idle_after: Duration,
}

/// `[detect]`: stage two.
#[derive(Clone, Debug)]
pub struct Detect {
    /// How often windows and detections are committed.
    pub commit_interval: Duration,
}

/// `[store]`: the tables.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Where they are: `file:PATH` or `s3://BUCKET/PREFIX`. Paths are relative to the configuration file.
    pub url: String,
    /// The folder that relative paths begin in.
    pub folder: PathBuf,
    /// How often rows move from memory to Delta Lake. Longer makes fewer, larger files and a longer replay after a crash;
    /// rows are readable at once either way.
    pub commit_interval: Duration,
    /// Rows of a table in memory that are committed before the interval is over.
    pub chunk_bytes_max: usize,
    /// All rows in memory; beyond it nothing more is fetched from Kafka until a commit has made room.
    pub memory_bytes_max: usize,
    /// Goes on where Kafka begins, if Kafka no longer has what follows the last commit.
    pub accept_gap: bool,
}

/// `[serve]`: the doors.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Port 0 takes a free one.
    pub http: SocketAddr,
    /// Where PostgreSQL's clients ask; without it that door stays closed.
    pub postgres: Option<SocketAddr>,
    /// What that door shows of itself; it then speaks TLS.
    pub certificate: Option<Certificate>,
    /// Allows an address that other machines can reach without a token.
    pub allow_remote: bool,
    /// What every request must bring, as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// The largest body of `POST /ingest/json`; each request under way may hold that much memory.
    pub body_bytes_max: usize,
}

/// `[query]`: what statements may take, and how many may ask.
#[derive(Clone, Debug)]
pub struct Query {
    /// Memory of the statements of one session.
    pub memory_bytes_max: usize,
    /// Memory of all statements of the process.
    pub memory_total_bytes_max: usize,
    /// How long a statement may run, the time included in which its rows are not taken.
    pub time_max: Duration,
    /// Statements of one organisation, or of the operator, that run at once; further ones wait.
    pub statements_max: usize,
    /// Connections of PostgreSQL's clients.
    pub connections_max: usize,
}

/// A `[[user]]`: who may ask with a password.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub sees: Sees,
    pub password: Secret,
}

/// What a user may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sees {
    Everything,
    Organisation(String),
}

/// The files of a TLS certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate in PEM, and those that lead to its authority.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// `[watch]`: the agent as a source of telemetry.
#[derive(Clone, Debug)]
pub struct Watch {
    /// How often the agent writes how it is to the input of metrics; zero is never.
    pub interval: Duration,
}

/// `[audit]`: who signs the audit, and whose signatures count.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Signs checkpoints; without it there are none.
    pub key: Option<Secret>,
    /// How often the chain is signed while it grows. Longer leaves more entries that only the chain protects.
    pub checkpoint_interval: Duration,
    /// Whose checkpoints `maturion audit verify` trusts, besides those of `key`: 64 hexadecimal digits each.
    pub public_keys: Vec<String>,
}

/// Where the pipelines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipelineFiles {
    /// The ones in the binary: no `pipelines.dir` is configured and there is no folder of the default name.
    Shipped,
    Folder {
        dir: PathBuf,
        sql: PathBuf,
    },
}

/// Why there is no usable configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{file}: cannot be read ({reason}); name another file with --config")]
    Unreadable { file: String, reason: String },
    #[error(
        "{file}: cannot be read ({reason}); a policy has actions.toml, policy.cedar and policy.cedarschema in one folder"
    )]
    PolicyUnreadable { file: String, reason: String },
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl Config {
    /// Reads `file`, or [`DEFAULT_FILE`] if there is one, and lays `environment` over it.
    /// Paths are relative to the folder of the file.
    pub fn load(file: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let root = match file {
            None if !default.exists() => Table::empty("the environment"),
            _ => read(file.unwrap_or(default))?,
        };
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        Ok(Config::from_table(root, environment, folder)?)
    }

    /// The configuration of someone who configured nothing.
    pub fn defaults() -> Result<Config, ConfigError> {
        Ok(Config::from_table(Table::empty("the defaults"), &BTreeMap::new(), Path::new(""))?)
    }

    fn from_table(
        mut root: Table,
        environment: &BTreeMap<String, String>,
        folder: &Path,
    ) -> Result<Config, DocumentError> {
        for (variable, text) in environment {
            root.overlay(variable, text)?;
        }
        root.allow_only(&[
            "kafka",
            "instance",
            "intake",
            "detect",
            "serve",
            "query",
            "user",
            "watch",
            "audit",
            "pipelines",
            "store",
            "github",
            "notify",
            "contact",
            "escalation",
            "mode",
            "remediate",
            "control",
            "command",
            "silence",
        ])?;
        Ok(Config {
            kafka: sections::kafka(root.section("kafka")?, environment, folder)?,
            instance: sections::instance(root.section("instance")?)?,
            intake: sections::intake(root.section("intake")?)?,
            detect: sections::detect(root.section("detect")?)?,
            store: sections::store(root.section("store")?, folder)?,
            serve: sections::serve(root.section("serve")?, environment, folder)?,
            query: asking::query(root.section("query")?)?,
            users: asking::users(root.tables("user")?, environment, folder)?,
            watch: sections::watch(root.section("watch")?)?,
            audit: audit::audit(root.section("audit")?, environment, folder)?,
            pipelines: sections::pipelines(root.section("pipelines")?, folder)?,
            mode: remediate::mode(root.section("mode")?)?,
            remediate: remediate::remediate(root.section("remediate")?, folder)?,
            controls: remediate::controls(root.tables("control")?, environment, folder)?,
            commands: remediate::commands(root.tables("command")?)?,
            silences: remediate::silences(root.tables("silence")?)?,
            github: github::github(root.section("github")?, environment, folder)?,
            notify: notify::notify(&mut root, environment, folder)?,
        })
    }
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::Unreadable { file: name.clone(), reason: error.to_string() })?;
    Ok(Table::parse(&name, &text)?)
}

#[cfg(test)]
mod tests;
