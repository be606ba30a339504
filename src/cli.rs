//! The command line: arguments in, an exit code and at most one sentence of error out.
//!
//! Exit codes: 0 ok, 1 the work failed, 2 unusable arguments or configuration. Results go to standard output, errors and
//! logs to standard error. A closed pipe ends a command quietly. `cli` decides nothing that a library user would need.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Config;
use crate::demo::{self, DemoOptions};
use crate::generate::{self, GenerateOptions};

pub use failure::Failure;

mod audit;
mod backfill;
mod check;
mod explain;
mod failure;
mod output;
mod run;
mod signals;
mod sql;
mod status;
mod tables;
mod test;
mod topics;
mod tracing_output;

/// A run-time reliability agent: telemetry in Kafka becomes detections on the remediation topic.
#[derive(Debug, Parser)]
#[command(name = "maturion", version)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// The configuration file [default: maturion.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How logs are written to standard error; MATURION_LOG filters them, e.g. "debug" or "maturion=trace"
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the main job with nothing installed: a simulated platform, scripted incidents, and what is detected
    Demo(DemoOptions),
    /// Runs the roles of this process against the configured log until it is told to stop
    Run(run::RunArguments),
    /// Sends load to Kafka or to a running instance: simulated telemetry, or real logs and metrics from files
    Generate(GenerateOptions),
    /// Runs the pipelines over history, and prints what would have fired; it never acts
    Backfill(backfill::BackfillArguments),
    /// Validates configuration, pipelines and SQL without starting anything
    Check,
    /// Runs the pipelines' own tests, in `pipelines/tests`
    Test(test::TestArguments),
    /// Creates the topics that are missing and checks the others
    Topics(topics::TopicsArguments),
    /// Shows health, lag and watermark of every stage, and open incidents, of the running instance
    Status(status::StatusArguments),
    /// Asks one question in SQL, of the running instance, or of the store where none runs
    Sql(sql::SqlArguments),
    /// Tells why a detection fired: query, windows, value, limit, baseline, score
    Explain(explain::ExplainArguments),
    /// Checks the audit for later changes, and makes the key that signs it
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
}

/// Runs the command that `arguments` name; the first of them is the program's own name.
pub fn execute(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(Failure::arguments(&error)),
        Err(help_or_version) => return output::print(&help_or_version.to_string()),
    };
    tracing_output::start(arguments.common.log_format)?;
    let config = Config::load(arguments.common.config.as_deref(), &environment())?;
    match arguments.command {
        Command::Demo(options) => {
            let stop = signals::stop_requested().map_err(Failure::work)?;
            Ok(demo::run(&options, config, &stop)?)
        }
        Command::Generate(options) => Ok(generate::run(&options, &config)?),
        Command::Run(arguments) => run::run(config, arguments),
        Command::Topics(arguments) => topics::topics(&config, &arguments),
        Command::Backfill(arguments) => backfill::backfill(&config, &arguments),
        Command::Test(arguments) => test::test(&config, &arguments),
        Command::Check => check::check(&config),
        Command::Status(arguments) => status::status(&config, &arguments),
        Command::Sql(arguments) => sql::sql(&config, arguments),
        Command::Explain(arguments) => explain::explain(&config, &arguments),
        Command::Audit { command } => audit::audit(&config, &command),
    }
}

/// The environment, in which what is not Unicode is replaced, so that the error about it can be shown.
fn environment() -> BTreeMap<String, String> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
