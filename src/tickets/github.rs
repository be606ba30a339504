//! Issues on GitHub, made as they should be: each call looks, changes what differs, and says what it did.
//!
//! Exactly one issue belongs to an epoch of an incident, whatever is lost:
//!
//! 1. The issue is looked for by its number, else in the list of all issues, open and closed, that have the label of its
//!    fingerprint, by the marker in the first line of the body.
//! 2. It is created only if that look came late enough: the list may lag by [`list_lag`](config::github::GitHub::list_lag)
//!    behind a create of a process that was killed, or whose answer was lost ([`doubts`]).
//! 3. Labels are made before issues. GitHub leaves out labels in silence if the token may not set them, and an issue
//!    without its label would never be found again.
//!
//! What people do is respected: `wontfix` keeps an issue closed, `no-auto-close` keeps it open, a deleted issue is not
//! created again, labels and comments of others are never touched. Nothing here sleeps: a [`TicketError`] says when to call
//! again. A client belongs to one task, and is made within a Tokio runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::config;
use crate::model::pipeline::Micros;

use super::{Desired, Identity};
use allowance::Allowance;
use api::{Api, Method};
use digest::Digest;
use doubts::Doubts;
use issue::{Comment, Issue, decide};

mod allowance;
mod api;
mod digest;
mod doubts;
mod error;
mod issue;
mod propose;

pub use error::TicketError;
pub use propose::Proposed;

/// Comments and labels of which the client knows that they are as they should be. Forgetting them costs a call each.
const REMEMBERED_MAX: usize = 10_000;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The issue of the epoch, or of the digest. To be kept and given to the next call.
    pub number: Option<u64>,
    pub done: Done,
}

/// How it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// There was no issue; now there is.
    Created,
    /// Title, body, labels or the comment were edited.
    Updated,
    Unchanged,
    Closed,
    Reopened,
    /// It should be closed, but is labelled `no-auto-close`.
    KeptOpen,
    /// It should be open, but is labelled `wontfix`, or was closed more than seven days ago: a new epoch is due.
    LeftClosed,
    /// Somebody deleted it, or moved it to another repository; it is not created again.
    Deleted,
    /// There are too many new issues this hour: the incident is a line of the digest. Call again after this time.
    Digested {
        again: Duration,
    },
    /// It was resolved before it had an issue.
    Nothing,
}

/// A client of one repository.
pub struct GitHub {
    api: Api,
    doubts: Doubts,
    allowance: Allowance,
    digest: Digest,
    /// Labels that are known to exist.
    labels: BTreeSet<String>,
    /// The id and the text of the status comment of an issue.
    comments: BTreeMap<u64, (u64, String)>,
    pull_request_paths: Vec<String>,
}

/// Where the issue of an epoch is.
enum Located {
    At(Box<Issue>),
    Deleted,
    Nowhere,
}

impl GitHub {
    /// Needs a Tokio runtime around it; asks nothing yet. `now` is the time since 1970.
    pub fn new(config: &config::GitHub, now: Micros) -> Result<GitHub, TicketError> {
        Ok(GitHub {
            api: Api::new(config)?,
            doubts: Doubts::new(config.list_lag, config.timeout, now),
            allowance: Allowance::new(config.issues_per_hour),
            digest: Digest::default(),
            labels: Default::default(),
            comments: Default::default(),
            pull_request_paths: config.pull_request_paths.clone(),
        })
    }

    /// Makes the issue of an epoch as it should be. `known` is its number, if an earlier outcome named it.
    pub async fn reconcile(
        &mut self,
        identity: &Identity,
        known: Option<u64>,
        desired: &Desired,
        now: Micros,
    ) -> Result<Outcome, TicketError> {
        self.api.begin(now)?;
        let located = self.locate(identity, known).await?;
        let outcome = match located {
            Located::At(issue) => {
                self.doubts.settled(&identity.marker());
                self.update(identity, &issue, desired, now).await?
            }
            Located::Deleted => Outcome { number: None, done: Done::Deleted },
            Located::Nowhere => {
                self.doubts.look(&identity.marker(), now)?;
                if !desired.open {
                    Outcome { number: None, done: Done::Nothing }
                } else if let Some(again) = self.exhausted(now).await? {
                    return self.digest_line(identity, desired, again, now).await;
                } else {
                    self.create(identity, desired, now).await?
                }
            }
        };
        self.out_of_digest(identity, now).await?;
        Ok(outcome)
    }

    async fn locate(&mut self, identity: &Identity, known: Option<u64>) -> Result<Located, TicketError> {
        let mut gone = false;
        if let Some(number) = known {
            let answer = self.api.call(Method::Get, &format!("issues/{number}"), None).await?;
            // Moved to another repository, deleted, or never there.
            gone = [301, 404, 410].contains(&answer.status);
            if !gone {
                let issue: Issue = self.api.decode(answer)?;
                gone = issue.has_left(self.api.repository(), number);
                if !gone && issue.is_of(identity) {
                    return Ok(Located::At(Box::new(issue)));
                }
            }
        }
        let query = format!("labels={}&state=all&sort=created&direction=asc", escaped(&identity.label()));
        let marker = identity.marker();
        let listed: Vec<Issue> = self.api.pages("issues", &query).await?;
        let first = listed.into_iter().filter(|issue| issue.has_marker(&marker)).min_by_key(|issue| issue.number);
        Ok(match first {
            Some(issue) => Located::At(Box::new(issue)),
            None if gone => Located::Deleted,
            None => Located::Nowhere,
        })
    }

