//! SQL for people and tools: read-only statements over the tables that a principal may see.
//!
//! What a session can see is a capability, not a filter: its catalog holds the providers of [`Tables`], made for one
//! [`Principal`], and no object of the session can reach anything else. `query` never makes those tables itself, never
//! writes, and opens no file and no address.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::TableProvider;

use crate::model::principal::Principal;

/// Everything that one session can see.
#[derive(Clone)]
pub struct Tables {
    /// Each table by its name in SQL, bound to the principal of the session. Scans read what [`Tables::renew`] pinned.
    pub providers: Vec<(&'static str, Arc<dyn TableProvider>)>,
    /// Pins the newest version of all tables together. It is called before each statement is planned for execution, so
    /// that all scans of one statement read one version. It must be quick and must not block.
    pub renew: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.providers.iter().map(|(name, _)| name)).finish()
    }
}

/// Makes the tables of one session: it is asked once for each connection or request.
pub type TableSource = Arc<dyn Fn(&Principal) -> Tables + Send + Sync>;
