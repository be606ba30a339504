//! Episodes: the messages about one detection, put together to what happened from when to when.

use std::collections::BTreeMap;

use crate::model::detection::{Change, Detection};
use crate::model::pipeline::{Micros, RuleName, Severity};
use crate::model::series::Series;

/// One detection from its first message to its last.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    pub detection_id: String,
    pub rule: RuleName,
    pub series: Series,
    /// The worst that was said.
    pub severity: Severity,
    /// The end of the window that opened it.
    pub opened: Micros,
    /// The end of the window that resolved it, if one did.
    pub resolved: Option<Micros>,
    pub measure: String,
    /// What the measure was when it opened, and the limit that it broke.
    pub value: Option<f64>,
    pub threshold: Option<f64>,
}

/// Puts episodes together. It holds those that are open: one for each rule and series at most.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    open: BTreeMap<String, Episode>,
}

impl Episodes {
    /// Takes the next message; the episode that it ends.
    pub fn take(&mut self, detection: &Detection) -> Option<Episode> {
        let id = &detection.detection_id;
        if detection.change == Change::Resolved {
            let episode = self.open.remove(id)?;
            return Some(Episode { resolved: Some(detection.window_end), ..episode });
        }
        let begun = || Episode {
            detection_id: id.clone(),
            rule: RuleName { pipeline: detection.pipeline.clone(), rule: detection.rule.clone() },
            series: detection.series.clone(),
            severity: detection.severity,
            opened: detection.window_end,
            resolved: None,
            measure: detection.measure.clone(),
            value: detection.value,
            threshold: detection.threshold,
        };
        let episode = self.open.entry(id.clone()).or_insert_with(begun);
        episode.severity = episode.severity.max(detection.severity);
        None
    }

    /// The episodes that nothing has ended, by the time at which they opened.
    pub fn into_open(self) -> Vec<Episode> {
        let mut open = self.open.into_values().collect::<Vec<_>>();
        open.sort_by(|one, other| (one.opened, &one.detection_id).cmp(&(other.opened, &other.detection_id)));
        open
    }
}
