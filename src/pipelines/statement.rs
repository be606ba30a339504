//! What can be told from a statement's syntax alone: the table it reads and the columns it gives.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement as Ast, visit_relations};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::PipelineError;

/// One SELECT, as far as its syntax goes.
pub(super) struct Statement {
    /// The one table it reads.
    pub table: String,
    /// The names of its columns; what has no name of its own is not among them.
    pub columns: Vec<String>,
}

impl Statement {
    /// Parses the text of `file`, which must be one SELECT from one table.
    pub fn parse(file: &str, text: &str) -> Result<Statement, PipelineError> {
        let refuse = |reason: &str| PipelineError::Statement { position: file.to_owned(), reason: reason.to_owned() };
        let mut statements =
            Parser::parse_sql(&GenericDialect {}, text).map_err(|error| syntax(file, &error.to_string()))?;
        let ast = match (statements.pop(), statements.is_empty()) {
            (Some(ast), true) => ast,
            (None, _) => return Err(refuse("holds no statement; write one SELECT")),
            _ => return Err(refuse("holds several statements; write one SELECT per file")),
        };
        let Ast::Query(query) = &ast else { return Err(refuse("must be a SELECT")) };
        let SetExpr::Select(select) = query.body.as_ref() else {
            return Err(refuse("must be one SELECT, not a UNION or VALUES"));
        };
        let mut tables: Vec<String> = tables(&ast).into_iter().collect();
        match (tables.pop(), tables.is_empty()) {
            (Some(table), true) => {
                Ok(Statement { table, columns: select.projection.iter().filter_map(column).collect() })
            }
            _ => Err(refuse("must read exactly one table; joins and subqueries cannot be windowed")),
        }
    }
}

fn tables(ast: &Ast) -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    let _: ControlFlow<()> = visit_relations(ast, |name| {
        let parts: Vec<String> =
            name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), spelled)).collect();
        tables.insert(parts.join("."));
        ControlFlow::Continue(())
    });
    tables
}

fn column(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(spelled(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(spelled(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().map(spelled),
        _ => None,
    }
}

/// Names without quotes mean their lower case, as in DataFusion.
fn spelled(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// The parser ends its message with ` at Line: 3, Column: 5`; people and editors read `file:3:5`.
fn syntax(file: &str, message: &str) -> PipelineError {
    let message = message.trim_start_matches("sql parser error: ").replace('\n', " ");
    let located = message.rsplit_once(" at Line: ").and_then(|(reason, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((reason.to_owned(), format!("{file}:{line}:{column}")))
    });
    let (reason, position) = located.unwrap_or((message, file.to_owned()));
    PipelineError::Statement { position, reason: format!("not valid SQL: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Statement::parse("a.sql", text).err().expect("to be refused").to_string()
    }

    #[test]
    fn a_statement_names_its_table_and_columns() {
        let text = "SELECT tumble(timestamp, INTERVAL '1 minute') AS Window_Start, l.module, count(*), \
                    count(*) FILTER (WHERE status_code >= 500) AS \"Errors\" FROM logs AS l GROUP BY 1, 2";
        let statement = Statement::parse("a.sql", text).expect("valid");
        assert_eq!(statement.table, "logs");
        assert_eq!(statement.columns, ["window_start", "module", "Errors"]);
    }

    #[test]
    fn a_syntax_error_names_line_and_column() {
        assert_eq!(
            refused("SELECT count(*)\nFROM logs\nGRUP BY 1"),
            "a.sql:3:6: not valid SQL: Expected: end of statement, found: BY"
        );
    }

    #[test]
    fn what_is_not_one_select_from_one_table_is_refused() {
        assert_eq!(refused("-- nothing"), "a.sql: holds no statement; write one SELECT");
        assert_eq!(
            refused("SELECT 1 FROM a; SELECT 2 FROM b"),
            "a.sql: holds several statements; write one SELECT per file"
        );
        assert_eq!(refused("DROP TABLE logs"), "a.sql: must be a SELECT");
        let join = "a.sql: must read exactly one table; joins and subqueries cannot be windowed";
        assert_eq!(refused("SELECT 1 AS a FROM a JOIN b ON true"), join);
        assert_eq!(refused("SELECT 1 AS a"), join);
    }
}
