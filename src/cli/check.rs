//! `maturion check`: everything that can be known without starting anything.

use crate::cases;
use crate::config::{Config, PipelineFiles};
use crate::roles::runtime;

use super::{Failure, output};

/// Reads and plans all pipelines and reads their tests, and says how many.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let set = runtime::compile(config)?;
    let rules: usize = set.pipelines().iter().map(|compiled| compiled.pipeline.rules.len()).sum();
    let pipelines = set.pipelines().iter().map(|compiled| compiled.pipeline.clone()).collect::<Vec<_>>();
    let tests = match cases::load(&config.pipelines, &pipelines)?.len() {
        0 => String::new(),
        tests => format!(", {}", counted(tests, "test")),
    };
    let from = match &config.pipelines {
        PipelineFiles::Shipped => "the shipped ones".to_owned(),
        PipelineFiles::Folder { dir, .. } => format!("from {}", dir.display()),
    };
    let (pipelines, rules) = (counted(set.pipelines().len(), "pipeline"), counted(rules, "rule"));
    output::print(&format!("{pipelines} ({from}), {rules}{tests}: ok\n"))
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
