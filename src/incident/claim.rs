//! Claims: messages of the remediation topic, before anybody believes them.
//!
//! Whoever can write to the topic can write anything. So a claim is only heard if it names a rule of this installation and
//! a series of that rule's shape, and if its numbers are those of a breach. What the rule itself says (remedy, scope, which
//! severities there are) is taken from the rule and never from the message: a forged message gains nothing that policy
//! would not allow, and one that is true loses nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Numbers, label};
use crate::model::detection::{BaselineSummary, Change, label_text};
use crate::model::pipeline::{
    Direction, Level, Micros, Pipeline, Rule, RuleName, SERIES_LIMIT, Severity, Source, Technique,
};
use crate::model::series::Series;
use crate::model::time::rfc3339;

/// The longest label of a series that is heard, in bytes.
const LABEL_BYTES_MAX: usize = 1_024;
/// The longest statement of evidence that is kept, in bytes.
const EVIDENCE_BYTES_MAX: usize = 16 * 1_024;
/// A window that ends later than this after now is nobody's.
const AHEAD_MAX: Micros = 24 * 3_600 * 1_000_000;
/// Detection and incident ids are so many hexadecimal digits.
const ID_DIGITS: usize = 32;

/// Why a message is not heard: one sentence.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    #[error("it is not a detection: {0}")]
    Malformed(String),
    #[error("there is no rule `{rule}` of a pipeline `{pipeline}` here")]
    UnknownRule { pipeline: String, rule: String },
    #[error("its series is not one of pipeline `{0}`")]
    OtherSeries(String),
    #[error("the rule has no level `{0}`")]
    OtherSeverity(&'static str),
    #[error("its numbers are no breach of the rule")]
    NoBreach,
    #[error("its window is of no time that can be")]
    OtherTime,
}

impl ClaimError {
    /// The reason without anything of the message.
    pub fn word(&self) -> &'static str {
        match self {
            ClaimError::Malformed(_) => "malformed",
            ClaimError::UnknownRule { .. } => "unknown rule",
            ClaimError::OtherSeries(_) => "other series",
            ClaimError::OtherSeverity(_) => "other severity",
            ClaimError::NoBreach => "no breach",
            ClaimError::OtherTime => "other time",
        }
    }
}

/// What one message says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub change: Change,
    pub update: u32,
    pub detection_id: String,
    pub incident_id: String,
    pub name: RuleName,
    pub series: Series,
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    pub severity: Severity,
    /// False while the window is still open.
    pub is_complete: bool,
    /// Its numbers are a breach of the level. Those of an update need not be: a level that was reached stays until it has
    /// been left for a while.
    pub is_breach: bool,
    pub numbers: Numbers,
    pub evidence_sql: String,
}

/// A rule and what belongs to its pipeline.
#[derive(Clone, Debug)]
pub struct RuleFacts {
    pub rule: Rule,
    /// How far the pipeline's windows advance.
    pub slide: Micros,
    pub source: Source,
}

/// The rules of this installation.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    facts: BTreeMap<RuleName, RuleFacts>,
    /// The pipelines, for the rule that each has without naming it.
    pipelines: BTreeMap<String, PipelineFacts>,
    /// How far the windows of each source advance that advance least.
    shortest_slides: BTreeMap<Origin, Micros>,
}

#[derive(Clone, Debug)]
struct PipelineFacts {
    labels: Vec<String>,
    /// None: it reads windows of a pipeline that is not there.
    origin: Option<Origin>,
}

/// Where the telemetry comes from that a pipeline reads, itself or through the windows of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Logs,
    Metrics,
}

impl Origin {
    pub const ALL: [Origin; 2] = [Origin::Logs, Origin::Metrics];

    pub fn name(self) -> &'static str {
        match self {
            Origin::Logs => "logs",
            Origin::Metrics => "metrics",
        }
    }
}

