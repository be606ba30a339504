//! What a loss of power or a torn write leaves behind, put right before a table is opened.
//!
//! A commit that is empty or cut would make rows vanish silently, or the whole table unreadable; so would one whose data
//! file is gone or has no footer. The newest commits that are damaged so are taken away: with them goes the offset they
//! recorded, and Kafka is read again from there. Only the newest can be torn; damage further down is not touched, it is
//! an error in words.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::StoreError;

/// So many of the newest commits are looked at, and their data files' footers read: more cannot have been under way at
/// once. More lengthens the start.
const COMMITS_CHECKED: usize = 8;

const FOOTER: &[u8] = b"PAR1";

/// Takes torn commits of a table's folder away; how many there were.
pub async fn recover(table: &dyn ObjectStore) -> Result<usize, StoreError> {
    let commits = commits(table).await?;
    let checkpoint = last_checkpoint(table).await?;
    let mut torn = 0;
    let mut removed = BTreeSet::new();
    for (place, (version, path)) in commits.iter().rev().take(COMMITS_CHECKED).enumerate() {
        if !is_whole(table, path, &mut removed).await? {
            torn = place + 1;
            if checkpoint.is_some_and(|checkpoint| checkpoint >= *version) {
                return Err(StoreError::Damaged { path: path.to_string() });
            }
        }
    }
    for (_, path) in commits.iter().rev().take(torn) {
        table.delete(path).await?;
    }
    Ok(torn)
}

/// The commits that the log has as single files, in their order.
async fn commits(table: &dyn ObjectStore) -> Result<Vec<(u64, Path)>, StoreError> {
    let log = Path::from("_delta_log");
    let listed = table.list(Some(&log)).try_collect::<Vec<_>>().await?;
    let commit = |path: Path| {
        let version = path.filename()?.strip_suffix(".json")?.parse::<u64>().ok()?;
        Some((version, path))
    };
    let mut commits = listed.into_iter().filter_map(|file| commit(file.location)).collect::<Vec<_>>();
    commits.sort_unstable();
    Ok(commits)
}

async fn last_checkpoint(table: &dyn ObjectStore) -> Result<Option<u64>, StoreError> {
    match read(table, &Path::from("_delta_log/_last_checkpoint")).await? {
        Some(text) => Ok(serde_json::from_slice::<Value>(&text).ok().and_then(|value| value["version"].as_u64())),
        None => Ok(None),
    }
}

/// True if every line of a commit is an action, and every file that it adds is there to its last byte, unless a newer
/// commit has `removed` it. Adds what this one removes.
async fn is_whole(table: &dyn ObjectStore, commit: &Path, removed: &mut BTreeSet<String>) -> Result<bool, StoreError> {
    let Some(text) = read(table, commit).await? else { return Ok(false) };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let Ok(actions) = lines.map(serde_json::from_slice::<Value>).collect::<Result<Vec<_>, _>>() else {
        return Ok(false);
    };
    if actions.is_empty() {
        return Ok(false);
    }
    let path = |file: &Value| file["path"].as_str().unwrap_or_default().to_owned();
    let added = actions.iter().filter_map(|action| action.get("add")).collect::<Vec<_>>();
    for add in added.into_iter().filter(|add| !removed.contains(&path(add))) {
        let path = add["path"].as_str().and_then(|path| Path::from_url_path(path).ok());
        let (Some(path), Some(size)) = (path, add["size"].as_u64()) else { return Ok(false) };
        if !has_footer(table, &path, size).await? {
            return Ok(false);
        }
    }
    removed.extend(actions.iter().filter_map(|action| action.get("remove")).map(path));
    Ok(true)
}

async fn has_footer(table: &dyn ObjectStore, path: &Path, size: u64) -> Result<bool, StoreError> {
    match table.head(path).await {
        Ok(meta) if meta.size == size && size >= FOOTER.len() as u64 => {
            Ok(table.get_range(path, size - FOOTER.len() as u64..size).await? == FOOTER)
        }
        Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn read(table: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>, StoreError> {
    match table.get(path).await {
        Ok(found) => Ok(Some(found.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
