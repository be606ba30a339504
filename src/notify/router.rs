//! The router: notices and time in, deliveries out.

use crate::config::notify::Issue;
use crate::model::pipeline::Micros;
use crate::scrub::{scrub, scrub_organisations};

use super::routing::{Route, Routing};
use super::state::{INCIDENTS_MAX, State, Tracked};
use super::{Delivery, Entry, Kind, Notice, Reason, What};

/// Words of a notice are cut there: the state has a bound.
const WORDS_BYTES_MAX: usize = 200;

/// Decides who is told what, and when.
pub struct Router {
    pub(super) routing: Routing,
    pub(super) state: State,
    /// What the present call says.
    pub(super) said: Vec<Delivery>,
}

impl Router {
    /// Goes on from a state; a new one is [`State::default`].
    pub fn new(routing: Routing, state: State) -> Router {
        Router { routing, state, said: vec![] }
    }

    /// What has to be kept, together with the deliveries that led to it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When [`tick`](Self::tick) is due at the latest.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.state.next_deadline()
    }

    /// Takes a notice; `now` never goes back by more than clocks do.
    pub fn notice(&mut self, notice: &Notice, now: Micros) -> Vec<Delivery> {
        let key = key(&notice.incident, notice.epoch);
        match &notice.what {
            What::Opened | What::Changed => self.opened_or_changed(&key, notice, now),
            What::Acknowledged { by } => self.acknowledged(&key, by, now),
            What::Resolved => self.resolved(&key, now),
            What::Escalated { reason } => {
                self.opened_or_changed(&key, notice, now);
                self.escalate(&key, *reason, now);
            }
        }
        std::mem::take(&mut self.said)
    }

    /// Says what is due.
    pub fn tick(&mut self, now: Micros) -> Vec<Delivery> {
        self.say_what_waited(now);
        let silent = |tracked: &Tracked| tracked.escalate_at.is_some_and(|at| at <= now);
        let due: Vec<String> =
            self.state.incidents.iter().filter(|(_, tracked)| silent(tracked)).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.escalate(&key, Reason::Unacknowledged, now);
        }
        self.update_and_repeat(now);
        std::mem::take(&mut self.said)
    }

    fn opened_or_changed(&mut self, key: &str, notice: &Notice, now: Micros) {
        if self.state.incidents.contains_key(key) {
            return self.changed(key, notice, now);
        }
        // An older epoch that nobody resolved is over now.
        let older: Vec<String> = (self.state.incidents.iter())
            .filter(|(_, tracked)| tracked.entry.incident == notice.incident && tracked.entry.epoch < notice.epoch)
            .map(|(key, _)| key.clone())
            .collect();
        older.iter().for_each(|key| self.resolved(key, now));
        let Some(route) = self.routing.routes.get(&notice.issue).cloned() else { return };
        if self.state.incidents.len() >= INCIDENTS_MAX {
            return self.count_only(&route.primary, now);
        }
        let tracked = Tracked {
            entry: entry(notice, now, &route),
            group: words(&notice.group),
            escalate_at: escalate_at(&route, now),
            told: Default::default(),
        };
        self.state.incidents.insert(key.to_owned(), tracked);
        self.tell(key, &route.primary, Routing::is_urgent(notice.issue), None, now);
    }

    fn changed(&mut self, key: &str, notice: &Notice, now: Micros) {
        let Some(tracked) = self.state.incidents.get_mut(key) else { return };
        let route = self.routing.routes.get(&notice.issue).cloned();
        let before = tracked.entry.clone();
        let after = Entry {
            issue: notice.issue,
            severity: notice.severity,
            title: words(&notice.title),
            module: notice.module.as_deref().map(words),
            ticket: notice.ticket.as_deref().map(words),
            respond_within: route.as_ref().map_or(before.respond_within, |route| route.respond_within),
            ..before.clone()
        };
        if after == before {
            return;
        }
        let worse = after.severity > before.severity || rank(after.issue) > rank(before.issue);
        tracked.entry = after;
        if worse {
            // Who took it on as something less has not taken this on.
            tracked.entry.acknowledged = None;
            tracked.escalate_at = route.as_ref().and_then(|route| escalate_at(route, now));
        }
        let at = if worse { now } else { now.saturating_add(self.routing.update_interval) };
        self.plan_updates(key, at, worse.then(|| now.saturating_add(self.routing.repeat_interval)));
        if let Some(route) = route {
            self.tell(key, &route.primary, Routing::is_urgent(notice.issue), None, now);
        }
        if worse {
            self.update_and_repeat(now);
        }
    }

    fn acknowledged(&mut self, key: &str, by: &str, now: Micros) {
        let Some(tracked) = self.state.incidents.get_mut(key) else { return };
        tracked.escalate_at = None;
        if tracked.entry.acknowledged.is_none() {
            tracked.entry.acknowledged = Some(words(by));
            self.acknowledge_alerts(key, now);
        }
    }

    fn resolved(&mut self, key: &str, now: Micros) {
        let Some(mut tracked) = self.state.incidents.remove(key) else { return };
        tracked.entry.resolved = Some(now);
        self.state.waiting.retain(|_, waiting| {
            waiting.members.remove(key);
            !waiting.members.is_empty() || waiting.more > 0
        });
        self.resolve_alerts(key, &tracked.entry, now);
    }

    /// Calls the second contact, or the first again if there is no second.
    fn escalate(&mut self, key: &str, reason: Reason, now: Micros) {
        let Some(tracked) = self.state.incidents.get_mut(key) else { return };
        tracked.escalate_at = None;
        let Some(route) = self.routing.routes.get(&tracked.entry.issue).cloned() else { return };
        match route.secondary {
            Some(secondary) if !tracked.told.contains(&secondary) => {
                self.tell(key, &secondary, true, Some(reason), now)
            }
            _ => self.say_again(key, reason, now),
        }
    }

    /// Makes a delivery of an alert, with an id that no other has.
    pub(super) fn say(&mut self, alert: &str, kind: Kind, reason: Option<Reason>, now: Micros) {
        let Some(found) = self.state.alerts.get(alert) else { return };
        let entries: Vec<Entry> = (found.members.iter())
            .filter_map(|(key, over)| over.clone().or_else(|| Some(self.state.incidents.get(key)?.entry.clone())))
            .collect();
        let serial = self.state.serial;
        self.state.serial = serial.wrapping_add(1);
        let parts: [&[u8]; 5] = [
            b"delivery",
            found.contact.as_bytes(),
            found.name.as_bytes(),
            kind.name().as_bytes(),
            &serial.to_be_bytes(),
        ];
        self.said.push(Delivery {
            id: crate::model::series::stable_id(&parts),
            contact: found.contact.clone(),
            kind,
            alert: found.name.clone(),
            group: found.group.clone(),
            at: now,
            entries,
            more: found.more,
            reason,
        });
    }
}

fn entry(notice: &Notice, now: Micros, route: &Route) -> Entry {
    Entry {
        incident: notice.incident.clone(),
        epoch: notice.epoch,
        issue: notice.issue,
        severity: notice.severity,
        title: words(&notice.title),
        module: notice.module.as_deref().map(words),
        ticket: notice.ticket.clone(),
        opened: now,
        resolved: None,
        acknowledged: None,
        respond_within: route.respond_within,
    }
}

fn escalate_at(route: &Route, now: Micros) -> Option<Micros> {
    route.secondary.as_ref().map(|_| now.saturating_add(route.secondary_after))
}

/// What calls people earlier is more.
fn rank(issue: Issue) -> u8 {
    match issue {
        Issue::Architecture => 0,
        Issue::Medium => 1,
        Issue::High => 2,
        Issue::CriticalPlatform | Issue::Security => 3,
    }
}

pub(super) fn key(incident: &str, epoch: u64) -> String {
    format!("{incident}/{epoch}")
}

/// Scrubbed, in one line, and short.
fn words(text: &str) -> String {
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    let text: String = scrub_organisations(&scrub(text)).chars().map(shown).collect();
    text.get(..text.floor_char_boundary(WORDS_BYTES_MAX)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
