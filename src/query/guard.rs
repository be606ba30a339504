//! What a statement may do: read, and nothing else. Decided twice: on its words, and on the plan made of them.
//!
//! On the words, what is not known to be harmless is refused, so a statement of a later DataFusion is refused too. The
//! plan is checked as well, because planning could give words a meaning that is not seen in them.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SQLOptions;
use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, Query, Reset, Select, Set, SetExpr, Statement, Visit, Visitor,
};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::{QueryError, STATEMENT_BYTES_MAX};

/// What is said to everything that is not reading.
const READS_ONLY: &str = "what is kept here is only read: SELECT, EXPLAIN, SHOW, and SET of a few settings";

/// PostgreSQL's SQL, with the rewriting that its clients' catalog queries need.
static PARSER: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// A statement that may be answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// It has rows, and is planned as it is.
    Rows,
    /// `SHOW` of a name, whose parts are separated by one space.
    Show(String),
    Set(&'a Set),
    Reset(&'a Reset),
    Begin,
    Commit,
    Rollback,
    /// Forget a prepared statement, or with the name `all` every one.
    Deallocate(&'a Ident),
    /// Forget what the session was told.
    Discard,
}

/// Parses text of any number of statements.
pub fn parse(sql: &str) -> Result<Vec<Statement>, QueryError> {
    if sql.len() > STATEMENT_BYTES_MAX {
        let reason = format!("a statement has at most {STATEMENT_BYTES_MAX} bytes, this one has {}", sql.len());
        return Err(QueryError::Refused(reason));
    }
    PARSER.parse(sql).map_err(|error| QueryError::Invalid(error.to_string()))
}

/// Parses text that must hold exactly one statement.
pub fn parse_one(sql: &str) -> Result<Statement, QueryError> {
    let mut statements = parse(sql)?;
    match (statements.pop(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(QueryError::Invalid("there is no statement".to_owned())),
        (Some(_), more) => {
            let reason = format!("send one statement at a time; here are {}", more + 1);
            Err(QueryError::Refused(reason))
        }
    }
}

/// What `statement` asks for, if that is anything that may be done here.
pub fn classify(statement: &Statement) -> Result<Request<'_>, QueryError> {
    match statement {
        Statement::Query(_) => check_words(statement).map(|()| Request::Rows),
        Statement::Explain { statement: explained, .. } => match classify(explained)? {
            Request::Rows => Ok(Request::Rows),
            _ => Err(refusal(statement)),
        },
        Statement::ExplainTable { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowFunctions { .. } => check_words(statement).map(|()| Request::Rows),
        Statement::ShowVariable { variable } => Ok(Request::Show(name(variable))),
        Statement::Set(set) => Ok(Request::Set(set)),
        Statement::Reset(reset) => Ok(Request::Reset(&reset.reset)),
        Statement::StartTransaction { .. } => Ok(Request::Begin),
        Statement::Commit { .. } => Ok(Request::Commit),
        Statement::Rollback { savepoint: None, .. } => Ok(Request::Rollback),
        Statement::Deallocate { name, .. } => Ok(Request::Deallocate(name)),
        Statement::Discard { .. } => Ok(Request::Discard),
        other => Err(refusal(other)),
    }
}

fn name(parts: &[Ident]) -> String {
    parts.iter().map(|part| part.value.to_lowercase()).collect::<Vec<_>>().join(" ")
}

/// The words that a statement begins with, and why it is refused.
fn refusal(statement: &Statement) -> QueryError {
    let text = statement.to_string();
    let is_keyword = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let words: Vec<&str> = text.split([' ', '(', '\n']).take_while(is_keyword).take(3).collect();
    let words = if words.is_empty() { "this statement".to_owned() } else { words.join(" ") };
    QueryError::Refused(format!("{words} is refused: {READS_ONLY}"))
}

/// Looks for what writes or reads elsewhere inside of a query.
fn check_words(statement: &Statement) -> Result<(), QueryError> {
    match statement.visit(&mut Words) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(reason) => Err(QueryError::Refused(reason)),
    }
}

struct Words;

impl Visitor for Words {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let writes =
            matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_));
        if writes || !query.locks.is_empty() {
            return ControlFlow::Break(format!("a query that writes or locks is refused: {READS_ONLY}"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        match select.into {
            Some(_) => ControlFlow::Break(format!("SELECT INTO is refused: {READS_ONLY}")),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<String> {
        let is_path = |part: &Ident| part.quote_style == Some('\'') || part.value.contains(['/', '\\', ':']);
        match relation.0.iter().filter_map(|part| part.as_ident()).find(|part| is_path(part)) {
            Some(path) => ControlFlow::Break(format!(
                "{} is not a table: files and addresses cannot be read here",
                path.value.chars().take(100).collect::<String>()
            )),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Refuses a plan that does more than read, or that has no meaning outside of a pipeline.
pub fn check_plan(plan: &LogicalPlan) -> Result<(), QueryError> {
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads.verify_plan(plan).map_err(|_| QueryError::Refused(format!("this is refused: {READS_ONLY}")))?;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| expr.apply(|part| check_expression(part).map(|()| TreeNodeRecursion::Continue)))
    });
    walked.map(|_| ()).map_err(|error| QueryError::planning(&error))
}

fn check_expression(expr: &Expr) -> Result<(), DataFusionError> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == "hop" => Err(QueryError::Refused(
            "hop puts a row into several windows, which only a pipeline does: use tumble(time, slide) and add up, or \
             read the pipeline's rows in the table windows"
                .to_owned(),
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(sql: &str) -> String {
        let refusal = |statement: Statement| classify(&statement).map(|_| ()).err();
        parse_one(sql).map_or_else(Some, refusal).map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_reads_is_answered() {
        for sql in [
            "SELECT 1",
            "select * from logs where organisation_id = 'x'",
            "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2",
            "VALUES (1), (2)",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW server_version",
            "BEGIN; ",
            "COMMIT",
            "ROLLBACK",
            "ABORT",
            "RESET ALL",
            "DEALLOCATE ALL",
            "DISCARD ALL",
            "SET search_path TO public",
        ] {
            assert_eq!(said(sql), "", "{sql}");
        }
    }

    #[test]
    fn what_does_more_is_refused_by_its_first_words() {
        for (sql, words) in [
            ("INSERT INTO logs VALUES (1)", "INSERT INTO"),
            ("UPDATE logs SET level = 'x'", "UPDATE"),
            ("DELETE FROM logs", "DELETE FROM"),
            ("DROP TABLE logs", "DROP TABLE"),
            ("TRUNCATE TABLE logs", "TRUNCATE TABLE"),
            ("CREATE TABLE x AS SELECT 1", "CREATE TABLE"),
            ("CREATE VIEW x AS SELECT 1", "CREATE VIEW"),
            ("CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE sql", "CREATE FUNCTION"),
            ("COPY logs TO '/tmp/x'", "COPY"),
            ("COPY (SELECT 1) TO STDOUT", "COPY"),
            ("PREPARE a AS SELECT 1", "PREPARE"),
            ("EXECUTE a", "EXECUTE"),
            ("DECLARE c CURSOR FOR SELECT 1", "DECLARE"),
            ("GRANT SELECT ON logs TO x", "GRANT SELECT ON"),
            ("EXPLAIN DELETE FROM logs", "DELETE FROM"),
            ("EXPLAIN SET x TO y", "EXPLAIN SET"),
            ("ALTER TABLE logs ADD COLUMN x int", "ALTER TABLE"),
            ("CALL x()", "CALL"),
        ] {
            let said = said(sql);
            assert!(said.starts_with(words) && said.ends_with(READS_ONLY), "{sql}: {said}");
        }
    }

    #[test]
    fn what_hides_in_a_query_is_found() {
        for sql in [
            "SELECT 1 INTO x",
            "WITH x AS (INSERT INTO logs VALUES (1) RETURNING *) SELECT * FROM x",
            "SELECT * FROM logs FOR UPDATE",
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM 'file.parquet'",
            "SELECT * FROM \"s3://bucket/file.parquet\"",
            "SELECT (SELECT count(*) FROM 'file.csv')",
        ] {
            assert!(!said(sql).is_empty(), "{sql}");
        }
    }

    #[test]
    fn one_statement_is_asked_at_a_time() {
        assert_eq!(said("SELECT 1; SELECT 2"), "send one statement at a time; here are 2");
        assert_eq!(said(" ; "), "there is no statement");
        assert!(said(&"x".repeat(STATEMENT_BYTES_MAX + 1)).contains("bytes"));
    }
}
