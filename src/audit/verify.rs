//! The verifier: reads messages in the order in which they are kept, and finds the first that is not as it was written.
//!
//! ```text
//!  entry       its hash is that of its content · its place follows · it carries the hash of the one before
//!  checkpoint  a trusted key has signed it · the entry that it names has that hash
//!  at the end  nothing that was signed, or is expected, lies beyond the last entry
//! ```
//!
//! After the first fault it only looks for what tells a reordering from a deletion. It holds a bounded part of the chain
//! at a time. What it cannot see: entries after the last checkpoint, replaced or cut off by somebody who may write all of
//! the chain, if nothing is expected of them. [`Report`] says how many that could be.

use std::collections::{BTreeMap, VecDeque};

use super::chain::Head;
use super::checkpoint::{Checkpoint, PublicKey};
use super::hash::Hash;
use super::message::{Link, Message};

mod fault;
#[cfg(test)]
mod tests;

pub use fault::Fault;

/// So many hashes of the newest entries are kept for checkpoints that stand after them: 32 MB. A checkpoint that stands
/// still farther behind is a fault.
const HASHES_KEPT: usize = 1 << 20;
/// Checkpoints that stand before their entries: about 200 bytes each.
const CHECKPOINTS_WAITING_MAX: usize = 1 << 16;

/// What was found of a chain in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub checkpoints: u64,
    /// The first entry; 1, unless an earlier one was expected to be gone.
    pub first: u64,
    /// The last entry, and when it was written.
    pub head: Head,
    pub time: String,
    /// How far a trusted key has signed. `None`: no key is trusted.
    pub signed: Option<Signed>,
}

/// The newest checkpoint of a trusted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub seq: u64,
    pub time: String,
}

/// See the module's head.
pub struct Verifier {
    trusted: Vec<PublicKey>,
    expected: BTreeMap<u64, Hash>,
    entries: u64,
    first: u64,
    head: Head,
    time: String,
    hashes: VecDeque<Hash>,
    /// Checkpoints of entries that have not come yet.
    waiting: BTreeMap<u64, Checkpoint>,
    checkpoints: u64,
    signed: Option<Signed>,
    fault: Option<Fault>,
}

impl Verifier {
    /// Trusts checkpoints of these keys. Without any, a checkpoint is checked against the key that it names, which finds
    /// mistakes and no forgery. `expected` are ends of the chain that somebody wrote down at some time.
    pub fn new(trusted: Vec<PublicKey>, expected: &[Head]) -> Verifier {
        Verifier {
            trusted,
            expected: expected.iter().map(|head| (head.seq, head.hash)).collect(),
            entries: 0,
            first: 1,
            head: Head::NONE,
            time: String::new(),
            hashes: VecDeque::new(),
            waiting: BTreeMap::new(),
            checkpoints: 0,
            signed: None,
            fault: None,
        }
    }

    /// Takes the next message.
    pub fn take(&mut self, message: &[u8]) {
        let message = Message::read(message);
        if let Some(fault) = &mut self.fault {
            if let Ok(Message::Entry(link)) = message {
                fault.learn(&link);
            }
            return;
        }
        let taken = match message {
            Ok(Message::Entry(link)) => self.entry(link),
            Ok(Message::Checkpoint(checkpoint)) => self.checkpoint(checkpoint),
            Err(reason) => Err(Fault::Unreadable { after: self.head.seq, reason: reason.to_string() }),
        };
        self.fault = taken.err();
    }

    /// Something that only a copy of the chain has is wrong, at the entry taken last.
    pub fn refuse(&mut self, reason: String) {
        let seq = self.head.seq;
        self.fault.get_or_insert(Fault::Copy { seq, reason });
    }

