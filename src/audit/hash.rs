//! SHA-256, and its text.

use std::fmt;

use sha2::{Digest, Sha256};

/// A hash, written as 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands in place of the hash before the first entry.
    pub const NONE: Hash = Hash([0; 32]);

    /// The hash of a text of one kind, which is one line: of two kinds, equal texts have different hashes. It is that of
    /// the kind, a line end, and the text, so that others can compute it.
    pub fn of(kind: &str, text: &str) -> Hash {
        let mut hash = Sha256::new();
        [kind, "\n", text].iter().for_each(|part| hash.update(part));
        Hash(hash.finalize().into())
    }

    /// Reads what [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Hash> {
        bytes(text).map(Hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hexadecimal(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Bytes as hexadecimal digits in lower case.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many bytes as `N`, from hexadecimal digits in lower case: one text for each value.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    let bytes = bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_text() {
        let hash = Hash::of("kind", "text");
        let text = hash.to_string();
        assert_eq!(Hash::parse(&text), Some(hash));
        for wrong in [text.to_uppercase(), format!("{text}0"), text[1..].to_owned(), String::new(), "é".repeat(32)] {
            assert_eq!(Hash::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_kind_is_part_of_what_is_hashed() {
        assert_ne!(Hash::of("ab", "c"), Hash::of("a", "bc"));
    }
}
