//! `[[github.proposal]]`: in which file of the repository the number stands that an action changes.

use super::document::{DocumentError, Located, Table, suggestion};
use super::github::{is_listed, is_path};
use crate::model::action::ActionKind;

/// The module that the action was done to, as a part of a key.
const TARGET: &str = "{target}";
/// The parts of a key.
const KEY_PARTS_MAX: usize = 8;

/// Where the number of an action stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberPlace {
    pub action: ActionKind,
    /// One that pull requests may change, and never from data.
    pub path: String,
    /// What the change should be measured against, as the pull request says it.
    pub aligns_with: Option<String>,
    key: Vec<String>,
}

impl NumberPlace {
    /// The names on the way to the number, for an action on this module.
    pub fn key(&self, target: &str) -> Vec<String> {
        self.key.iter().map(|part| if part == TARGET { target.to_owned() } else { part.clone() }).collect()
    }
}

/// Reads them; `paths` are those that pull requests may change.
pub(super) fn proposals(tables: Vec<Table>, paths: &[String]) -> Result<Vec<NumberPlace>, DocumentError> {
    let mut places: Vec<NumberPlace> = vec![];
    for table in tables {
        let origin = table.origin_of("action").clone();
        let place = place(table, paths)?;
        if places.iter().any(|other| other.action == place.action) {
            return Err(origin.error(format!("`{}` stands here already; remove one of them", place.action.name())));
        }
        places.push(place);
    }
    Ok(places)
}

fn place(mut table: Table, paths: &[String]) -> Result<NumberPlace, DocumentError> {
    table.allow_only(&["action", "path", "key", "aligns_with"])?;
    let mut required = |key: &str| table.text(key)?.ok_or_else(|| table.missing(key));
    let (action, path, key) = (required("action")?, required("path")?, required("key")?);
    let kind = ActionKind::from_name(&action.value).ok_or_else(|| {
        let hint = suggestion(&action.value, &ActionKind::ALL.map(ActionKind::name));
        action.origin.error(format!("unknown action \"{}\"; {hint}", action.value))
    })?;
    if !is_path(&path.value) || !is_listed(paths, &path.value) || !path.value.ends_with(".toml") {
        let reason = "which must be a file in TOML that `pull_request_paths` of [github] has";
        return Err(path.origin.error(format!("`path` is \"{}\", {reason}", path.value)));
    }
    let aligns_with = table.text("aligns_with")?.map(|text| text.value);
    Ok(NumberPlace { action: kind, path: path.value, aligns_with, key: parts(&key)? })
}

fn parts(key: &Located<String>) -> Result<Vec<String>, DocumentError> {
    let is_bare = |part: &str| {
        !part.is_empty() && part.chars().all(|character| character.is_ascii_alphanumeric() || "-_".contains(character))
    };
    let parts: Vec<String> = key.value.split('.').map(str::to_owned).collect();
    if parts.len() <= KEY_PARTS_MAX && parts.iter().all(|part| part == TARGET || is_bare(part)) {
        return Ok(parts);
    }
    Err(key.origin.error(format!(
        "`key` is \"{}\"; write names such as \"limits.{TARGET}.requests_per_minute\", at most {KEY_PARTS_MAX}",
        key.value
    )))
}
