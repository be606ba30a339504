//! `quantile(column, q)`: percentiles with a stated error, as an aggregate of SQL.
//!
//! The value at rank `max(1, ceil(q * n))` of a group's non-null values, within 1 % (see [`super::sketch`]); null if the
//! group has none. It may stand wherever an aggregate may: with `FILTER (WHERE …)`, in `HAVING`, in an expression.
//!
//! While SQL is planned, `quantile(x, 0.95)` becomes `sketch_quantile(sketch(x), 0.95)`, under the name it was written
//! with. `sketch` is the aggregate, with one column of bytes as its state and its result; `sketch_quantile` reads one
//! percentile from it. As equal aggregates are computed once, several percentiles of one column (and one filter) share
//! one sketch. No plan is rewritten afterwards, so what takes a plan apart meets an ordinary aggregate.

mod aggregate;
mod scalar;

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, not_impl_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ScalarUDF, Signature, Volatility, lit,
};
use datafusion::prelude::SessionContext;

use aggregate::SketchAggregate;
use scalar::SketchQuantile;

const USAGE: &str = "quantile takes a column and a constant from 0 to 1, as in quantile(duration_ms, 0.95)";

/// Makes `quantile`, and the `sketch` and `sketch_quantile` it is planned as, known to a session.
pub fn register(context: &SessionContext) -> Result<()> {
    let sketch = Arc::new(AggregateUDF::from(SketchAggregate::default()));
    let read = Arc::new(ScalarUDF::from(SketchQuantile::default()));
    context.register_udaf(AggregateUDF::from(Quantile::default()));
    context.register_udaf(sketch.as_ref().clone());
    context.register_udf(read.as_ref().clone());
    context.state_ref().write().register_expr_planner(Arc::new(QuantilePlanner { sketch, read }))
}

/// The name `quantile`, for SQL to be parsed. [`QuantilePlanner`] replaces every use of it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantile {
    signature: Signature,
}

impl Default for Quantile {
    fn default() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        "quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("quantile cannot be used with OVER; aggregate with GROUP BY instead")
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("quantile is computed by sketch and sketch_quantile")
    }
}

#[derive(Debug)]
struct QuantilePlanner {
    sketch: Arc<AggregateUDF>,
    read: Arc<ScalarUDF>,
}

impl ExprPlanner for QuantilePlanner {
    fn plan_aggregate(&self, call: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        let name = call.func.name();
        let ours = [self.sketch.name(), "quantile"].contains(&name);
        if ours && (call.distinct || !call.order_by.is_empty()) {
            return plan_err!("{name} takes neither DISTINCT nor ORDER BY");
        }
        if name != "quantile" {
            return Ok(PlannerResult::Original(call));
        }
        let written = NamePreserver::new_for_projection().save(&aggregate(&call.func, &call, call.args.clone()));
        let [column, Expr::Literal(q, _)] = call.args.as_slice() else { return plan_err!("{USAGE}") };
        let sketch = aggregate(&self.sketch, &call, vec![column.clone()]);
        let read = self.read.call(vec![sketch, lit(checked(q)?)]);
        Ok(PlannerResult::Planned(written.restore(read)))
    }
}

/// The call of an aggregate on other arguments, with the filter of the one written.
fn aggregate(function: &Arc<AggregateUDF>, call: &RawAggregateExpr, args: Vec<Expr>) -> Expr {
    let function = Arc::clone(function);
    Expr::AggregateFunction(AggregateFunction::new_udf(function, args, false, call.filter.clone(), vec![], None))
}

/// A literal as the number of a quantile.
fn checked(q: &ScalarValue) -> Result<f64> {
    if q.data_type().is_numeric()
        && let ScalarValue::Float64(Some(number)) = q.cast_to(&DataType::Float64)?
        && (0.0..=1.0).contains(&number)
    {
        return Ok(number);
    }
    plan_err!("{USAGE}; {q} is not from 0 to 1")
}

/// Refuses a column that has no percentiles.
fn numeric(field: &FieldRef) -> Result<()> {
    if field.data_type().is_numeric() {
        return Ok(());
    }
    plan_err!("quantile needs a numeric column, but `{}` is {}", field.name(), field.data_type())
}

#[cfg(test)]
mod tests;
