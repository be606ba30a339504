//! Tickets: what a builder is told about an incident, and one issue on GitHub for it.
//!
//! ```text
//!  Report ──render──▶ Desired ──reconcile──▶ one issue, one comment     (a draft pull request by propose)
//!  plain data  pure   title, body,   GitHub's interface,
//!                     comment, labels  asked again until it agrees
//! ```
//!
//! [`report::Report`] is what is known, [`render`] makes of it what is said, [`github::GitHub`] makes the issue so. An
//! *epoch* of an incident is one time that it was opened anew; each has one issue, whatever is killed, lost, delayed or
//! said twice. The issue is found by its number, by the label of its fingerprint and by a marker in its first line; the
//! search interface is never asked, as it lags.
//!
//! Everything from telemetry is scrubbed ([`scrub`](crate::scrub)) and quoted before it leaves. A pull request is a
//! draft on a branch of its own, changes files from an allow-list only, and is never merged from here. Nothing here waits:
//! who calls is told when to call again.

use thiserror::Error;

mod base64;
pub mod edit;
pub mod github;
mod markdown;
pub mod proposal;
pub mod render;
pub mod report;

pub use render::render;
pub use report::Report;

/// GitHub refuses labels of more than 50 characters; `maturion:` takes nine.
const FINGERPRINT_CHARACTERS: std::ops::RangeInclusive<usize> = 4..=40;
const INCIDENT_CHARACTERS: std::ops::RangeInclusive<usize> = 1..=64;

/// What one issue belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    incident: String,
    epoch: u64,
    fingerprint: String,
}

/// Why that is no identity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` cannot stand in a marker or a label: letters, digits, `-`, `_` and `.`, without `--`, are possible")]
pub struct NoIdentity(String);

impl Identity {
    /// The incident's id, which of the fingerprint's incidents it is (from 1), and the hash of pipeline, rule, series and the version of
    /// the algorithm. Ids are hexadecimal or of such characters that they can stand in a comment, a label and a branch.
    pub fn new(incident: &str, epoch: u64, fingerprint: &str) -> Result<Identity, NoIdentity> {
        let possible = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
            let usual = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
            lengths.contains(&text.len())
                && text.chars().all(usual)
                && !["--", "..", ".lock"].iter().any(|odd| text.contains(odd))
                && text.starts_with(|character: char| character.is_ascii_alphanumeric())
        };
        if !possible(incident, INCIDENT_CHARACTERS) {
            return Err(NoIdentity(incident.to_owned()));
        }
        if !possible(fingerprint, FINGERPRINT_CHARACTERS) {
            return Err(NoIdentity(fingerprint.to_owned()));
        }
        Ok(Identity { incident: incident.to_owned(), epoch, fingerprint: fingerprint.to_owned() })
    }

    pub fn incident(&self) -> &str {
        &self.incident
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The first line of the issue's body.
    pub fn marker(&self) -> String {
        format!("<!-- maturion incident={} epoch={} -->", self.incident, self.epoch)
    }

    /// The first line of the one comment.
    pub fn comment_marker(&self) -> String {
        format!("<!-- maturion status incident={} epoch={} -->", self.incident, self.epoch)
    }

    /// The label that all epochs of all incidents of one fingerprint share.
    pub fn label(&self) -> String {
        format!("maturion:{}", self.fingerprint)
    }

    /// The branch of a proposed change.
    pub fn branch(&self) -> String {
        format!("maturion/{}-{}", self.fingerprint, self.epoch)
    }
}

/// What the issue should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// One line without control characters.
    pub title: String,
    /// Begins with the marker.
    pub body: String,
    /// The one comment that is edited. Begins with its marker.
    pub comment: String,
    pub labels: Vec<String>,
    /// False once the resolution has held.
    pub open: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_can_stand_in_a_marker_a_label_and_a_branch() {
        let identity = Identity::new("3f2a", 2, "9c41aa").expect("an identity");
        assert_eq!(identity.marker(), "<!-- maturion incident=3f2a epoch=2 -->");
        assert_eq!(identity.label(), "maturion:9c41aa");
        assert_eq!(identity.branch(), "maturion/9c41aa-2");
    }

    #[test]
    fn what_would_end_a_comment_or_is_no_label_is_no_identity() {
        for wrong in ["", "a-->", "a b", "a\n", "-a", "a--b", "a..b", "é", "a/b", &"a".repeat(65)] {
            assert!(Identity::new(wrong, 0, "9c41aa").is_err(), "{wrong:?}");
            assert!(Identity::new("3f2a", 0, wrong).is_err(), "{wrong:?}");
        }
    }
}
