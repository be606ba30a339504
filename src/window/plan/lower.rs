//! From the text of a statement to physical expressions, in DataFusion's own words.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::FutureExt;

use super::{Aggregation, Panes, PlanError, Step, refuse};
use crate::model::pipeline::Pipeline;
use crate::window::functions::{interval_micros, window_functions};
use crate::window::quantile;

/// A statement in pieces, before series and rules are looked at.
pub(super) struct Lowered {
    pub(super) scan: Vec<usize>,
    pub(super) before: Vec<Step>,
    pub(super) panes: Panes,
    pub(super) time: Arc<dyn PhysicalExpr>,
    pub(super) group_exprs: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) group_names: Vec<String>,
    /// Which of the group expressions is the window.
    pub(super) window_slot: usize,
    pub(super) aggregations: Vec<Aggregation>,
    pub(super) aggregate_schema: SchemaRef,
    pub(super) after: Vec<Step>,
    pub(super) output: SchemaRef,
    /// The plan as text: the part of the version that the statement decides.
    pub(super) display: String,
    /// For each column of the output, what it measures, as text.
    pub(super) measures: BTreeMap<String, String>,
}

/// Lowers a pipeline's statement over `table` with the columns of `source`.
pub(super) fn lower(
    pipeline: &Pipeline,
    table: &str,
    source: SchemaRef,
    time_column: &str,
) -> Result<Lowered, PlanError> {
    let context = session(table, source).map_err(|error| refuse::datafusion(pipeline, &error))?;
    let state = context.state();
    let plan = logical_plan(&state, &pipeline.sql).map_err(|error| refuse::datafusion(pipeline, &error))?;
    refuse::check(pipeline, &plan)?;
    let plan = optimise(&state, plan).map_err(|error| refuse::datafusion(pipeline, &error))?;
    take_apart(pipeline, &state, &plan, time_column)
}

/// A session that knows Maturion's functions and one empty table.
fn session(table: &str, source: SchemaRef) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.collect_spans = true;
    let context = SessionContext::new_with_config(config);
    for function in window_functions() {
        context.register_udf(function.as_ref().clone());
    }
    quantile::register(&context)?;
    context.register_table(table, Arc::new(EmptyTable::new(source)))?;
    Ok(context)
}

fn logical_plan(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    // The catalog is in memory, so planning never waits: a pending future would be a table that is looked up elsewhere.
    let plan = state.create_logical_plan(sql).now_or_never().unwrap_or_else(|| {
        Err(DataFusionError::Plan("the statement reads a table that is not in memory".to_owned()))
    })?;
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
}

/// Folds constants and keeps only the columns that are used; no rule that changes the shape around the aggregate.
fn optimise(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        vec![Arc::new(SimplifyExpressions::new()), Arc::new(OptimizeProjections::new())];
    Optimizer::with_rules(rules).optimize(plan, state, |_, _| {})
}

fn take_apart(
    pipeline: &Pipeline,
    state: &SessionState,
    plan: &LogicalPlan,
    time_column: &str,
) -> Result<Lowered, PlanError> {
    let in_words = |error: DataFusionError| refuse::datafusion(pipeline, &error);
    let (after, below) = steps(state, plan).map_err(in_words)?;
    let LogicalPlan::Aggregate(aggregate) = below else {
        return Err(refuse::whole(pipeline, "the statement needs a GROUP BY with tumble(…) or hop(…)".to_owned()));
    };
    let (before, scan) = steps(state, &aggregate.input).map_err(in_words)?;
    let LogicalPlan::TableScan(scan) = scan else {
        return Err(refuse::whole(
            pipeline,
            format!("{} below the GROUP BY cannot be windowed", refuse::node_name(scan)),
        ));
    };
    let input = aggregate.input.schema();
    let (window_slot, panes, time) = window(pipeline, &aggregate.group_expr, time_column)?;
    let physical = |expr: &Expr| physical(state, expr, input).map_err(in_words);
    let group_exprs = aggregate.group_expr.iter().map(|expr| match expr {
        expr if is_window(expr) => physical(&time),
        expr => physical(expr),
    });
    let aggregations = aggregate.aggr_expr.iter().map(|expr| aggregation(state, expr, input).map_err(in_words));
    Ok(Lowered {
        scan: scan.projection.clone().unwrap_or_else(|| (0..scan.source.schema().fields().len()).collect()),
        before,
        panes,
        time: physical(&time)?,
        group_exprs: group_exprs.collect::<Result<_, _>>()?,
        group_names: aggregate.group_expr.iter().map(|expr| expr.schema_name().to_string()).collect(),
        window_slot,
        aggregations: aggregations.collect::<Result<_, _>>()?,
        aggregate_schema: Arc::clone(aggregate.schema.inner()),
        after,
        output: Arc::clone(plan.schema().inner()),
        display: plan.display_indent_schema().to_string(),
        measures: measures(plan, aggregate),
    })
}

