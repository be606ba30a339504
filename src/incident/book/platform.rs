//! The platform as a whole, as far as the book has heard of it: modules and organisations, and which of them are not well.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Incident;
use crate::model::pipeline::{RuleName, Severity};

/// Modules and organisations that are told apart, of each kind. More are not counted, so that a share of them is overrated
/// rather than underrated.
const NAMES_MAX: usize = 10_000;
/// From this share of the organisations on, what a rule sees is no matter of one of them …
const SPREAD_PERCENT: usize = 50;
/// … if there are at least so many of them.
const SPREAD_AT_LEAST: usize = 3;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Platform {
    modules: BTreeSet<String>,
    organisations: BTreeSet<String>,
    /// Incidents that make their modules unhealthy, by module.
    grave: Groups,
    /// Incidents that fire, by organisation, for every rule and module.
    spread: HashMap<(RuleName, Option<String>), Groups>,
}

/// Ids of incidents by what they have in common. A group without any is none.
#[derive(Debug, Default)]
struct Groups(BTreeMap<String, BTreeSet<String>>);

impl Groups {
    fn set(&mut self, group: &str, id: &str, is_member: bool) {
        if is_member {
            self.0.entry(group.to_owned()).or_default().insert(id.to_owned());
        } else if let Some(ids) = self.0.get_mut(group) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(group);
            }
        }
    }
}

impl Platform {
    /// Hears of a module.
    pub(super) fn saw_module(&mut self, module: &str) {
        saw(&mut self.modules, module);
    }

    /// Hears of an organisation.
    pub(super) fn saw_organisation(&mut self, organisation: &str) {
        saw(&mut self.organisations, organisation);
    }

    /// Notes an incident as it is now.
    pub(super) fn note(&mut self, incident: &Incident) {
        self.set(incident, incident.is_grave(), incident.is_firing);
    }

    /// Forgets an incident.
    pub(super) fn forget(&mut self, incident: &Incident) {
        self.set(incident, false, false);
    }

    fn set(&mut self, incident: &Incident, is_grave: bool, is_firing: bool) {
        let id = &incident.incident_id;
        if let Some(module) = &incident.module {
            self.grave.set(module, id, is_grave);
        }
        if let Some(organisation) = &incident.organisation_id {
            let place = place(incident);
            let groups = self.spread.entry(place.clone()).or_default();
            groups.set(organisation, id, is_firing);
            if groups.0.is_empty() {
                self.spread.remove(&place);
            }
        }
    }

    /// Modules with an incident that is at least high, and all modules.
    pub(super) fn unhealthy(&self) -> (u32, u32) {
        (self.grave.0.len() as u32, self.modules.len() as u32)
    }

    /// The severity of an incident by evidence: one step worse than its rule has it if the same fires, at the same module,
    /// for half of the organisations or more.
    pub(super) fn severity_of(&self, incident: &Incident) -> Severity {
        let affected = self.spread.get(&place(incident)).map_or(0, |groups| groups.0.len());
        let is_spread = affected >= SPREAD_AT_LEAST && affected * 100 >= self.organisations.len() * SPREAD_PERCENT;
        if is_spread { incident.rule_severity.harsher() } else { incident.rule_severity }
    }
}

fn saw(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < NAMES_MAX && !names.contains(name) {
        names.insert(name.to_owned());
    }
}

fn place(incident: &Incident) -> (RuleName, Option<String>) {
    (incident.rule_name(), incident.module.clone())
}
