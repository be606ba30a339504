//! `incident_window('INCIDENT_ID', INTERVAL '15 minutes')`: the logs around an incident, as a table.
//!
//! The incident's rows in `detections` say which series it is about and when it began and ended. The table is the rows of
//! `logs` of that series, from that long before it began until that long after it was resolved, or until now while it is
//! open. The look-up is part of the scan, so it reads the version of the tables that the statement reads, within the
//! statement's limits, and only what the session may see: an incident of somebody else is as unknown as one that never was.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::Utc;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, col, lit};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;

use super::Tables;
use crate::model::pipeline::Micros;
use crate::model::schema::StoreTable;
use crate::window::functions::interval_micros;
use found::Found;

mod found;

/// The name of the function.
const NAME: &str = "incident_window";
/// How far around the incident it looks if nothing is said.
const AROUND: Micros = 15 * 60 * 1_000_000;

const USAGE: &str = "incident_window takes the id of an incident as a constant text, and how far around it to look as a \
                     constant interval: incident_window('0f1e…', INTERVAL '15 minutes')";

/// Makes the function known to a session that has the tables it reads.
pub(super) fn register(context: &SessionContext, tables: &Tables) {
    let find = |table: StoreTable| tables.providers.iter().find(|(name, _)| *name == table.name());
    if let (Some((_, logs)), Some((_, detections))) = (find(StoreTable::Logs), find(StoreTable::Detections)) {
        let function = IncidentWindow { logs: Arc::clone(logs), detections: Arc::clone(detections) };
        context.register_udtf(NAME, Arc::new(function));
    }
}

struct IncidentWindow {
    logs: Arc<dyn TableProvider>,
    detections: Arc<dyn TableProvider>,
}

impl fmt::Debug for IncidentWindow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(NAME)
    }
}

impl TableFunctionImpl for IncidentWindow {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (id, around) = match args.exprs() {
            [Expr::Literal(id, _)] => (id, AROUND),
            [Expr::Literal(id, _), Expr::Literal(around, _)] => (id, interval_micros(around)?),
            _ => return plan_err!("{USAGE}"),
        };
        let Some(id) = id.try_as_str().flatten() else { return plan_err!("{USAGE}") };
        let (logs, detections) = (Arc::clone(&self.logs), Arc::clone(&self.detections));
        Ok(Arc::new(Around { logs, detections, incident: id.to_owned(), around }))
    }
}

/// The rows of `logs` around one incident.
struct Around {
    logs: Arc<dyn TableProvider>,
    detections: Arc<dyn TableProvider>,
    incident: String,
    around: Micros,
}

impl fmt::Debug for Around {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{NAME}({:?}, {} s)", self.incident, self.around / 1_000_000)
    }
}

#[async_trait]
impl TableProvider for Around {
    fn schema(&self) -> SchemaRef {
        self.logs.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    /// Handed on to `logs`; what it does not do is done above.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(found) = self.look_up(state).await? else {
            return plan_err!("there is no incident {:?} that may be seen here", self.incident);
        };
        let start = state.execution_props().query_execution_start_time.unwrap_or_else(Utc::now);
        let (from, to) = found.times(self.around, start.timestamp_micros());
        let time = || col(StoreTable::Logs.time_column());
        let mut wanted = vec![time().gt_eq(lit(instant(from))), time().lt_eq(lit(instant(to)))];
        wanted.push(found.series(&self.logs.schema())?);
        wanted.extend(filters.iter().cloned());
        let logs = provider_as_source(Arc::clone(&self.logs));
        let mut plan = LogicalPlanBuilder::scan(StoreTable::Logs.name(), logs, None)?;
        if let Some(wanted) = conjunction(wanted) {
            plan = plan.filter(wanted)?;
        }
        if let Some(columns) = projection {
            plan = plan.select(columns.iter().copied())?;
        }
        let plan = plan.limit(0, limit)?.build()?;
        state.create_physical_plan(&plan).await
    }
}

impl Around {
    /// What `detections` says about the incident.
    async fn look_up(&self, state: &dyn Session) -> Result<Option<Found>> {
        let detections = provider_as_source(Arc::clone(&self.detections));
        let plan = LogicalPlanBuilder::scan(StoreTable::Detections.name(), detections, None)?
            .filter(col("incident_id").eq(lit(self.incident.as_str())))?
            .project(found::COLUMNS.map(col))?
            .build()?;
        let plan = state.create_physical_plan(&plan).await?;
        Found::read(&collect(plan, state.task_ctx()).await?)
    }
}

/// A time as a constant of the type of event times.
fn instant(time: Micros) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(time), Some("UTC".into()))
}