/// What each output column measures: the expressions that lead to it from the aggregate on, whose columns are named by
/// what they compute, and which rows the aggregate sees. Other columns of the statement are no part of it.
fn measures(plan: &LogicalPlan, aggregate: &Aggregate) -> BTreeMap<String, String> {
    let mut rows = aggregate.group_expr.iter().map(Expr::to_string).collect::<Vec<_>>();
    let mut below = aggregate.input.as_ref();
    loop {
        below = match below {
            LogicalPlan::Filter(filter) => {
                rows.push(filter.predicate.to_string());
                &filter.input
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::TableScan(_) => break,
            // Columns are given other meanings here: what is below counts as a whole.
            other => {
                rows.push(other.display_indent().to_string());
                break;
            }
        };
    }
    let rows = rows.join("\n");
    let columns = plan.schema().fields().iter().map(|field| field.name());
    columns.map(|name| (name.clone(), format!("{}\n{rows}", lineage(plan, name)))).collect()
}

/// The expressions that a column of `plan` comes from, down to the aggregate.
fn lineage(plan: &LogicalPlan, column: &str) -> String {
    match plan {
        LogicalPlan::Projection(projection) => {
            let places = projection.schema.fields().iter().zip(&projection.expr);
            let found = places.filter(|(field, _)| field.name() == column).map(|(_, expr)| bare(expr));
            let below = |expr: &Expr| {
                let mut read = expr.column_refs().into_iter().map(|read| read.name.clone()).collect::<Vec<_>>();
                read.sort();
                read.iter().map(|read| lineage(&projection.input, read)).collect::<Vec<_>>().join(", ")
            };
            found.map(|expr| format!("{expr} of ({})", below(expr))).collect()
        }
        LogicalPlan::Filter(filter) => lineage(&filter.input, column),
        LogicalPlan::SubqueryAlias(alias) => lineage(&alias.input, column),
        _ => column.to_owned(),
    }
}

/// The filters and projections from `plan` down, innermost first, and the node below them.
fn steps<'a>(state: &SessionState, mut plan: &'a LogicalPlan) -> Result<(Vec<Step>, &'a LogicalPlan)> {
    let mut steps = Vec::new();
    loop {
        plan = match plan {
            LogicalPlan::Filter(filter) => {
                steps.push(Step::Filter(physical(state, &filter.predicate, filter.input.schema())?));
                &filter.input
            }
            LogicalPlan::Projection(projection) => {
                let input = projection.input.schema();
                let expressions = projection.expr.iter().map(|expr| physical(state, expr, input));
                steps.push(Step::Project(expressions.collect::<Result<_>>()?, Arc::clone(projection.schema.inner())));
                &projection.input
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            other => {
                steps.reverse();
                return Ok((steps, other));
            }
        };
    }
}

fn physical(state: &SessionState, expr: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(expr, input, state.execution_props(), &PhysicalPlanningContext::default())
}

fn aggregation(state: &SessionState, expr: &Expr, input: &DFSchema) -> Result<Aggregation> {
    let planning = PhysicalPlanningContext::default();
    let lowered =
        LoweredAggregateBuilder::new(expr, input, input.as_arrow(), state.execution_props(), &planning).build()?;
    let arguments = lowered.aggregate.expressions();
    Ok(Aggregation { expr: lowered.aggregate, arguments, filter: lowered.filter })
}

/// The window among the group expressions: its place, its panes and the time it is computed from.
fn window(pipeline: &Pipeline, groups: &[Expr], time_column: &str) -> Result<(usize, Panes, Expr), PlanError> {
    let mut found = groups.iter().enumerate().filter(|(_, expr)| is_window(expr));
    let (Some((slot, Expr::ScalarFunction(call))), None) =
        (found.next().map(|(slot, expr)| (slot, bare(expr))), found.next())
    else {
        let reason = "the GROUP BY needs exactly one tumble(…) or hop(…)".to_owned();
        return Err(refuse::at_word(pipeline, "group", reason));
    };
    let in_words = |error: DataFusionError| refuse::at_word(pipeline, call.name(), refuse::sentence(&error));
    let length = |index: usize| match call.args.get(index).map(bare) {
        Some(Expr::Literal(value, _)) => interval_micros(value).map_err(in_words),
        _ => Err(refuse::at_word(pipeline, call.name(), "a window's length must be a constant interval".to_owned())),
    };
    let panes = match call.name() {
        "tumble" => Panes::new(length(1)?, length(1)?),
        _ => Panes::new(length(2)?, length(1)?),
    };
    if panes.slide > panes.size {
        let reason = "hop(ts, slide, size): the slide is longer than the window, so rows between windows would be lost";
        return Err(refuse::at_word(pipeline, "hop", reason.to_owned()));
    }
    match call.args.first() {
        Some(time @ Expr::Column(column)) if column.name == time_column => Ok((slot, panes, time.clone())),
        _ => {
            let reason = format!("windows are made over the event time, the column `{time_column}`");
            Err(refuse::at_word(pipeline, call.name(), reason))
        }
    }
}

fn is_window(expr: &Expr) -> bool {
    matches!(bare(expr), Expr::ScalarFunction(ScalarFunction { func, .. }) if matches!(func.name(), "tumble" | "hop"))
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        expr => expr,
    }
}
