//! The chain: where its end is, and how it goes on.

use super::entry::{Draft, Entry};
use super::hash::Hash;

/// The end of a chain: its last entry. As a text `SEQ:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts the entries, from 1.
    pub seq: u64,
    pub hash: Hash,
}

impl Head {
    /// Before the first entry.
    pub const NONE: Head = Head { seq: 0, hash: Hash::NONE };

    /// Reads `SEQ:HASH`.
    pub fn parse(text: &str) -> Option<Head> {
        let (seq, hash) = text.split_once(':')?;
        Some(Head { seq: seq.parse().ok()?, hash: Hash::parse(hash)? })
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.seq, self.hash)
    }
}

/// Puts entries at the end of a chain. Of one chain there is one writer; whoever writes in transactions keeps a copy
/// until they are committed, and goes on from there after an abort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: Head,
}

impl Chain {
    /// The chain that ends so; [`Head::NONE`] begins a new one.
    pub fn after(head: Head) -> Chain {
        Chain { head }
    }

    /// Its end.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next entry.
    pub fn append(&mut self, draft: &Draft) -> Entry {
        let entry = Entry::after(self.head, draft);
        self.head = entry.head;
        entry
    }
}
