//! The overflow series: what a pipeline says when it has more series than its limit.

use super::{DetectError, Detector, Evidence};
use crate::model::pipeline::{
    Direction, Evaluate, Level, Micros, Pipeline, Rule, SERIES_LIMIT, Scope, Severity, Technique,
};

/// The measure of that rule: how many series are told apart.
const SERIES_MEASURE: &str = "series";
/// How long there must have been no overflow until that rule is content.
const SERIES_CLEAR_FOR: Micros = 600_000_000;

impl Detector {
    /// The detector of a pipeline's overflow series: a row of it, with the one value of the limit, is a breach of
    /// [`SERIES_LIMIT`].
    pub fn of_overflow(pipeline: &Pipeline, slide: Micros) -> Result<Self, DetectError> {
        let rule = Rule {
            name: SERIES_LIMIT.to_owned(),
            technique: Technique::NewFingerprint,
            measure: SERIES_MEASURE.to_owned(),
            levels: vec![Level { severity: Severity::Medium, limit: 0.0, for_: 0 }],
            direction: Direction::Above,
            samples: None,
            min_samples: 1,
            rate: false,
            clear_for: SERIES_CLEAR_FOR,
            recovery: 1.0,
            min_effect: 0.0,
            evaluate: Evaluate::OnClose,
            warmup_windows: 0,
            scope: Scope::Configuration,
            remedy: None,
            inhibits: Vec::new(),
        };
        let detector = Self::new(&Pipeline { rules: vec![rule], ..pipeline.clone() }, slide)?;
        Ok(Self { evidence: Evidence::of_series(&pipeline.sql), ..detector })
    }
}
