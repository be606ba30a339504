//! `[mode]`, `[remediate]`, `[[control]]` and `[[command]]`: whether anything is done, what decides about it, and with what.
//!
//! A host that an action calls and a program that it runs stand here and nowhere else. No rule, policy or message adds one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::document::{DocumentError, Located, Table};
use super::{ConfigError, Secret};
use crate::model::action::Mode;
use crate::model::silence::Silence;
use crate::model::time::read_time;

/// The folder that is taken if it is there and none is configured.
const DEFAULT_POLICY: &str = "pipelines/policy";
/// The file whose existence stops everything, unless another is configured.
const DEFAULT_KILL_SWITCH: &str = "maturion.stop";
/// The largest file of a policy. More would only make a mistaken path cost more before it is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `[remediate]`: what decides.
#[derive(Clone, Debug)]
pub struct Remediate {
    pub policy: PolicyFiles,
    /// While there is a file of this name, nothing is done.
    pub kill_switch_file: PathBuf,
    /// The modules that something may be done to; empty: those that were seen in telemetry.
    pub targets: Vec<String>,
}

/// A `[[control]]`: a control interface of the platform.
#[derive(Clone, Debug)]
pub struct Control {
    pub name: String,
    /// Scheme, host, port and perhaps a path before that of every call.
    pub url: Url,
    /// Its name may lead to a private address, and `http` is allowed.
    pub internal: bool,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
}

/// A `[[command]]`: a program that actions may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    /// Absolute.
    pub program: PathBuf,
}

/// Where the catalogue and the policy come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFiles {
    /// The ones in the binary.
    Shipped,
    Folder(PathBuf),
}

/// A text and what messages call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedText {
    pub name: String,
    pub text: String,
}

/// The three files of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTexts {
    /// `actions.toml`: the catalogue.
    pub actions: NamedText,
    /// `policy.cedar`: who may.
    pub policy: NamedText,
    /// `policy.cedarschema`: what the policy may speak of.
    pub schema: NamedText,
}

impl PolicyFiles {
    /// Reads the three files.
    pub fn read(&self) -> Result<PolicyTexts, ConfigError> {
        match self {
            PolicyFiles::Shipped => Ok(PolicyTexts::shipped()),
            PolicyFiles::Folder(folder) => Ok(PolicyTexts {
                actions: named_text(folder, "actions.toml")?,
                policy: named_text(folder, "policy.cedar")?,
                schema: named_text(folder, "policy.cedarschema")?,
            }),
        }
    }
}

impl PolicyTexts {
    /// The files in the binary.
    pub fn shipped() -> PolicyTexts {
        let text =
            |name: &str, text: &str| NamedText { name: format!("{DEFAULT_POLICY}/{name}"), text: text.to_owned() };
        PolicyTexts {
            actions: text("actions.toml", include_str!("../../pipelines/policy/actions.toml")),
            policy: text("policy.cedar", include_str!("../../pipelines/policy/policy.cedar")),
            schema: text("policy.cedarschema", include_str!("../../pipelines/policy/policy.cedarschema")),
        }
    }
}

