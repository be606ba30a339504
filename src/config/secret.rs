//! Secrets: from the environment or a file, never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::document::{DocumentError, Located, Table};

/// A text that is never empty, has no line end, and never appears in `Debug` output or in a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The secret that `key_env` or `key_file` of a table leads to, if it has either.
    pub(super) fn of(
        table: &mut Table,
        key: &str,
        environment: &BTreeMap<String, String>,
        folder: &Path,
    ) -> Result<Option<Secret>, DocumentError> {
        let (by_variable, by_file) = (format!("{key}_env"), format!("{key}_file"));
        match (table.text(&by_variable)?, table.text(&by_file)?) {
            (Some(_), Some(file)) => {
                Err(file.origin.error(format!("`{by_variable}` and `{by_file}` exclude each other")))
            }
            (Some(variable), None) => Secret::from_variable(&by_variable, &variable, environment).map(Some),
            (None, Some(file)) => Secret::from_file(&by_file, &file, folder).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads the environment variable that `key` names.
    pub(super) fn from_variable(
        key: &str,
        name: &Located<String>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Secret, DocumentError> {
        match environment.get(&name.value) {
            Some(text) => Secret::new(text, key, name),
            None => Err(name.origin.error(format!("`{key}` names the variable {}, which is not set", name.value))),
        }
    }

    /// Reads the file that `key` names, relative to `folder`.
    pub(super) fn from_file(key: &str, name: &Located<String>, folder: &Path) -> Result<Secret, DocumentError> {
        let path = folder.join(&name.value);
        let unreadable =
            |error| name.origin.error(format!("`{key}` names {}, which cannot be read ({error})", path.display()));
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        Secret::new(&text, key, name)
    }

    /// An empty secret would let everyone in.
    fn new(text: &str, key: &str, name: &Located<String>) -> Result<Secret, DocumentError> {
        if text.trim().is_empty() {
            return Err(name.origin.error(format!("`{key}` leads to an empty secret")));
        }
        Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}
