//! Messages of the audit topic, read as strictly as they were written.
//!
//! A text that is not in its canonical form was not written by Maturion, and a member that stands twice could mean two
//! things to two readers. Members that this version does not know are covered by the hash as all others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::canonical::object;
use super::chain::Head;
use super::checkpoint::{CHECKPOINT, Checkpoint, PublicKey};
use super::entry;
use super::hash::{Hash, bytes};

/// Why bytes are no message of the audit topic.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unreadable(String);

/// A message of the audit topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Entry(Link),
    Checkpoint(Checkpoint),
}

/// An entry as a link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it says its place and its hash are.
    pub head: Head,
    pub previous_hash: Hash,
    /// RFC 3339.
    pub time: String,
    /// What its hash must be.
    computed: Hash,
}

impl Link {
    /// True if its content is what its hash was made of.
    pub fn is_intact(&self) -> bool {
        self.head.hash == self.computed
    }
}

impl Message {
    /// Reads a message.
    pub fn read(bytes: &[u8]) -> Result<Message, Unreadable> {
        let text = std::str::from_utf8(bytes).map_err(|error| Unreadable(error.to_string()))?;
        let members: Members<'_> = serde_json::from_str(text).map_err(|error| Unreadable(error.to_string()))?;
        if !members.are_sorted() || object(members.texts()) != text {
            return Err(Unreadable("it is not written as Maturion writes".to_owned()));
        }
        match members.text("kind")?.as_ref() {
            CHECKPOINT => members.checkpoint(text).map(Message::Checkpoint),
            _ => members.link().map(Message::Entry),
        }
    }
}

/// The members of an object as they are written, in their order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// True if the names are in their order, and each stands once.
    fn are_sorted(&self) -> bool {
        self.0.is_sorted_by(|(one, _), (other, _)| one.encode_utf16().lt(other.encode_utf16()))
    }

    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.get()))
    }

    fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<T, Unreadable> {
        let missing = || Unreadable(format!("it has no `{name}`"));
        let (_, value) = self.0.iter().find(|(member, _)| member == name).ok_or_else(missing)?;
        serde_json::from_str(value.get()).map_err(|error| Unreadable(format!("its `{name}` cannot be read ({error})")))
    }

    fn text(&self, name: &str) -> Result<String, Unreadable> {
        self.get(name)
    }

    /// A member of as many bytes as are wanted, in hexadecimal digits.
    fn bytes<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Unreadable> {
        read(&self.text(name)?).ok_or_else(|| Unreadable(format!("its `{name}` is none")))
    }

    fn head(&self) -> Result<Head, Unreadable> {
        Ok(Head { seq: self.get("seq")?, hash: self.bytes("hash", Hash::parse)? })
    }

    fn link(&self) -> Result<Link, Unreadable> {
        Ok(Link {
            head: self.head()?,
            previous_hash: self.bytes("previous_hash", Hash::parse)?,
            time: self.text("time")?,
            computed: entry::hash(&object(self.texts().filter(|(name, _)| *name != "hash"))),
        })
    }

    fn checkpoint(&self, text: &str) -> Result<Checkpoint, Unreadable> {
        let checkpoint = Checkpoint {
            head: self.head()?,
            time: self.text("time")?,
            public_key: self.bytes("public_key", |text| PublicKey::parse(text).ok())?,
            signature: self.bytes("signature", bytes)?,
        };
        // More than is signed must not stand in it.
        if checkpoint.text() == text {
            Ok(checkpoint)
        } else {
            Err(Unreadable("it has more than a checkpoint has".to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((Cow::Owned(name), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Chain, Draft, Kind};

    fn text() -> String {
        Chain::after(Head::NONE).append(&Draft::new(0, Kind::Operator, "ann", "Cleared a \"lock\"")).text().to_owned()
    }

    fn refused(text: &str) -> String {
        Message::read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let Message::Entry(link) = Message::read(text().as_bytes()).unwrap() else { panic!("an entry") };
        assert!(link.is_intact());
        assert_eq!((link.head.seq, link.previous_hash), (1, Hash::NONE));
    }

    #[test]
    fn a_text_that_means_the_same_and_is_another_is_refused() {
        let text = text();
        for other in [
            text.replace("\"seq\":1", "\"seq\": 1"),
            text.replace("\"seq\":1", "\"seq\":2,\"seq\":1"),
            text.replace("\"seq\":1", "\"se\\u0071\":1"),
            format!("{text} "),
            format!("{{\"seq\":1,{}", text[1..].replace(",\"seq\":1", "")),
        ] {
            assert_eq!(refused(&other), "it is not written as Maturion writes", "{other}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_in_words() {
        assert_eq!(refused("{}"), "it has no `kind`");
        assert!(refused("[1]").contains("an object"));
        assert!(refused("").contains("EOF"));
        assert!(Message::read(b"\xff").is_err());
        assert!(refused(&"[".repeat(100_000)).contains("object"));
        assert_eq!(refused(&text().replace("\"hash\":\"", "\"hash\":\"A")), "its `hash` is none");
        assert!(refused(&text().replace("\"seq\":1", "\"seq\":-1")).starts_with("its `seq` cannot be read"));
    }

    #[test]
    fn members_of_a_later_version_are_covered() {
        let later = text().replace("\"sentence\"", "\"risk\":{\"b\":1, \"a\":2},\"sentence\"");
        let Message::Entry(link) = Message::read(later.as_bytes()).unwrap() else { panic!("an entry") };
        assert!(!link.is_intact(), "added afterwards");
    }
}
