//! Records that cannot become rows, kept until the commit that sends them to the dead letters and moves past them.
//!
//! Each is a dead letter of its own, up to so many a second; while more are rejected, those of one partition and
//! transaction are one letter that says how many there are and where, so that a flood of rubbish does not become a
//! second flood. The records themselves stay in the input topic.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::Rejection;
use crate::log::{LogError, Outgoing, Partition, Position, Session};

/// Bytes of rejected records that wait for a commit; beyond it the commit is made early, after one more poll at most. More
/// holds more memory, less commits more often while bad records flood in.
const REJECTED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The rejected records of one transaction.
pub(super) struct Rejected {
    letters: Vec<DeadLetter>,
    bytes: usize,
    /// How many records were rejected, by the kind of reason.
    kinds: BTreeMap<&'static str, u64>,
    /// For each partition, the letter that stands for all further ones.
    collecting: BTreeMap<Partition, usize>,
    per_second: u64,
    /// Letters of one record each that may still be written, and when that was reckoned.
    left: u64,
    reckoned: Duration,
}

struct DeadLetter {
    /// Where the record stands; if there are several, the first.
    from: Position,
    value: Vec<u8>,
    reason: Rejection,
    count: u64,
    last_offset: i64,
}

impl Rejected {
    /// None yet. At most `per_second` letters hold one record each.
    pub(super) fn new(per_second: u64) -> Self {
        Self {
            letters: Vec::new(),
            bytes: 0,
            kinds: BTreeMap::new(),
            collecting: BTreeMap::new(),
            per_second,
            left: per_second,
            reckoned: Duration::ZERO,
        }
    }

    /// Lets time pass, by the runtime's clock.
    pub(super) fn pass(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.reckoned).as_micros();
        let gained = elapsed.saturating_mul(u128::from(self.per_second)) / 1_000_000;
        if gained > 0 {
            let gained = u64::try_from(gained).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(gained).min(self.per_second);
            self.reckoned = now;
        }
    }

    pub(super) fn push(&mut self, from: Position, value: &[u8], reason: Rejection) {
        *self.kinds.entry(reason.kind()).or_default() += 1;
        if let Some(letter) = self.collecting.get(&from.partition).and_then(|place| self.letters.get_mut(*place)) {
            letter.count += 1;
            letter.last_offset = from.offset;
            return;
        }
        if self.left == 0 {
            self.collecting.insert(from.partition.clone(), self.letters.len());
        }
        self.left = self.left.saturating_sub(1);
        self.bytes += value.len() + size_of::<DeadLetter>();
        let last_offset = from.offset;
        self.letters.push(DeadLetter { from, value: value.to_vec(), reason, count: 1, last_offset });
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > REJECTED_BYTES_MAX
    }

    /// Sends every letter with its reason and provenance; they stay until [`Rejected::take`].
    pub(super) fn send(&self, session: &mut dyn Session, topic: &str) -> Result<(), LogError> {
        for letter in &self.letters {
            let Position { partition, offset } = &letter.from;
            let (number, offset) = (partition.number.to_string(), offset.to_string());
            let key = format!("{}-{number}-{offset}", partition.topic);
            let reason = letter.reason.to_string();
            let (count, last_offset) = (letter.count.to_string(), letter.last_offset.to_string());
            let mut headers = vec![
                ("reason", reason.as_bytes()),
                ("topic", partition.topic.as_bytes()),
                ("partition", number.as_bytes()),
                ("offset", offset.as_bytes()),
            ];
            if letter.count > 1 {
                headers.extend([("count", count.as_bytes()), ("last_offset", last_offset.as_bytes())]);
            }
            let (key, value) = (Some(key.as_bytes()), Some(letter.value.as_slice()));
            session.send(Outgoing { topic, key, value, headers: &headers, ..Outgoing::default() })?;
        }
        Ok(())
    }

    /// Forgets them, committed or to be read again; how many there were, by the kind of reason.
    pub(super) fn take(&mut self) -> BTreeMap<&'static str, u64> {
        self.bytes = 0;
        self.letters.clear();
        self.collecting.clear();
        std::mem::take(&mut self.kinds)
    }
}
