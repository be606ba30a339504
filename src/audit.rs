//! The audit: what was decided and done, as a chain of entries that shows every later change.
//!
//! ```text
//!  Draft ─▶ Chain::append ─▶ Entry n ─────────▶ Entry n+1 ─▶ …        each carries the hash of the one before
//!                               │ now and then
//!                            Notary ─▶ Checkpoint                     seq, hash and time, signed (Ed25519)
//!
//!  messages in the order in which they are kept ─▶ Verifier ─▶ Report, or the first Fault
//! ```
//!
//! An entry is a JSON object in its canonical form ([`canonical`]); its hash is SHA-256 over that form without the member
//! `hash`, after a word that says what is hashed. The hash of an entry covers its members as they are written, byte for
//! byte, also those of later versions. Without a key, a chain shows every change but one: whoever may write all of it can
//! compute all of it anew. A checkpoint cannot be computed anew, so everything up to it stays as it was signed.
//!
//! `audit` is pure: it knows no clock, no topic and no file. It never changes what is to be audited, but for bounds: what
//! is too long is cut, and says so.

pub mod canonical;
mod chain;
mod checkpoint;
mod entry;
mod hash;
mod message;
mod verify;

pub use chain::{Chain, Head};
pub use checkpoint::{CHECKPOINT, Checkpoint, KeyError, Notary, PublicKey, Signer};
pub use entry::{Draft, Entry, Kind};
pub use hash::Hash;
pub use message::{Link, Message, Unreadable};
pub use verify::{Fault, Report, Signed, Verifier};
