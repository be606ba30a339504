//! Baselines for live processing, which goes on where the history ends.

use std::sync::Arc;

use crate::backfill::{Report, Settings};
use crate::cli::Failure;
use crate::config::{Brokers, Config};
use crate::evaluate::PipelineSet;
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;
use crate::roles::detect::{WarmError, check_cold, warm};
use crate::roles::{Clock, Runtime, SystemClock};
use crate::window::functions::window_start;

/// A log that nobody has begun to process.
pub(super) struct Warming {
    runtime: Runtime,
    set: Arc<PipelineSet>,
}

impl Warming {
    /// Makes sure that live processing can begin at the end of the history, before that is read.
    pub(super) fn begin(config: &Config, set: &Arc<PipelineSet>, settings: &Settings) -> Result<Self, Failure> {
        if config.kafka.brokers == Brokers::Embedded {
            return Err(Failure::Unusable(
                "--warm-baselines: the embedded log is gone when this ends; set kafka.brokers".to_owned(),
            ));
        }
        check_end(set, settings.to)?;
        let runtime = Runtime::open(config)?;
        check_cold(&runtime, set)?;
        Ok(Warming { runtime, set: Arc::clone(set) })
    }

    /// Writes them; where live processing goes on, in a sentence.
    pub(super) fn finish(self, report: &Report) -> Result<String, Failure> {
        let ended = report.sets.first().and_then(|history| Some((history, history.handover.as_ref()?)));
        let Some((history, handover)) = ended else { return Ok(String::new()) };
        warm(&self.runtime, &self.set, history, handover)?;
        let (series, at) = (history.states.len(), format_time(handover.at));
        Ok(format!(
            "live processing begins with the state of {series} series, and goes on with what happens from {at} on\n"
        ))
    }
}

impl From<WarmError> for Failure {
    fn from(error: WarmError) -> Failure {
        Failure::work(error)
    }
}

/// History ends between two panes of every pipeline, and not in the future.
fn check_end(set: &PipelineSet, to: Micros) -> Result<(), Failure> {
    if to > SystemClock::default().wall() {
        return Err(Failure::Unusable("--to: lies in the future, which no history has".to_owned()));
    }
    for compiled in set.pipelines() {
        let (name, pane) = (&compiled.pipeline.name, compiled.plan.panes.pane);
        let before = window_start(to, pane);
        if before != to {
            let (before, after) = (format_time(before), format_time(before.saturating_add(pane)));
            return Err(Failure::Unusable(format!(
                "--to: lies within a window of `{name}`, of which live processing would see one part; take {before} or {after}"
            )));
        }
    }
    Ok(())
}
