//! `maturion sql`: one statement over the tables, on standard output.

use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::Config;
use crate::query::output;
use crate::query::variables;
use crate::serve::Question;

use super::Failure;
use super::tables::{self, Found};

#[derive(Debug, Args)]
pub(super) struct SqlArguments {
    /// The statement
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    statement: Option<String>,
    /// Reads the statement from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A value for :'NAME' in the statement; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = named_value)]
    set: Vec<(String, String)>,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Asks as this organisation, which sees its own rows and nothing else
    #[arg(long, value_name = "ORGANISATION")]
    tenant: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
    Arrow,
}

impl From<Format> for output::Format {
    fn from(format: Format) -> output::Format {
        match format {
            Format::Table => output::Format::Table,
            Format::Json => output::Format::Json,
            Format::Csv => output::Format::Csv,
            Format::Arrow => output::Format::Arrow,
        }
    }
}

fn named_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

/// Asks, and writes what is found.
pub(super) fn sql(config: &Config, arguments: SqlArguments) -> Result<(), Failure> {
    let sql = variables::fill(&statement(&arguments)?, &arguments.set)
        .map_err(|error| Failure::Unusable(error.to_string()))?;
    write(tables::ask(config, Question { sql, tenant: arguments.tenant })?, arguments.format.into())
}

fn statement(arguments: &SqlArguments) -> Result<String, Failure> {
    match (&arguments.statement, &arguments.file) {
        (Some(statement), _) => Ok(statement.clone()),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Failure::Unusable(format!("{}: cannot be read ({error})", file.display()))),
        (None, None) => Err(Failure::Unusable("there is no statement; give one, or a file with -f".to_owned())),
    }
}

/// Writes the rows as they come.
fn write(found: Found, format: output::Format) -> Result<(), Failure> {
    let mut output = format.output(&found.schema).map_err(Failure::work)?;
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    for batch in found.batches {
        let written = output.batch(&batch?).map_err(Failure::work)?;
        if !put(&mut stdout, &written)? {
            return Ok(());
        }
    }
    let last = output.end().map_err(Failure::work)?;
    put(&mut stdout, &last).map(|_| ())
}

/// False if the reader has seen enough, which is no failure.
fn put(stdout: &mut impl Write, bytes: &[u8]) -> Result<bool, Failure> {
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::work(format!("cannot write to standard output: {error}"))),
    }
}
