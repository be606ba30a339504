//! `maturion explain`: why a detection fired.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use clap::Args;

use crate::config::Config;
use crate::explain::{ExplainError, Explanation, Messages, detection_sql};

use crate::serve::Question;

use super::{Failure, output, tables};

/// What `maturion explain` takes.
#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// As the remediation topic and the table `detections` have it
    detection_id: String,
    /// Also draws the measure over time, with its limit and its normal band
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Asks the tables, prints the explanation, and draws it if that is asked for.
pub(super) fn explain(config: &Config, arguments: &ExplainArguments) -> Result<(), Failure> {
    let query = |sql: &str| -> Result<Vec<RecordBatch>, Failure> {
        tables::ask(config, Question { sql: sql.to_owned(), tenant: None })?.batches.collect()
    };
    // What was copied from a table or a CSV file may have more around it.
    let detection_id = arguments.detection_id.trim();
    let messages = Messages::read(detection_id, &query(&detection_sql(detection_id)?)?)?;
    let windows = query(&messages.windows_sql())?;
    let explanation = Explanation::new(messages, &windows)?;
    if let Some(file) = &arguments.svg {
        let cannot = |error| Failure::work(format!("{}: cannot be written ({error})", file.display()));
        std::fs::write(file, explanation.svg()?).map_err(cannot)?;
    }
    output::print(&explanation.text())
}

impl From<ExplainError> for Failure {
    fn from(error: ExplainError) -> Failure {
        match error {
            ExplainError::NotAnId(_) => Failure::Unusable(error.to_string()),
            error => Failure::work(error),
        }
    }
}
