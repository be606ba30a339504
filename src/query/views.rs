//! `incidents` and `actions`: tables that are made of other tables when they are read.
//!
//! | view | of | one row for each |
//! |---|---|---|
//! | `incidents` | `incident_changes` | incident: its newest revision |
//! | `actions` | `audit` | action: what was decided and done, and what came of it |
//!
//! A view is a statement over the tables of its session, planned when the session begins and part of the plan of each
//! statement that names it: it reads the version of the tables that the whole statement reads, within its limits. What it
//! can show is what those tables show to the session's principal, whatever the view says.

use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::prelude::SessionContext;
use futures::FutureExt;

use super::Tables;
use crate::model::schema::StoreTable;

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
    for (table, view, sql) in
        [(StoreTable::IncidentChanges, "incidents", INCIDENTS), (StoreTable::Audit, "actions", ACTIONS)]
    {
        if !tables.providers.iter().any(|(name, _)| *name == table.name()) {
            continue;
        }
        // Planning waits for nothing: the catalog is in memory.
        let Some(plan) = context.state().create_logical_plan(sql).now_or_never() else {
            return plan_err!("the view {view} cannot be planned at once");
        };
        context.register_table(view, Arc::new(ViewTable::new(plan?, Some(sql.to_owned()))))?;
    }
    Ok(())
}
