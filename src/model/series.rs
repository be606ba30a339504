//! Series: the identity that one baseline and one state machine belong to.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The text labels of the overflow series, which holds every series beyond a pipeline's limit. Its other labels are null.
pub const OVERFLOW_LABEL: &str = "(overflow)";

/// One label's value. The type is part of the value, so that null is not the empty string and `1` is not `"1"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Label {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

/// The labels of one series, in the order in which the pipeline's `series` names them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series(pub Vec<(String, Label)>);

impl Series {
    /// The value of a label, if the series has it.
    pub fn get(&self, name: &str) -> Option<&Label> {
        self.0.iter().find(|(label, _)| label == name).map(|(_, value)| value)
    }

    /// The text of a label; `None` if the label is absent, null or not text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Label::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// True if every label of `self` has the same value in `other`: the empty series covers everything.
    pub fn covers(&self, other: &Series) -> bool {
        self.0.iter().all(|(name, value)| other.get(name) == Some(value))
    }

    /// An unambiguous encoding: each label as type tag, length and bytes. Equal series, and only those, have equal keys.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.len() * 24);
        for (name, value) in &self.0 {
            push_bytes(&mut key, b'n', name.as_bytes());
            match value {
                Label::Null => key.push(b'0'),
                Label::Bool(value) => push_bytes(&mut key, b'b', &[u8::from(*value)]),
                Label::Int(value) => push_bytes(&mut key, b'i', &value.to_be_bytes()),
                Label::Text(value) => push_bytes(&mut key, b't', value.as_bytes()),
            }
        }
        key
    }

    /// The labels as a JSON object, in order.
    pub fn to_json(&self) -> serde_json::Value {
        let labels = self.0.iter().map(|(name, value)| {
            let value = match value {
                Label::Null => serde_json::Value::Null,
                Label::Bool(value) => (*value).into(),
                Label::Int(value) => (*value).into(),
                Label::Text(value) => value.as_str().into(),
            };
            (name.clone(), value)
        });
        serde_json::Value::Object(labels.collect())
    }
}

fn push_bytes(key: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    key.push(tag);
    key.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    key.extend_from_slice(bytes);
}

/// A deterministic identity: the first 128 bits of SHA-256 over length-prefixed parts, as 32 hexadecimal digits.
/// Tenants choose some of the parts, so the hash must resist collisions made on purpose.
pub fn stable_id(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, Label)]) -> Series {
        Series(labels.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
    }

    #[test]
    fn null_is_not_the_empty_string() {
        let null = series(&[("organisation_id", Label::Null)]);
        let empty = series(&[("organisation_id", Label::Text(String::new()))]);
        assert_ne!(null.key(), empty.key());
    }

    #[test]
    fn a_boundary_between_labels_cannot_be_forged() {
        let one = series(&[("a", Label::Text("xn".into())), ("b", Label::Text("y".into()))]);
        let two = series(&[("a", Label::Text("x".into())), ("nb", Label::Text("y".into()))]);
        assert_ne!(one.key(), two.key());
    }

    #[test]
    fn the_wider_series_covers_the_narrower() {
        let module = series(&[("module", Label::Text("threat".into()))]);
        let both =
            series(&[("organisation_id", Label::Text("org_1".into())), ("module", Label::Text("threat".into()))]);
        assert!(module.covers(&both));
        assert!(!both.covers(&module));
        assert!(Series(vec![]).covers(&both));
    }
}
