//! `maturion status`: what the running instance says about itself.

use clap::{Args, ValueEnum};

use crate::config::{Config, Secret};
use crate::serve;

use super::{Failure, output};

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Asks the instance at `serve.http`.
pub(super) fn status(config: &Config, arguments: &StatusArguments) -> Result<(), Failure> {
    let token = config.serve.token.as_ref().map(Secret::reveal);
    let status = serve::fetch(config.serve.http, token).map_err(Failure::work)?;
    let text = match arguments.format {
        Format::Table => serve::render(&status),
        Format::Json => serde_json::to_string_pretty(&status).map_err(Failure::work)?,
    };
    output::print(&format!("{}\n", text.trim_end()))
}
