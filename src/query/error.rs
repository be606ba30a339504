//! Why a statement has no answer, in words for whoever asked.

use std::time::Duration;

use datafusion::common::DataFusionError;
use thiserror::Error;

/// Why a statement has no rows, or not all of them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QueryError {
    /// Something that nobody may do here.
    #[error("{0}")]
    Refused(String),
    /// Not SQL, or not SQL about these tables.
    #[error("{0}")]
    Invalid(String),
    #[error(
        "the statement did not end within {} s; ask for less time or fewer columns, or raise query.time_max", .0.as_secs_f64()
    )]
    Time(Duration),
    #[error(
        "the statement needs more memory than it may have ({0}); group or sort less, or raise query.memory_bytes_max"
    )]
    Memory(String),
    #[error("the statement was cancelled")]
    Cancelled,
    #[error("the statement failed: {0}")]
    Failed(String),
    #[error("the statement met a defect of Maturion and ended; others go on")]
    Defect,
    #[error("no session can be made: {0}")]
    Session(String),
}

impl QueryError {
    /// What went wrong before a statement ran.
    pub(super) fn planning(error: &DataFusionError) -> QueryError {
        match QueryError::running(error) {
            QueryError::Failed(reason) => QueryError::Invalid(reason),
            other => other,
        }
    }

    /// What went wrong while a statement ran.
    pub(super) fn running(error: &DataFusionError) -> QueryError {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(reason) => QueryError::Memory(first_line(reason)),
            DataFusionError::External(cause) if cause.is::<QueryError>() => {
                cause.downcast_ref::<QueryError>().cloned().unwrap_or(QueryError::Defect)
            }
            DataFusionError::SQL(error, _) => QueryError::Failed(first_line(&error.to_string())),
            root => QueryError::Failed(first_line(&root.message())),
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

/// One line, without the trace of calls that a debugging build adds.
fn first_line(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or_default();
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
