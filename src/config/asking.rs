//! `[query]` and `[[user]]`: what a question may cost, and who may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::document::{DocumentError, Table};
use super::sections::{count_within, duration_within};
use super::{Query, Secret, Sees, User};

const MEBIBYTE: u64 = 1 << 20;

pub(super) fn query(mut table: Table) -> Result<Query, DocumentError> {
    table.allow_only(&[
        "memory_bytes_max",
        "memory_total_bytes_max",
        "time_max",
        "statements_max",
        "connections_max",
    ])?;
    let most = 1 << 40;
    let query = Query {
        memory_bytes_max: count_within(&mut table, "memory_bytes_max", MEBIBYTE, most, 256 * MEBIBYTE)? as usize,
        time_max: duration_within(&mut table, "time_max", "100ms", "1day", "60s")?,
        statements_max: count_within(&mut table, "statements_max", 1, 1_000, 8)? as usize,
        connections_max: count_within(&mut table, "connections_max", 1, 10_000, 64)? as usize,
        memory_total_bytes_max: 0,
    };
    let origin = table.origin_of("memory_total_bytes_max").clone();
    let total = count_within(&mut table, "memory_total_bytes_max", MEBIBYTE, most, 1024 * MEBIBYTE)? as usize;
    if total < query.memory_bytes_max {
        return Err(origin.error("`memory_total_bytes_max` is for all sessions, so it is at least `memory_bytes_max`"));
    }
    Ok(Query { memory_total_bytes_max: total, ..query })
}

/// The users, each with a name of its own and a password from elsewhere.
pub(super) fn users(
    tables: Vec<Table>,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Vec<User>, DocumentError> {
    let mut names = BTreeSet::new();
    let mut users = vec![];
    for mut table in tables {
        table.allow_only(&["name", "organisation", "operator", "password_env", "password_file"])?;
        let name = table.text("name")?.ok_or_else(|| table.missing("name"))?;
        if name.value.trim().is_empty() || !names.insert(name.value.clone()) {
            return Err(name.origin.error("`name` must be a text that no other [[user]] has"));
        }
        let sees = sees(&mut table)?;
        let password = Secret::of(&mut table, "password", environment, folder)?;
        let password = password.ok_or_else(|| table.missing("password_env"))?;
        users.push(User { name: name.value, sees, password });
    }
    Ok(users)
}

fn sees(table: &mut Table) -> Result<Sees, DocumentError> {
    let operator = table.boolean("operator")?.is_some_and(|operator| operator.value);
    match (table.text("organisation")?, operator) {
        (Some(organisation), true) => {
            Err(organisation.origin.error("`organisation` and `operator` exclude each other"))
        }
        (Some(organisation), false) => Ok(Sees::Organisation(organisation.value)),
        (None, true) => Ok(Sees::Everything),
        (None, false) => Err(table.missing("organisation` or `operator")),
    }
}
