//! `incidents` and `actions`: tables that are made of other tables when they are read.
//!
//! | view | of | one row for each |
//! |---|---|---|
//! | `incidents` | `incident_changes` | incident: its newest revision |
//! | `actions` | `audit` | action: what was decided and done, and what came of it |
//!
//! A view is a statement over the tables of its session, planned there each time it is read: in the version of the tables
//! that the whole statement reads, within its limits. What it can show is what those tables show to the session's
//! principal, whatever the view says.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::Tables;
use crate::model::schema::{StoreTable, actions, incident_changes};

/// The place of each incident's newest revision is found first: only places are gathered, whatever the rows hold.
const INCIDENTS: &str = "
    SELECT changes.*
    FROM incident_changes AS changes
    JOIN (SELECT incident_id AS id,
                 last_value(kafka_partition ORDER BY revision, changed_at, kafka_offset) AS place,
                 last_value(kafka_offset ORDER BY revision, changed_at, kafka_offset) AS at
          FROM incident_changes GROUP BY incident_id) AS newest
    ON changes.incident_id = newest.id AND changes.kafka_partition = newest.place AND changes.kafka_offset = newest.at";

/// What came of an action is what was said of it last; of a decision alone, what was decided.
const ACTIONS: &str = "
    SELECT action_id,
           first_value(incident_id ORDER BY seq) FILTER (WHERE incident_id IS NOT NULL) AS incident_id,
           organisation_id,
           first_value(module ORDER BY seq) FILTER (WHERE module IS NOT NULL) AS module,
           first_value(action ORDER BY seq) FILTER (WHERE action IS NOT NULL) AS action,
           first_value(target ORDER BY seq) FILTER (WHERE target IS NOT NULL) AS target,
           last_value(decision ORDER BY seq) FILTER (WHERE kind = 'decision') AS decision,
           min(time) FILTER (WHERE kind = 'decision') AS decided_at,
           min(time) FILTER (WHERE kind = 'intent') AS started_at,
           min(time) FILTER (WHERE kind = 'verified') AS verified_at,
           min(time) FILTER (WHERE kind = 'rolled_back') AS rolled_back_at,
           last_value(CASE WHEN kind = 'decision' THEN decision ELSE kind END ORDER BY seq) AS outcome,
           last_value(reasons ORDER BY seq) FILTER (WHERE kind = 'decision') AS reasons,
           first_value(before ORDER BY seq) FILTER (WHERE before IS NOT NULL) AS before,
           last_value(after ORDER BY seq) FILTER (WHERE after IS NOT NULL) AS after,
           last_value(sentence ORDER BY seq) AS sentence
    FROM audit
    WHERE action_id IS NOT NULL AND kind <> 'checkpoint'
    GROUP BY action_id, organisation_id";

/// Makes the views known to a session that has the tables they are made of.
pub(super) fn register(context: &SessionContext, tables: &Tables) -> Result<()> {
    let views = [
        (StoreTable::IncidentChanges, View { name: "incidents", sql: INCIDENTS, schema: incident_changes() }),
        (StoreTable::Audit, View { name: "actions", sql: ACTIONS, schema: actions() }),
    ];
    for (table, view) in views {
        if tables.providers.iter().any(|(name, _)| *name == table.name()) {
            context.register_table(view.name, Arc::new(view))?;
        }
    }
    Ok(())
}

struct View {
    name: &'static str,
    sql: &'static str,
    schema: SchemaRef,
}

impl fmt::Debug for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

#[async_trait]
impl TableProvider for View {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    /// Put above the view's own statement, whose plan then takes them as far down as they may go.
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
        let Some(session) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("the view {} can only be read in a session", self.name);
        };
        let rows = session.create_logical_plan(self.sql).await?;
        let mut plan = LogicalPlanBuilder::from(rows).alias(self.name)?;
        if let Some(wanted) = conjunction(filters.iter().cloned()) {
            plan = plan.filter(wanted)?;
        }
        if let Some(columns) = projection {
            plan = plan.select(columns.iter().copied())?;
        }
        session.create_physical_plan(&plan.limit(0, limit)?.build()?).await
    }
}
