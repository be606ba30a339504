//! What went wrong, as PostgreSQL's clients know it: a severity, a code of five characters, a sentence.

use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};

use crate::query::QueryError;

/// An error of one statement.
pub(super) fn error(code: &str, reason: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), reason.into())))
}

/// An error that ends the connection.
pub(super) fn fatal(code: &str, reason: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), reason.into())))
}

/// What a statement failed with.
pub(super) fn of_query(failed: QueryError) -> PgWireError {
    let code = match &failed {
        // insufficient_privilege
        QueryError::Refused(_) => "42501",
        // syntax_error_or_access_rule_violation
        QueryError::Invalid(_) => "42000",
        // query_canceled
        QueryError::Time(_) | QueryError::Cancelled => "57014",
        // out_of_memory
        QueryError::Memory(_) => "53200",
        // data_exception
        QueryError::Failed(_) => "22000",
        // internal_error
        QueryError::Defect | QueryError::Session(_) => "XX000",
    };
    error(code, failed.to_string())
}
