//! What a decision is made on: everything the book knows of one case, counted.

use super::{Book, Incident};
use crate::decide::{Circumstances, Counts, EVERYONE, Lease};
use crate::incident::attempt::Stage;
use crate::incident::claim::RuleFacts;
use crate::model::action::{Action, Intent};
use crate::model::pipeline::{Micros, Severity};

/// Who waits for a lease of which nobody knows the end asks again after this time.
const LEASE_AT_LEAST: Micros = 60 * 1_000_000;

impl Book {
    /// The case of this intent, as it is now. None: the incident or its rule is gone.
    pub(super) fn circumstances(
        &self,
        id: &str,
        intent: &Intent,
        action: Option<&Action>,
        now: Micros,
    ) -> Option<Circumstances> {
        let incident = self.incidents.get(id)?;
        let facts = self.facts_of(incident)?;
        let tried = incident.attempts.iter().filter(|attempt| attempt.intent.action == intent.action);
        let counted = tried.clone().filter(|attempt| attempt.intent.attempt > incident.cleared_attempts);
        let (unverified_in_a_row, last_unverified) = self.recent.unverified_in_a_row(&intent.action, &intent.target);
        let is_for_one = action.is_some_and(|action| action.tenant_specific) && intent.organisation_id.is_some();
        let (unhealthy_modules, modules) = self.platform.unhealthy();
        Some(Circumstances {
            now,
            mode: self.settings.mode,
            kill_switch: self.kill_switch,
            silenced_by: self.silenced_by(incident, now),
            severity: incident.severity,
            scope: incident.scope,
            flapping: incident.is_flapping(facts.slide),
            window_complete: incident.is_confirmed,
            baseline_warm: is_warm(incident, facts),
            // A closed window of it was seen, or was heard of from detect.
            target_seen: incident.module.is_some() && incident.is_confirmed,
            tenants_affected: if is_for_one { 1 } else { EVERYONE },
            value_before: intent.change.as_ref().map(|change| change.from),
            lease: self.lease(id, intent, now),
            actions_last_hour: self.counts(intent, now),
            unverified_in_a_row,
            last_unverified,
            attempts: tried.clone().map(|attempt| attempt.intent.attempt).max().unwrap_or(0),
            attempts_unverified: counted.filter(|attempt| attempt.is_unverified()).count() as u32,
            last_attempt: tried.map(|attempt| attempt.intended_at).max(),
            locked: incident.is_locked,
            last_on_target: self.recent.last(&intent.action, &intent.target),
            unhealthy_modules,
            modules,
        })
    }

    fn counts(&self, intent: &Intent, now: Micros) -> Counts {
        self.recent.counts(&intent.action, &intent.target, intent.organisation_id.as_deref(), now)
    }

    /// An attempt of another incident that works on the target, or one whose temporary change of the same thing lasts: a
    /// second change would find what the first one left, and restore that when both are over. It holds the lease for as
    /// long as it is busy or lasts, whatever the deadline of its present stage.
    fn lease(&self, id: &str, intent: &Intent, now: Micros) -> Option<Lease> {
        let active = self.active.iter().filter_map(|other| self.incidents.get(other));
        let mut attempts = active.flat_map(|incident| incident.attempts.iter().map(move |attempt| (incident, attempt)));
        let (_, holder) = attempts.find(|(incident, attempt)| {
            let is_at_work = incident.incident_id != id && attempt.is_busy();
            attempt.intent.target == intent.target && (is_at_work || attempt.lasts(intent))
        })?;
        let verify = self.policy.action(&holder.intent.action).map_or(0, |action| action.verify_within);
        let rest = if holder.stage == Stage::Settling { verify } else { 0 };
        let end = holder.due_at.map_or(now, |due| due.saturating_add(rest));
        Some(Lease { holder: holder.action_id.clone(), until: end.max(now.saturating_add(LEASE_AT_LEAST)) })
    }

    /// Who or what keeps the incident from being acted upon.
    fn silenced_by(&self, incident: &Incident, now: Micros) -> Option<String> {
        let silence = self.silences.of(incident, now).map(|one| format!("{}: {}", one.owner, one.reason));
        silence.or_else(|| self.silence_of_source(&incident.pipeline))
    }
}

impl Incident {
    /// True if it makes its module unhealthy.
    pub(super) fn is_grave(&self) -> bool {
        self.is_firing && self.rule_severity >= Severity::High
    }
}

fn is_warm(incident: &Incident, facts: &RuleFacts) -> bool {
    !facts.rule.technique.has_baseline() || incident.numbers.baseline.is_some()
}
