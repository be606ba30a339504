//! `maturion test`: the pipelines' own tests, told as `cargo test` does.

use std::time::Instant;

use clap::Args;

use crate::cases::{self, Case};
use crate::config::{Config, PipelineFiles};
use crate::model::pipeline::Pipeline;
use crate::pipelines;
use crate::roles::runtime::OpenError;

use super::{Failure, output};

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// Runs the tests whose names contain this [default: all]
    filter: Option<String>,
}

/// Runs every test that is asked for; a failed one is a failure of the command.
pub(super) fn test(config: &Config, arguments: &TestArguments) -> Result<(), Failure> {
    let pipelines = pipelines::load(&config.pipelines).map_err(OpenError::from)?;
    let cases = cases::load(&config.pipelines, &pipelines)?;
    if cases.is_empty() {
        return Err(Failure::Unusable(format!("there are no tests; put TOML files into {}", folder(config))));
    }
    let is_asked_for = |case: &&Case| arguments.filter.as_ref().is_none_or(|part| case.name.contains(part));
    let chosen = cases.iter().filter(is_asked_for).collect::<Vec<_>>();
    run(&chosen, cases.len(), &pipelines)
}

fn folder(config: &Config) -> String {
    match &config.pipelines {
        PipelineFiles::Shipped => "pipelines/tests".to_owned(),
        PipelineFiles::Folder { dir, .. } => dir.join(pipelines::TESTS).display().to_string(),
    }
}

fn run(cases: &[&Case], all: usize, pipelines: &[Pipeline]) -> Result<(), Failure> {
    let began = Instant::now();
    output::print(&format!("running {}\n", output::counted(cases.len() as u64, "test")))?;
    let mut failures = Vec::new();
    for case in cases {
        let wrong = case.run(pipelines)?;
        let result = if wrong.is_empty() { "ok" } else { "FAILED" };
        output::print(&format!("test {} ... {result}\n", case.name))?;
        failures.extend((!wrong.is_empty()).then_some((case, wrong)));
    }
    for (case, wrong) in &failures {
        output::print(&format!("\n---- {} ({}) ----\n{}\n", case.name, case.file, wrong.join("\n")))?;
    }
    let (failed, took) = (failures.len(), began.elapsed().as_secs_f64());
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let (passed, left_out) = (cases.len() - failed, all - cases.len());
    output::print(&format!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {left_out} filtered out; finished in {took:.2} s\n"
    ))?;
    if failed == 0 { Ok(()) } else { Err(Failure::work(format!("{} failed", output::counted(failed as u64, "test")))) }
}
