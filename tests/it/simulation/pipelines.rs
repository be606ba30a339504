//! What the simulation runs: four pipelines that need each other, compiled once for all schedules.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use maturion::evaluate::PipelineSet;
use maturion::model::pipeline::{
    Direction, Evaluate, Level, Micros, Pipeline, Rule, RuleName, Scope, Severity, Source, Technique,
};

use crate::flow::pipeline;

pub const SECOND: Micros = 1_000_000;
/// Of every pipeline that reads logs.
pub const LATENESS: Micros = 20 * SECOND;
/// The tumbling windows of `by_org`.
pub const TUMBLE: Micros = 10 * SECOND;
/// The windows of `hopping`: one every `SLIDE`, each of `SIZE`.
pub const SLIDE: Micros = 4 * SECOND;
pub const SIZE: Micros = 10 * SECOND;
/// The windows of `everything`.
pub const WIDE: Micros = 7 * SECOND;
/// The windows of `rollup`, over those of `by_org`.
pub const ROLLUP: Micros = 30 * SECOND;

const BY_ORG: &str = "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, organisation_id, module,
                             count(*) AS n, sum(duration_ms) AS total, max(duration_ms) AS slowest
                      FROM logs GROUP BY 1, 2, 3";
const HOPPING: &str = "SELECT hop(timestamp, INTERVAL '4 seconds', INTERVAL '10 seconds') AS window_start, module,
                              count(*) AS n, avg(duration_ms) AS mean
                       FROM logs GROUP BY 1, 2";
const EVERYTHING: &str = "SELECT tumble(timestamp, INTERVAL '7 seconds') AS window_start, count(*) AS n,
                                 sum(duration_ms) AS total
                          FROM logs GROUP BY 1";
const ROLLUP_SQL: &str = "SELECT tumble(window_start, INTERVAL '30 seconds') AS window_start, module, sum(n) AS n,
                                 count(*) AS parts
                          FROM by_org GROUP BY 1, 2";

/// The pipelines, planned once.
pub fn set() -> Arc<PipelineSet> {
    static SET: LazyLock<Arc<PipelineSet>> =
        LazyLock::new(|| Arc::new(PipelineSet::compile(pipelines()).unwrap_or_else(|error| panic!("{error}"))));
    Arc::clone(&SET)
}

fn pipelines() -> Vec<Pipeline> {
    let lateness = Duration::from_micros(LATENESS as u64);
    let by_org = Pipeline {
        rules: vec![busy(), seen(), Rule { levels: vec![level(Severity::Low, 2.0, 0)], ..rule("quiet", "n") }],
        ..pipeline("by_org", BY_ORG, &["organisation_id", "module"], lateness)
    };
    let unusual = Rule {
        technique: Technique::Zscore { robust: false },
        levels: vec![level(Severity::Medium, 1.5, 0)],
        min_effect: 0.5,
        warmup_windows: 8,
        ..rule("unusual", "n")
    };
    let hopping = Pipeline { rules: vec![unusual], ..pipeline("hopping", HOPPING, &["module"], lateness) };
    let flood = Rule {
        levels: vec![level(Severity::Critical, 9.0, 0)],
        inhibits: vec![RuleName { pipeline: "by_org".to_owned(), rule: "quiet".to_owned() }],
        ..rule("flood", "n")
    };
    let everything = Pipeline { rules: vec![flood], ..pipeline("everything", EVERYTHING, &[], lateness) };
    let many = Rule { levels: vec![level(Severity::High, 12.0, 30)], ..rule("many", "n") };
    let rollup = Pipeline {
        source: Source::Windows("by_org".to_owned()),
        rules: vec![many],
        ..pipeline("rollup", ROLLUP_SQL, &["module"], Duration::ZERO)
    };
    vec![by_org, hopping, everything, rollup]
}

/// Two levels with patience, and a recovery that must last.
fn busy() -> Rule {
    Rule {
        levels: vec![level(Severity::High, 3.0, 20), level(Severity::Low, 1.0, 20)],
        clear_for: 20 * SECOND,
        recovery: 0.9,
        ..rule("busy", "n")
    }
}

/// Sees windows that are still open, so what it says depends on when it looks: only that it says nothing twice is checked.
fn seen() -> Rule {
    Rule { levels: vec![level(Severity::Medium, 3.0, 0)], evaluate: Evaluate::Continuous, ..rule(CONTINUOUS, "n") }
}

/// The rule whose detections depend on the schedule.
pub const CONTINUOUS: &str = "seen";

fn level(severity: Severity, limit: f64, for_seconds: Micros) -> Level {
    Level { severity, limit, for_: for_seconds * SECOND }
}

fn rule(name: &str, measure: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        technique: Technique::Threshold,
        measure: measure.to_owned(),
        levels: Vec::new(),
        direction: Direction::Above,
        samples: None,
        min_samples: 0,
        rate: false,
        clear_for: 0,
        recovery: 1.0,
        min_effect: 0.0,
        evaluate: Evaluate::OnClose,
        warmup_windows: 0,
        scope: Scope::Trivial,
        remedy: None,
        inhibits: Vec::new(),
    }
}
