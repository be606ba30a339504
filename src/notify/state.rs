//! What the router remembers: incidents that last, messages that were sent about them, and what waits to be said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::pipeline::Micros;

use super::{Entry, Reason};

/// Incidents that are followed one by one; further ones are counted in digests. Each costs about half a kilobyte of state.
pub const INCIDENTS_MAX: usize = 1_000;
/// Places of incidents in messages, those that are over included. Further ones are counted only.
pub const MEMBERS_MAX: usize = 4_000;
/// Incidents that one message names.
pub const LISTED_MAX: usize = 100;

/// Everything the router remembers. Plain data: it can be kept anywhere and read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Counts deliveries; part of each delivery's id.
    pub(super) serial: u64,
    /// By incident and epoch.
    pub(super) incidents: BTreeMap<String, Tracked>,
    /// By contact and alert.
    pub(super) alerts: BTreeMap<String, Alert>,
    /// By contact and group.
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// When messages began, of each contact, within the storm's window.
    pub(super) recent: BTreeMap<String, VecDeque<Micros>>,
}

/// An incident that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub(super) entry: Entry,
    pub(super) group: String,
    /// When the second contact is called.
    pub(super) escalate_at: Option<Micros>,
    /// Contacts that were told, or are about to be.
    pub(super) told: BTreeSet<String>,
}

/// A message that was sent, until the word that all of it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alert {
    pub(super) name: String,
    pub(super) contact: String,
    pub(super) group: String,
    /// Its incidents: those that are over as they were then.
    pub(super) members: BTreeMap<String, Option<Entry>>,
    pub(super) more: u64,
    pub(super) repeat_at: Option<Micros>,
    pub(super) update_at: Option<Micros>,
}

impl Alert {
    pub(super) fn is_over(&self) -> bool {
        self.members.values().all(Option::is_some)
    }
}

/// What will be said together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) contact: String,
    pub(super) group: String,
    pub(super) digest: bool,
    pub(super) at: Micros,
    pub(super) members: BTreeSet<String>,
    pub(super) more: u64,
    pub(super) reason: Option<Reason>,
}

impl State {
    /// When something has to be said next, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        let incidents = self.incidents.values().filter_map(|tracked| tracked.escalate_at);
        let alerts = self.alerts.values().flat_map(|alert| alert.repeat_at.into_iter().chain(alert.update_at));
        incidents.chain(alerts).chain(self.waiting.values().map(|waiting| waiting.at)).min()
    }

    /// Places of incidents in messages.
    pub(super) fn members(&self) -> usize {
        self.alerts.values().map(|alert| alert.members.len()).sum()
    }
}