    /// What was found, or the first fault.
    pub fn finish(self) -> Result<Report, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let last = self.head.seq;
        if let Some((signed, _)) = self.waiting.last_key_value() {
            return Err(Fault::CutOff { last, known: *signed, how: "signed" });
        }
        if let Some((expected, _)) = self.expected.last_key_value().filter(|(expected, _)| **expected > last) {
            return Err(Fault::CutOff { last, known: *expected, how: "expected" });
        }
        if last > 0 && !self.trusted.is_empty() && self.signed.is_none() {
            return Err(Fault::Unsigned { first: self.first });
        }
        Ok(Report {
            entries: self.entries,
            checkpoints: self.checkpoints,
            first: self.first,
            head: self.head,
            time: self.time,
            signed: self.signed,
        })
    }

    fn entry(&mut self, link: Link) -> Result<(), Fault> {
        if !link.is_intact() {
            return Err(Fault::Edited { seq: link.head.seq, after: self.head.seq });
        }
        if self.head == Head::NONE {
            self.begin(&link)?;
        }
        let Some(next) = self.head.seq.checked_add(1) else { return Err(Fault::Second { seq: link.head.seq }) };
        if link.head.seq < next {
            let is_same = self.hash(link.head.seq) == Some(link.head.hash);
            return Err(if is_same {
                Fault::Twice { seq: link.head.seq }
            } else {
                Fault::Second { seq: link.head.seq }
            });
        }
        if link.head.seq > next {
            return Err(Fault::Missing { from: next, to: link.head.seq - 1 });
        }
        if link.previous_hash != self.head.hash {
            return Err(Fault::Unlinked { seq: next });
        }
        if self.expected.get(&next).is_some_and(|expected| *expected != link.head.hash) {
            return Err(Fault::Unexpected { seq: next });
        }
        self.entries += 1;
        self.head = link.head;
        self.time = link.time;
        self.hashes.push_back(link.head.hash);
        if self.hashes.len() > HASHES_KEPT {
            self.hashes.pop_front();
        }
        match self.waiting.remove(&next) {
            Some(checkpoint) => self.compare(checkpoint),
            None => Ok(()),
        }
    }

    /// A chain begins with entry 1, or after an entry whose hash is known.
    fn begin(&mut self, link: &Link) -> Result<(), Fault> {
        let before = link.head.seq.saturating_sub(1);
        if before == 0 {
            return Ok(());
        }
        let Some(hash) = self.expected.get(&before) else { return Err(Fault::BeginsLate { first: link.head.seq }) };
        self.head = Head { seq: before, hash: *hash };
        self.first = link.head.seq;
        Ok(())
    }

    /// The hash of an entry that was taken, if it is kept.
    fn hash(&self, seq: u64) -> Option<Hash> {
        let back = usize::try_from(self.head.seq.checked_sub(seq)?).ok()?;
        let place = self.hashes.len().checked_sub(back.checked_add(1)?)?;
        self.hashes.get(place).copied()
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Fault> {
        let seq = checkpoint.head.seq;
        if !checkpoint.is_signed() {
            return Err(Fault::Signature { seq });
        }
        if !self.trusted.is_empty() && !self.trusted.contains(&checkpoint.public_key) {
            return Err(Fault::Stranger { seq, key: checkpoint.public_key });
        }
        self.checkpoints += 1;
        if seq <= self.head.seq {
            return self.compare(checkpoint);
        }
        let has_another = |waiting: &Checkpoint| waiting.head != checkpoint.head;
        if self.waiting.get(&seq).is_some_and(has_another) || self.waiting.len() >= CHECKPOINTS_WAITING_MAX {
            return Err(Fault::TooFar { seq });
        }
        self.waiting.insert(seq, checkpoint);
        Ok(())
    }

    /// Compares a checkpoint with its entry.
    fn compare(&mut self, checkpoint: Checkpoint) -> Result<(), Fault> {
        let seq = checkpoint.head.seq;
        if seq < self.first {
            // Its entry is known to be gone.
            return Ok(());
        }
        let Some(hash) = self.hash(seq) else { return Err(Fault::TooFar { seq }) };
        let reached = self.signed.as_ref().map_or(0, |signed| signed.seq);
        if hash != checkpoint.head.hash {
            let from = reached.saturating_add(1).max(self.first).min(seq);
            return Err(Fault::NotAsSigned { from, to: seq, time: checkpoint.time });
        }
        if !self.trusted.is_empty() && seq >= reached {
            self.signed = Some(Signed { seq, time: checkpoint.time });
        }
        Ok(())
    }
}
