//! The life of a message: it waits for its group, begins, is updated, repeated and acknowledged, and ends.

use std::collections::BTreeSet;

use crate::model::pipeline::Micros;
use crate::model::series::stable_id;

use super::router::Router;
use super::state::{Alert, LISTED_MAX, MEMBERS_MAX, Waiting};
use super::{Entry, Kind, Reason};

/// The group of what a storm has put together. No module has this name.
const DIGEST: &str = "(digest)";

impl Router {
    /// Tells a contact of an incident: at once, with its group, or in the digest of a storm.
    pub(super) fn tell(&mut self, key: &str, contact: &str, urgent: bool, reason: Option<Reason>, now: Micros) {
        let Some(tracked) = self.state.incidents.get_mut(key) else { return };
        if !tracked.told.insert(contact.to_owned()) {
            return;
        }
        let group = tracked.group.clone();
        if self.is_storm(contact, now) {
            self.wait(contact, DIGEST, Some(key), reason, now);
        } else if urgent || self.routing.group_wait == 0 || self.routing.ungrouped.iter().any(|name| name == contact) {
            self.trigger(contact, &group, BTreeSet::from([key.to_owned()]), 0, reason, now);
        } else {
            self.wait(contact, &group, Some(key), reason, now);
        }
    }

    /// Counts an incident that is one too many to be followed.
    pub(super) fn count_only(&mut self, contact: &str, now: Micros) {
        self.wait(contact, DIGEST, None, None, now);
    }

    fn wait(&mut self, contact: &str, group: &str, key: Option<&str>, reason: Option<Reason>, now: Micros) {
        let digest = group == DIGEST;
        let wait = if digest { self.routing.storm_window } else { self.routing.group_wait };
        let waiting = self.state.waiting.entry(place(contact, group)).or_insert_with(|| Waiting {
            contact: contact.to_owned(),
            group: group.to_owned(),
            digest,
            at: now.saturating_add(wait),
            members: BTreeSet::new(),
            more: 0,
            reason: None,
        });
        waiting.reason = waiting.reason.or(reason);
        match key {
            Some(key) if waiting.members.len() < LISTED_MAX => {
                waiting.members.insert(key.to_owned());
            }
            _ => waiting.more = waiting.more.saturating_add(1),
        }
    }

