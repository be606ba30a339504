//! Getting back what the actor knew: incidents, silences, and where the audit chain ends.

use std::collections::{BTreeSet, HashSet};

use super::actor::Actor;
use super::notices::Kept;
use super::notices::Notices;
use super::proposals::Proposals;
use super::tickets::Tickets;
use super::windows::Windows;
use super::{ROLE, RemediateError, RemediateSettings, rules};
use crate::audit::{Chain, KeyError, Notary, Signer};
use crate::incident::book::Book;
use crate::log::LogError;
use crate::roles::Runtime;
use crate::roles::audit;
use crate::roles::committed::latest;
use crate::tickets::render::Style;

/// Before a silence's id, in its key among the progress.
pub(super) const SILENCE_PREFIX: &str = "silence/";
/// The key of what is kept of notices, among the progress.
pub(super) const NOTICES: &str = "notices";
/// The partition of the progress that both stand in.
pub(super) const STATE_AT: i32 = 0;

/// The actor as it was committed.
pub(super) fn actor(runtime: &Runtime, settings: &RemediateSettings) -> Result<Actor, RemediateError> {
    let mut book = Book::new(rules(runtime), settings.policy.clone(), settings.book.clone());
    for number in 0..partitions_of(runtime, &runtime.topics.incidents())? {
        for (key, entry) in latest(runtime, ROLE, &runtime.topics.incidents(), number)? {
            book.restore(serde_json::from_slice(&entry.value).map_err(|error| unreadable(&key, &error))?);
        }
    }
    settings.silences.iter().for_each(|silence| book.restore_silence(silence.clone()));
    let mut kept = Kept::default();
    for (key, entry) in latest(runtime, ROLE, &runtime.topics.progress(), STATE_AT)? {
        if key.starts_with(SILENCE_PREFIX.as_bytes()) {
            book.restore_silence(serde_json::from_slice(&entry.value).map_err(|error| unreadable(&key, &error))?);
        } else if key == NOTICES.as_bytes() {
            kept = serde_json::from_slice(&entry.value).map_err(|error| unreadable(&key, &error))?;
        }
    }
    let signing = settings.signing.as_ref();
    let notary = signing.map(|with| Ok::<_, KeyError>(Notary::new(Signer::parse(with.key.reveal())?, with.interval)));
    let tickets = settings.tickets.as_ref();
    let proposing = tickets.filter(|github| !github.proposals.is_empty());
    Ok(Actor {
        proposals: proposing.map(|github| Proposals::new(github.proposals.clone(), Style::of(github), &book)),
        tickets: tickets.map(|github| Tickets::new(Style::of(github), github.repository.clone(), &book)),
        notices: settings.routing.clone().map(|routing| Notices::new(routing, kept)),
        book,
        chain: Chain::after(audit::head(runtime.log.as_ref(), &runtime.topics)?),
        notary: notary.transpose()?,
        windows: Windows::default(),
        in_flight: BTreeSet::new(),
        unsent: HashSet::new(),
    })
}

pub(super) fn partitions_of(runtime: &Runtime, topic: &str) -> Result<i32, LogError> {
    let found = runtime.log.describe(&[topic.to_owned()])?;
    let found = found.first().ok_or_else(|| LogError::UnknownTopic { topic: topic.to_owned() })?;
    Ok(found.partitions)
}

fn unreadable(key: &[u8], error: &dyn std::fmt::Display) -> RemediateError {
    RemediateError::State { key: String::from_utf8_lossy(key).into_owned(), reason: error.to_string() }
}
