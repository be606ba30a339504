//! What follows from a decision to act: attempts are answered, proven, taken back, and given up.

use serde_json::Value;

use super::{Book, EscalationReason, Fact, FactKind, NewsKind, Phase};
use crate::decide::ATTEMPTS_MAX;
use crate::incident::attempt::{Answer, Attempt, Call, Stage};
use crate::incident::proof::{ClosedWindow, Saying};
use crate::model::action::{Action, AdapterSpec};
use crate::model::pipeline::{Micros, Severity};

/// How soon after an attempt that did not help the next one is considered.
const CONSIDER_AGAIN: Micros = 60 * 1_000_000;
/// Two numbers that differ by less than this share are the same number read twice.
const SAME: f64 = 1e-9;

impl Book {
    /// Takes the answer to a call. One that nobody waits for any more changes nothing.
    pub fn answer(&mut self, id: &str, action_id: &str, call: Call, answer: Answer, now: Micros) {
        let Some(action) = self.action_of(id, action_id) else { return };
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let Some(attempt) = incident.attempts.iter_mut().find(|attempt| attempt.action_id == action_id) else { return };
        if attempt.job().is_none_or(|job| job.call != call) {
            return;
        }
        let fact = match call {
            Call::Snapshot => attempt.answer_snapshot(answer, now),
            Call::Apply => attempt.answer_apply(answer, &action, now),
            Call::Revert => attempt.answer_revert(answer, now),
        };
        let attempt = attempt.clone();
        self.recent.note(&attempt);
        let fact = Fact::of(fact.0, incident, fact.1).about(&attempt.intent).states(&attempt);
        self.outputs.facts.push(fact);
        self.follow(id, &attempt, now);
    }

    fn action_of(&self, id: &str, action_id: &str) -> Option<Action> {
        let attempts = &self.incidents.get(id)?.attempts;
        let attempt = attempts.iter().find(|attempt| attempt.action_id == action_id)?;
        self.policy.action(&attempt.intent.action).cloned()
    }

    /// What the end of an attempt, or its next stage, means for the incident.
    fn follow(&mut self, id: &str, attempt: &Attempt, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        incident.phase = match attempt.stage {
            Stage::Intended | Stage::Applying | Stage::RollingBack => Phase::Acting,
            Stage::Settling | Stage::Proving => Phase::Settling,
            Stage::Verified | Stage::Reverted | Stage::Reverting => incident.phase,
            Stage::Failed => Phase::Firing,
            Stage::RolledBack | Stage::Stuck => Phase::RolledBack,
        };
        if !attempt.is_busy() && attempt.is_unverified() {
            self.gave_up(id, attempt, now);
        }
        self.settle_recovery(id);
        self.changed(id, now);
    }

