//! One entry: what was decided or done, by whom, to what, why, and what was before and after.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::canonical::{canonical, object, quoted};
use super::chain::Head;
use super::hash::Hash;
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;

/// What is hashed is an entry, of this version.
const HASHED: &str = "maturion.audit.entry.v1";
/// What is hashed is a state that was too large for its entry.
const HASHED_STATE: &str = "maturion.audit.state.v1";

/// The longest name or id, bytes; a longer one is replaced by its hash, so that no two become one. With the bounds below,
/// an entry has 100 KB at most, far below what a topic takes.
const NAME_BYTES_MAX: usize = 512;
/// The longest sentence or reason, bytes; a longer one is cut. More makes entries and the table `audit` larger.
const WORDS_BYTES_MAX: usize = 1_024;
/// Reasons of one entry; of further ones the number is told.
const REASONS_MAX: usize = 32;
/// The largest `before` or `after`, bytes of its canonical text; of a larger one its hash and its beginning are kept.
const STATE_BYTES_MAX: usize = 16 * 1024;
/// As much of a state that is too large is kept to be read.
const STATE_BYTES_SHOWN: usize = 2 * 1024;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whether something may be done, and why; also that it may not.
    Decision,
    /// Something is going to be done: written before it is.
    Intent,
    /// It was done.
    Effect,
    /// It could not be done, or nobody knows whether it was.
    Failed,
    /// Samples from after the effect show that it helped.
    Verified,
    /// … or that it did not.
    Unverified,
    /// The state before was restored because the effect did not help.
    RolledBack,
    /// A temporary change ended as planned.
    Reverted,
    Escalated,
    /// Something is not tried again until a person allows it.
    Locked,
    Silence,
    Acknowledge,
    /// What a person did, other than the above.
    Operator,
    /// An issue or a pull request was opened or changed.
    Ticket,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::Decision,
        Kind::Intent,
        Kind::Effect,
        Kind::Failed,
        Kind::Verified,
        Kind::Unverified,
        Kind::RolledBack,
        Kind::Reverted,
        Kind::Escalated,
        Kind::Locked,
        Kind::Silence,
        Kind::Acknowledge,
        Kind::Operator,
        Kind::Ticket,
    ];

    /// The kind in a word, as the topic and the table `audit` have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Decision => "decision",
            Kind::Intent => "intent",
            Kind::Effect => "effect",
            Kind::Failed => "failed",
            Kind::Verified => "verified",
            Kind::Unverified => "unverified",
            Kind::RolledBack => "rolled_back",
            Kind::Reverted => "reverted",
            Kind::Escalated => "escalated",
            Kind::Locked => "locked",
            Kind::Silence => "silence",
            Kind::Acknowledge => "acknowledge",
            Kind::Operator => "operator",
            Kind::Ticket => "ticket",
        }
    }
}

/// An entry before it has its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Wall time.
    pub time: Micros,
    pub kind: Kind,
    /// Who did it: an instance of Maturion, or a person.
    pub actor: String,
    /// The whole in plain words: "Restarted edge function 'threat-analysis' due to high error rate".
    pub sentence: String,
    pub incident_id: Option<String>,
    /// What joins the entries of one attempt: [`crate::model::action::Intent::key`].
    pub action_id: Option<String>,
    pub action: Option<String>,
    pub target: Option<String>,
    /// Whose entry it is. None: the operator's alone.
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    /// Of a decision, in a word: `allow`, `deny`, `observe`.
    pub decision: Option<String>,
    /// What decided, so that the decision can be made again.
    pub policy_hash: Option<String>,
    pub reasons: Vec<String>,
    /// What was decided about, so that the decision can be made again.
    pub input_hash: Option<String>,
    /// The target's state, as far as the action concerns it.
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Draft {
    /// A draft of what every entry has.
    pub fn new(time: Micros, kind: Kind, actor: impl Into<String>, sentence: impl Into<String>) -> Draft {
        Draft {
            time,
            kind,
            actor: actor.into(),
            sentence: sentence.into(),
            incident_id: None,
            action_id: None,
            action: None,
            target: None,
            organisation_id: None,
            module: None,
            decision: None,
            policy_hash: None,
            reasons: vec![],
            input_hash: None,
            before: None,
            after: None,
        }
    }

    /// Each member as canonical JSON, within its bounds.
    fn members(&self) -> BTreeMap<&'static str, String> {
        let name = |name: &Option<String>| name.as_deref().map_or("null".to_owned(), |name| quoted(&bounded(name)));
        let state = |state: &Option<Value>| state.as_ref().map_or("null".to_owned(), bounded_state);
        BTreeMap::from([
            ("time", quoted(&format_time(self.time))),
            ("kind", quoted(self.kind.name())),
            ("actor", quoted(&bounded(&self.actor))),
            ("sentence", quoted(&cut(&self.sentence, WORDS_BYTES_MAX))),
            ("incident_id", name(&self.incident_id)),
            ("action_id", name(&self.action_id)),
            ("action", name(&self.action)),
            ("target", name(&self.target)),
            ("organisation_id", name(&self.organisation_id)),
            ("module", name(&self.module)),
            ("decision", name(&self.decision)),
            ("policy_hash", name(&self.policy_hash)),
            ("reasons", canonical(&reasons(&self.reasons))),
            ("input_hash", name(&self.input_hash)),
            ("before", state(&self.before)),
            ("after", state(&self.after)),
        ])
    }
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The chain with this entry as its last.
    pub head: Head,
    /// What it is filed under on the topic: the action's id, or without one the incident's.
    pub key: Option<String>,
    text: String,
}

