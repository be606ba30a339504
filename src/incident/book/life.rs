//! What detect's messages do to an incident: it opens, changes, recovers, comes back, and ends.

use std::collections::VecDeque;

use super::{Book, Claim, EscalationReason, INCIDENTS_MAX, Incident, NewsKind, Phase};
use crate::incident::fingerprint;
use crate::model::detection::Change;
use crate::model::pipeline::{Micros, RuleName, Scope, Severity};

/// So many beginnings and ends …
const FLAPS: usize = 4;
/// … within so many windows are flapping.
const FLAP_WINDOWS: Micros = 20;
/// A message about a window that ended longer ago than this needs a closed window of today before anything is done: after
/// a long rest the log is full of what is over.
const FRESH: Micros = 10 * 60 * 1_000_000;

impl Book {
    /// Hears a checked message.
    pub(super) fn claim(&mut self, claim: Claim, now: Micros) {
        let print = fingerprint(&claim.name.pipeline, &claim.name.rule, &claim.series);
        let known = self.current.get(&print).filter(|id| self.may_continue(id, now)).cloned();
        match (known, claim.change) {
            (Some(id), _) => self.update(&id, claim, now),
            (None, Change::Resolved) => {}
            (None, Change::Updated) if !claim.is_breach => {}
            (None, Change::Opened | Change::Updated) => self.open(print, claim, now),
        }
    }

    fn may_continue(&self, id: &str, now: Micros) -> bool {
        let resolved_at = self.incidents.get(id).map(|incident| incident.resolved_at);
        let is_over = |at: Micros| at.saturating_add(self.settings.reopen_within) <= now;
        resolved_at.is_some_and(|at| !at.is_some_and(is_over))
    }

    fn open(&mut self, fingerprint: String, claim: Claim, now: Micros) {
        if self.incidents.len() >= INCIDENTS_MAX {
            self.outputs.facts.push(super::Fact::refused("there are too many incidents to take in another one"));
            return;
        }
        if self.incidents.contains_key(&claim.incident_id) {
            self.outputs.facts.push(super::Fact::refused("its incident is another one"));
            return;
        }
        let before = self.current.get(&fingerprint).and_then(|id| self.incidents.get(id));
        let epoch = before.map_or(1, |incident| incident.epoch + 1);
        let name = &claim.name;
        let scope = self.rules.get(name).map_or(Scope::Configuration, |facts| facts.rule.scope);
        let has_remedy = self.rules.get(name).is_some_and(|facts| facts.rule.remedy.is_some());
        let (id, confirms) = (claim.incident_id.clone(), claim.confirms(now));
        let mut incident = Incident {
            incident_id: id.clone(),
            revision: 0,
            epoch,
            fingerprint: fingerprint.clone(),
            pipeline: name.pipeline.clone(),
            rule: name.rule.clone(),
            series: claim.series,
            organisation_id: claim.organisation_id,
            module: claim.module,
            phase: Phase::Firing,
            severity: claim.severity,
            rule_severity: claim.severity,
            scope,
            opened_at: claim.numbers.window_end.min(now),
            changed_at: now,
            resolved_at: None,
            detection_id: claim.detection_id,
            update: claim.update,
            is_firing: true,
            is_confirmed: confirms,
            flips: VecDeque::from([claim.numbers.window_end]),
            numbers: claim.numbers,
            attempts: Vec::new(),
            cleared_attempts: 0,
            is_locked: false,
            escalated: None,
            acknowledged: None,
            decided: None,
            decide_at: (confirms || !has_remedy).then_some(now),
            respond_by: None,
            hold_until: None,
            witness: None,
            ticket: None,
            proposal: None,
            evidence_sql: claim.evidence_sql,
        };
        if let Some(module) = &incident.module {
            self.platform.saw_module(module);
        }
        if let Some(organisation) = &incident.organisation_id {
            self.platform.saw_organisation(organisation);
        }
        self.platform.note(&incident);
        incident.severity = self.platform.severity_of(&incident);
        incident.respond_by = Some(self.settings.respond_by(incident.severity, now));
        self.current.insert(fingerprint, id.clone());
        self.incidents.insert(id.clone(), incident);
        self.news(&id, NewsKind::Opened);
        self.changed(&id, now);
    }

    fn update(&mut self, id: &str, claim: Claim, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let is_same = incident.detection_id == claim.detection_id;
        if is_same && claim.update <= incident.update {
            // Said before: after a crash everything may be.
            return;
        }
        if !is_same && claim.numbers.window_end < incident.numbers.window_end {
            // Of a detection that is over.
            return;
        }
        (incident.detection_id, incident.update) = (claim.detection_id.clone(), claim.update);
        match claim.change {
            Change::Resolved => self.recover(id, &claim, now),
            Change::Opened | Change::Updated => self.burn(id, claim, now),
        }
    }