    /// Begins what has waited long enough.
    pub(super) fn say_what_waited(&mut self, now: Micros) {
        let due: Vec<String> = self
            .state
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.at <= now)
            .map(|(place, _)| place.clone())
            .collect();
        for place in due {
            let Some(waiting) = self.state.waiting.remove(&place) else { continue };
            if !waiting.digest && self.is_storm(&waiting.contact, now) {
                for key in &waiting.members {
                    self.wait(&waiting.contact, DIGEST, Some(key), waiting.reason, now);
                }
                continue;
            }
            self.trigger(&waiting.contact, &waiting.group, waiting.members, waiting.more, waiting.reason, now);
        }
    }

    fn trigger(
        &mut self,
        contact: &str,
        group: &str,
        members: BTreeSet<String>,
        more: u64,
        reason: Option<Reason>,
        now: Micros,
    ) {
        let room = MEMBERS_MAX.saturating_sub(self.state.members());
        let uncounted = members.len().saturating_sub(room) as u64;
        let first = members.first().and_then(|key| self.state.incidents.get(key));
        let name = match first {
            Some(only) if members.len() == 1 && group != DIGEST => only.entry.incident.clone(),
            _ => stable_id(&[b"group", contact.as_bytes(), group.as_bytes(), &self.state.serial.to_be_bytes()]),
        };
        let alert = Alert {
            name: name.clone(),
            contact: contact.to_owned(),
            group: group.to_owned(),
            members: members.into_iter().take(room).map(|key| (key, None)).collect(),
            more: more.saturating_add(uncounted),
            repeat_at: Some(now.saturating_add(self.routing.repeat_interval)),
            update_at: None,
        };
        // Nothing will end what names nobody, so it ends by itself.
        let update_at = alert.members.is_empty().then(|| now.saturating_add(self.routing.storm_window));
        let place = place(contact, &name);
        self.state.alerts.insert(place.clone(), Alert { update_at, ..alert });
        self.state.recent.entry(contact.to_owned()).or_default().push_back(now);
        self.say(&place, Kind::Trigger, reason, now);
        if !self.has_open_unacknowledged(&place)
            && let Some(alert) = self.state.alerts.get_mut(&place)
        {
            alert.repeat_at = None;
        }
    }

    /// True if the contact has had too many messages within the storm's window.
    fn is_storm(&mut self, contact: &str, now: Micros) -> bool {
        let (window, most) = (self.routing.storm_window, self.routing.storm_triggers);
        let Some(recent) = self.state.recent.get_mut(contact) else { return false };
        while recent.len() > most || recent.front().is_some_and(|time| now.saturating_sub(*time) >= window) {
            recent.pop_front();
        }
        recent.len() >= most
    }

    /// Plans that the messages with an incident say what is new, and when they are repeated from now on.
    pub(super) fn plan_updates(&mut self, key: &str, at: Micros, repeat_at: Option<Micros>) {
        for alert in self.state.alerts.values_mut().filter(|alert| alert.members.get(key) == Some(&None)) {
            alert.update_at = Some(alert.update_at.map_or(at, |planned| planned.min(at)));
            alert.repeat_at = repeat_at.or(alert.repeat_at);
        }
    }

    /// Says an incident's messages again, because nobody else can be called.
    pub(super) fn say_again(&mut self, key: &str, reason: Reason, now: Micros) {
        for place in self.places(key) {
            self.say(&place, Kind::Trigger, Some(reason), now);
        }
    }

    pub(super) fn acknowledge_alerts(&mut self, key: &str, now: Micros) {
        for place in self.places(key) {
            if self.has_open_unacknowledged(&place) {
                self.plan_updates(key, now.saturating_add(self.routing.update_interval), None);
                continue;
            }
            if let Some(alert) = self.state.alerts.get_mut(&place) {
                alert.repeat_at = None;
            }
            self.say(&place, Kind::Acknowledge, None, now);
        }
    }

    /// Notes in every message with it that an incident is over; messages of which all is over end.
    pub(super) fn resolve_alerts(&mut self, key: &str, entry: &Entry, now: Micros) {
        let later = now.saturating_add(self.routing.update_interval);
        for place in self.places(key) {
            let Some(alert) = self.state.alerts.get_mut(&place) else { continue };
            alert.members.insert(key.to_owned(), Some(entry.clone()));
            if alert.is_over() {
                self.end(&place, now);
            } else {
                alert.update_at = Some(alert.update_at.map_or(later, |planned| planned.min(later)));
            }
        }
    }

    /// Says what is due of messages that have begun.
    pub(super) fn update_and_repeat(&mut self, now: Micros) {
        let is_due = |at: Option<Micros>| at.is_some_and(|at| at <= now);
        let due: Vec<String> = (self.state.alerts.iter())
            .filter(|(_, alert)| is_due(alert.update_at) || is_due(alert.repeat_at))
            .map(|(place, _)| place.clone())
            .collect();
        for place in due {
            let Some(alert) = self.state.alerts.get_mut(&place) else { continue };
            if alert.is_over() {
                self.end(&place, now);
                continue;
            }
            let repeats = is_due(alert.repeat_at);
            alert.update_at = None;
            if repeats {
                alert.repeat_at = Some(now.saturating_add(self.routing.repeat_interval));
            }
            self.say(&place, if repeats { Kind::Trigger } else { Kind::Update }, None, now);
        }
    }

    fn end(&mut self, place: &str, now: Micros) {
        self.say(place, Kind::Resolve, None, now);
        self.state.alerts.remove(place);
    }

    /// The messages with an incident that lasts.
    fn places(&self, key: &str) -> Vec<String> {
        let with = self.state.alerts.iter().filter(|(_, alert)| alert.members.get(key) == Some(&None));
        with.map(|(place, _)| place.clone()).collect()
    }

    fn has_open_unacknowledged(&self, place: &str) -> bool {
        let open =
            |key: &String| self.state.incidents.get(key).is_some_and(|tracked| tracked.entry.acknowledged.is_none());
        self.state
            .alerts
            .get(place)
            .is_some_and(|alert| alert.members.iter().filter(|(_, over)| over.is_none()).any(|(key, _)| open(key)))
    }
}

fn place(contact: &str, name: &str) -> String {
    // Names of contacts have no control characters.
    format!("{contact}\n{name}")
}
