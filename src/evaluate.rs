//! Evaluation: pipelines compiled together, and what one partition of stage two does with them.
//!
//! A [`PipelineSet`] is what the files say, checked and planned; a [`shard::Shard`] is one partition of
//! `maturion.partials` with its clocks, open windows and the state of its series. Streaming, backfill and tests run the
//! same shard, so they give the same answer.
//!
//! `evaluate` is pure: it never reads a clock, a topic or a file. What it wants written is in [`shard::Outputs`].

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::detect::{DetectError, Detector};
use crate::model::pipeline::{Evaluate, Pipeline, RuleName, Source};
use crate::window::plan::{PlanError, WindowPlan};

pub mod shard;

/// Why a set of pipelines cannot run.
#[derive(Debug, Error)]
pub enum CompileError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error("the pipelines {0} read each other's windows in a circle, so none of them can come first")]
    Circle(String),
}

/// One pipeline, ready to run.
#[derive(Debug)]
pub struct Compiled {
    pub pipeline: Pipeline,
    pub plan: Arc<WindowPlan>,
    pub detector: Detector,
    /// Has a rule that looks at open windows.
    pub is_continuous: bool,
    /// The pipelines that read this one's windows, as places in the set.
    pub readers: Vec<usize>,
    /// The pipelines whose rules silence this one's, as places in the set: their verdict on a moment comes first.
    pub waits_for: Vec<usize>,
    /// Some other pipeline waits for this one or reads it, so it says how far it has come.
    pub is_awaited: bool,
}

/// All pipelines of an installation, planned, upstream before downstream.
#[derive(Debug)]
pub struct PipelineSet {
    pipelines: Vec<Compiled>,
    /// For each rule that others of another pipeline silence: those.
    inhibitors: BTreeMap<RuleName, Vec<RuleName>>,
}

/// The source that the windows of a pipeline are to its readers, in heartbeats.
pub fn windows_source(pipeline: &str) -> String {
    format!("windows/{pipeline}")
}

impl PipelineSet {
    /// Plans every pipeline; names are unique and inhibited rules exist, as the files' reader has made sure.
    pub fn compile(pipelines: Vec<Pipeline>) -> Result<Self, CompileError> {
        let mut compiled: Vec<Compiled> = Vec::with_capacity(pipelines.len());
        for pipeline in upstream_first(pipelines)? {
            let upstream = match &pipeline.source {
                Source::Windows(name) => compiled.iter().find(|other| other.pipeline.name == *name),
                Source::Logs | Source::Metrics => None,
            };
            let plan = Arc::new(WindowPlan::new(&pipeline, upstream.map(|upstream| upstream.plan.as_ref()))?);
            let detector = Detector::new(&pipeline, plan.panes.slide)?;
            let is_continuous = pipeline.rules.iter().any(|rule| rule.evaluate == Evaluate::Continuous);
            compiled.push(Compiled {
                pipeline,
                plan,
                detector,
                is_continuous,
                readers: Vec::new(),
                waits_for: Vec::new(),
                is_awaited: false,
            });
        }
        let mut set = Self { pipelines: compiled, inhibitors: BTreeMap::new() };
        set.connect();
        Ok(set)
    }

    /// The pipelines, upstream before downstream.
    pub fn pipelines(&self) -> &[Compiled] {
        &self.pipelines
    }

    /// The pipelines that read this source.
    pub fn reading<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a Compiled> {
        self.pipelines.iter().filter(move |compiled| compiled.pipeline.source == *source)
    }

    /// The place of a pipeline in the set.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.pipelines.iter().position(|compiled| compiled.pipeline.name == name)
    }

    /// The rules of other pipelines that silence this one.
    pub fn inhibitors(&self, rule: &RuleName) -> &[RuleName] {
        self.inhibitors.get(rule).map_or(&[], Vec::as_slice)
    }

    fn connect(&mut self) {
        let mut reads = Vec::new();
        let mut waits = Vec::new();
        for (place, compiled) in self.pipelines.iter().enumerate() {
            if let Source::Windows(name) = &compiled.pipeline.source {
                reads.extend(self.place(name).map(|upstream| (upstream, place)));
            }
            for rule in &compiled.pipeline.rules {
                let inhibitor = RuleName { pipeline: compiled.pipeline.name.clone(), rule: rule.name.clone() };
                for silenced in rule.inhibits.iter().filter(|silenced| silenced.pipeline != inhibitor.pipeline) {
                    self.inhibitors.entry(silenced.clone()).or_default().push(inhibitor.clone());
                    waits.extend(self.place(&silenced.pipeline).map(|silenced| (place, silenced)));
                }
            }
        }
        for (upstream, reader) in reads {
            self.pipelines[upstream].readers.push(reader);
            self.pipelines[upstream].is_awaited = true;
        }
        for (first, second) in waits {
            self.pipelines[first].is_awaited = true;
            if !self.pipelines[second].waits_for.contains(&first) {
                self.pipelines[second].waits_for.push(first);
            }
        }
    }
}

fn upstream_first(mut waiting: Vec<Pipeline>) -> Result<Vec<Pipeline>, CompileError> {
    let mut ordered: Vec<Pipeline> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let names = waiting.iter().map(|pipeline| pipeline.name.clone()).collect::<Vec<_>>();
        let is_ready = |pipeline: &Pipeline| match &pipeline.source {
            Source::Windows(upstream) => !names.contains(upstream),
            Source::Logs | Source::Metrics => true,
        };
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_ready);
        if ready.is_empty() {
            return Err(CompileError::Circle(names.join(", ")));
        }
        ordered.extend(ready);
        waiting = rest;
    }
    Ok(ordered)
}