    /// An attempt ended, so an incident that is over already may recover.
    fn settle_recovery(&mut self, id: &str) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        if !incident.is_firing && !incident.is_busy() && incident.phase != Phase::Resolved {
            incident.phase = Phase::Recovering;
        }
    }

    /// It did not help: another attempt later, or people.
    fn gave_up(&mut self, id: &str, attempt: &Attempt, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let counts = |one: &&Attempt| one.is_unverified() && one.intent.attempt > incident.cleared_attempts;
        let failures = incident.attempts.iter().filter(counts).count();
        if failures >= ATTEMPTS_MAX as usize {
            incident.is_locked = true;
            incident.severity = Severity::Critical;
            return self.escalate(id, EscalationReason::RepeatedFailure, now);
        }
        if attempt.stage == Stage::Stuck {
            incident.is_locked = true;
            return self.escalate(id, EscalationReason::Ambiguous, now);
        }
        incident.decide_at = Some(now.saturating_add(CONSIDER_AGAIN));
    }

    /// Steps 14 to 16, as far as they are a matter of time.
    pub(super) fn attempts_due(&mut self, id: &str, now: Micros, token: u64) {
        let Some(incident) = self.incidents.get(id) else { return };
        let due = incident.attempts.iter().filter(|attempt| attempt.due_at.is_some_and(|at| at <= now));
        for action_id in due.map(|attempt| attempt.action_id.clone()).collect::<Vec<_>>() {
            self.attempt_due(id, &action_id, now, token);
        }
    }

    fn attempt_due(&mut self, id: &str, action_id: &str, now: Micros, token: u64) {
        let action = self.action_of(id, action_id);
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let Some(attempt) = incident.attempts.iter_mut().find(|attempt| attempt.action_id == action_id) else { return };
        let said = match (attempt.stage, &action) {
            (Stage::Settling, Some(action)) => {
                attempt.settled(action, now);
                None
            }
            (Stage::Proving, Some(action)) => {
                let why = attempt.proof.words();
                // Another attempt needs a number from after this one, too.
                incident.is_confirmed = attempt.proof.bad_windows > 0;
                attempt.unproven(&why, has_revert(action) && attempt.before.is_some(), now);
                Some((FactKind::Unverified, format!("Not verified: {why}")))
            }
            (Stage::Verified, Some(_)) => {
                attempt.expired(token);
                Some((FactKind::Effect, "The time of the temporary change is over: it is taken back".to_owned()))
            }
            (_, None) => {
                attempt.stuck("the catalogue has this action no more".to_owned(), now);
                Some((FactKind::Failed, "The catalogue has this action no more: people must look".to_owned()))
            }
            _ => {
                attempt.due_at = None;
                None
            }
        };
        let attempt = attempt.clone();
        self.recent.note(&attempt);
        if let Some((kind, words)) = said {
            let fact = Fact::of(kind, incident, words).about(&attempt.intent).states(&attempt);
            self.outputs.facts.push(fact);
        }
        self.follow(id, &attempt, now);
    }

    /// Takes what a closed window says about the incidents that wait for one.
    pub fn window(&mut self, window: &ClosedWindow, now: Micros) {
        if let Some(module) = window.module() {
            self.platform.saw_module(module);
        }
        if let Some(organisation) = window.organisation() {
            self.platform.saw_organisation(organisation);
        }
        self.saw_source(&window.pipeline, window.module(), window.window_end, now);
        let Some(watching) = self.watching.get(&window.pipeline) else { return };
        let series = self.rules.labels(&window.pipeline).and_then(|labels| window.series(labels));
        let concerned = series.and_then(|series| watching.get(&series)).cloned().unwrap_or_default();
        for id in concerned {
            self.window_of(&id, window, now);
        }
    }

    fn window_of(&mut self, id: &str, window: &ClosedWindow, now: Micros) {
        let Some(incident) = self.incidents.get(id) else { return };
        let Some(facts) = self.facts_of(incident) else { return };
        let said = window.says(incident, facts);
        let Some(incident) = self.incidents.get_mut(id) else { return };
        if !incident.is_confirmed
            && said.0 == Saying::Bad
            && window.window_end >= incident.numbers.window_end
            && window.window_start >= incident.proven_until()
        {
            incident.is_confirmed = true;
            incident.decide_at = Some(now);
            if incident.phase == Phase::Verified {
                incident.phase = Phase::Firing;
                incident.severity = self.platform.severity_of(incident);
            }
            self.changed(id, now);
        }
        self.prove(id, window, said, now);
    }

    /// Step 15: samples from after the action decide, and no others.
    fn prove(&mut self, id: &str, window: &ClosedWindow, said: (Saying, Option<f64>, Option<u64>), now: Micros) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let is_waiting = |attempt: &&mut Attempt| matches!(attempt.stage, Stage::Settling | Stage::Proving);
        let Some(attempt) = incident.attempts.iter_mut().find(is_waiting) else { return };
        if !attempt.proof.take(window, said) {
            return;
        }
        let action = self.policy.action(&attempt.intent.action);
        let (Some(action), true) = (action, attempt.proof.is_complete()) else {
            return self.changed(id, now);
        };
        attempt.verified(action, now);
        let attempt = attempt.clone();
        let words = format!("Verified on samples from after the action: {}", attempt.proof.words());
        self.recent.note(&attempt);
        incident.phase = Phase::Verified;
        incident.is_confirmed = false;
        incident.severity = incident.rule_severity.milder();
        let fact = Fact::of(FactKind::Verified, incident, words).about(&attempt.intent).states(&attempt);
        self.outputs.facts.push(fact);
        self.news(id, NewsKind::Changed);
        self.follow(id, &attempt, now);
    }
}

