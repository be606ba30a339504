//! Trace ids: by which one request is found again in a tracing system.

use serde::{Deserialize, Serialize};

/// How many hexadecimal digits an id may have: those of the W3C and, before them, of Zipkin and Jaeger.
const DIGITS: [usize; 2] = [32, 16];

/// An id of 32 or 16 hexadecimal digits, not all zero, in lower case. It can hold nothing else, so it may stand where text
/// from telemetry may not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId(String);

impl TraceId {
    /// `None` if the text is no such id.
    pub fn read(text: &str) -> Option<TraceId> {
        let is_id = DIGITS.contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && text.bytes().any(|byte| byte != b'0');
        is_id.then(|| TraceId(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TraceId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<TraceId, Self::Error> {
        TraceId::read(&text).ok_or("a trace id has 16 or 32 hexadecimal digits")
    }
}

impl From<TraceId> for String {
    fn from(id: TraceId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_an_id_is_one() {
        let id = "4BF92F3577B34DA6A3CE929D0E0E4736";
        assert_eq!(TraceId::read(id).map(String::from), Some(id.to_lowercase()));
        assert!(TraceId::read("00f067aa0ba902b7").is_some());
        for wrong in ["", "0000000000000000", "4bf92f35", "ann@example.org!", "00f067aa0ba902bg", &"a".repeat(33)] {
            assert_eq!(TraceId::read(wrong), None, "{wrong}");
            assert!(serde_json::from_value::<TraceId>(wrong.into()).is_err());
        }
    }
}
