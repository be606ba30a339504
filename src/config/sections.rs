//! Each section of the configuration: its keys, their defaults and their bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::document::{DocumentError, Located, Origin, Table};
use super::{
    Brokers, Certificate, Detect, Instance, Intake, Kafka, PipelineFiles, Secret, Serve, StoreSettings, Watch,
    properties,
};

pub(super) fn kafka(
    mut table: Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Kafka, DocumentError> {
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

pub(super) fn instance(mut table: Table) -> Result<Instance, DocumentError> {
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

pub(super) fn intake(mut table: Table) -> Result<Intake, DocumentError> {
    table.allow_only(&["commit_interval", "batch_rows", "max_ahead", "dead_letters_per_second", "idle_after"])?;
    Ok(Intake {
        commit_interval: duration_within(&mut table, "commit_interval", "10ms", "60s", "200ms")?,
        batch_rows: count_within(&mut table, "batch_rows", 1, 1_000_000, 8_192)? as usize,
        max_ahead: duration_within(&mut table, "max_ahead", "1s", "30days", "10m")?,
        dead_letters_per_second: count_within(&mut table, "dead_letters_per_second", 1, 1_000_000, 1_000)?,
        idle_after: duration_within(&mut table, "idle_after", "100ms", "1day", "5s")?,
    })
}

pub(super) fn detect(mut table: Table) -> Result<Detect, DocumentError> {
    table.allow_only(&["commit_interval"])?;
    Ok(Detect { commit_interval: duration_within(&mut table, "commit_interval", "10ms", "60s", "200ms")? })
}

pub(super) fn store(mut table: Table, folder: &Path) -> Result<StoreSettings, DocumentError> {
    table.allow_only(&["url", "commit_interval", "chunk_bytes_max", "memory_bytes_max", "accept_gap"])?;
    let is_url = |url: &str| url.starts_with("file:") || url.starts_with("s3://");
    let url = match table.text("url")? {
        Some(url) => checked(url, is_url, "`url` must be \"file:PATH\" or \"s3://BUCKET/PREFIX\"")?,
        None => "file:./maturion-data/store".to_owned(),
    };
    Ok(StoreSettings {
        url,
        folder: folder.to_owned(),
        commit_interval: duration_within(&mut table, "commit_interval", "1s", "10m", "30s")?,
        chunk_bytes_max: count_within(&mut table, "chunk_bytes_max", 1 << 20, 1 << 30, 64 << 20)? as usize,
        memory_bytes_max: count_within(&mut table, "memory_bytes_max", 16 << 20, 64 << 30, 512 << 20)? as usize,
        accept_gap: table.boolean("accept_gap")?.is_some_and(|accept| accept.value),
    })
}

pub(super) fn watch(mut table: Table) -> Result<Watch, DocumentError> {
    table.allow_only(&["interval"])?;
    Ok(Watch { interval: duration_within(&mut table, "interval", "0s", "1h", "10s")? })
}

pub(super) fn serve(
    mut table: Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Serve, DocumentError> {
    table.allow_only(&[
        "http",
        "allow_remote",
        "token_env",
        "token_file",
        "body_bytes_max",
        "postgres",
        "postgres_certificate_file",
        "postgres_key_file",
    ])?;
    let postgres = table.text("postgres")?.map(|postgres| address("postgres", &postgres)).transpose()?;
    let certificate = certificate(&mut table, folder)?;
    let token = Secret::of(&mut table, "token", environment, folder)?;
    Ok(Serve {
        http: match table.text("http")? {
            Some(http) => address("http", &http)?,
            None => SocketAddr::from(([127, 0, 0, 1], 8080)),
        },
        postgres,
        certificate,
        allow_remote: table.boolean("allow_remote")?.is_some_and(|allow| allow.value),
        token,
        body_bytes_max: count_within(&mut table, "body_bytes_max", 1_024, 1 << 30, 8 << 20)? as usize,
    })
}

/// The files of the certificate and of its key: both or neither.
fn certificate(table: &mut Table, folder: &Path) -> Result<Option<Certificate>, DocumentError> {
    match (table.text("postgres_certificate_file")?, table.text("postgres_key_file")?) {
        (Some(chain), Some(key)) => {
            Ok(Some(Certificate { chain: folder.join(chain.value), key: folder.join(key.value) }))
        }
        (None, None) => Ok(None),
        (Some(one), None) | (None, Some(one)) => {
            Err(one.origin.error("`postgres_certificate_file` and `postgres_key_file` need each other"))
        }
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

pub(super) fn pipelines(mut table: Table, folder: &Path) -> Result<PipelineFiles, DocumentError> {
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
pub(super) fn reserved(mut root: Table, without_effect: &mut Vec<String>) -> Result<(), DocumentError> {
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

pub(super) fn count_within(
    table: &mut Table,
    key: &str,
    least: u64,
    most: u64,
    default: u64,
) -> Result<u64, DocumentError> {
    match table.count(key)? {
        Some(count) if !(least..=most).contains(&count.value) => {
            Err(count.origin.error(format!("`{key}` must be from {least} to {most}, not {}", count.value)))
        }
        Some(count) => Ok(count.value),
        None => Ok(default),
    }
}

/// The bounds and the default are written as a user would write them, and shown so in the message.
pub(super) fn duration_within(
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
