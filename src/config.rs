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

use document::{DocumentError, Located, Origin, Table};

pub mod document;
mod properties;
mod secret;

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "maturion.toml";

/// Everything a user can set, validated.
#[derive(Clone, Debug)]
pub struct Config {
    pub kafka: Kafka,
    pub instance: Instance,
    pub intake: Intake,
    pub detect: Detect,
    pub serve: Serve,
    pub pipelines: PipelineFiles,
    /// Keys that are valid but that this version does nothing with, as `[section] key`.
    pub without_effect: Vec<String>,
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
    /// How long a partition without new records holds the windows back.
    pub idle_after: Duration,
}

/// `[detect]`: stage two.
#[derive(Clone, Debug)]
pub struct Detect {
    /// How often windows and detections are committed.
    pub commit_interval: Duration,
}

/// `[serve]`: the HTTP door.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Port 0 takes a free one.
    pub http: SocketAddr,
    /// The largest body of `POST /ingest/json`, in bytes.
    pub max_body_bytes: usize,
    /// Other machines may reach `http` without a token, because a proxy checks who speaks.
    pub allow_remote: bool,
    /// What every request but the health checks must present.
    pub token: Option<Secret>,
}

/// A secret from the environment or a file: never empty, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the one place that presents or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
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
        root.allow_only(&["kafka", "instance", "intake", "detect", "serve", "pipelines", "store", "github", "mode"])?;
        let mut without_effect = vec![];
        Ok(Config {
            kafka: kafka(root.section("kafka")?, environment, folder)?,
            instance: instance(root.section("instance")?)?,
            intake: intake(root.section("intake")?)?,
            detect: detect(root.section("detect")?)?,
            serve: serve(root.section("serve")?, environment, folder, &mut without_effect)?,
            pipelines: pipelines(root.section("pipelines")?, folder)?,
            without_effect: {
                reserved(root, &mut without_effect)?;
                without_effect
            },
        })
    }
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::Unreadable { file: name.clone(), reason: error.to_string() })?;
    Ok(Table::parse(&name, &text)?)
}

fn kafka(mut table: Table, environment: &BTreeMap<String, String>, folder: &Path) -> Result<Kafka, DocumentError> {
    table.allow_only(&["brokers", "topic_prefix", "partitions", "properties"])?;
    let brokers = match table.text("brokers")? {
        None => Brokers::Embedded,
        Some(text) => brokers(&text.value).map_err(|reason| text.origin.error(reason))?,
    };
    let topic_prefix = match table.text("topic_prefix")? {
        Some(prefix) => checked(prefix, is_topic_prefix, "`topic_prefix` may have up to 100 of a-z A-Z 0-9 . _ -")?,
        None => String::new(),
    };
    Ok(Kafka {
        brokers,
        topic_prefix,
        partitions: count_within(&mut table, "partitions", 1, 1_000, 4)? as i32,
        properties: properties::resolve(table.section("properties")?.dotted()?, environment, folder)?,
    })
}

/// Checks `host:port,host:port`; a name is resolved only when it is used.
pub fn brokers(text: &str) -> Result<Brokers, String> {
    if text.trim() == "embedded" {
        return Ok(Brokers::Embedded);
    }
    let addresses: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_address = |address: &str| {
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match addresses.iter().find(|address| !is_address(address)) {
        None => Ok(Brokers::Kafka(addresses.join(","))),
        Some(wrong) => Err(format!("`{wrong}` is not a broker; write \"host:port,host:port\", or \"embedded\"")),
    }
}

fn instance(mut table: Table) -> Result<Instance, DocumentError> {
    table.allow_only(&["name"])?;
    let name = match table.text("name")? {
        Some(name) => checked(name, is_instance_name, "`name` needs 1 to 60 of a-z A-Z 0-9 . _ -")?,
        None => "maturion".to_owned(),
    };
    Ok(Instance { name })
}

/// True for 1 to 60 letters, digits, dots, underscores and hyphens: what is safe in a transactional id.
pub fn is_instance_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 60 && name.chars().all(is_topic_character)
}

fn is_topic_prefix(prefix: &str) -> bool {
    prefix.len() <= 100 && prefix.chars().all(is_topic_character)
}

fn is_topic_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || ".-_".contains(character)
}

fn intake(mut table: Table) -> Result<Intake, DocumentError> {
    table.allow_only(&["commit_interval", "batch_rows", "max_ahead", "idle_after"])?;
    Ok(Intake {
        commit_interval: duration_within(&mut table, "commit_interval", "10ms", "60s", "200ms")?,
        batch_rows: count_within(&mut table, "batch_rows", 1, 1_000_000, 8_192)? as usize,
        max_ahead: duration_within(&mut table, "max_ahead", "1s", "30days", "10m")?,
        idle_after: duration_within(&mut table, "idle_after", "100ms", "1day", "5s")?,
    })
}

fn detect(mut table: Table) -> Result<Detect, DocumentError> {
    table.allow_only(&["commit_interval"])?;
    Ok(Detect { commit_interval: duration_within(&mut table, "commit_interval", "10ms", "60s", "200ms")? })
}

