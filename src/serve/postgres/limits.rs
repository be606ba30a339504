//! What one connection may hold, whatever its client sends.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use datafusion_postgres::pgwire::error::PgWireResult;

use super::failure;

/// How long a client may take to sign in.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a message of somebody who has not signed in.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message: a statement with its parameters.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much longer than its statement may run a client may take to read the answer; then the connection is closed.
pub(super) const READ_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether the client is still there while its statement runs.
pub(super) const HANG_UP_STEP: Duration = Duration::from_secs(1);
/// How long a connection may stay without a word.
pub(super) const IDLE_WAIT: Duration = Duration::from_secs(6 * 60 * 60);
/// Statements in one message.
pub(super) const STATEMENTS_MAX: usize = 100;
/// Prepared statements of a connection, each with its plan.
const PREPARED_MAX: usize = 256;
/// Statements of a connection that have been given their parameters, each with its rows under way.
const PORTALS_MAX: usize = 64;

/// The names that a client gave to what the connection keeps for it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    prepared: Mutex<BTreeSet<String>>,
    portals: Mutex<BTreeSet<String>>,
}

impl Kept {
    pub(super) fn prepare(&self, name: &str) -> PgWireResult<()> {
        keep(&self.prepared, name, PREPARED_MAX, "prepared statements")
    }

    pub(super) fn bind(&self, name: &str) -> PgWireResult<()> {
        keep(&self.portals, name, PORTALS_MAX, "portals")
    }

    pub(super) fn forget_prepared(&self, name: &str) {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn forget_portal(&self, name: &str) {
        self.portals.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Every prepared statement's name, which is then forgotten.
    pub(super) fn forget_all_prepared(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.prepared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn keep(names: &Mutex<BTreeSet<String>>, name: &str, max: usize, what: &str) -> PgWireResult<()> {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    if names.len() >= max && !names.contains(name) {
        return Err(failure::error("53400", format!("a connection keeps at most {max} {what}; close some")));
    }
    names.insert(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_keeps_so_many_and_no_more() {
        let kept = Kept::default();
        for number in 0..PREPARED_MAX {
            kept.prepare(&number.to_string()).unwrap();
        }
        assert!(kept.prepare("one more").is_err());
        kept.prepare("0").unwrap();
        kept.forget_prepared("0");
        kept.prepare("one more").unwrap();
        assert_eq!(kept.forget_all_prepared().len(), PREPARED_MAX);
        kept.prepare("again").unwrap();
    }
}
