//! `[notify]`, `[[contact]]` and `[[escalation]]`: who is told of what, how, and when somebody else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Secret;
use super::document::{DocumentError, Located, Table};
use super::github::{address, is_protected};
use super::sections::{count_within, duration_within};

/// Contacts of an installation; each may be told of every incident.
const CONTACTS_MAX: usize = 100;
/// Addresses of one contact's mail.
const ADDRESSES_MAX: usize = 20;

/// All of it, validated: an escalation names contacts that are there.
#[derive(Clone, Debug)]
pub struct Notify {
    pub contacts: Vec<Contact>,
    pub escalations: Vec<Escalation>,
    /// How long what is not urgent waits for more of its group.
    pub group_wait: Duration,
    /// The shortest time between two updates of one message.
    pub update_interval: Duration,
    /// How often what nobody acknowledged is said again.
    pub repeat_interval: Duration,
    /// Messages to one contact within `storm_window`; further incidents come together in a digest.
    pub storm_triggers: usize,
    pub storm_window: Duration,
    /// How long a channel may take to answer.
    pub timeout: Duration,
}

/// What an incident is to those who are called: the rows of the plan's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issue {
    CriticalPlatform,
    High,
    Medium,
    Architecture,
    Security,
}

impl Issue {
    pub const ALL: [Issue; 5] =
        [Issue::CriticalPlatform, Issue::High, Issue::Medium, Issue::Architecture, Issue::Security];

    pub fn name(self) -> &'static str {
        match self {
            Issue::CriticalPlatform => "critical_platform",
            Issue::High => "high",
            Issue::Medium => "medium",
            Issue::Architecture => "architecture",
            Issue::Security => "security",
        }
    }

    /// How long an answer may take: the plan's table.
    fn respond_within(self) -> &'static str {
        match self {
            Issue::CriticalPlatform | Issue::Security => "0s",
            Issue::High => "30m",
            Issue::Medium => "4h",
            Issue::Architecture => "24h",
        }
    }

    /// When the second contact is called: what is immediate, after five minutes.
    fn secondary_after(self) -> &'static str {
        match self {
            Issue::CriticalPlatform | Issue::Security => "5m",
            other => other.respond_within(),
        }
    }
}

/// `[[contact]]`: somebody who can be told.
#[derive(Clone, Debug)]
pub struct Contact {
    pub name: String,
    pub channel: Channel,
}

/// How somebody is told. Addresses that let anyone in who knows them are secrets.
#[derive(Clone, Debug)]
pub enum Channel {
    Webhook { url: Secret, signing_key: Option<Secret> },
    Slack { url: Secret },
    PagerDuty { routing_key: Secret, event_url: Url },
    Alertmanager { url: Secret },
    Mail(Mail),
}

/// A contact's mail.
#[derive(Clone, Debug)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub encryption: Encryption,
    pub sign_in: Option<(String, Secret)>,
    pub from: String,
    pub to: Vec<String>,
}

/// How the way to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// From the first byte.
    Tls,
    /// After STARTTLS, and never without.
    StartTls,
    /// Not at all: to this machine only.
    Nothing,
}

/// `[[escalation]]`: who is called for one kind of issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    pub issue: Issue,
    pub primary: String,
    pub secondary: Option<String>,
    /// How long without an acknowledgement until the second contact is called.
    pub secondary_after: Duration,
    /// What is promised, and said in the message.
    pub respond_within: Duration,
}

