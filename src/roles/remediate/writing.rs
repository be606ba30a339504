//! What the book said, as records of the log.

use sha2::{Digest, Sha256};

use super::RemediateError;
use super::actor::Actor;
use super::restoring::{NOTICES, SILENCE_PREFIX, STATE_AT};
use crate::audit::canonical::canonical;
use crate::audit::{CHECKPOINT, Draft, Kind};
use crate::incident::book::outputs::{Fact, FactKind, Outputs};
use crate::log::partitioner::partition_of;
use crate::log::{LogError, Outgoing, Session};
use crate::model::pipeline::Micros;
use crate::roles::Runtime;

/// Everything the book said, into the open transaction. Returns the kinds of the entries of the audit.
pub(super) fn send(
    runtime: &Runtime,
    session: &mut dyn Session,
    actor: &mut Actor,
    outputs: &Outputs,
    now: Micros,
) -> Result<Vec<&'static str>, RemediateError> {
    send_incidents(runtime, session, actor, outputs)?;
    send_silences(runtime, session, outputs)?;
    send_notices(runtime, session, actor)?;
    let topic = runtime.topics.audit();
    for fact in &outputs.facts {
        let entry = actor.chain.append(&draft(fact, now));
        let (key, value) = (entry.key.as_deref().map(str::as_bytes), Some(entry.text().as_bytes()));
        session.send(Outgoing { topic: &topic, partition: Some(0), key, value, ..Outgoing::default() })?;
    }
    if let Some(checkpoint) = actor.checkpoint(now) {
        let text = checkpoint.text();
        let (key, value) = (Some(CHECKPOINT.as_bytes()), Some(text.as_bytes()));
        session.send(Outgoing { topic: &topic, partition: Some(0), key, value, ..Outgoing::default() })?;
    }
    Ok(outputs.facts.iter().map(|fact| kind(fact.kind).name()).collect())
}

fn send_incidents(
    runtime: &Runtime,
    session: &mut dyn Session,
    actor: &Actor,
    outputs: &Outputs,
) -> Result<(), RemediateError> {
    let topic = runtime.topics.incidents();
    let mut send = |id: &str, value: Option<&[u8]>| -> Result<(), LogError> {
        // An incident stays in one partition, so that its newest state is its last message.
        let partition = Some(partition_of(id.as_bytes(), runtime.partitions));
        session.send(Outgoing { topic: &topic, partition, key: Some(id.as_bytes()), value, ..Outgoing::default() })
    };
    for id in &outputs.changed {
        let Some(incident) = actor.book.incident(id) else { continue };
        let value = serde_json::to_vec(incident).map_err(|error| unwritable(id, &error))?;
        send(id, Some(&value))?;
    }
    outputs.forgotten.iter().try_for_each(|id| send(id, None))?;
    Ok(())
}

fn send_silences(runtime: &Runtime, session: &mut dyn Session, outputs: &Outputs) -> Result<(), RemediateError> {
    let topic = runtime.topics.progress();
    for (id, silence) in &outputs.silences {
        let key = format!("{SILENCE_PREFIX}{id}");
        let value = silence.as_ref().map(serde_json::to_vec).transpose().map_err(|error| unwritable(&key, &error))?;
        let (partition, key, value) = (Some(STATE_AT), Some(key.as_bytes()), value.as_deref());
        session.send(Outgoing { topic: &topic, partition, key, value, ..Outgoing::default() })?;
    }
    Ok(())
}

/// What is kept of notices, if it changed.
fn send_notices(runtime: &Runtime, session: &mut dyn Session, actor: &mut Actor) -> Result<(), RemediateError> {
    let Some(notices) = actor.notices.as_mut().filter(|notices| notices.is_changed()) else { return Ok(()) };
    let value = serde_json::to_vec(&notices.kept()).map_err(|error| unwritable(NOTICES, &error))?;
    let (topic, partition) = (runtime.topics.progress(), Some(STATE_AT));
    let (key, value) = (Some(NOTICES.as_bytes()), Some(value.as_slice()));
    Ok(session.send(Outgoing { topic: &topic, partition, key, value, ..Outgoing::default() })?)
}

/// A fact as an entry of the audit.
fn draft(fact: &Fact, now: Micros) -> Draft {
    let intent = fact.intent.as_ref();
    Draft {
        incident_id: fact.incident_id.clone(),
        action_id: intent.map(|intent| intent.key()),
        action: intent.map(|intent| intent.action.clone()),
        target: intent.map(|intent| intent.target.clone()),
        organisation_id: fact.organisation_id.clone(),
        module: fact.module.clone(),
        decision: fact.decision.map(str::to_owned),
        policy_hash: fact.policy_hash.clone(),
        reasons: fact.reasons.clone(),
        input_hash: (!fact.input.is_null()).then(|| input_hash(&fact.input)),
        before: fact.before.clone(),
        after: fact.after.clone(),
        ..Draft::new(now, kind(fact.kind), fact.actor.clone(), fact.sentence.clone())
    }
}

fn input_hash(input: &serde_json::Value) -> String {
    Sha256::digest(canonical(input)).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind(kind: FactKind) -> Kind {
    match kind {
        FactKind::Decision | FactKind::Refused => Kind::Decision,
        FactKind::Intent => Kind::Intent,
        FactKind::Snapshot | FactKind::Effect => Kind::Effect,
        FactKind::Failed => Kind::Failed,
        FactKind::Verified => Kind::Verified,
        FactKind::Unverified => Kind::Unverified,
        FactKind::RolledBack => Kind::RolledBack,
        FactKind::Reverted => Kind::Reverted,
        FactKind::Escalated => Kind::Escalated,
        FactKind::Acknowledged => Kind::Acknowledge,
        FactKind::Unlocked => Kind::Operator,
        FactKind::Silenced => Kind::Silence,
    }
}

fn unwritable(key: &str, error: &dyn std::fmt::Display) -> RemediateError {
    RemediateError::Write { key: key.to_owned(), reason: error.to_string() }
}
