//! `maturion check`: everything that can be known without starting anything.

use crate::act::Adapters;
use crate::cases;
use crate::config::{Config, PipelineFiles, PolicyFiles};
use crate::decide::Policy;
use crate::model::action::Mode;
use crate::roles::runtime;

use super::{Failure, output};

/// Reads and plans all pipelines, reads their tests and the policy, and says how many of each.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let pipelines = pipelines(config)?;
    let policy = policy(config)?;
    output::print(&format!("{pipelines}: ok\n{policy}: ok\n"))
}

fn pipelines(config: &Config) -> Result<String, Failure> {
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
    Ok(format!("{pipelines} ({from}), {rules}{tests}"))
}

/// Where actions are done, what they need must be configured too.
fn policy(config: &Config) -> Result<String, Failure> {
    let policy = Policy::compile(&config.remediate.policy.read()?, &config.remediate.targets)?;
    let adapters =
        Adapters::new(&config.controls, &config.commands).map_err(|error| Failure::Unusable(error.to_string()))?;
    let mode = match config.mode {
        Mode::Observe => "observe",
        Mode::Act => "act",
    };
    let missing = policy.actions().iter().find_map(|action| adapters.missing(action));
    if let (Mode::Act, Some(missing)) = (config.mode, missing) {
        return Err(Failure::Unusable(format!("[mode] `actions` is \"act\", but {missing}")));
    }
    let from = match &config.remediate.policy {
        PolicyFiles::Shipped => "the shipped ones".to_owned(),
        PolicyFiles::Folder(folder) => format!("from {}", folder.display()),
    };
    let actions = output::counted(policy.actions().len() as u64, "action");
    let permissions = match policy.permissions() {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    };
    Ok(format!("{actions} ({from}), {permissions}, mode {mode}"))
}