/// The body as it is written.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    update: u32,
    #[serde(borrow)]
    detection_id: Cow<'a, str>,
    #[serde(borrow)]
    incident_id: Cow<'a, str>,
    #[serde(borrow)]
    pipeline: Cow<'a, str>,
    #[serde(borrow)]
    rule: Cow<'a, str>,
    #[serde(borrow)]
    organisation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    module: Option<Cow<'a, str>>,
    series: Map<String, Value>,
    #[serde(with = "rfc3339")]
    window_start: Micros,
    #[serde(with = "rfc3339")]
    window_end: Micros,
    complete: bool,
    #[serde(borrow)]
    measure: Cow<'a, str>,
    value: Option<f64>,
    samples: Option<u64>,
    threshold: Option<f64>,
    baseline: Option<BaselineSummary>,
    score: Option<f64>,
    severity: Severity,
    #[serde(borrow)]
    evidence_sql: Cow<'a, str>,
}

impl Rules {
    /// The rules of these pipelines, each with how far its windows advance.
    pub fn new<'a>(pipelines: impl Iterator<Item = (&'a Pipeline, Micros)>) -> Rules {
        let mut rules = Rules::default();
        let pipelines = pipelines.collect::<Vec<_>>();
        let sources = pipelines.iter().map(|(pipeline, _)| (pipeline.name.as_str(), &pipeline.source)).collect();
        for (pipeline, slide) in pipelines {
            let origin = origin(&pipeline.source, &sources);
            if let Some(origin) = origin {
                let shortest = rules.shortest_slides.entry(origin).or_insert(slide);
                *shortest = slide.min(*shortest);
            }
            rules.pipelines.insert(pipeline.name.clone(), PipelineFacts { labels: pipeline.series.clone(), origin });
            for rule in &pipeline.rules {
                let name = RuleName { pipeline: pipeline.name.clone(), rule: rule.name.clone() };
                let facts = RuleFacts { rule: rule.clone(), slide, source: pipeline.source.clone() };
                rules.facts.insert(name, facts);
            }
        }
        rules
    }

    /// The facts of a rule, unless the installation has it no more.
    pub fn get(&self, name: &RuleName) -> Option<&RuleFacts> {
        self.facts.get(name)
    }

    /// The labels of a pipeline's series.
    pub fn labels(&self, pipeline: &str) -> Option<&[String]> {
        self.pipelines.get(pipeline).map(|facts| facts.labels.as_slice())
    }

    /// Where a pipeline's telemetry comes from.
    pub fn origin(&self, pipeline: &str) -> Option<Origin> {
        self.pipelines.get(pipeline)?.origin
    }

    /// How far those windows advance that advance least, of all that come from there; 0: there are none.
    pub fn shortest_slide(&self, origin: Origin) -> Micros {
        self.shortest_slides.get(&origin).copied().unwrap_or(0)
    }

    /// Reads a message and checks what it says. `event_type` is its header `ce_type`.
    pub fn hear(&self, event_type: &str, value: &[u8], now: Micros) -> Result<Claim, ClaimError> {
        let changes = [Change::Opened, Change::Updated, Change::Resolved];
        let change = changes.into_iter().find(|change| change.event_type() == event_type);
        let change = change.ok_or_else(|| ClaimError::Malformed(format!("its `ce_type` is {event_type:?}")))?;
        let body: Body<'_> = serde_json::from_slice(value).map_err(|error| ClaimError::Malformed(error.to_string()))?;
        self.check(change, body, now)
    }

    fn check(&self, change: Change, body: Body<'_>, now: Micros) -> Result<Claim, ClaimError> {
        let name = RuleName { pipeline: body.pipeline.into_owned(), rule: body.rule.into_owned() };
        let labels = self.labels(&name.pipeline);
        let facts = self.facts.get(&name);
        let (Some(labels), true) = (labels, facts.is_some() || name.rule == SERIES_LIMIT) else {
            return Err(ClaimError::UnknownRule { pipeline: name.pipeline, rule: name.rule });
        };
        let series = series(&body.series, labels).ok_or_else(|| ClaimError::OtherSeries(name.pipeline.clone()))?;
        let (organisation_id, module) = (label_text(&series, "organisation_id"), label_text(&series, "module"));
        if organisation_id.as_deref() != body.organisation_id.as_deref() || module.as_deref() != body.module.as_deref()
        {
            return Err(ClaimError::OtherSeries(name.pipeline));
        }
        let is_id = |id: &str| id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id(&body.detection_id) || !is_id(&body.incident_id) {
            return Err(ClaimError::Malformed("its ids are not ids".to_owned()));
        }
        if body.window_start >= body.window_end || body.window_end > now.saturating_add(AHEAD_MAX) {
            return Err(ClaimError::OtherTime);
        }
        let mut claim = Claim {
            change,
            is_breach: true,
            update: body.update,
            detection_id: body.detection_id.into_owned(),
            incident_id: body.incident_id.into_owned(),
            name,
            series,
            organisation_id,
            module,
            severity: body.severity,
            is_complete: body.complete,
            numbers: Numbers {
                window_start: body.window_start,
                window_end: body.window_end,
                measure: body.measure.into_owned(),
                value: body.value,
                samples: body.samples,
                threshold: body.threshold,
                baseline: body.baseline,
                score: body.score,
            },
            evidence_sql: bounded(body.evidence_sql.into_owned(), EVIDENCE_BYTES_MAX),
        };
        if let Some(facts) = facts {
            claim.is_breach = facts.rule_agrees(&claim)?;
        }
        match (change, claim.is_breach) {
            (Change::Opened, false) => Err(ClaimError::NoBreach),
            _ => Ok(claim),
        }
    }
}