fn serve(
    mut table: Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
    without_effect: &mut Vec<String>,
) -> Result<Serve, DocumentError> {
    table.allow_only(&["http", "max_body_bytes", "allow_remote", "token_env", "token_file", "postgres"])?;
    if let Some(postgres) = table.text("postgres")? {
        address("postgres", &postgres)?;
        without_effect.push("[serve] postgres".to_owned());
    }
    Ok(Serve {
        http: match table.text("http")? {
            Some(http) => address("http", &http)?,
            None => SocketAddr::from(([127, 0, 0, 1], 8080)),
        },
        max_body_bytes: count_within(&mut table, "max_body_bytes", 1_024, 1 << 30, 8 << 20)? as usize,
        allow_remote: table.boolean("allow_remote")?.is_some_and(|allowed| allowed.value),
        token: token(&mut table, environment, folder)?,
    })
}

/// An empty secret is refused: whoever configured one believes that the door is locked.
fn token(
    table: &mut Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Option<Secret>, DocumentError> {
    let (key, found) = match (table.text("token_env")?, table.text("token_file")?) {
        (None, None) => return Ok(None),
        (Some(name), None) => ("token_env", secret::from_variable("token_env", &name, environment)?),
        (None, Some(path)) => ("token_file", secret::from_file("token_file", &path, folder)?),
        (Some(_), Some(path)) => return Err(path.origin.error("`token_env` and `token_file` exclude each other")),
    };
    match found.value.trim() {
        "" => Err(found.origin.error(format!("`{key}` leads to an empty secret"))),
        secret => Ok(Some(Secret(secret.to_owned()))),
    }
}

fn address(key: &str, text: &Located<String>) -> Result<SocketAddr, DocumentError> {
    let refuse = |_| {
        text.origin.error(format!(
            "`{key}` must be an IP address and a port such as \"127.0.0.1:8080\", not \"{}\"",
            text.value
        ))
    };
    text.value.parse().map_err(refuse)
}

fn pipelines(mut table: Table, folder: &Path) -> Result<PipelineFiles, DocumentError> {
    table.allow_only(&["dir", "sql"])?;
    let configured = table.has("dir") || table.has("sql");
    let mut existing = |key: &str, default: &str| match table.text(key)? {
        Some(text) if !folder.join(&text.value).is_dir() => Err(text
            .origin
            .error(format!("`{key}` names the folder {}, which does not exist", folder.join(&text.value).display()))),
        Some(text) => Ok(folder.join(text.value)),
        None => Ok(folder.join(default)),
    };
    let (dir, sql) = (existing("dir", "pipelines")?, existing("sql", "sql")?);
    if configured || dir.is_dir() { Ok(PipelineFiles::Folder { dir, sql }) } else { Ok(PipelineFiles::Shipped) }
}

/// Checks the sections that belong to parts of Maturion that this version does not have, so that one file serves all versions.
fn reserved(mut root: Table, without_effect: &mut Vec<String>) -> Result<(), DocumentError> {
    let mut checked = |section: &str, known: &[&str]| -> Result<Vec<Located<String>>, DocumentError> {
        let mut table = root.section(section)?;
        table.allow_only(known)?;
        let mut texts = vec![];
        for key in known {
            if let Some(text) = table.text(key)? {
                without_effect.push(format!("[{section}] {key}"));
                texts.push(text);
            }
        }
        Ok(texts)
    };
    checked("store", &["url"])?;
    checked("github", &["repository", "token_env", "token_file", "api_url"])?;
    match checked("mode", &["actions"])?.iter().find(|mode| !["observe", "act"].contains(&mode.value.as_str())) {
        Some(mode) => {
            Err(mode.origin.error(format!("`actions` must be \"observe\" or \"act\", not \"{}\"", mode.value)))
        }
        None => Ok(()),
    }
}

fn checked(text: Located<String>, is_valid: impl Fn(&str) -> bool, reason: &str) -> Result<String, DocumentError> {
    if is_valid(&text.value) {
        Ok(text.value)
    } else {
        Err(text.origin.error(format!("{reason}, not \"{}\"", text.value)))
    }
}

fn count_within(table: &mut Table, key: &str, least: u64, most: u64, default: u64) -> Result<u64, DocumentError> {
    match table.count(key)? {
        Some(count) if !(least..=most).contains(&count.value) => {
            Err(count.origin.error(format!("`{key}` must be from {least} to {most}, not {}", count.value)))
        }
        Some(count) => Ok(count.value),
        None => Ok(default),
    }
}

/// The bounds and the default are written as a user would write them, and shown so in the message.
fn duration_within(
    table: &mut Table,
    key: &str,
    least: &str,
    most: &str,
    default: &str,
) -> Result<Duration, DocumentError> {
    let origin: Origin = table.origin_of(key).clone();
    let parse = |text: &str| humantime::parse_duration(text).map_err(|error| origin.error(error.to_string()));
    let value = match table.duration(key)? {
        Some(duration) => duration.value,
        None => parse(default)?,
    };
    if value < parse(least)? || value > parse(most)? {
        let value = humantime::format_duration(value);
        return Err(origin.error(format!("`{key}` must be from {least} to {most}, not {value}")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
