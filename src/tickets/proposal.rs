//! A proposed change of configuration, and the pull request that says so. Pure.
//!
//! The files and their contents are the caller's: they come from a repository and a decision, never from telemetry. What
//! was not done is not ticked.

use std::fmt::Write as _;

use super::Identity;
use super::markdown::Quote;

const TITLE_BYTES_MAX: usize = 160;
const NAME_BYTES_MAX: usize = 250;
/// With ten files, checks and reviewers, and room to be quoted, the body holds all.
const WORDS_BYTES_MAX: usize = 600;
const LIST_MAX: usize = 10;

/// What should be changed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub identity: Identity,
    /// In a few words: `raise the rate limit of threat-analysis to 150 per minute`.
    pub summary: String,
    pub problem: String,
    /// The number of the ticket.
    pub ticket: Option<u64>,
    pub solution: String,
    pub files: Vec<FileChange>,
    pub checks: Vec<Check>,
    /// `Low`, `Medium` or `High`, and why.
    pub risk: String,
    pub rollback: String,
    /// The section or the document that it aligns with.
    pub aligns_with: String,
    /// Who should look at it besides Maturion.
    pub reviewers: Vec<String>,
}

/// One file as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    pub path: String,
    pub content: String,
    pub description: String,
}

/// Something that was done, or should be, before it is merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub done: bool,
    pub words: String,
}

impl Proposal {
    pub(super) fn title(&self) -> String {
        format!("[FIX] {}", quote().title(&self.summary, TITLE_BYTES_MAX))
    }

    /// The plan's template.
    pub(super) fn body(&self) -> String {
        let mut body = format!("{}\n", self.identity.marker());
        let ticket = self.ticket.map(|number| format!("\n\nTicket: #{number}")).unwrap_or_default();
        section(&mut body, "Problem Statement", &(prose(&self.problem) + &ticket));
        section(&mut body, "Proposed Solution", &prose(&self.solution));
        let files = self.files.iter().take(LIST_MAX);
        let files =
            files.map(|file| format!("- {}: {}", quote().code(&file.path, NAME_BYTES_MAX), prose(&file.description)));
        section(&mut body, "Changes Made", &files.collect::<Vec<String>>().join("\n"));
        let checks = self.checks.iter().take(LIST_MAX);
        let checks = checks.map(|check| format!("- [{}] {}", if check.done { "x" } else { " " }, prose(&check.words)));
        section(&mut body, "Testing", &checks.collect::<Vec<String>>().join("\n"));
        let risk = format!("- Risk Level: {}\n- Rollback Plan: {}", prose(&self.risk), prose(&self.rollback));
        section(&mut body, "Risk Assessment", &risk);
        let aligned = format!("- Aligns with: {}\n- Module Boundaries: Respected", prose(&self.aligns_with));
        section(&mut body, "Architectural Alignment", &aligned);
        let reviewers = self.reviewers.iter().take(LIST_MAX).map(|reviewer| format!("\n- {}", prose(reviewer)));
        let reviewers = format!("- Maturion (architectural review){}", reviewers.collect::<String>());
        section(&mut body, "Review Requested From", &reviewers);
        body
    }

    pub(super) fn commit_message(&self) -> String {
        quote().title(&self.summary, TITLE_BYTES_MAX)
    }
}

fn section(body: &mut String, heading: &str, text: &str) {
    // Writing to a text cannot fail.
    let _ = write!(body, "\n## {heading}\n{text}\n");
}

fn prose(text: &str) -> String {
    quote().prose(text, WORDS_BYTES_MAX)
}

fn quote() -> Quote<'static> {
    Quote { hidden: None, organisations: false, share: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_template_is_filled() {
        let proposal = Proposal {
            identity: Identity::new("5a0c3f", 0, "9c41aa07").expect("an identity"),
            summary: "raise the rate limit of threat-analysis to 150 per minute".to_owned(),
            problem: "Legitimate traffic meets the limit of 100 per minute since 2025-12-03T10:00:00Z.".to_owned(),
            ticket: Some(7),
            solution: "The limit was raised to 150 for an hour, and no request was refused.".to_owned(),
            files: vec![FileChange {
                path: "config/limits.toml".to_owned(),
                content: "requests_per_minute = 150\n".to_owned(),
                description: "requests_per_minute from 100 to 150".to_owned(),
            }],
            checks: vec![
                Check {
                    done: true,
                    words: "Verified in production on 4,210 samples from after the temporary change".to_owned(),
                },
                Check { done: false, words: "Unit tests added/updated".to_owned() },
            ],
            risk: "Low: within the pre-approved range".to_owned(),
            rollback: "Revert this pull request".to_owned(),
            aligns_with: "Runtime Agent Plan, section 8".to_owned(),
            reviewers: vec!["Threat Module Builder (code review)".to_owned()],
        };
        insta::assert_snapshot!("pull_request", format!("{}\n{}", proposal.title(), proposal.body()));
    }
}
