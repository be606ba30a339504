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
        tests => format!(", {}", output::counted(tests as u64, "test")),
    };
    let from = match &config.pipelines {
        PipelineFiles::Shipped => "the shipped ones".to_owned(),
        PipelineFiles::Folder { dir, .. } => format!("from {}", dir.display()),
    };
    let pipelines = output::counted(set.pipelines().len() as u64, "pipeline");
    let rules = output::counted(rules as u64, "rule");
    output::print(&format!("{pipelines} ({from}), {rules}{tests}: ok\n"))
}
