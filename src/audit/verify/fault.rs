//! What can be wrong with a chain, in words for whoever has to find out how it came to be.

use thiserror::Error;

use crate::audit::checkpoint::PublicKey;
use crate::audit::message::Link;

/// The first thing that is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("what stands after entry {after} is no message of the audit: {reason}")]
    Unreadable { after: u64, reason: String },
    #[error("entry {seq} was edited: its content is not what its hash was made of")]
    Edited { seq: u64, after: u64 },
    #[error("{} deleted: entry {} follows {}", entries(*from, *to, "was", "were"), to + 1, from - 1)]
    Missing { from: u64, to: u64 },
    #[error("the entries were reordered: entry {seq} stands after later ones")]
    Reordered { seq: u64 },
    #[error("entry {seq} stands there twice: a copy was inserted")]
    Twice { seq: u64 },
    #[error("there are two entries {seq}: one of them was inserted, or the entries were reordered")]
    Second { seq: u64 },
    #[error("entry {seq} does not carry the hash of the one before it: one of the two was replaced or inserted")]
    Unlinked { seq: u64 },
    #[error(
        "the chain begins with entry {first}: what came before was cut off; if that is as it should be, check with \
         --expect {}:HASH, the hash that the chain had there", first - 1
    )]
    BeginsLate { first: u64 },
    #[error("the chain ends with entry {last}, but entry {known} is {how}: what followed was cut off")]
    CutOff { last: u64, known: u64, how: &'static str },
    #[error("entry {seq} is not the one that is expected there: the chain was written anew")]
    Unexpected { seq: u64 },
    #[error(
        "{} not what was signed at {time}: the chain was written anew by somebody who does not have the key",
        entries(*from, *to, "is", "are")
    )]
    NotAsSigned { from: u64, to: u64, time: String },
    #[error("the checkpoint of entry {seq} was edited or forged: its signature is not of the key that it names")]
    Signature { seq: u64 },
    #[error("the checkpoint of entry {seq} is signed by {key}, which is not among [audit] public_keys")]
    Stranger { seq: u64, key: PublicKey },
    #[error(
        "the checkpoint of entry {seq} stands too far from its entry, or beside another one, to have been written there"
    )]
    TooFar { seq: u64 },
    #[error(
        "nothing of the chain is signed, from entry {first} on, although there is a key: its checkpoints were deleted, \
         or whoever writes it has no key"
    )]
    Unsigned { first: u64 },
    #[error("the copy of entry {seq} is not what the entry says: {reason}")]
    Copy { seq: u64, reason: String },
}

impl Fault {
    /// The first entry of which something is wrong.
    pub fn seq(&self) -> u64 {
        match self {
            Fault::Unreadable { after, .. } => after.saturating_add(1),
            // Its own number may be what was edited.
            Fault::Edited { after, .. } => after.saturating_add(1),
            Fault::Missing { from, .. } | Fault::NotAsSigned { from, .. } => *from,
            Fault::CutOff { last, .. } => last.saturating_add(1),
            Fault::BeginsLate { first } | Fault::Unsigned { first } => *first,
            Fault::Reordered { seq }
            | Fault::Twice { seq }
            | Fault::Second { seq }
            | Fault::Unlinked { seq }
            | Fault::Unexpected { seq }
            | Fault::Signature { seq }
            | Fault::Stranger { seq, .. }
            | Fault::TooFar { seq }
            | Fault::Copy { seq, .. } => *seq,
        }
    }

    /// An entry that comes after the fault: what seemed to be deleted may only stand elsewhere.
    pub(super) fn learn(&mut self, link: &Link) {
        if let Fault::Missing { from, .. } = self
            && link.head.seq == *from
            && link.is_intact()
        {
            *self = Fault::Reordered { seq: *from };
        }
    }
}

fn entries(from: u64, to: u64, one: &str, many: &str) -> String {
    if from == to { format!("entry {from} {one}") } else { format!("entries {from} to {to} {many}") }
}
