//! What can go wrong with GitHub, and what to do about it.

use std::time::Duration;

use thiserror::Error;

/// How long what only a person can change is left alone.
const CONFIGURATION_WAIT: Duration = Duration::from_secs(600);

/// Why the issue or the pull request is not as it should be. Never holds a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TicketError {
    /// Nothing was done; GitHub, or caution, asks to wait.
    #[error("nothing is sent to GitHub for {} ({reason})", humantime::format_duration(*wait))]
    Later { wait: Duration, reason: String },
    /// Whether anything was done is unknown.
    #[error("GitHub did not answer as it should ({reason}); it is tried again")]
    Unreachable { wait: Duration, reason: String },
    #[error("GitHub does not accept the credentials (401): give [github] a token, or an app's key, that is valid")]
    Unauthorised,
    #[error(
        "GitHub forbids it (403: {message}): the token needs write access to issues, contents and pull requests of {repository}"
    )]
    Forbidden { repository: String, message: String },
    #[error(
        "GitHub shows no repository {repository} (404): check `repository` in [github], and that the token may see it"
    )]
    NoRepository { repository: String },
    #[error(
        "GitHub lets the token make no labels (404), and without labels no issue is found again: give it write access to issues"
    )]
    NoLabels,
    #[error("issues are disabled in {repository} (410): enable them in the repository's settings")]
    IssuesDisabled { repository: String },
    #[error("{repository} was moved: give `repository` in [github] its new name")]
    Moved { repository: String },
    /// The same again would be refused again.
    #[error("GitHub refused what was sent ({status}: {message})")]
    Refused { status: u16, message: String },
    #[error("a pull request may not change {path}: [github] `pull_request_paths` does not have it, or nothing may")]
    PathNotAllowed { path: String },
    #[error("{path} is no file of the default branch, and pull requests only change files that are there")]
    NoFile { path: String },
    #[error("{path} cannot be changed as proposed: {reason}")]
    NotEdited { path: String, reason: String },
    #[error("the proposed change is too large: at most {files} files of {bytes} bytes each")]
    TooLarge { files: usize, bytes: usize },
    #[error("the client for GitHub cannot be set up ({0})")]
    Setup(String),
}

impl TicketError {
    /// When to try again; `None` if that would be in vain.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            TicketError::Later { wait, .. } | TicketError::Unreachable { wait, .. } => Some(*wait),
            TicketError::Unauthorised
            | TicketError::Forbidden { .. }
            | TicketError::NoRepository { .. }
            | TicketError::NoLabels
            | TicketError::IssuesDisabled { .. }
            | TicketError::Moved { .. } => Some(CONFIGURATION_WAIT),
            TicketError::Refused { .. }
            | TicketError::PathNotAllowed { .. }
            | TicketError::NoFile { .. }
            | TicketError::NotEdited { .. }
            | TicketError::TooLarge { .. }
            | TicketError::Setup(_) => None,
        }
    }
}
