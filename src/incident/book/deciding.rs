//! Decisions: whether something is done about an incident now, asked again for as long as the answer may change.

use serde_json::Value;

use super::{Book, EscalationReason, Fact, FactKind, Incident};
use crate::decide::{Decision, Step, Verdict, sentence};
use crate::incident::attempt::Attempt;
use crate::incident::{ATTEMPTS_KEPT, LastDecision, Phase};
use crate::model::action::{Action, Intent, ValueChange};
use crate::model::pipeline::{Micros, Severity};

/// How soon a decision that was refused for a reason that passes is made again. Sooner asks the same more often.
const DECIDE_AGAIN: Micros = 60 * 1_000_000;
/// How long a reading of the present value may take before it is asked for again.
const READING_WAIT: Micros = 60 * 1_000_000;

impl Book {
    /// Decides whether something is done about an incident now, and begins it.
    pub(super) fn consider(&mut self, id: &str, now: Micros, token: u64) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        incident.decide_at = None;
        let is_ready = incident.is_firing && !incident.is_busy() && !incident.is_locked;
        let is_confirmed = incident.is_confirmed;
        match self.remedy_of(id) {
            None if is_ready => self.beyond_scope(id, now),
            Some(remedy) if is_ready && is_confirmed => {
                let action = self.policy.action(&remedy).cloned();
                if let Some(intent) = self.intent(id, &remedy, action.as_ref()) {
                    self.decide(id, intent, action.as_ref(), now, token);
                }
            }
            _ => self.plan(id),
        }
    }

    fn remedy_of(&self, id: &str) -> Option<String> {
        let facts = self.facts_of(self.incidents.get(id)?)?;
        facts.rule.remedy.as_ref().map(|remedy| remedy.action.clone())
    }

    /// What would be done; without the change of a number of which the present value is not known.
    fn intent(&self, id: &str, remedy: &str, action: Option<&Action>) -> Option<Intent> {
        let incident = self.incidents.get(id)?;
        let parameter = action.and_then(|action| action.parameter.as_ref());
        let change = parameter.zip(self.readings.get(id)).map(|(parameter, from)| ValueChange {
            parameter: parameter.name.clone(),
            from: *from,
            to: (from * parameter.factor).min(parameter.max).max(parameter.min),
        });
        let is_for_one = action.is_some_and(|action| action.tenant_specific);
        let tried = incident.attempts.iter().filter(|attempt| attempt.intent.action == remedy);
        Some(Intent {
            incident_id: id.to_owned(),
            action: remedy.to_owned(),
            target: incident.module.clone().unwrap_or_default(),
            organisation_id: incident.organisation_id.clone().filter(|_| is_for_one),
            attempt: tried.map(|attempt| attempt.intent.attempt).max().unwrap_or(0) + 1,
            change,
        })
    }

    fn decide(&mut self, id: &str, intent: Intent, action: Option<&Action>, now: Micros, token: u64) {
        self.readings.remove(id);
        let Some(case) = self.circumstances(id, &intent, action, now) else { return };
        let decision = self.policy.decide(&intent, &case);
        let has_number = action.is_some_and(|action| action.parameter.is_some());
        if has_number && intent.change.is_none() && stopped_at(&decision) == Some(Step::Range) {
            // Nothing but the number is in the way: it is read first, and the decision made when it is known.
            self.wanted.insert(id.to_owned());
            return self.decide_again(id, now.saturating_add(READING_WAIT));
        }
        let input = serde_json::json!({ "intent": &intent, "circumstances": &case });
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let reason = last_reason(&decision);
        let is_said = decision.verdict != Verdict::Act
            && incident.decided.as_ref().is_some_and(|before| before.says(&intent.action, &reason));
        incident.decided = Some(LastDecision { action: intent.action.clone(), reason: reason.clone(), at: now });
        let words = match (decision.verdict, action) {
            (Verdict::Act, Some(action)) => sentence(action, &intent, &cause(incident)),
            (Verdict::Act | Verdict::Observe, _) => {
                format!("Would have done {} on '{}' in mode act", intent.action, intent.target)
            }
            (Verdict::Refuse, _) => format!("Refused {} on '{}': {reason}", intent.action, intent.target),
        };
        let kind = if decision.verdict == Verdict::Act { FactKind::Intent } else { FactKind::Decision };
        let fact = Fact::of(kind, incident, words).about(&intent).decided(&decision, input);
        match decision.verdict {
            Verdict::Act => self.begin(id, intent, now, token),
            Verdict::Observe => {}
            Verdict::Refuse => self.refused(id, &decision, now),
        }
        if !is_said {
            self.outputs.facts.push(fact);
            self.changed(id, now);
        }
    }

    /// Step 11: the intent is written before anything is done.
    fn begin(&mut self, id: &str, intent: Intent, now: Micros, token: u64) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let attempt = Attempt::new(intent, token, now);
        self.recent.note(&attempt);
        incident.attempts.push(attempt);
        let surplus = incident.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        incident.attempts.drain(..surplus);
        incident.phase = Phase::Acting;
        incident.respond_by = None;
        self.changed(id, now);
    }

    /// What passes is asked again; what does not is for people.
    fn refused(&mut self, id: &str, decision: &Decision, now: Micros) {
        if may_pass(decision) {
            return self.decide_again(id, now.saturating_add(DECIDE_AGAIN));
        }
        self.beyond_scope(id, now);
    }

    fn beyond_scope(&mut self, id: &str, now: Micros) {
        if self.incidents.get(id).is_some_and(|incident| incident.severity == Severity::Critical) {
            self.escalate(id, EscalationReason::BeyondScope, now);
        }
        self.plan(id);
    }

    fn decide_again(&mut self, id: &str, at: Micros) {
        if let Some(incident) = self.incidents.get_mut(id) {
            incident.decide_at = Some(at);
        }
        self.plan(id);
    }

    /// The incidents for which the present value of what would be changed is to be read, since the last call.
    pub fn take_wanted(&mut self) -> Vec<(String, Intent)> {
        let wanted = std::mem::take(&mut self.wanted);
        let of = |id: String| {
            let incident = self.incidents.get(&id)?;
            let intent = Intent {
                incident_id: id.clone(),
                action: self.remedy_of(&id)?,
                target: incident.module.clone()?,
                organisation_id: incident.organisation_id.clone(),
                attempt: 0,
                change: None,
            };
            Some((id, intent))
        };
        wanted.into_iter().filter_map(of).collect()
    }

    /// The state as it is now, for a decision that waits for it.
    pub fn reading(&mut self, id: &str, state: &Value, now: Micros) {
        let parameter = self.remedy_of(id).and_then(|name| self.policy.action(&name)?.parameter.clone());
        let value = parameter.and_then(|parameter| state.get(&parameter.name)?.as_f64());
        if let Some(value) = value {
            self.readings.insert(id.to_owned(), value);
            self.decide_again(id, now);
        }
    }
}

impl LastDecision {
    /// True if it says the same, however long it is still to be waited for.
    fn says(&self, action: &str, reason: &str) -> bool {
        let without_numbers = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
        self.action == action && without_numbers(&self.reason) == without_numbers(reason)
    }
}

/// The last step and what it said: the one that refused, if one did.
fn last_reason(decision: &Decision) -> String {
    decision.reasons.last().map(ToString::to_string).unwrap_or_default()
}

/// True if what refused passes by itself, so that it is worth asking again.
fn may_pass(decision: &Decision) -> bool {
    !matches!(stopped_at(decision), Some(Step::Floor | Step::Permit | Step::Range))
}

/// The step that refused.
fn stopped_at(decision: &Decision) -> Option<Step> {
    decision.reasons.last().filter(|reason| !reason.passed).map(|reason| reason.step)
}

/// What a person would say is the matter: `error_rate 0.101 beyond 0.01`.
fn cause(incident: &Incident) -> String {
    let numbers = &incident.numbers;
    match (numbers.value, numbers.threshold) {
        (Some(value), Some(threshold)) => format!("{} {value:.4} beyond {threshold:.4}", numbers.measure),
        _ => format!("{} of {}", numbers.measure, incident.rule),
    }
}
