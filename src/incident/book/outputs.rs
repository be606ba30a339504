//! What the book wants written and told.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::decide::Decision;
use crate::incident::attempt::Attempt;
use crate::incident::{EscalationReason, Incident};
use crate::model::action::Intent;
use crate::model::silence::Silence;
use crate::model::time::format_time;

/// Everything of one transaction.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Incidents whose state changed.
    pub changed: BTreeSet<String>,
    /// Incidents that are forgotten: to be deleted.
    pub forgotten: Vec<String>,
    /// Silences that are new or changed; `None`: over.
    pub silences: Vec<(String, Option<Silence>)>,
    /// What goes into the audit, in order.
    pub facts: Vec<Fact>,
    /// What people may want to hear of, in order.
    pub news: Vec<News>,
}

impl Outputs {
    /// True if nothing is to be written or told.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
            && self.forgotten.is_empty()
            && self.silences.is_empty()
            && self.facts.is_empty()
            && self.news.is_empty()
    }
}

/// What kind of fact it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// It was decided whether to act.
    Decision,
    /// The intent to act, before anything is done.
    Intent,
    /// The state before an action.
    Snapshot,
    /// It was done, or may have been.
    Effect,
    /// It was not done, or cannot be taken back.
    Failed,
    Verified,
    Unverified,
    RolledBack,
    /// A temporary change was taken back.
    Reverted,
    Escalated,
    Acknowledged,
    Unlocked,
    Silenced,
    /// A message was not heard.
    Refused,
}

/// One fact for the audit.
#[derive(Clone, Debug)]
pub struct Fact {
    pub kind: FactKind,
    /// `maturion`, or the person who asked.
    pub actor: String,
    pub incident_id: Option<String>,
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    /// The action's intent, if it is about one.
    pub intent: Option<Intent>,
    /// `act`, `observe` or `refuse`, for decisions.
    pub decision: Option<&'static str>,
    pub reasons: Vec<String>,
    pub policy_hash: Option<String>,
    /// What was decided on, so that it can be decided again.
    pub input: Value,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// In plain words.
    pub sentence: String,
}

/// Something to be told about an incident, whose state says the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    pub incident_id: String,
    pub kind: NewsKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum NewsKind {
    Opened,
    /// Its severity or its numbers changed in a way that matters.
    Changed,
    Escalated(EscalationReason),
    Acknowledged {
        by: String,
    },
    Resolved,
}

/// Who acts when no person asked.
const AGENT: &str = "maturion";

impl Fact {
    /// A fact about an incident.
    pub(super) fn of(kind: FactKind, incident: &Incident, sentence: String) -> Fact {
        Fact {
            kind,
            actor: AGENT.to_owned(),
            incident_id: Some(incident.incident_id.clone()),
            organisation_id: incident.organisation_id.clone(),
            module: incident.module.clone(),
            intent: None,
            decision: None,
            reasons: Vec::new(),
            policy_hash: None,
            input: Value::Null,
            before: None,
            after: None,
            sentence,
        }
    }

    /// A fact about no incident.
    fn without_incident(kind: FactKind, actor: &str, sentence: String) -> Fact {
        Fact {
            kind,
            actor: actor.to_owned(),
            incident_id: None,
            organisation_id: None,
            module: None,
            intent: None,
            decision: None,
            reasons: Vec::new(),
            policy_hash: None,
            input: Value::Null,
            before: None,
            after: None,
            sentence,
        }
    }

    pub(super) fn refused(reason: &str) -> Fact {
        let sentence = format!("A message of the remediation topic was not heard: {reason}");
        Fact::without_incident(FactKind::Refused, AGENT, sentence)
    }

    pub(super) fn silenced(by: &str, silence: &Silence) -> Fact {
        let (labels, until) = (words(silence), format_time(silence.until));
        let sentence = format!("{by} silenced {labels} until {until}: {}", silence.reason);
        Fact::without_incident(FactKind::Silenced, by, sentence)
    }

    pub(super) fn unsilenced(by: &str, silence: &Silence) -> Fact {
        let sentence = format!("{by} ended the silence of {}", words(silence));
        Fact::without_incident(FactKind::Silenced, by, sentence)
    }

    pub(super) fn by(self, person: &str) -> Fact {
        Fact { actor: person.to_owned(), ..self }
    }

    pub(super) fn about(self, intent: &Intent) -> Fact {
        Fact { intent: Some(intent.clone()), ..self }
    }

    pub(super) fn decided(self, decision: &Decision, input: Value) -> Fact {
        Fact {
            decision: Some(decision.verdict.name()),
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
            policy_hash: Some(decision.policy_hash.clone()),
            input,
            ..self
        }
    }

    pub(super) fn states(self, attempt: &Attempt) -> Fact {
        Fact { before: attempt.before.clone(), after: attempt.after.clone(), ..self }
    }
}

fn words(silence: &Silence) -> String {
    silence.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}