    async fn update(
        &mut self,
        identity: &Identity,
        issue: &Issue,
        desired: &Desired,
        now: Micros,
    ) -> Result<Outcome, TicketError> {
        let decision = decide(issue, desired, now);
        if let Some(labels) = &decision.patch.labels {
            self.make_labels(labels).await?;
        }
        if !decision.patch.is_empty() {
            let patch = serde_json::to_value(&decision.patch).unwrap_or_default();
            self.api.expect(Method::Patch, &format!("issues/{}", issue.number), &patch).await?;
        }
        let commented = decision.done != Done::LeftClosed && self.comment(identity, issue.number, desired, now).await?;
        let done = if commented && decision.done == Done::Unchanged { Done::Updated } else { decision.done };
        Ok(Outcome { number: Some(issue.number), done })
    }

    async fn create(&mut self, identity: &Identity, desired: &Desired, now: Micros) -> Result<Outcome, TicketError> {
        self.make_labels(&desired.labels).await?;
        let marker = identity.marker();
        let issue = self.create_issue(&marker, &desired.title, &desired.body, &desired.labels, now).await?;
        self.allowance.used(now);
        let comment = json!({ "body": desired.comment });
        let path = format!("issues/{}/comments", issue.number);
        let doubt = identity.comment_marker();
        self.doubts.begin(&doubt, now)?;
        let comment: Comment = {
            let answer = self.api.expect(Method::Post, &path, &comment).await?;
            self.api.decode(answer)?
        };
        self.remember(issue.number, comment.id, desired.comment.clone());
        self.doubts.settled(&doubt);
        Ok(Outcome { number: Some(issue.number), done: Done::Created })
    }

    /// Creates an issue. Until a look has found it, nobody knows whether it is there: an answer may be lost, and so may the
    /// number that it named.
    async fn create_issue(
        &mut self,
        doubt: &str,
        title: &str,
        body: &str,
        labels: &[String],
        now: Micros,
    ) -> Result<Issue, TicketError> {
        self.doubts.begin(doubt, now)?;
        let new = json!({ "title": title, "body": body, "labels": labels });
        let answer = self.api.call(Method::Post, "issues", Some(&new)).await;
        let answer = answer.and_then(|answer| self.api.successful(answer));
        if let Err(TicketError::Later { .. } | TicketError::Refused { .. }) = &answer {
            // GitHub said that it did nothing.
            self.doubts.settled(doubt);
        }
        self.api.decode(answer?)
    }

    /// Makes the one comment as it should be; true if it was not.
    async fn comment(
        &mut self,
        identity: &Identity,
        number: u64,
        desired: &Desired,
        now: Micros,
    ) -> Result<bool, TicketError> {
        let remembered = self.comments.get(&number).cloned();
        if remembered.as_ref().is_some_and(|(_, text)| *text == desired.comment) {
            return Ok(false);
        }
        let marker = identity.comment_marker();
        let listed: Vec<Comment> = self.api.pages(&format!("issues/{number}/comments"), "").await?;
        let ours: Vec<&Comment> = listed.iter().filter(|comment| comment.has_marker(&marker)).collect();
        let body = json!({ "body": desired.comment });
        let Some(first) = ours.first() else {
            self.doubts.look(&marker, now)?;
            self.doubts.begin(&marker, now)?;
            let answer = self.api.expect(Method::Post, &format!("issues/{number}/comments"), &body).await?;
            let comment: Comment = self.api.decode(answer)?;
            self.doubts.settled(&marker);
            self.remember(number, comment.id, desired.comment.clone());
            return Ok(true);
        };
        self.doubts.settled(&marker);
        let differs = !first.says(&desired.comment);
        if differs {
            self.api.expect(Method::Patch, &format!("issues/comments/{}", first.id), &body).await?;
        }
        self.remember(number, first.id, desired.comment.clone());
        Ok(differs)
    }

    fn remember(&mut self, number: u64, comment: u64, text: String) {
        if self.comments.len() >= REMEMBERED_MAX {
            self.comments.clear();
        }
        self.comments.insert(number, (comment, text));
    }

    /// Makes the labels that are not known to exist.
    async fn make_labels(&mut self, labels: &[String]) -> Result<(), TicketError> {
        for label in labels.iter().filter(|label| issue::is_ours(label)) {
            if self.labels.contains(label) {
                continue;
            }
            let new = json!({ "name": label, "color": "5319e7", "description": "Kept by Maturion" });
            let answer = self.api.call(Method::Post, "labels", Some(&new)).await?;
            match answer.status {
                // It is there already.
                422 => {}
                404 => return Err(TicketError::NoLabels),
                _ => drop(self.api.successful(answer)?),
            }
            if self.labels.len() >= REMEMBERED_MAX {
                self.labels.clear();
            }
            self.labels.insert(label.clone());
        }
        Ok(())
    }

    /// How long no further issue may be created, if so.
    async fn exhausted(&mut self, now: Micros) -> Result<Option<Duration>, TicketError> {
        if !self.allowance.is_counted() {
            let query = "labels=maturion&state=all&sort=created&direction=desc";
            let needed = self.allowance.needed();
            let listed: Vec<Issue> = self
                .api
                .pages_until("issues", query, |issues: &[Issue]| {
                    issues.len() >= needed || issues.last().is_some_and(|issue| !issue.is_younger_than_an_hour(now))
                })
                .await?;
            let times = listed.iter().filter(|issue| issue.is_younger_than_an_hour(now)).filter_map(Issue::created);
            self.allowance.count(times);
        }
        Ok(self.allowance.again(now))
    }
}

/// A label in a query: of the characters that it may have only the colon is not usual there.
fn escaped(label: &str) -> String {
    label.replace(':', "%3A")
}
