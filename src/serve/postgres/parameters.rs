//! Prepared statements: parsed and planned once, their parameters typed for the client and read back from it.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_postgres::arrow_pg::datatypes::{
    PG_OID_ALIAS_KEY, arrow_schema_to_pg_fields, df, into_pg_type, pg_type_for_alias_kind,
};
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::FieldInfo;
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::{ClientInfo, Type};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};

use super::{failure, settings};
use crate::query::guard::{self, Request};
use crate::query::{QueryError, Session};

/// A statement that waits for its parameters.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    /// It has rows.
    Rows(Box<LogicalPlan>),
    /// It concerns the connection.
    Other(Box<Statement>),
}

/// Prepares statements in a session.
pub(super) struct Preparer(pub(super) Session);

#[async_trait]
impl QueryParser for Preparer {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = guard::parse(sql).map_err(failure::of_query)?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            return Err(failure::error("42601", "a prepared statement is one statement"));
        }
        if guard::classify(&statement).map_err(failure::of_query)? != Request::Rows {
            return Ok(Some(Prepared::Other(Box::new(statement))));
        }
        let plan = self.0.plan_statement(statement).await.map_err(failure::of_query)?;
        Ok(Some(Prepared::Rows(Box::new(plan))))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        match prepared {
            Prepared::Rows(plan) => parameters(plan)?.iter().map(Parameter::wire).collect(),
            Prepared::Other(_) => Ok(vec![]),
        }
    }

    fn get_result_schema(&self, prepared: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match prepared {
            Prepared::Rows(plan) => {
                let format = checked(format.unwrap_or(&Format::UnifiedText), plan.schema().fields().len())?;
                arrow_schema_to_pg_fields(plan.schema().as_arrow(), format, None)
            }
            Prepared::Other(statement) => match guard::classify(statement) {
                Ok(Request::Show(name)) => Ok(vec![settings::shown_field(&name)]),
                _ => Ok(vec![]),
            },
        }
    }
}

/// A format for each of `columns` columns, or one for all; pgwire would look beyond the end of a list that is shorter.
pub(super) fn checked(format: &Format, columns: usize) -> PgWireResult<&Format> {
    match format {
        Format::Individual(each) if each.len() != columns => {
            let reason = format!("the message has formats for {} columns, but there are {columns}", each.len());
            Err(failure::error("08P01", reason))
        }
        _ => Ok(format),
    }
}

/// The plan with the values that a client has bound.
pub(super) fn bound(plan: &LogicalPlan, portal: &Portal<Prepared>) -> PgWireResult<LogicalPlan> {
    let parameters = parameters(plan)?;
    if portal.parameter_len() != parameters.len() {
        let reason = format!("{} parameters are given, {} are needed", portal.parameter_len(), parameters.len());
        return Err(failure::error("08P01", reason));
    }
    checked(&portal.parameter_format, parameters.len())?;
    let wire = parameters.iter().map(Parameter::wire).collect::<PgWireResult<Vec<_>>>()?;
    let inferred: Vec<Option<&DataType>> = parameters.iter().map(|parameter| parameter.inferred.as_ref()).collect();
    let wire: Vec<Option<&Type>> = wire.iter().map(Some).collect();
    let values = df::deserialize_parameters_with_server_types(portal, &inferred, &wire)?;
    let filled = plan.clone().replace_params_with_values(&values);
    filled.map_err(|error| failure::of_query(QueryError::Invalid(error.to_string())))
}

/// What is known of the type of `$1`, `$2`, ….
#[derive(Default)]
struct Parameter {
    inferred: Option<DataType>,
    /// It is compared with a column that PostgreSQL's catalog gives a type of its own.
    alias: Option<Type>,
}

impl Parameter {
    fn wire(&self) -> PgWireResult<Type> {
        match (&self.alias, &self.inferred) {
            (Some(alias), _) => Ok(alias.clone()),
            (None, Some(inferred)) => into_pg_type(inferred),
            (None, None) => Ok(Type::UNKNOWN),
        }
    }
}

/// The parameters of a plan in their order.
fn parameters(plan: &LogicalPlan) -> PgWireResult<Vec<Parameter>> {
    let invalid = |error: datafusion::common::DataFusionError| PgWireError::ApiError(Box::new(error));
    let planned = plan.get_parameter_types().map_err(invalid)?;
    let (mut casts, mut aliases) = (HashMap::new(), HashMap::new());
    walk(plan, &mut casts, &mut aliases).map_err(invalid)?;
    let number = |id: &str| id.trim_start_matches('$').parse::<u32>().unwrap_or(u32::MAX);
    let typed = planned.into_iter().map(|(id, inferred)| {
        let inferred = inferred.or_else(|| casts.remove(&id));
        (number(&id), Parameter { inferred, alias: aliases.remove(&id) })
    });
    Ok(typed.collect::<BTreeMap<_, _>>().into_values().collect())
}

/// Finds the types that parameters are cast to, and those of PostgreSQL's own that they are compared with.
fn walk(plan: &LogicalPlan, casts: &mut HashMap<String, DataType>, aliases: &mut HashMap<String, Type>) -> Result<()> {
    let mut look = |expr: &Expr| {
        if let Expr::Cast(cast) = expr
            && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
        {
            casts.insert(placeholder.id.clone(), cast.field.data_type().clone());
        }
        if let Expr::Placeholder(placeholder) = expr
            && let Some(field) = placeholder.field.as_ref().filter(|field| field.data_type() == &DataType::Int32)
            && let Some(alias) = field.metadata().get(PG_OID_ALIAS_KEY).and_then(|kind| pg_type_for_alias_kind(kind))
        {
            aliases.insert(placeholder.id.clone(), alias);
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply_with_subqueries(|node| node.apply_expressions(|expr| expr.apply(&mut look)))?;
    Ok(())
}
