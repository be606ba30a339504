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
use crate::model::pipeline::{Definition, Evaluate, Limits, Pipeline, RuleName, Source};
use crate::window::plan::{PlanError, WindowPlan};

pub mod shard;
pub mod single;
pub mod tables;

/// Why a set of pipelines cannot run.
#[derive(Debug, Error)]
pub enum CompileError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error("the pipelines {0} read each other's windows in a circle, so none of them can come first")]
    Circle(String),
    #[error(
        "version {version} of pipeline `{pipeline}` was computed by another program, whose partials this one cannot read"
    )]
    OtherProgram { pipeline: String, version: String },
}

/// One version of a pipeline, ready to run.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub pipeline: Pipeline,
    pub plan: Arc<WindowPlan>,
    pub detector: Detector,
    /// Watches the overflow series.
    pub overflow: Detector,
    /// False for a version that another process computes, or an earlier one did: its windows are only finished here.
    pub is_current: bool,
    /// Has a rule that looks at open windows.
    pub is_continuous: bool,
    /// The pipelines that read this one's windows, as places in the set.
    pub readers: Vec<usize>,
    /// The pipelines whose rules silence this one's, as places in the set: their verdict on a moment comes first.
    pub waits_for: Vec<usize>,
    /// Some other pipeline waits for this one or reads it, so it says how far it has come.
    pub is_awaited: bool,
}

/// All pipelines of an installation, planned, upstream before downstream; other versions of them after that.
#[derive(Clone, Debug)]
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
            compiled.push(Compiled::new(pipeline, plan)?);
        }
        let mut set = Self { pipelines: compiled, inhibitors: BTreeMap::new() };
        set.connect();
        Ok(set)
    }

    /// This set and one more version of a pipeline. Its windows are finished and judged by the rules of this set.
    pub fn with_version(&self, definition: &Definition) -> Result<Self, CompileError> {
        let current = self.place(&definition.pipeline).map(|place| &self.pipelines[place]);
        let (pipeline, plan) = plan(definition)?;
        if plan.version != definition.version {
            let (pipeline, version) = (definition.pipeline.clone(), definition.version.clone());
            return Err(CompileError::OtherProgram { pipeline, version });
        }
        let limits = current.map_or_else(Limits::default, |current| current.pipeline.limits);
        let rules = current.map_or_else(Vec::new, |current| current.pipeline.rules.clone());
        let version = Compiled::new(Pipeline { limits, rules, ..pipeline }, Arc::new(plan))?;
        let mut set = self.clone();
        set.pipelines.push(Compiled {
            is_current: false,
            is_continuous: false,
            readers: current.map_or_else(Vec::new, |current| current.readers.clone()),
            waits_for: current.map_or_else(Vec::new, |current| current.waits_for.clone()),
            ..version
        });
        Ok(set)
    }

    /// What a pipeline of the set computes.
    pub fn definition(&self, place: usize) -> Definition {
        let Compiled { pipeline, plan, .. } = &self.pipelines[place];
        let upstream = match &pipeline.source {
            Source::Windows(name) => self.place(name).map(|upstream| Box::new(self.definition(upstream))),
            Source::Logs | Source::Metrics => None,
        };
        Definition {
            pipeline: pipeline.name.clone(),
            version: plan.version.clone(),
            source: pipeline.source.clone(),
            sql: pipeline.sql.clone(),
            series: pipeline.series.clone(),
            lateness: pipeline.lateness,
            upstream,
        }
    }

    /// The pipelines, upstream before downstream, then other versions of them.
    pub fn pipelines(&self) -> &[Compiled] {
        &self.pipelines
    }

    /// The pipelines that read this source.
    pub fn reading<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a Compiled> {
        self.pipelines.iter().filter(move |compiled| compiled.is_current && compiled.pipeline.source == *source)
    }

    /// The place of a pipeline in the set, in its current version.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.pipelines.iter().position(|compiled| compiled.is_current && compiled.pipeline.name == name)
    }

    /// The place of one version of a pipeline.
    pub fn place_of(&self, name: &str, version: &str) -> Option<usize> {
        let is_it = |compiled: &Compiled| compiled.pipeline.name == name && compiled.plan.version == version;
        self.pipelines.iter().position(is_it)
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

impl Compiled {
    fn new(pipeline: Pipeline, plan: Arc<WindowPlan>) -> Result<Self, CompileError> {
        let detector = Detector::new(&pipeline, plan.panes.slide)?;
        let detector = detector.with_measures(|measure| plan.measure_version(measure).to_owned());
        let overflow = Detector::of_overflow(&pipeline, plan.panes.slide)?;
        let is_continuous = pipeline.rules.iter().any(|rule| rule.evaluate == Evaluate::Continuous);
        let (readers, waits_for) = (Vec::new(), Vec::new());
        let is_current = true;
        Ok(Self {
            pipeline,
            plan,
            detector,
            overflow,
            is_current,
            is_continuous,
            readers,
            waits_for,
            is_awaited: false,
        })
    }
}

/// A definition as a pipeline without rules, planned.
fn plan(definition: &Definition) -> Result<(Pipeline, WindowPlan), CompileError> {
    let upstream = definition.upstream.as_deref().map(plan).transpose()?;
    let pipeline = Pipeline {
        name: definition.pipeline.clone(),
        source: definition.source.clone(),
        sql: definition.sql.clone(),
        sql_file: format!("version {} of {}", definition.version, definition.pipeline),
        series: definition.series.clone(),
        lateness: definition.lateness,
        limits: Limits::default(),
        rules: Vec::new(),
    };
    let plan = WindowPlan::new(&pipeline, upstream.as_ref().map(|(_, plan)| plan))?;
    Ok((pipeline, plan))
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
