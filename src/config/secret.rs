//! Where secrets come from: a variable or a file that the configuration names, never the configuration itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{DocumentError, Located};

/// The text of the variable that `key` names.
pub(super) fn from_variable(
    key: &str,
    name: &Located<String>,
    environment: &BTreeMap<String, String>,
) -> Result<Located<String>, DocumentError> {
    match environment.get(&name.value) {
        Some(secret) => Ok(Located { value: secret.clone(), origin: name.origin.clone() }),
        None => Err(name.origin.error(format!("`{key}` names the variable {}, which is not set", name.value))),
    }
}

/// The text of the file that `key` names, without the end of its last line.
pub(super) fn from_file(key: &str, path: &Located<String>, folder: &Path) -> Result<Located<String>, DocumentError> {
    let file = folder.join(&path.value);
    match std::fs::read_to_string(&file) {
        Ok(secret) => {
            let value = secret.trim_end_matches(['\r', '\n']).to_owned();
            Ok(Located { value, origin: path.origin.clone() })
        }
        Err(error) => {
            let reason = format!("`{key}` names {}, which cannot be read ({error})", file.display());
            Err(path.origin.error(reason))
        }
    }
}
