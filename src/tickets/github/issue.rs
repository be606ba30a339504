//! An issue as GitHub tells of it, and what has to change. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::pipeline::Micros;

use super::super::{Desired, Identity};
use super::Done;
use super::allowance::HOUR;

/// With this label a closed issue stays closed.
const WONTFIX: &str = "wontfix";
/// With this label an open issue stays open.
const NO_AUTO_CLOSE: &str = "no-auto-close";
/// How long after it was closed an issue is opened again; later the incident has a new epoch.
const REOPEN_WITHIN: Micros = 7 * 24 * HOUR;

/// The parts of an issue that matter.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Issue {
    pub(super) number: u64,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) body: Option<String>,
    pub(super) state: State,
    #[serde(default)]
    labels: Vec<Label>,
    created_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    /// Where it is: a redirect leads to where it was moved.
    repository_url: Option<String>,
    /// There if it is a pull request, which GitHub lists among the issues.
    pull_request: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Open,
    Closed,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Label {
    Object { name: String },
    Name(String),
}

impl Issue {
    /// True if the first line of its body is the marker. Further lines hold data, which may hold anything.
    pub(super) fn has_marker(&self, marker: &str) -> bool {
        self.pull_request.is_none() && begins_with(self.body.as_deref(), marker)
    }

    /// True if it belongs to that epoch: by its marker, or, if somebody wrote over the body, by its label.
    pub(super) fn is_of(&self, identity: &Identity) -> bool {
        let unmarked = !self.body.as_deref().unwrap_or_default().starts_with("<!-- maturion ");
        let labelled = self.has_label(&identity.label());
        self.has_marker(&identity.marker()) || self.pull_request.is_none() && unmarked && labelled
    }

    /// True if it is elsewhere now, where the same number is another issue of ours.
    pub(super) fn has_left(&self, repository: &str, number: u64) -> bool {
        let path = format!("/repos/{repository}").to_ascii_lowercase();
        let is_here = |url: &String| url.to_ascii_lowercase().ends_with(&path);
        self.number != number || self.repository_url.as_ref().is_some_and(|url| !is_here(url))
    }

    pub(super) fn created(&self) -> Option<Micros> {
        self.created_at.map(|time| time.timestamp_micros())
    }

    pub(super) fn is_younger_than_an_hour(&self, now: Micros) -> bool {
        self.created().is_some_and(|created| now.saturating_sub(created) < HOUR)
    }

    fn has_label(&self, wanted: &str) -> bool {
        self.label_names().any(|name| name.eq_ignore_ascii_case(wanted))
    }

    fn label_names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| match label {
            Label::Object { name } | Label::Name(name) => name.as_str(),
        })
    }
}

/// A comment of an issue.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Comment {
    pub(super) id: u64,
    #[serde(default)]
    body: Option<String>,
}

impl Comment {
    pub(super) fn has_marker(&self, marker: &str) -> bool {
        begins_with(self.body.as_deref(), marker)
    }

    pub(super) fn says(&self, text: &str) -> bool {
        is_same(self.body.as_deref().unwrap_or_default(), text)
    }
}

fn begins_with(body: Option<&str>, marker: &str) -> bool {
    body.and_then(|body| body.lines().next()).is_some_and(|line| line.trim_end() == marker)
}

/// GitHub may write line ends in its own way, and cuts what is at the end.
fn is_same(one: &str, other: &str) -> bool {
    let lines = |text: &str| text.replace('\r', "").trim_end().to_owned();
    lines(one) == lines(other)
}

/// What is sent to change an issue; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Patch {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason: Option<&'static str>,
}

impl Patch {
    pub(super) fn is_empty(&self) -> bool {
        *self == Patch::default()
    }
}

/// What has to change, and what the issue is then.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) patch: Patch,
    pub(super) done: Done,
}

/// Compares an issue with what it should be.
pub(super) fn decide(issue: &Issue, desired: &Desired, now: Micros) -> Decision {
    let closed_for = issue.closed_at.map_or(0, |time| now.saturating_sub(time.timestamp_micros()));
    let done = match (issue.state, desired.open) {
        (State::Closed, true) if issue.has_label(WONTFIX) || closed_for > REOPEN_WITHIN => Done::LeftClosed,
        (State::Closed, true) => Done::Reopened,
        (State::Open, false) if issue.has_label(NO_AUTO_CLOSE) => Done::KeptOpen,
        (State::Open, false) => Done::Closed,
        (State::Open, true) | (State::Closed, false) => Done::Unchanged,
    };
    if done == Done::LeftClosed {
        return Decision { patch: Patch::default(), done };
    }
    let mut patch = Patch {
        title: (issue.title != desired.title).then(|| desired.title.clone()),
        body: (!is_same(issue.body.as_deref().unwrap_or_default(), &desired.body)).then(|| desired.body.clone()),
        labels: labels(issue, &desired.labels),
        ..Patch::default()
    };
    let done = if done == Done::Unchanged && !patch.is_empty() { Done::Updated } else { done };
    match done {
        Done::Reopened => (patch.state, patch.state_reason) = (Some(State::Open), Some("reopened")),
        Done::Closed => (patch.state, patch.state_reason) = (Some(State::Closed), Some("completed")),
        _ => {}
    }
    Decision { patch, done }
}

/// The labels as they should be, those of others among them; `None` if they are so.
fn labels(issue: &Issue, desired: &[String]) -> Option<Vec<String>> {
    let wanted = |name: &str| desired.iter().any(|label| label.eq_ignore_ascii_case(name));
    let complete = desired.iter().all(|label| issue.has_label(label));
    let outdated = issue.label_names().any(|name| is_ours(name) && !wanted(name));
    if complete && !outdated {
        return None;
    }
    let others = issue.label_names().filter(|name| !is_ours(name)).map(str::to_owned);
    Some(desired.iter().cloned().chain(others).collect())
}

/// True for labels that nobody else sets.
pub(super) fn is_ours(label: &str) -> bool {
    label == "maturion" || label.starts_with("maturion:") || label.starts_with("severity:")
}

#[cfg(test)]
mod tests;
