//! `quantile` through SQL, over several partitions, against exact values.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Float64Type, Int64Type, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionConfig;
use proptest::prelude::*;

use super::*;

/// A group, a latency, a status.
type Row = (u8, Option<f64>, i64);

const PARTITIONS: usize = 3;

/// A session of several partitions over a table `logs` of these rows. `skip_partial` makes the first phase hand rows on
/// as states instead of aggregating them.
fn session(rows: &[Row], skip_partial: bool) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(PARTITIONS).with_batch_size(16);
    if skip_partial {
        let execution = &mut config.options_mut().execution;
        execution.skip_partial_aggregation_probe_rows_threshold = 0;
        execution.skip_partial_aggregation_probe_ratio_threshold = 0.0;
    }
    let context = SessionContext::new_with_config(config);
    register(&context).unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("module", DataType::Utf8, false),
        Field::new("duration_ms", DataType::Float64, true),
        Field::new("status", DataType::Int64, false),
    ]));
    let partition = |rows: &[Row]| rows.chunks(16).map(|rows| batch(&schema, rows)).collect::<Vec<_>>();
    let mut partitions: Vec<_> = rows.chunks(rows.len().div_ceil(PARTITIONS).max(1)).map(partition).collect();
    partitions.resize(PARTITIONS, vec![]);
    context.register_table("logs", Arc::new(MemTable::try_new(Arc::clone(&schema), partitions).unwrap())).unwrap();
    context
}

fn batch(schema: &Arc<Schema>, rows: &[Row]) -> RecordBatch {
    let modules = StringArray::from_iter_values(rows.iter().map(|row| row.0.to_string()));
    let durations = Float64Array::from_iter(rows.iter().map(|row| row.1));
    let statuses = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(modules), Arc::new(durations), Arc::new(statuses)]).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn query(context: &SessionContext, sql: &str) -> RecordBatch {
    block_on(async {
        let result = context.sql(sql).await.unwrap();
        let schema = Arc::new(result.schema().as_arrow().clone());
        arrow::compute::concat_batches(&schema, &result.collect().await.unwrap()).unwrap()
    })
}

fn plan(context: &SessionContext, sql: &str) -> Result<LogicalPlan> {
    block_on(context.state().create_logical_plan(sql))
}

/// The values of a column of 64-bit floats.
fn floats(batch: &RecordBatch, column: usize) -> Vec<Option<f64>> {
    batch.column(column).as_primitive::<Float64Type>().iter().collect()
}

