//! `[audit]`: the key that signs the audit, how often, and the keys that are trusted.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{DocumentError, Table};
use super::sections::duration_within;
use super::{Audit, Secret};

/// Hexadecimal digits of a key, secret or public.
const KEY_DIGITS: usize = 64;

pub(super) fn audit(
    mut table: Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Audit, DocumentError> {
    table.allow_only(&["key_env", "key_file", "checkpoint_interval", "public_keys"])?;
    let of_key = ["key_env", "key_file"].into_iter().find(|key| table.has(key));
    let origin = table.origin_of(of_key.unwrap_or_default()).clone();
    let key = Secret::of(&mut table, "key", environment, folder)?;
    if key.as_ref().is_some_and(|key| !is_key(key.reveal().trim())) {
        let name = of_key.unwrap_or_default();
        return Err(
            origin.error(format!("`{name}` leads to no key for signing; `maturion audit keygen FILE` makes one"))
        );
    }
    let public_keys = match table.texts("public_keys")? {
        Some(keys) => match keys.value.iter().find(|key| !is_key(key)) {
            Some(wrong) => {
                let reason =
                    format!("`public_keys` are of {KEY_DIGITS} hexadecimal digits in lower case, not \"{wrong}\"");
                return Err(keys.origin.error(reason));
            }
            None => keys.value,
        },
        None => vec![],
    };
    let checkpoint_interval = duration_within(&mut table, "checkpoint_interval", "1s", "1day", "5m")?;
    Ok(Audit { key, checkpoint_interval, public_keys })
}

fn is_key(text: &str) -> bool {
    text.len() == KEY_DIGITS && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}