pub(super) fn notify(
    root: &mut Table,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Notify, DocumentError> {
    let contacts = contacts(root.tables("contact")?, environment, folder)?;
    let escalations = escalations(root.tables("escalation")?, &contacts)?;
    let mut table = root.section("notify")?;
    table.allow_only(&[
        "group_wait",
        "update_interval",
        "repeat_interval",
        "storm_triggers",
        "storm_window",
        "timeout",
    ])?;
    Ok(Notify {
        contacts,
        escalations,
        group_wait: duration_within(&mut table, "group_wait", "0s", "1h", "30s")?,
        update_interval: duration_within(&mut table, "update_interval", "1s", "1day", "5m")?,
        repeat_interval: duration_within(&mut table, "repeat_interval", "1m", "7days", "4h")?,
        storm_triggers: count_within(&mut table, "storm_triggers", 1, 1_000, 20)? as usize,
        storm_window: duration_within(&mut table, "storm_window", "1s", "1day", "5m")?,
        timeout: duration_within(&mut table, "timeout", "100ms", "2m", "10s")?,
    })
}

fn contacts(
    tables: Vec<Table>,
    environment: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Vec<Contact>, DocumentError> {
    let mut names = BTreeSet::new();
    let mut contacts = vec![];
    for mut table in tables {
        let name = table.text("name")?.ok_or_else(|| table.missing("name"))?;
        let usual = !name.value.trim().is_empty() && name.value.len() <= 60 && !name.value.contains(char::is_control);
        if !usual || names.len() >= CONTACTS_MAX || !names.insert(name.value.clone()) {
            return Err(name.origin.error(format!(
                "`name` must be a text of up to 60 characters that no other [[contact]] has, and there may be {CONTACTS_MAX}"
            )));
        }
        let channel = channel(&mut table, environment, folder)?;
        contacts.push(Contact { name: name.value, channel });
    }
    Ok(contacts)
}

fn channel(table: &mut Table, environment: &BTreeMap<String, String>, folder: &Path) -> Result<Channel, DocumentError> {
    let kind = table.text("channel")?.ok_or_else(|| table.missing("channel"))?;
    match kind.value.as_str() {
        "webhook" => {
            table.allow_only(&["url_env", "url_file", "signing_key_env", "signing_key_file"])?;
            let signing_key = Secret::of(table, "signing_key", environment, folder)?;
            Ok(Channel::Webhook { url: url(table, environment, folder)?, signing_key })
        }
        "slack" => {
            table.allow_only(&["url_env", "url_file"])?;
            Ok(Channel::Slack { url: url(table, environment, folder)? })
        }
        "alertmanager" => {
            table.allow_only(&["url_env", "url_file"])?;
            Ok(Channel::Alertmanager { url: url(table, environment, folder)? })
        }
        "pagerduty" => {
            table.allow_only(&["routing_key_env", "routing_key_file", "event_url"])?;
            let routing_key = Secret::of(table, "routing_key", environment, folder)?;
            let default = Located { value: PAGERDUTY.to_owned(), origin: table.origin_of("event_url").clone() };
            let event_url = table.text("event_url")?.unwrap_or(default);
            Ok(Channel::PagerDuty {
                routing_key: routing_key.ok_or_else(|| table.missing("routing_key_env"))?,
                event_url: address("event_url", &event_url)?,
            })
        }
        "mail" => mail(table, environment, folder).map(Channel::Mail),
        other => Err(kind.origin.error(format!(
            "`channel` must be \"webhook\", \"slack\", \"pagerduty\", \"alertmanager\" or \"mail\", not \"{other}\""
        ))),
    }
}

const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// An address that is a secret: it is checked, and never shown.
fn url(table: &mut Table, environment: &BTreeMap<String, String>, folder: &Path) -> Result<Secret, DocumentError> {
    let origin = if table.has("url_file") { table.origin_of("url_file") } else { table.origin_of("url_env") }.clone();
    let secret = Secret::of(table, "url", environment, folder)?.ok_or_else(|| table.missing("url_env"))?;
    match Url::parse(secret.reveal()) {
        Ok(url) if is_protected(&url) => Ok(secret),
        _ => Err(origin.error("the URL of this [[contact]] must begin with https://, or lead to this machine")),
    }
}

fn mail(table: &mut Table, environment: &BTreeMap<String, String>, folder: &Path) -> Result<Mail, DocumentError> {
    table.allow_only(&["server", "encryption", "user", "password_env", "password_file", "from", "to"])?;
    let server = table.text("server")?.ok_or_else(|| table.missing("server"))?;
    let parts = server.value.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, port)| !host.is_empty() && *port > 0) else {
        return Err(server.origin.error("`server` must be \"host:port\""));
    };
    let encryption = match table.text("encryption")? {
        None => Encryption::StartTls,
        Some(text) => match text.value.as_str() {
            "tls" => Encryption::Tls,
            "starttls" => Encryption::StartTls,
            "none" if ["localhost", "127.0.0.1", "[::1]"].contains(&host) => Encryption::Nothing,
            _ => {
                return Err(text
                    .origin
                    .error("`encryption` must be \"tls\" or \"starttls\", or \"none\" to this machine"));
            }
        },
    };
    let password = Secret::of(table, "password", environment, folder)?;
    let sign_in = match (table.text("user")?, password) {
        (Some(user), Some(password)) => Some((user.value, password)),
        (None, None) => None,
        _ => return Err(server.origin.error("`user` and `password_env` or `password_file` need each other")),
    };
    let from = table.text("from")?.ok_or_else(|| table.missing("from"))?.value;
    let to = table.texts("to")?.ok_or_else(|| table.missing("to"))?;
    if to.value.is_empty()
        || to.value.len() > ADDRESSES_MAX
        || to.value.iter().chain([&from]).any(|one| one.parse::<Mailbox>().is_err())
    {
        return Err(to
            .origin
            .error(format!("`from` and `to` need mail addresses, `to` from 1 to {ADDRESSES_MAX} of them")));
    }
    Ok(Mail { host: host.to_owned(), port, encryption, sign_in, from, to: to.value })
}

fn escalations(tables: Vec<Table>, contacts: &[Contact]) -> Result<Vec<Escalation>, DocumentError> {
    let names: Vec<&str> = contacts.iter().map(|contact| contact.name.as_str()).collect();
    let known = |name: Located<String>| match names.contains(&name.value.as_str()) {
        true => Ok(name.value),
        false => Err(name.origin.error(format!("there is no [[contact]] \"{}\"", name.value))),
    };
    let mut escalations: Vec<Escalation> = vec![];
    for mut table in tables {
        table.allow_only(&["issue", "primary", "secondary", "secondary_after", "respond_within"])?;
        let text = table.text("issue")?.ok_or_else(|| table.missing("issue"))?;
        let issue = Issue::ALL.into_iter().find(|issue| issue.name() == text.value);
        let issue = issue.filter(|issue| escalations.iter().all(|other| other.issue != *issue)).ok_or_else(|| {
            let all = Issue::ALL.map(Issue::name).join(", ");
            text.origin.error(format!("`issue` must be one of {all}, each once, not \"{}\"", text.value))
        })?;
        escalations.push(Escalation {
            issue,
            primary: known(table.text("primary")?.ok_or_else(|| table.missing("primary"))?)?,
            secondary: table.text("secondary")?.map(known).transpose()?,
            secondary_after: duration_within(&mut table, "secondary_after", "0s", "7days", issue.secondary_after())?,
            respond_within: duration_within(&mut table, "respond_within", "0s", "7days", issue.respond_within())?,
        });
    }
    Ok(escalations)
}
