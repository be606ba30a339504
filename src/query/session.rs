//! One session: a catalog of what its principal may see, and the functions that a statement may use.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement;

use super::memory::Share;
use super::rows::{self, Rows};
use super::stores::OwnStores;
use super::{CATALOG, Engine, QueryError, SCHEMA, Tables, date_trunc, guard, incident, json, views};
use crate::model::principal::Principal;
use crate::window::functions::window_functions;
use crate::window::quantile;

/// How many partitions of a statement run at once.
const PARTITIONS: usize = 2;

/// Functions whose result is as large as a number in the statement says. DataFusion does not count what one call
/// makes, so a single short statement could take all memory of the process.
const WITHOUT_BOUND: [&str; 7] = ["repeat", "lpad", "rpad", "range", "generate_series", "array_repeat", "array_resize"];

/// Sees the tables of one principal. Each connection or request has its own.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    renew: Arc<dyn Fn() + Send + Sync>,
    principal: Principal,
    engine: Arc<Engine>,
}

impl Session {
    pub(super) fn new(engine: &Arc<Engine>, principal: &Principal) -> Result<Session, QueryError> {
        let tables = (engine.source)(principal);
        let renew = Arc::clone(&tables.renew);
        let context = context(engine, tables).map_err(|error| QueryError::Session(error.to_string()))?;
        Ok(Session { context, renew, principal: principal.clone(), engine: Arc::clone(engine) })
    }

    /// DataFusion's side of the session. What is planned there without [`Session::plan_statement`] is not guarded.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// For how long a statement may run.
    pub fn time_max(&self) -> Duration {
        self.engine.limits.time_max
    }

    /// Plans the one statement of `sql`, if it only reads.
    pub async fn plan(&self, sql: &str) -> Result<LogicalPlan, QueryError> {
        let statement = guard::parse_one(sql)?;
        match guard::classify(&statement)? {
            guard::Request::Rows => self.plan_statement(statement).await,
            _ => Err(QueryError::Refused(
                "a session ends with its one statement here, so there is nothing to set, begin or commit".to_owned(),
            )),
        }
    }

    /// Plans a statement that [`guard::classify`] calls [`guard::Request::Rows`].
    pub async fn plan_statement(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        let planned = self.context.state().statement_to_plan(Parsed::Statement(Box::new(statement))).await;
        let plan = planned.map_err(|error| QueryError::planning(&error))?;
        guard::check_plan(&plan)?;
        Ok(plan)
    }

    /// Runs a plan, for `time` at most and never for longer than the limit.
    pub async fn execute(&self, plan: LogicalPlan, time: Duration) -> Result<Rows, QueryError> {
        // A plan may have come from elsewhere, or have been given parameters since.
        guard::check_plan(&plan)?;
        let statement = rows::Statement {
            engine: Arc::clone(&self.engine),
            principal: self.principal.clone(),
            renew: Arc::clone(&self.renew),
            state: self.context.state(),
            plan,
        };
        Rows::begin(statement, time.min(self.time_max())).await
    }
}

fn context(engine: &Engine, tables: Tables) -> Result<SessionContext, DataFusionError> {
    let share = Share::new(engine.limits.memory_bytes_max, Arc::clone(&engine.memory));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(share))
        .with_object_store_registry(Arc::new(OwnStores::default()))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let context = SessionContext::new_with_config_rt(config(), runtime);
    for name in WITHOUT_BOUND {
        context.deregister_udf(name);
    }
    for function in window_functions() {
        context.register_udf(function.as_ref().clone());
    }
    context.register_udf(date_trunc::date_trunc());
    quantile::register(&context)?;
    json::register(&context)?;
    incident::register(&context, &tables);
    for (name, provider) in &tables.providers {
        context.register_table(*name, Arc::clone(provider))?;
    }
    views::register(&context, &tables)?;
    Ok(context)
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(PARTITIONS)
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    config
}
