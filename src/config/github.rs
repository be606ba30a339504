//! `[github]`: where tickets and pull requests go, and what may be in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::Secret;
use super::document::{DocumentError, Located, Table};
use super::proposals::{NumberPlace, proposals};
use super::sections::{count_within, duration_within};

const KEYS: [&str; 16] = [
    "repository",
    "api_url",
    "token_env",
    "token_file",
    "app_id",
    "app_key_env",
    "app_key_file",
    "installation_id",
    "timeout",
    "issues_per_hour",
    "list_lag",
    "organisation_ids",
    "builders",
    "default_builder",
    "pull_request_paths",
    "proposal",
];
/// Modules in the table of builders; each costs a line.
const BUILDERS_MAX: usize = 10_000;
/// Paths that pull requests may change.
const PATHS_MAX: usize = 1_000;

/// `[github]`, present as soon as a repository is named.
#[derive(Clone, Debug)]
pub struct GitHub {
    /// `owner/name`.
    pub repository: String,
    /// The interface; `https`, or `http` to this machine.
    pub api_url: Url,
    pub sign_in: SignIn,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Further ones become lines of one digest.
    pub issues_per_hour: usize,
    /// How long the list of issues may lag behind: after a start, or after a create whose answer was lost, the list is
    /// looked at for that long before an issue is created. Shorter risks a second issue, longer delays the first.
    pub list_lag: Duration,
    /// Whether the id of the organisation that an incident concerns may stand in tickets.
    pub organisation_ids: bool,
    /// Who builds which module.
    pub builders: BTreeMap<String, String>,
    /// Who is named for a module that the table does not have.
    pub default_builder: Option<String>,
    /// Files, and folders with a final `/`, that a pull request may change.
    pub pull_request_paths: Vec<String>,
    /// In which files the numbers stand that actions change; at most one for each action.
    pub proposals: Vec<NumberPlace>,
}

/// As whom.
#[derive(Clone, Debug)]
pub enum SignIn {
    Token(Secret),
    /// A GitHub App: its id, its private key in PEM, and its installation, which is looked up if it is not given.
    App {
        id: u64,
        key: Secret,
        installation: Option<u64>,
    },
}

pub(super) fn github(
    mut table: Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Option<GitHub>, DocumentError> {
    table.allow_only(&KEYS)?;
    let Some(repository) = table.text("repository")? else {
        return if KEYS.iter().any(|key| table.has(key)) { Err(table.missing("repository")) } else { Ok(None) };
    };
    if !is_repository(&repository.value) {
        return Err(repository
            .origin
            .error(format!("`repository` must be \"owner/name\", not \"{}\"", repository.value)));
    }
    let pull_request_paths = paths(&mut table)?;
    Ok(Some(GitHub {
        repository: repository.value,
        api_url: match table.text("api_url")? {
            Some(url) => address("api_url", &url)?,
            None => default_url(&table)?,
        },
        sign_in: sign_in(&mut table, environment, folder)?,
        timeout: duration_within(&mut table, "timeout", "100ms", "2m", "20s")?,
        issues_per_hour: count_within(&mut table, "issues_per_hour", 1, 1_000_000, 10)? as usize,
        list_lag: duration_within(&mut table, "list_lag", "0s", "10m", "30s")?,
        organisation_ids: table.boolean("organisation_ids")?.is_some_and(|shown| shown.value),
        builders: builders(&mut table)?,
        default_builder: table.text("default_builder")?.map(|builder| builder.value),
        proposals: proposals(table.tables("proposal")?, &pull_request_paths)?,
        pull_request_paths,
    }))
}

fn default_url(table: &Table) -> Result<Url, DocumentError> {
    Url::parse("https://api.github.com").map_err(|error| table.origin_of("api_url").error(error.to_string()))
}

/// An address that a secret may be sent to: encrypted, or to this machine; nothing after the path.
pub(super) fn address(key: &str, text: &Located<String>) -> Result<Url, DocumentError> {
    let url = Url::parse(&text.value).map_err(|error| text.origin.error(format!("`{key}` is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(text.origin.error(format!("`{key}` may have a host, a port and a path only")));
    }
    if !is_protected(&url) {
        return Err(text.origin.error(format!("`{key}` must begin with https://, or lead to this machine")));
    }
    Ok(url)
}

/// True if what is sent there cannot be read on the way.
pub(super) fn is_protected(url: &Url) -> bool {
    let local = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" && url.host().is_some() || url.scheme() == "http" && local
}

fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 100
            && part.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
            && !part.chars().all(|character| character == '.')
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

fn sign_in(table: &mut Table, environment: &BTreeMap<String, String>, folder: &Path) -> Result<SignIn, DocumentError> {
    let token = Secret::of(table, "token", environment, folder)?;
    let key = Secret::of(table, "app_key", environment, folder)?;
    let id = table.count("app_id")?;
    let installation = table.count("installation_id")?.map(|installation| installation.value);
    match (token, id, key) {
        (Some(token), None, None) if token.reveal().chars().all(|character| character.is_ascii_graphic()) => {
            Ok(SignIn::Token(token))
        }
        (Some(_), None, None) => {
            Err(table.origin_of("token_env").error("the token of [github] may have visible ASCII characters only"))
        }
        (None, Some(id), Some(key)) => Ok(SignIn::App { id: id.value, key, installation }),
        (Some(_), ..) => {
            Err(table.origin_of("app_id").error("[github] needs a token or an app, not both: remove one of them"))
        }
        (None, None, None) => Err(table.missing("token_env` or `app_id")),
        (None, None, Some(_)) => Err(table.missing("app_id")),
        (None, Some(id), None) => Err(id.origin.error("`app_id` needs `app_key_file` or `app_key_env`")),
    }
}

fn builders(table: &mut Table) -> Result<BTreeMap<String, String>, DocumentError> {
    let origin = table.origin_of("builders").clone();
    let builders = table.section("builders")?.dotted()?;
    if builders.len() > BUILDERS_MAX {
        return Err(origin.error(format!("[github.builders] may name {BUILDERS_MAX} modules")));
    }
    Ok(builders.into_iter().map(|(module, builder)| (module, builder.value)).collect())
}

fn paths(table: &mut Table) -> Result<Vec<String>, DocumentError> {
    let Some(paths) = table.texts("pull_request_paths")? else { return Ok(vec![]) };
    if paths.value.len() > PATHS_MAX {
        return Err(paths.origin.error(format!("`pull_request_paths` may have {PATHS_MAX} paths")));
    }
    match paths.value.iter().find(|path| !is_path(path.strip_suffix('/').unwrap_or(path))) {
        Some(wrong) => Err(paths.origin.error(format!(
            "`pull_request_paths` has \"{wrong}\"; write files such as \"config/limits.toml\" or folders such as \
             \"config/\", never with `..`, and never what begins with `.git`"
        ))),
        None => Ok(paths.value),
    }
}

/// True if an allow-list of files, and folders with a final `/`, has this path.
pub fn is_listed(paths: &[String], path: &str) -> bool {
    paths.iter().any(|listed| if listed.ends_with('/') { path.starts_with(listed) } else { path == listed })
}

/// True for a path of a file in a repository that a pull request may ever name: relative, without `.` and `..`, of letters,
/// digits, `-`, `_` and `.`, and nowhere in what Git or GitHub keep for themselves.
pub fn is_path(path: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && !segment.to_ascii_lowercase().starts_with(".git")
            && segment.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
    };
    path.len() <= 250 && path.split('/').all(segment)
}
