//! Checkpoints: the end of the chain, signed, so that whoever could recompute the chain cannot do so unseen.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use thiserror::Error;

use super::canonical::{object, quoted};
use super::chain::Head;
use super::hash::{bytes, hexadecimal};
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;

/// The kind of a checkpoint, and its key on the audit topic.
pub const CHECKPOINT: &str = "checkpoint";

/// What is signed is a checkpoint, of this version.
const SIGNED: &str = "maturion.audit.checkpoint.v1\n";

/// A key that is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error(
        "a key for signing the audit is 64 hexadecimal digits in lower case, as `maturion audit keygen` writes them"
    )]
    Secret,
    #[error("a public key of the audit is 64 hexadecimal digits in lower case, as `maturion audit keygen` prints them")]
    Public,
}

/// Who can be checked to have signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
        bytes(text).map(PublicKey).ok_or(KeyError::Public)
    }

    /// True if the owner of this key signed `text`.
    fn has_signed(&self, text: &str, signature: &[u8; 64]) -> bool {
        let message = [SIGNED.as_bytes(), text.as_bytes()].concat();
        UnparsedPublicKey::new(&ED25519, self.0).verify(&message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hexadecimal(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Signs. Its key is never shown.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// Reads the 64 hexadecimal digits of a secret key (RFC 8032, 32 bytes).
    pub fn parse(secret: &str) -> Result<Signer, KeyError> {
        let secret: [u8; 32] = bytes(secret.trim()).ok_or(KeyError::Secret)?;
        Ed25519KeyPair::from_seed_unchecked(&secret).map(Signer).map_err(|_| KeyError::Secret)
    }

    /// The text of a secret key, from 32 random bytes.
    pub fn secret_text(random: &[u8; 32]) -> String {
        hexadecimal(random)
    }

    /// What others check signatures with.
    pub fn public_key(&self) -> PublicKey {
        let mut key = [0; 32];
        key.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(byte, of_key)| *byte = *of_key);
        PublicKey(key)
    }

    /// Signs the end of a chain.
    pub fn sign(&self, head: Head, time: Micros) -> Checkpoint {
        let mut checkpoint =
            Checkpoint { head, time: format_time(time), public_key: self.public_key(), signature: [0; 64] };
        let signature = self.0.sign([SIGNED.as_bytes(), checkpoint.unsigned().as_bytes()].concat().as_slice());
        checkpoint.signature.iter_mut().zip(signature.as_ref()).for_each(|(byte, signed)| *byte = *signed);
        checkpoint
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signer of {}", self.public_key())
    }
}

/// The end of a chain at a time, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub head: Head,
    /// RFC 3339.
    pub time: String,
    pub public_key: PublicKey,
    pub(super) signature: [u8; 64],
}

impl Checkpoint {
    /// The message on the audit topic: a JSON object in its canonical form.
    pub fn text(&self) -> String {
        self.written(Some(&quoted(&hexadecimal(&self.signature))))
    }

    /// True if the key that it names has signed it. Whether that key is to be trusted is another question.
    pub fn is_signed(&self) -> bool {
        self.public_key.has_signed(&self.unsigned(), &self.signature)
    }

    fn unsigned(&self) -> String {
        self.written(None)
    }

    fn written(&self, signature: Option<&str>) -> String {
        let members = [
            ("hash", quoted(&self.head.hash.to_string())),
            ("kind", quoted(CHECKPOINT)),
            ("public_key", quoted(&self.public_key.to_string())),
            ("seq", self.head.seq.to_string()),
            ("time", quoted(&self.time)),
        ];
        let members = members.iter().map(|(name, value)| (*name, value.as_str()));
        let mut members = members.collect::<Vec<_>>();
        // In its place between `seq` and `time`.
        if let Some(signature) = signature {
            members.insert(4, ("signature", signature));
        }
        object(members)
    }
}

/// Signs the chain on a schedule.
#[derive(Debug)]
pub struct Notary {
    signer: Signer,
    interval: Micros,
    last: Option<(u64, Micros)>,
}

impl Notary {
    /// Signs at most once per `interval`, and nothing twice.
    pub fn new(signer: Signer, interval: Micros) -> Notary {
        Notary { signer, interval, last: None }
    }

    /// The checkpoint that is due at wall time `now`; the first one is due at once. Call [`Notary::committed`] when it is
    /// written.
    pub fn due(&self, head: Head, now: Micros) -> Option<Checkpoint> {
        self.is_due(head, now).then(|| self.signer.sign(head, now))
    }

    /// True if a checkpoint is due.
    pub fn is_due(&self, head: Head, now: Micros) -> bool {
        match self.last {
            // A clock that went back must not keep the chain from being signed.
            Some((seq, at)) => head.seq != seq && (now < at || now.saturating_sub(at) >= self.interval),
            None => head != Head::NONE,
        }
    }

    /// The chain is signed up to `head` since `now`.
    pub fn committed(&mut self, head: Head, now: Micros) {
        self.last = Some((head.seq, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::hash::Hash;

    /// RFC 8032, section 7.1, test 1.
    const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn head(seq: u64) -> Head {
        Head { seq, hash: Hash::of("test", &seq.to_string()) }
    }

    #[test]
    fn a_checkpoint_is_signed_by_the_key_that_it_names() {
        let signer = Signer::parse(SECRET).unwrap();
        assert_eq!(signer.public_key(), PublicKey::parse(PUBLIC).unwrap());
        let checkpoint = signer.sign(head(7), 1_764_756_000_000_000);
        assert!(checkpoint.is_signed());
        let other = Signer::parse(&"ab".repeat(32)).unwrap();
        for forged in [
            Checkpoint { head: head(8), ..checkpoint.clone() },
            Checkpoint { time: "2025-12-03T10:00:01Z".into(), ..checkpoint.clone() },
            Checkpoint { public_key: other.public_key(), ..checkpoint.clone() },
        ] {
            assert!(!forged.is_signed(), "{forged:?}");
        }
        insta::assert_snapshot!("checkpoint", checkpoint.text());
    }

    #[test]
    fn a_key_is_not_shown() {
        let signer = Signer::parse(SECRET).unwrap();
        assert!(!format!("{signer:?}").contains(&SECRET[..8]));
        assert_eq!(Signer::parse("9d61").unwrap_err(), KeyError::Secret);
        assert!(!Signer::parse(&SECRET.replace('9', "x")).unwrap_err().to_string().contains("61b1"));
    }

    #[test]
    fn the_chain_is_signed_when_it_has_grown_and_time_has_passed() {
        let mut notary = Notary::new(Signer::parse(SECRET).unwrap(), 60);
        assert!(notary.due(Head::NONE, 0).is_none(), "there is nothing to sign");
        assert!(notary.due(head(1), 0).is_some(), "the first entry is signed at once");
        notary.committed(head(1), 0);
        assert!(notary.due(head(1), 100).is_none(), "nothing is new");
        assert!(notary.due(head(2), 59).is_none(), "it is too early");
        assert_eq!(notary.due(head(2), 60).unwrap().head, head(2));
        assert!(notary.due(head(2), -5).is_some(), "the clock went back");
    }
}
