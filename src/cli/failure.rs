//! How a command fails.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use crate::backfill::BackfillError;
use crate::cases::CaseError;
use crate::config::ConfigError;
use crate::decide::PolicyError;
use crate::demo::DemoError;
use crate::generate::GenerateError;
use crate::log::LogError;
use crate::roles::RolesError;
use crate::roles::runtime::OpenError;

/// Why a command did not do its work: what is said, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The work failed: exit code 1. One sentence each.
    Work(Vec<String>),
    /// Arguments or configuration cannot be used: exit code 2.
    Unusable(String),
}

impl Failure {
    /// The work failed with this error.
    pub fn work(error: impl fmt::Display) -> Failure {
        Failure::Work(vec![error.to_string()])
    }

    /// What clap says, without the usage that it adds.
    pub(super) fn arguments(error: &clap::Error) -> Failure {
        let text = error.to_string();
        let said = text.split("\n\nUsage:").next().unwrap_or(&text).trim_start_matches("error: ");
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let sentence = lines.join(", ");
        let sentence = sentence.trim_end_matches(", For more information, try '--help'.");
        Failure::Unusable(format!("{sentence}; see `maturion --help`"))
    }

    /// Says it on standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (sentences, code) = match self {
            Failure::Work(sentences) => (sentences.as_slice(), 1),
            Failure::Unusable(sentence) => (std::slice::from_ref(sentence), 2),
        };
        let mut stderr = std::io::stderr().lock();
        for sentence in sentences {
            // There is nobody left to tell if standard error is closed; the exit code still says it.
            let _ = writeln!(stderr, "maturion: {sentence}");
        }
        ExitCode::from(code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Unusable(error.to_string())
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Failure {
        Failure::Unusable(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        match error {
            OpenError::Topics(faults) => Failure::Work(faults),
            OpenError::Log(error) => error.into(),
            error if error.is_configuration() => Failure::Unusable(error.to_string()),
            error => Failure::work(error),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        match error {
            LogError::Setting(_) => Failure::Unusable(error.to_string()),
            error => Failure::work(error),
        }
    }
}

impl From<RolesError> for Failure {
    fn from(error: RolesError) -> Failure {
        Failure::work(error)
    }
}

impl From<BackfillError> for Failure {
    fn from(error: BackfillError) -> Failure {
        if error.is_unusable() { Failure::Unusable(error.to_string()) } else { Failure::work(error) }
    }
}

impl From<CaseError> for Failure {
    fn from(error: CaseError) -> Failure {
        match error {
            CaseError::Evaluate(error) => error.into(),
            error => Failure::Unusable(error.to_string()),
        }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Failure {
        if error.is_unusable() { Failure::Unusable(error.to_string()) } else { Failure::work(error) }
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Failure {
        if error.is_unusable() { Failure::Unusable(error.to_string()) } else { Failure::work(error) }
    }
}