fn has_revert(action: &Action) -> bool {
    match &action.adapter {
        AdapterSpec::Http(http) => http.revert.is_some(),
        AdapterSpec::Command(command) => command.revert.is_some(),
    }
}

impl Attempt {
    fn answer_snapshot(&mut self, answer: Answer, now: Micros) -> (FactKind, String) {
        match answer {
            Answer::Done(before) if !self.is_as_intended(&before) => {
                let why = "the value is another one than the decision was made on".to_owned();
                self.failed(why.clone(), now);
                (FactKind::Failed, format!("Nothing was done: {why}"))
            }
            Answer::Done(before) => {
                self.snapshot_taken(before);
                (FactKind::Snapshot, "The state before was kept".to_owned())
            }
            Answer::Refused(why) | Answer::NotSent(why) | Answer::Unknown(why) => {
                self.failed(format!("the state before could not be read: {why}"), now);
                (FactKind::Failed, format!("Nothing was done: the state before could not be read: {why}"))
            }
        }
    }

    /// True if what is there is what the decision was made on.
    fn is_as_intended(&self, before: &Value) -> bool {
        self.intent.change.as_ref().is_none_or(|change| {
            let found = before.get(&change.parameter).and_then(Value::as_f64);
            found.is_some_and(|found| (found - change.from).abs() <= SAME * change.from.abs().max(1.0))
        })
    }

    fn answer_apply(&mut self, answer: Answer, action: &Action, now: Micros) -> (FactKind, String) {
        match answer {
            Answer::Done(after) => {
                self.applied(Some(after), action, now);
                (FactKind::Effect, "It was done".to_owned())
            }
            // Perhaps it was done: then its effect needs the same time, and the samples tell.
            Answer::Unknown(why) => {
                self.applied(None, action, now);
                (FactKind::Effect, format!("It was sent, and nobody knows what came of it: {why}"))
            }
            Answer::Refused(why) | Answer::NotSent(why) => {
                self.failed(why.clone(), now);
                (FactKind::Failed, format!("Nothing was done: {why}"))
            }
        }
    }

    fn answer_revert(&mut self, answer: Answer, now: Micros) -> (FactKind, String) {
        let kind = if self.stage == Stage::Reverting { FactKind::Reverted } else { FactKind::RolledBack };
        match answer {
            Answer::Done(after) if self.is_restored(&after) => {
                self.reverted(after, now);
                (kind, "The state from before the action is restored".to_owned())
            }
            Answer::Done(after) => {
                self.after = Some(after);
                self.stuck("it was taken back, but the state before is not there again".to_owned(), now);
                (FactKind::Failed, "It was taken back, but the state before is not there again".to_owned())
            }
            Answer::NotSent(why) | Answer::Unknown(why) if self.revert_later(now) => {
                (FactKind::Failed, format!("It could not be taken back yet: {why}"))
            }
            Answer::Refused(why) | Answer::NotSent(why) | Answer::Unknown(why) => {
                self.stuck(format!("it could not be taken back: {why}"), now);
                (FactKind::Failed, format!("It could not be taken back: {why}"))
            }
        }
    }

    /// A revert is proven by the state that it leaves: every part of the state before is there again.
    fn is_restored(&self, after: &Value) -> bool {
        match (&self.before, after) {
            (Some(Value::Object(before)), Value::Object(after)) => {
                before.iter().all(|(name, value)| after.get(name) == Some(value))
            }
            (before, after) => before.as_ref() == Some(after),
        }
    }
}
