//! `[kafka.properties]`: what is handed to librdkafka, and where its secrets come from.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{DocumentError, Located, Origin};
use super::secret::Secret;

/// Properties that are secret: never in plain text in the file.
const SECRET: [&str; 7] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl.engine.password",
];

/// Properties that exactly-once processing owns.
const OURS: [&str; 11] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "transactional.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "isolation.level",
    "auto.offset.reset",
];

/// Reads `NAME_env` from the environment and `NAME_file` from a file, and refuses secrets in plain text.
/// In a variable's name `_` stands for `.`: `MATURION__KAFKA__PROPERTIES__SASL_PASSWORD` is `sasl.password`.
pub(super) fn resolve(
    written: BTreeMap<String, Located<String>>,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<BTreeMap<String, String>, DocumentError> {
    let mut resolved = BTreeMap::new();
    // Variables last: they override what the file says under another spelling of the same name.
    let (variables, lines): (Vec<_>, Vec<_>) =
        written.into_iter().partition(|(_, text)| matches!(text.origin, Origin::Variable(_)));
    for (name, text) in lines {
        let (name, value) = from_line(&name, &text, environment, folder)?;
        insert(&mut resolved, name, value, &text.origin)?;
    }
    for (name, text) in variables {
        insert(&mut resolved, name.replace('_', "."), text.value, &text.origin)?;
    }
    Ok(resolved)
}

fn insert(
    resolved: &mut BTreeMap<String, String>,
    name: String,
    value: String,
    origin: &Origin,
) -> Result<(), DocumentError> {
    if OURS.contains(&name.as_str()) {
        return Err(origin.error(format!("`{name}` is set by Maturion itself; remove it from [kafka.properties]")));
    }
    resolved.insert(name, value);
    Ok(())
}

fn from_line(
    key: &str,
    text: &Located<String>,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(String, String), DocumentError> {
    if let Some(name) = key.strip_suffix("_env") {
        let secret = Secret::from_variable(key, text, environment)?;
        return Ok((name.to_owned(), secret.reveal().to_owned()));
    }
    if let Some(name) = key.strip_suffix("_file") {
        let secret = Secret::from_file(key, text, folder)?;
        return Ok((name.to_owned(), secret.reveal().to_owned()));
    }
    if SECRET.contains(&key) {
        return Err(text
            .origin
            .error(format!("`{key}` is a secret and may not stand in the file; write `{key}_env` or `{key}_file`")));
    }
    Ok((key.to_owned(), text.value.clone()))
}