fn named_text(folder: &Path, file: &str) -> Result<NamedText, ConfigError> {
    let path = folder.join(file);
    let name = path.display().to_string();
    let unreadable = |reason: String| ConfigError::PolicyUnreadable { file: name.clone(), reason };
    let length = std::fs::metadata(&path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
    Ok(NamedText { name, text })
}

pub(super) fn mode(mut table: Table) -> Result<Mode, DocumentError> {
    table.allow_only(&["actions"])?;
    match table.text("actions")? {
        None => Ok(Mode::Observe),
        Some(text) => match text.value.as_str() {
            "observe" => Ok(Mode::Observe),
            "act" => Ok(Mode::Act),
            other => Err(text.origin.error(format!("`actions` must be \"observe\" or \"act\", not \"{other}\""))),
        },
    }
}

pub(super) fn remediate(mut table: Table, folder: &Path) -> Result<Remediate, DocumentError> {
    table.allow_only(&["policy", "kill_switch_file", "targets"])?;
    let policy = match table.text("policy")? {
        Some(text) if !folder.join(&text.value).is_dir() => {
            let named = folder.join(&text.value);
            return Err(text
                .origin
                .error(format!("`policy` names the folder {}, which does not exist", named.display())));
        }
        Some(text) => PolicyFiles::Folder(folder.join(text.value)),
        None if folder.join(DEFAULT_POLICY).is_dir() => PolicyFiles::Folder(folder.join(DEFAULT_POLICY)),
        None => PolicyFiles::Shipped,
    };
    let kill_switch = table.text("kill_switch_file")?.map_or(DEFAULT_KILL_SWITCH.to_owned(), |text| text.value);
    let targets = table.texts("targets")?.map_or(vec![], |targets| targets.value);
    Ok(Remediate { policy, kill_switch_file: folder.join(kill_switch), targets })
}

pub(super) fn controls(
    tables: Vec<Table>,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Vec<Control>, DocumentError> {
    let mut names = BTreeSet::new();
    let mut controls = vec![];
    for mut table in tables {
        table.allow_only(&["name", "url", "internal", "token_env", "token_file"])?;
        let name = own_name(&mut table, "[[control]]", &mut names)?;
        let internal = table.boolean("internal")?.is_some_and(|internal| internal.value);
        let url = table.text("url")?.ok_or_else(|| table.missing("url"))?;
        let url = control_url(&url, internal)?;
        let token = Secret::of(&mut table, "token", environment, folder)?;
        controls.push(Control { name, url, internal, token });
    }
    Ok(controls)
}

/// `https`, or `http` to this machine or within a network of one's own; nothing but scheme, host, port and path.
fn control_url(text: &Located<String>, internal: bool) -> Result<Url, DocumentError> {
    let refuse = |reason: &str| Err(text.origin.error(format!("`url` {reason}")));
    let Ok(url) = Url::parse(&text.value) else {
        return refuse("must be such as \"https://control.example.org\"");
    };
    // The text may hold a password, so it is not shown.
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("may not hold a user or a password; a token comes from `token_env` or `token_file`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("may hold a scheme, a host, a port and a path, and nothing after them");
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if internal || is_this_machine(&host) => Ok(url),
        ("http", Some(_)) => {
            refuse("must begin with https://; http is for this machine, and for a control with `internal = true`")
        }
        _ => refuse("must begin with https://"),
    }
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
    }
}

/// The `[[silence]]`s: maintenance that is planned.
pub(super) fn silences(tables: Vec<Table>) -> Result<Vec<Silence>, DocumentError> {
    let mut names = BTreeSet::new();
    tables.into_iter().map(|table| silence(table, &mut names)).collect()
}

fn silence(mut table: Table, names: &mut BTreeSet<String>) -> Result<Silence, DocumentError> {
    table.allow_only(&["name", "labels", "owner", "reason", "from", "until"])?;
    let id = own_name(&mut table, "[[silence]]", names)?;
    let required = |table: &mut Table, key: &str| table.text(key)?.ok_or_else(|| table.missing(key));
    let time = |table: &mut Table, key: &str| {
        let text = required(table, key)?;
        let wrong = |_| text.origin.error(format!("`{key}` must be a time such as \"2026-01-10T20:00:00Z\""));
        read_time(&text.value).map_err(wrong)
    };
    let (from, until) = (time(&mut table, "from")?, time(&mut table, "until")?);
    let (owner, reason) = (required(&mut table, "owner")?.value, required(&mut table, "reason")?.value);
    let labels = table.section("labels")?.dotted()?.into_iter().map(|(name, value)| (name, value.value)).collect();
    let origin = table.origin.clone();
    let silence = Silence { id, labels, owner, reason, from, until };
    // One that is over stays in the file and does nothing.
    silence.check(from).map_err(|error| origin.error(error.to_string()))?;
    Ok(silence)
}

pub(super) fn commands(tables: Vec<Table>) -> Result<Vec<Program>, DocumentError> {
    let mut names = BTreeSet::new();
    let mut commands = vec![];
    for mut table in tables {
        table.allow_only(&["name", "program"])?;
        let name = own_name(&mut table, "[[command]]", &mut names)?;
        let program = table.text("program")?.ok_or_else(|| table.missing("program"))?;
        let path = PathBuf::from(&program.value);
        if !path.is_absolute() {
            return Err(program.origin.error(format!("`program` must be an absolute path, not \"{}\"", program.value)));
        }
        if !path.is_file() {
            return Err(program.origin.error(format!("`program` names {}, which is not a file", program.value)));
        }
        commands.push(Program { name, program: path });
    }
    Ok(commands)
}

fn own_name(table: &mut Table, kind: &str, names: &mut BTreeSet<String>) -> Result<String, DocumentError> {
    let name = table.text("name")?.ok_or_else(|| table.missing("name"))?;
    if name.value.trim().is_empty() || !names.insert(name.value.clone()) {
        return Err(name.origin.error(format!("`name` must be a text that no other {kind} has")));
    }
    Ok(name.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Control>, String> {
        let mut root = Table::parse("a.toml", text).expect("valid TOML");
        let environment = BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]);
        controls(root.tables("control").expect("tables"), &environment, Path::new("/nowhere"))
            .map_err(|error| error.to_string())
    }

    fn refused(url: &str) -> String {
        let text = format!("[[control]]\nname = \"platform\"\nurl = \"{url}\"\n");
        read(&text).expect_err("to be refused").trim_start_matches("a.toml:3: ").to_owned()
    }

    #[test]
    fn a_control_is_reached_over_tls_or_on_this_machine() {
        for url in ["https://control.example.org/v1", "http://localhost:9000", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(read(&format!("[[control]]\nname = \"a\"\nurl = \"{url}\"\n")).is_ok(), "{url}");
        }
        for url in ["http://control.example.org", "http://10.0.0.1", "http://localhost.example.org"] {
            assert!(refused(url).starts_with("`url` must begin with https://; http is for"), "{url}");
            let internal = format!("[[control]]\nname = \"a\"\nurl = \"{url}\"\ninternal = true\n");
            assert!(read(&internal).is_ok(), "{url}");
        }
        for url in ["ftp://a", "file:///etc/passwd", "data:,a"] {
            assert_eq!(refused(url), "`url` must begin with https://");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_without_showing_it() {
        let message = refused("https://me:hunter2@control.example.org");
        assert!(message.starts_with("`url` may not hold a user or a password"), "{message}");
        assert!(!message.contains("hunter2"));
        assert!(refused("https://a/?x=1").starts_with("`url` may hold a scheme"));
    }

    #[test]
    fn a_token_is_never_shown() {
        let text = "[[control]]\nname = \"a\"\nurl = \"https://a\"\ntoken_env = \"TOKEN\"\n";
        let controls = read(text).expect("valid");
        assert_eq!(controls[0].token.as_ref().map(Secret::reveal), Some("hunter2"));
        assert!(!format!("{controls:?}").contains("hunter2"));
    }

    #[test]
    fn two_of_one_name_are_refused() {
        let one = "[[control]]\nname = \"a\"\nurl = \"https://a\"\n";
        let error = read(&format!("{one}{one}")).expect_err("to be refused");
        assert_eq!(error, "a.toml:5: `name` must be a text that no other [[control]] has");
    }

    #[test]
    fn a_program_is_a_file_by_its_whole_path() {
        let read = |program: &str| {
            let text = format!("[[command]]\nname = \"a\"\nprogram = \"{program}\"\n");
            let mut root = Table::parse("a.toml", &text).expect("valid TOML");
            commands(root.tables("command").expect("tables")).map_err(|error| error.to_string())
        };
        assert!(read("/bin/echo").is_ok());
        let error = read("echo").expect_err("to be refused");
        assert_eq!(error, "a.toml:3: `program` must be an absolute path, not \"echo\"");
        let error = read("/bin").expect_err("to be refused");
        assert_eq!(error, "a.toml:3: `program` names /bin, which is not a file");
    }

    #[test]
    fn the_folder_of_the_default_name_is_taken_if_it_is_there() {
        let empty = |folder: &Path| remediate(Table::empty("none"), folder).expect("valid");
        assert_eq!(empty(Path::new("/nowhere")).policy, PolicyFiles::Shipped);
        assert_eq!(empty(Path::new("/nowhere")).kill_switch_file, Path::new("/nowhere/maturion.stop"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = empty(root).policy;
        assert_eq!(files, PolicyFiles::Folder(root.join(DEFAULT_POLICY)));
        let (read, shipped) = (files.read().expect("files"), PolicyTexts::shipped());
        assert_eq!(read.actions.text, shipped.actions.text);
        assert_eq!((read.policy.text, read.schema.text), (shipped.policy.text, shipped.schema.text));
    }
}