    /// It goes on, or it is back.
    fn burn(&mut self, id: &str, claim: Claim, now: Micros) {
        let has_remedy = self.rules.get(&claim.name).is_some_and(|facts| facts.rule.remedy.is_some());
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let before = incident.rule_severity.max(incident.severity);
        let is_back = !incident.is_firing;
        if is_back {
            incident.note_flip(claim.numbers.window_end);
            incident.is_firing = true;
            incident.is_confirmed = false;
            incident.hold_until = None;
        }
        incident.is_confirmed |= claim.confirms(now) && claim.numbers.window_start >= incident.proven_until();
        incident.rule_severity = claim.severity;
        self.platform.note(incident);
        let evident = self.platform.severity_of(incident);
        let is_worse = evident > before;
        let respond_by = self.settings.respond_by(evident, now);
        incident.severity = evident.max(incident.floor_of_severity());
        incident.numbers = claim.numbers;
        incident.evidence_sql = claim.evidence_sql;
        if matches!(incident.phase, Phase::Recovering | Phase::Resolved) {
            let was_resolved = incident.phase == Phase::Resolved;
            incident.phase = if incident.escalated.is_some() { Phase::Escalated } else { Phase::Firing };
            incident.resolved_at = None;
            if was_resolved {
                (incident.acknowledged, incident.escalated) = (None, None);
                incident.phase = Phase::Firing;
                incident.respond_by = Some(respond_by);
            }
        }
        if (is_worse || is_back) && incident.acknowledged.is_none() && incident.escalated.is_none() {
            incident.respond_by = Some(incident.respond_by.map_or(respond_by, |before| before.min(respond_by)));
        }
        if (incident.is_confirmed || !has_remedy) && (is_worse || is_back) {
            incident.decide_at = Some(now);
        }
        if is_worse || is_back {
            self.news(id, if is_back { NewsKind::Opened } else { NewsKind::Changed });
        }
        self.changed(id, now);
    }

    /// Detect says that it is over. It must stay so for a while.
    fn recover(&mut self, id: &str, claim: &Claim, now: Micros) {
        let hold = self.settings.hold;
        let slide = self.slide_of(&claim.name);
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| incident.is_firing) else { return };
        incident.note_flip(claim.numbers.window_end);
        incident.is_firing = false;
        incident.decide_at = None;
        incident.numbers = claim.numbers.clone();
        // What flaps is held open until it has been quiet for as long as flapping is counted.
        let quiet = if incident.is_flapping(slide) { slide.saturating_mul(FLAP_WINDOWS).max(hold) } else { hold };
        incident.hold_until = Some(now.saturating_add(quiet));
        if !incident.is_busy() {
            incident.phase = Phase::Recovering;
        }
        self.changed(id, now);
    }

    /// It stayed over.
    pub(super) fn resolve(&mut self, id: &str, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        if incident.is_firing || incident.is_busy() {
            // An attempt that is under way ends first, so that its change is proven or taken back.
            incident.hold_until = incident.is_busy().then(|| now.saturating_add(self.settings.hold));
            return self.changed(id, now);
        }
        incident.phase = Phase::Resolved;
        incident.hold_until = None;
        incident.respond_by = None;
        incident.is_locked = false;
        incident.resolved_at = Some(now);
        self.news(id, NewsKind::Resolved);
        self.changed(id, now);
    }

    pub(super) fn slide_of(&self, name: &RuleName) -> Micros {
        self.rules.get(name).map_or(0, |facts| facts.slide)
    }
}

impl Incident {
    fn note_flip(&mut self, at: Micros) {
        self.flips.push_back(at);
        while self.flips.len() > FLAPS {
            self.flips.pop_front();
        }
    }

    /// True if it began and ended too often of late to be believed. `slide` is how far its windows advance.
    pub fn is_flapping(&self, slide: Micros) -> bool {
        let (Some(first), Some(last)) = (self.flips.front(), self.flips.back()) else { return false };
        let now = self.numbers.window_end.max(*last);
        self.flips.len() >= FLAPS && now.saturating_sub(*first) <= slide.saturating_mul(FLAP_WINDOWS)
    }

    /// What persists although everything was tried is critical, whatever the rule says.
    pub(super) fn floor_of_severity(&self) -> Severity {
        match &self.escalated {
            Some(escalation) if escalation.reason == EscalationReason::RepeatedFailure => Severity::Critical,
            _ => Severity::Low,
        }
    }
}

impl Claim {
    /// True if it is word of a closed window, and of today.
    fn confirms(&self, now: Micros) -> bool {
        self.is_complete && now.saturating_sub(self.numbers.window_end) <= FRESH
    }
}
