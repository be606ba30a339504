//! SQL for people and tools: read-only statements over the tables that a principal may see.
//!
//! ```text
//!  Principal ─▶ TableSource ─▶ Tables ─▶ Session           (a catalog of those tables, and nothing else)
//!                                           │
//!  SQL text ─▶ guard (words) ─▶ plan ─▶ guard (plan) ─▶ Session::execute ─▶ Rows ─▶ output
//! ```
//!
//! What a session can see is a capability, not a filter: its catalog holds the providers of [`Tables`], made for one
//! [`Principal`], and no object of the session can reach anything else. `query` never makes those tables itself, never
//! writes, and opens no file and no address. Every statement has a bound of memory and of time, which includes the time
//! its rows wait to be taken, and runs on threads of its own.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::TableProvider;

use crate::model::principal::Principal;

mod date_trunc;
mod engine;
mod error;
pub mod guard;
mod incident;
mod json;
mod memory;
pub mod output;
mod rows;
mod session;
mod stores;
mod turns;
pub mod variables;
mod views;

pub use engine::{Engine, Limits};
pub use error::QueryError;
pub use rows::Rows;
pub use session::Session;

/// The longest text of a statement. Planning takes time and memory that grow with it.
pub const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// The catalog and the schema of every session, as `information_schema` and clients show them.
pub const CATALOG: &str = "maturion";
pub const SCHEMA: &str = "public";

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

/// Runs one statement and gives its rows as they come.
pub async fn run(session: &Session, sql: &str) -> Result<Rows, QueryError> {
    let plan = session.plan(sql).await?;
    session.execute(plan, session.time_max()).await
}