impl Entry {
    pub(super) fn after(head: Head, draft: &Draft) -> Entry {
        let mut members = draft.members();
        let seq = head.seq.saturating_add(1);
        members.insert("seq", seq.to_string());
        members.insert("previous_hash", quoted(&head.hash.to_string()));
        let hash = hash(&written(&members));
        members.insert("hash", quoted(&hash.to_string()));
        Entry {
            head: Head { seq, hash },
            key: draft.action_id.clone().or_else(|| draft.incident_id.clone()),
            text: written(&members),
        }
    }

    /// The message on the audit topic: a JSON object in its canonical form.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn written(members: &BTreeMap<&'static str, String>) -> String {
    object(members.iter().map(|(name, value)| (*name, value.as_str())))
}

/// The hash of an entry, from its canonical text without the member `hash`.
pub(super) fn hash(text: &str) -> Hash {
    Hash::of(HASHED, text)
}

fn bounded(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX { name.to_owned() } else { format!("sha256:{}", Hash::of(HASHED_STATE, name)) }
}

/// The beginning of a text that is too long, with a sign that it was cut.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let sign = "…";
    let end = (0..=bytes_max - sign.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{sign}", text.get(..end).unwrap_or_default())
}

fn reasons(reasons: &[String]) -> Value {
    let mut kept = reasons.iter().take(REASONS_MAX).map(|reason| cut(reason, WORDS_BYTES_MAX)).collect::<Vec<_>>();
    if reasons.len() > REASONS_MAX {
        kept.push(format!("and {} more", reasons.len() - REASONS_MAX));
    }
    json!(kept)
}

fn bounded_state(state: &Value) -> String {
    let text = canonical(state);
    if text.len() <= STATE_BYTES_MAX {
        return text;
    }
    canonical(&json!({
        "truncated": true,
        "bytes": text.len(),
        "sha256": Hash::of(HASHED_STATE, &text).to_string(),
        "begins": cut(&text, STATE_BYTES_SHOWN),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Chain;

    #[test]
    fn an_entry_reads_as_one_line_of_json() {
        let draft = Draft {
            incident_id: Some("0f1e".into()),
            action_id: Some("77aa".into()),
            action: Some("function_recycle".into()),
            target: Some("threat-analysis".into()),
            organisation_id: Some("org_1".into()),
            module: Some("threat-analysis".into()),
            before: Some(json!({"state": "running", "instances": 2.0, "errors": [0.1, 1e21]})),
            reasons: vec!["the action is allowed by policy".into()],
            ..Draft::new(
                1_764_756_000_000_000,
                Kind::Effect,
                "maturion/west-1",
                "Restarted edge function 'threat-analysis' due to high error rate",
            )
        };
        let mut chain = Chain::after(Head::NONE);
        let (first, second) = (chain.append(&draft), chain.append(&draft));
        assert_eq!((first.head.seq, second.head.seq), (1, 2));
        assert_eq!(first.key.as_deref(), Some("77aa"));
        insta::assert_snapshot!("entries", format!("{}\n{}", first.text(), second.text()));
    }

    #[test]
    fn whatever_is_audited_an_entry_stays_within_its_bounds() {
        let long = "é".repeat(1_000_000);
        let draft = Draft {
            incident_id: Some(long.clone()),
            organisation_id: Some(long.clone()),
            reasons: vec![long.clone(); 1_000],
            before: Some(json!({ "state": long })),
            after: Some(json!(vec![long.as_str(); 3])),
            ..Draft::new(0, Kind::Decision, long.clone(), long.clone())
        };
        let entry = Chain::after(Head::NONE).append(&draft);
        assert!(entry.text().len() < 100 * 1024, "{}", entry.text().len());
        let read: Value = serde_json::from_str(entry.text()).unwrap();
        assert_eq!(read["before"]["truncated"], json!(true));
        assert_eq!(read["before"]["bytes"], json!(2_000_012));
        assert_eq!(read["reasons"][REASONS_MAX], json!("and 968 more"));
        assert!(read["sentence"].as_str().unwrap().ends_with("é…"));
        assert!(read["organisation_id"].as_str().unwrap().starts_with("sha256:"));
    }

    #[test]
    fn two_names_that_are_too_long_do_not_become_one() {
        let name = |end: &str| bounded(&format!("{}{end}", "x".repeat(NAME_BYTES_MAX)));
        assert_ne!(name("a"), name("b"));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
