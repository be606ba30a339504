//! Records that cannot become rows, kept until the commit that sends them to the dead letters and moves past them.

use crate::decode::Rejection;
use crate::log::{LogError, Outgoing, Position, Session};

/// Bytes of rejected records that wait for a commit; beyond it the commit is made early, after one more poll at most. More
/// holds more memory, less commits more often while bad records flood in.
const REJECTED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The rejected records of one transaction.
#[derive(Default)]
pub(super) struct Rejected {
    letters: Vec<DeadLetter>,
    bytes: usize,
}

struct DeadLetter {
    /// Where the record stands.
    from: Position,
    value: Vec<u8>,
    reason: Rejection,
}

impl Rejected {
    pub(super) fn push(&mut self, from: Position, value: &[u8], reason: Rejection) {
        self.bytes += value.len() + size_of::<DeadLetter>();
        self.letters.push(DeadLetter { from, value: value.to_vec(), reason });
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > REJECTED_BYTES_MAX
    }

    /// Sends every record with its reason and provenance; they stay until [`Rejected::take`].
    pub(super) fn send(&self, session: &mut dyn Session, topic: &str) -> Result<(), LogError> {
        for letter in &self.letters {
            let Position { partition, offset } = &letter.from;
            let (number, offset) = (partition.number.to_string(), offset.to_string());
            let key = format!("{}-{number}-{offset}", partition.topic);
            let reason = letter.reason.to_string();
            let headers = [
                ("reason", reason.as_bytes()),
                ("topic", partition.topic.as_bytes()),
                ("partition", number.as_bytes()),
                ("offset", offset.as_bytes()),
            ];
            let (key, value) = (Some(key.as_bytes()), Some(letter.value.as_slice()));
            session.send(Outgoing { topic, key, value, headers: &headers, ..Outgoing::default() })?;
        }
        Ok(())
    }

    /// Forgets them, committed or to be read again; the kinds of their reasons.
    pub(super) fn take(&mut self) -> impl Iterator<Item = &'static str> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.letters).into_iter().map(|letter| letter.reason.kind())
    }
}