impl RuleFacts {
    /// Checks that a message says what this rule can say; true if its numbers are a breach.
    fn rule_agrees(&self, claim: &Claim) -> Result<bool, ClaimError> {
        if claim.numbers.measure != self.rule.measure {
            return Err(ClaimError::Malformed("its measure is not the rule's".to_owned()));
        }
        if claim.change == Change::Resolved {
            return Ok(false);
        }
        let level = self.rule.levels.iter().find(|level| level.severity == claim.severity);
        let level = level.ok_or(ClaimError::OtherSeverity(claim.severity.name()))?;
        Ok(match self.rule.technique {
            Technique::Threshold => self.is_breach(level, &claim.numbers),
            // Their limits move with what was learnt, which only detect knows: what the message says must agree with itself.
            Technique::Ratio | Technique::Zscore { .. } => claim.numbers.baseline.is_some(),
            Technique::NewFingerprint => true,
        })
    }

    /// Counts the band between recovery limit and limit, too: a message may be about a value on the way back.
    fn is_breach(&self, level: &Level, numbers: &Numbers) -> bool {
        let enough = self.rule.samples.is_none() || numbers.samples.unwrap_or(0) >= self.rule.min_samples;
        let Some(value) = numbers.value.filter(|value| value.is_finite() && enough) else { return false };
        match self.rule.direction {
            Direction::Above => value > level.limit * self.rule.recovery.min(1.0),
            Direction::Below => value < level.limit / self.rule.recovery.min(1.0),
            Direction::Both => true,
        }
    }
}

/// Follows windows of windows to what they are made of. As many steps as there are pipelines are enough for all.
fn origin<'a>(mut source: &'a Source, sources: &BTreeMap<&str, &'a Source>) -> Option<Origin> {
    for _ in 0..=sources.len() {
        source = match source {
            Source::Logs => return Some(Origin::Logs),
            Source::Metrics => return Some(Origin::Metrics),
            Source::Windows(pipeline) => sources.get(pipeline.as_str())?,
        };
    }
    None
}

/// The series of exactly these labels.
fn series(object: &Map<String, Value>, labels: &[String]) -> Option<Series> {
    if object.len() != labels.len() {
        return None;
    }
    let of = |name: &String| {
        let value = object.get(name)?;
        let is_short = value.as_str().is_none_or(|text| text.len() <= LABEL_BYTES_MAX);
        label(value).filter(|_| is_short).map(|label| (name.clone(), label))
    };
    labels.iter().map(of).collect::<Option<_>>().map(Series)
}

/// The text up to so many bytes.
fn bounded(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