fn exact(values: impl Iterator<Item = f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn assert_close(found: Option<f64>, exact: Option<f64>) {
    match (found, exact) {
        (Some(found), Some(exact)) => assert!((found - exact).abs() <= exact.abs() * 0.01, "{found} is not {exact}"),
        (found, exact) => assert_eq!(found, exact),
    }
}

/// One row a millisecond, 1 to 100, all of one module; the odd ones failed.
fn hundred() -> Vec<Row> {
    (1..=100).map(|i| (1, Some(i as f64), if i % 2 == 1 { 500 } else { 200 })).collect()
}

fn any_row() -> impl Strategy<Value = Row> {
    (0u8..20, prop::option::weighted(0.8, -1.0..60_000.0), prop::sample::select(vec![200i64, 404, 500]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn grouped_and_filtered_percentiles_are_within_a_percent(
        rows in prop::collection::vec(any_row(), 0..400),
        skip_partial: bool,
    ) {
        let result = query(&session(&rows, skip_partial), "
            SELECT CAST(module AS BIGINT), quantile(duration_ms, 0.5), quantile(duration_ms, 0.99),
                   quantile(duration_ms, 0.95) FILTER (WHERE status >= 500), quantile(status, 0.9)
            FROM logs GROUP BY module");
        let modules = result.column(0).as_primitive::<Int64Type>();
        let groups: std::collections::BTreeSet<u8> = rows.iter().map(|row| row.0).collect();
        prop_assert_eq!(modules.len(), groups.len());
        for (i, module) in modules.values().iter().enumerate() {
            let group = || rows.iter().filter(|row| i64::from(row.0) == *module);
            let durations = || group().filter_map(|row| row.1);
            let failed = group().filter(|row| row.2 >= 500).filter_map(|row| row.1);
            assert_close(floats(&result, 1)[i], exact(durations(), 0.5));
            assert_close(floats(&result, 2)[i], exact(durations(), 0.99));
            assert_close(floats(&result, 3)[i], exact(failed, 0.95));
            assert_close(floats(&result, 4)[i], exact(group().map(|row| row.2 as f64), 0.9));
        }
    }
}

#[test]
fn percentiles_of_one_column_share_one_sketch() {
    let context = session(&[], false);
    let aggregates = |sql: &str| {
        let plan = block_on(async { context.sql(sql).await.unwrap().into_optimized_plan().unwrap() });
        let mut found = vec![];
        plan.apply(|node| {
            if let LogicalPlan::Aggregate(aggregate) = node {
                found.extend(aggregate.aggr_expr.iter().map(ToString::to_string));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        found
    };
    let three = "quantile(status, 0.5) AS p50, quantile(status, 0.95) AS p95, quantile(status, 0.99) AS p99";
    assert_eq!(aggregates(&format!("SELECT {three} FROM logs GROUP BY module")), ["sketch(logs.status)"]);
    let having = "HAVING quantile(status, 0.9) > 1 ORDER BY quantile(status, 0.1)";
    assert_eq!(aggregates(&format!("SELECT {three} FROM logs GROUP BY module {having}")), ["sketch(logs.status)"]);
    let filtered = "quantile(status, 0.5) FILTER (WHERE module = '1')";
    assert_eq!(aggregates(&format!("SELECT {three}, {filtered}, {filtered} + 1 FROM logs")).len(), 2);
}

#[test]
fn a_column_is_named_as_it_was_written() {
    let sql = "SELECT quantile(duration_ms, 0.95), quantile(duration_ms, 0.5) FILTER (WHERE status > 1), \
               quantile(duration_ms, 1) AS most FROM logs";
    let plan = plan(&session(&[], false), sql).unwrap();
    let names: Vec<_> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "quantile(logs.duration_ms,Float64(0.95))",
            "quantile(logs.duration_ms,Float64(0.5)) FILTER (WHERE logs.status > Int64(1))",
            "most",
        ]
    );
}

#[test]
fn percentiles_stand_in_expressions_and_having() {
    let context = session(&hundred(), false);
    let sql = "SELECT quantile(duration_ms, 0.95) / 1000.0 AS seconds FROM logs GROUP BY module ";
    assert_close(floats(&query(&context, sql), 0)[0], Some(0.095));
    let having = |bound: i64| query(&context, &format!("{sql} HAVING quantile(duration_ms, 0.5) > {bound}")).num_rows();
    assert_eq!((having(40), having(60)), (1, 0));
    let case = "SELECT CASE WHEN quantile(duration_ms, 0.5) > 40 THEN 1.0 ELSE 0.0 END FROM logs";
    assert_eq!(floats(&query(&context, case), 0), [Some(1.0)]);
}

#[test]
fn without_groups_there_is_one_row_even_of_no_rows() {
    let sql = "SELECT quantile(duration_ms, 0.95), quantile(status, 0) FILTER (WHERE status = 500) FROM logs";
    let full = query(&session(&hundred(), false), sql);
    assert_close(floats(&full, 0)[0], Some(95.0));
    assert_close(floats(&full, 1)[0], Some(500.0));
    let empty = query(&session(&[], false), sql);
    assert_eq!((floats(&empty, 0), floats(&empty, 1)), (vec![None], vec![None]));
}

#[test]
fn a_group_of_nulls_has_no_percentile() {
    let result = query(
        &session(&[(1, None, 200), (1, None, 200), (2, Some(f64::NAN), 200)], false),
        "SELECT module, quantile(duration_ms, 0.95) FROM logs GROUP BY module",
    );
    assert_eq!(floats(&result, 1), [None, None]);
}

#[test]
fn what_cannot_be_computed_is_refused_in_a_sentence() {
    let context = session(&[], false);
    for (call, reason) in [
        ("quantile(module, 0.5)", "quantile needs a numeric column, but `module` is Utf8"),
        ("quantile(duration_ms, 1.5)", "1.5 is not from 0 to 1"),
        ("quantile(duration_ms, -0.5)", "0 to 1"),
        ("quantile(duration_ms, 'much')", "much is not from 0 to 1"),
        ("quantile(duration_ms, NULL)", "is not from 0 to 1"),
        ("quantile(duration_ms, duration_ms)", USAGE),
        ("quantile(duration_ms)", USAGE),
        ("quantile(DISTINCT duration_ms, 0.5)", "neither DISTINCT"),
        ("quantile(duration_ms, 0.5) OVER ()", "cannot be used with OVER"),
    ] {
        let error = plan(&context, &format!("SELECT {call} FROM logs")).unwrap_err().strip_backtrace();
        assert!(error.contains(reason), "{call}: {error}");
    }
}
