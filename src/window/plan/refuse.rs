//! What a windowed statement may not contain, and how it is said.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::PlanError;
use crate::model::pipeline::Pipeline;

/// Aggregates whose state is a few numbers per group, whatever the number of rows, and whose result does not depend
/// on the order in which partial states are merged.
const BOUNDED: [&str; 37] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "var",
    "var_samp",
    "var_sample",
    "var_pop",
    "var_population",
    "covar",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_count",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "approx_distinct",
    "quantile",
    "sketch",
    "every",
    "some",
];

/// Aggregates that people ask for, and what to use instead.
const ALTERNATIVES: [(&str, &str); 10] = [
    ("median", "`median` keeps every value; use quantile(column, 0.5)"),
    ("percentile_cont", "`percentile_cont` keeps every value; use quantile(column, p)"),
    ("quantile_cont", "`quantile_cont` keeps every value; use quantile(column, p)"),
    ("approx_percentile_cont", "`approx_percentile_cont` states no error; use quantile(column, p)"),
    (
        "approx_percentile_cont_with_weight",
        "`approx_percentile_cont_with_weight` states no error; use quantile(column, p)",
    ),
    ("approx_median", "`approx_median` states no error; use quantile(column, 0.5)"),
    ("array_agg", "`array_agg` keeps every value; use count, min or max"),
    ("string_agg", "`string_agg` keeps every value; use count, min or max"),
    ("first_value", "`first_value` depends on the order of arrival; use min"),
    ("last_value", "`last_value` depends on the order of arrival; use max"),
];

/// Refuses everything that has no bounded, repeatable meaning over windows.
pub(super) fn check(pipeline: &Pipeline, plan: &LogicalPlan) -> Result<(), PlanError> {
    let mut refusal = None;
    let mut aggregates = 0;
    let walked = plan.apply(|node| {
        refusal = refuse_node(pipeline, node);
        aggregates += usize::from(matches!(node, LogicalPlan::Aggregate(_)));
        if refusal.is_none() {
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    refusal = refusal.take().or_else(|| refuse_expr(pipeline, part));
                    Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })?;
        }
        Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (refusal, walked) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(error)) => Err(datafusion(pipeline, &error)),
        (None, Ok(_)) if aggregates > 1 => {
            let reason = "a pipeline has one GROUP BY; put the second into a pipeline with source = \"windows\"";
            Err(at_word(pipeline, "group", reason.to_owned()))
        }
        (None, Ok(_)) => Ok(()),
    }
}

fn refuse_node(pipeline: &Pipeline, node: &LogicalPlan) -> Option<PlanError> {
    let (word, reason) = match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::TableScan(_) => return None,
        LogicalPlan::Sort(_) => ("order", "ORDER BY has no meaning in a stream of windows"),
        LogicalPlan::Limit(_) => ("limit", "LIMIT has no meaning in a stream of windows"),
        LogicalPlan::Join(_) => ("join", "a join needs state without bound"),
        LogicalPlan::Window(_) => ("over", "window functions (OVER) need rows of other windows"),
        LogicalPlan::Union(_) => ("union", "a pipeline reads one source; write two pipelines"),
        LogicalPlan::Distinct(_) => ("distinct", "DISTINCT needs state without bound; use GROUP BY"),
        LogicalPlan::Unnest(_) => ("unnest", "unnest has no place in a windowed aggregation"),
        _ => ("select", "a pipeline is one SELECT with a GROUP BY"),
    };
    Some(at_word(pipeline, word, reason.to_owned()))
}

fn refuse_expr(pipeline: &Pipeline, expr: &Expr) -> Option<PlanError> {
    match expr {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            let reason =
                format!("`{}` gives another answer each time it is asked, so a replay would differ", call.name());
            Some(at_word(pipeline, call.name(), reason))
        }
        Expr::AggregateFunction(call) => refuse_aggregate(pipeline, call),
        Expr::WindowFunction(_) => {
            Some(at_word(pipeline, "over", "window functions (OVER) need rows of other windows".to_owned()))
        }
        Expr::GroupingSet(_) => Some(at_word(
            pipeline,
            "group",
            "ROLLUP, CUBE and GROUPING SETS give a series several rows; write one pipeline each".to_owned(),
        )),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => Some(at_word(
            pipeline,
            "select",
            "a subquery in an expression reads rows that the stream does not keep".to_owned(),
        )),
        Expr::Placeholder(_) => Some(whole(pipeline, "a pipeline's statement has no parameters".to_owned())),
        _ => None,
    }
}

fn refuse_aggregate(pipeline: &Pipeline, call: &AggregateFunction) -> Option<PlanError> {
    let name = call.func.name();
    let reason = if let Some((_, reason)) = ALTERNATIVES.iter().find(|(refused, _)| *refused == name) {
        (*reason).to_owned()
    } else if !BOUNDED.contains(&name) {
        format!("`{name}` is not known to keep a bounded state")
    } else if !call.params.order_by.is_empty() {
        format!("ORDER BY inside `{name}` needs every row")
    } else if call.params.distinct && !matches!(name, "min" | "max") {
        format!("`{name}(DISTINCT …)` keeps every value; use approx_distinct(column)")
    } else {
        return None;
    };
    Some(at_word(pipeline, name, reason))
}

/// How a plan's node is called in a sentence.
pub(super) fn node_name(node: &LogicalPlan) -> &'static str {
    match node {
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => "a statement without FROM",
        LogicalPlan::Aggregate(_) => "a second GROUP BY",
        _ => "what stands",
    }
}

/// A refusal of the statement as a whole.
pub(super) fn whole(pipeline: &Pipeline, reason: String) -> PlanError {
    PlanError { file: pipeline.sql_file.clone(), position: None, reason }
}

/// A refusal at the first place where `word` stands in the statement (or at the first of its words, if it has several).
pub(super) fn at_word(pipeline: &Pipeline, word: &str, reason: String) -> PlanError {
    let word = word.rsplit('.').next().unwrap_or(word);
    PlanError { file: pipeline.sql_file.clone(), position: position_of(&pipeline.sql, word), reason }
}

fn position_of(sql: &str, word: &str) -> Option<(u64, u64)> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().ok()?;
    let is_it = |token: &Token| matches!(token, Token::Word(found) if found.value.eq_ignore_ascii_case(word));
    let found = tokens.into_iter().find(|token| is_it(&token.token))?;
    Some((found.span.start.line, found.span.start.column))
}

/// DataFusion's refusal, with its position where it has one.
pub(super) fn datafusion(pipeline: &Pipeline, error: &DataFusionError) -> PlanError {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let reason = sentence(error);
    let position = span.map(|span| (span.start.line, span.start.column)).or_else(|| position_in(&reason));
    PlanError { file: pipeline.sql_file.clone(), position, reason }
}

/// The innermost message of an error, on one line.
pub(super) fn sentence(error: &DataFusionError) -> String {
    let message = match error.find_root() {
        DataFusionError::SQL(error, _) => error.to_string(),
        root => root.message().into_owned(),
    };
    message.split("\n\nbacktrace:").next().unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The parser's own `at Line: 3, Column: 7`.
fn position_in(message: &str) -> Option<(u64, u64)> {
    let (_, place) = message.rsplit_once("at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits = column.find(|c: char| !c.is_ascii_digit()).unwrap_or(column.len());
    Some((line.parse().ok()?, column[..digits].parse().ok()?))
}
