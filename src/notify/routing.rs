//! What the router decides by: the configuration, with times as numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::notify::{Channel, Escalation, Issue, Notify};
use crate::model::pipeline::Micros;

/// Who is told of what, and when.
#[derive(Clone, Debug)]
pub struct Routing {
    pub(super) routes: BTreeMap<Issue, Route>,
    /// Contacts whose channel groups by itself: each incident is a message of its own.
    pub(super) ungrouped: Vec<String>,
    pub(super) group_wait: Micros,
    pub(super) update_interval: Micros,
    pub(super) repeat_interval: Micros,
    pub(super) storm_triggers: usize,
    pub(super) storm_window: Micros,
}

/// Who is called for one kind of issue.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) primary: String,
    pub(super) secondary: Option<String>,
    pub(super) secondary_after: Micros,
    pub(super) respond_within: Micros,
}

impl Routing {
    pub fn of(config: &Notify) -> Routing {
        let route = |escalation: &Escalation| Route {
            primary: escalation.primary.clone(),
            secondary: escalation.secondary.clone(),
            secondary_after: micros(escalation.secondary_after),
            respond_within: micros(escalation.respond_within),
        };
        let pagers = config.contacts.iter().filter(|contact| matches!(contact.channel, Channel::PagerDuty { .. }));
        Routing {
            routes: config.escalations.iter().map(|escalation| (escalation.issue, route(escalation))).collect(),
            ungrouped: pagers.map(|contact| contact.name.clone()).collect(),
            group_wait: micros(config.group_wait),
            update_interval: micros(config.update_interval),
            repeat_interval: micros(config.repeat_interval),
            storm_triggers: config.storm_triggers,
            storm_window: micros(config.storm_window),
        }
    }

    /// True for what is told at once.
    pub(super) fn is_urgent(issue: Issue) -> bool {
        matches!(issue, Issue::CriticalPlatform | Issue::Security)
    }
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
