//! Which key follows which: who writes records writes their members in one order, so most keys are known before they are read.
//!
//! A guess that is right saves reading a key and looking it up; a wrong one costs a comparison. What a record becomes never
//! depends on what was guessed.

use super::fields::{COLUMNS_MAX, Fields};
use super::json::{Members, SyntaxError};

/// Unknown keys that are remembered. More would cost memory for each decoder.
const UNKNOWN_KEYS: usize = 40;
/// One for each column, and the rest for unknown keys.
const KEYS: usize = COLUMNS_MAX + UNKNOWN_KEYS;
/// A longer key, with its quotes and colon, is read each time.
const KEY_BYTES_MAX: usize = 64;

/// The keys of the records before.
pub struct Habit {
    keys: Vec<Key>,
    /// The place of the key that the first member of a record had.
    first: usize,
}

/// A key as it was written last.
#[derive(Clone, Default)]
struct Key {
    /// With its quotes and colon; empty if there was none, or it is too long.
    written: Vec<u8>,
    /// The column that it names, if it is a known field.
    column: Option<usize>,
    /// The place of the key that followed it.
    next: usize,
}

impl Habit {
    pub fn new() -> Self {
        Habit { keys: vec![Key::default(); KEYS], first: 0 }
    }

    /// Reads a key: the column that it names, if it is a known field, and its place, which tells the next one what came
    /// before. `start` is where the member begins.
    #[inline]
    pub fn read(
        &mut self,
        members: &mut Members<'_>,
        fields: &Fields,
        start: usize,
        before: Option<usize>,
    ) -> Result<(Option<usize>, usize), SyntaxError> {
        let guess = before.map_or(Some(self.first), |before| self.keys.get(before).map(|key| key.next));
        if let Some(place) = guess
            && let Some(key) = self.keys.get(place)
            && !key.written.is_empty()
            && members.skip_key(&key.written)
        {
            return Ok((key.column, place));
        }
        let key = members.key()?;
        let column = fields.find(key);
        let place = column.unwrap_or(COLUMNS_MAX + spread(key.raw) % UNKNOWN_KEYS);
        self.remember(members.since(start).as_bytes(), column, place, before);
        Ok((column, place))
    }

    fn remember(&mut self, written: &[u8], column: Option<usize>, place: usize, before: Option<usize>) {
        if let Some(key) = self.keys.get_mut(place) {
            key.column = column;
            key.written.clear();
            key.written.extend_from_slice(if written.len() <= KEY_BYTES_MAX { written } else { &[] });
        }
        match before {
            None => self.first = place,
            Some(before) => {
                if let Some(key) = self.keys.get_mut(before) {
                    key.next = place;
                }
            }
        }
    }
}

/// Tells unknown keys apart; two that meet are only read more often.
fn spread(key: &str) -> usize {
    key.bytes().fold(key.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)))
}
