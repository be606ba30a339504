//! The audit topic: read from its start to its end to verify it, or from near its end to go on from there.
//!
//! It never writes. The chain has one partition and one writer at a time, so what stands there stands in the order in
//! which it was written.

use thiserror::Error;

use crate::audit::{Head, Message, Verifier};
use crate::log::topics::Topics;
use crate::log::{Log, LogError, Partition};
use crate::roles::committed::read_range;

/// So far before the end the last entry is looked for at first, then four times as far each time. Between it and the end
/// there are only checkpoints and the markers of transactions.
const LAST_ENTRY_WITHIN: i64 = 256;

/// Why the audit topic cannot be read or gone on with.
#[derive(Debug, Error)]
pub enum AuditTopicError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the last entry of the audit, at offset {offset}, is not as it was written ({reason}); nothing is added to it \
         before a person has looked: `maturion audit verify` says more"
    )]
    Damaged { offset: i64, reason: String },
}

/// Shows the whole topic to a verifier.
pub fn verify(log: &dyn Log, topics: &Topics, verifier: &mut Verifier) -> Result<(), LogError> {
    for (partition, (earliest, end)) in partitions(log, topics)? {
        read_range(log, &partition, (earliest, end), &|| {}, &mut |record| {
            verifier.take(record.value.unwrap_or_default())
        })?;
    }
    Ok(())
}

/// The end of the chain on the topic. Transactions that were open when it is called are decided first.
pub fn head(log: &dyn Log, topics: &Topics) -> Result<Head, AuditTopicError> {
    let mut head = Head::NONE;
    for (partition, (earliest, end)) in partitions(log, topics)? {
        head = last_entry(log, &partition, earliest, end)?.unwrap_or(head);
    }
    Ok(head)
}

/// A partition, with its earliest kept and its next offset.
type Kept = (Partition, (i64, i64));

fn partitions(log: &dyn Log, topics: &Topics) -> Result<Vec<Kept>, LogError> {
    let topic = topics.audit();
    let found = log.describe(std::slice::from_ref(&topic))?;
    let Some(found) = found.first() else { return Err(LogError::UnknownTopic { topic }) };
    let partition = |number| Partition { topic: topic.as_str().into(), number };
    let partitions = (0..found.partitions).map(partition).collect::<Vec<_>>();
    let bounds = log.settled_bounds(&partitions)?;
    Ok(partitions.into_iter().zip(bounds).collect())
}

fn last_entry(log: &dyn Log, partition: &Partition, earliest: i64, end: i64) -> Result<Option<Head>, AuditTopicError> {
    let mut within = LAST_ENTRY_WITHIN;
    loop {
        let from = end.saturating_sub(within).max(earliest);
        let mut last = None;
        read_range(log, partition, (from, end), &|| {}, &mut |record| {
            let value = record.value.unwrap_or_default();
            match Message::read(value) {
                Ok(Message::Checkpoint(_)) => {}
                Ok(Message::Entry(link)) if link.is_intact() => last = Some(Ok(link.head)),
                Ok(Message::Entry(_)) => last = Some(Err((record.offset, "it was edited".to_owned()))),
                Err(reason) => last = Some(Err((record.offset, reason.to_string()))),
            }
        })?;
        match last {
            Some(Ok(head)) => return Ok(Some(head)),
            Some(Err((offset, reason))) => return Err(AuditTopicError::Damaged { offset, reason }),
            None if from == earliest => return Ok(None),
            None => within = within.saturating_mul(4),
        }
    }
}
