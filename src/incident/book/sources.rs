//! The deadman: a source of telemetry that was heard and is not heard any more.
//!
//! Rules see what there is. When a whole source falls silent, none of them fires, and what fired before neither worsens nor
//! recovers: one incident says so, and until the source is back nothing is done on the word of its last windows. It does
//! not matter who is silent, the platform, Kafka, or a stage of this program: nobody is watching.

use std::collections::BTreeMap;

use super::{Book, Claim};
use crate::incident::claim::Origin;
use crate::incident::{Incident, Numbers, fingerprint};
use crate::model::detection::{Change, incident_id};
use crate::model::pipeline::{AGENT_MODULE, Micros, RuleName, Severity};
use crate::model::series::{Label, Series};
use crate::model::time::format_time;

/// The name under which the book itself says that something is wrong.
const PIPELINE: &str = "sources";
const RULE: &str = "silent";
const LABEL: &str = "source";
const MEASURE: &str = "silent_seconds";
/// A source whose newest closed window ended longer ago than this is silent. Shorter calls a busy cluster silent.
const SILENT_AFTER: Micros = 10 * 60 * 1_000_000;
/// Where windows are long, they close rarely: so many of the shortest must be overdue.
const SILENT_SLIDES: i64 = 3;

/// What is known of the sources.
#[derive(Debug)]
pub(super) struct Sources {
    /// The end of each one's newest closed window. Only what was seen alive can fall silent.
    newest: BTreeMap<Origin, Micros>,
    /// The fingerprints of the incidents of their silence.
    prints: BTreeMap<Origin, String>,
}

impl Default for Sources {
    fn default() -> Sources {
        let print = |origin| (origin, fingerprint(PIPELINE, RULE, &series(origin)));
        Sources { newest: BTreeMap::new(), prints: Origin::ALL.into_iter().map(print).collect() }
    }
}

impl Book {
    /// A window of this pipeline closed.
    pub(super) fn saw_source(&mut self, pipeline: &str, module: Option<&str>, window_end: Micros, now: Micros) {
        // What the agent says of itself is no sign of the platform.
        let origin = self.rules.origin(pipeline).filter(|_| module != Some(AGENT_MODULE));
        let Some(origin) = origin.filter(|origin| !self.is_overdue(*origin, window_end, now)) else { return };
        let newest = self.sources.newest.entry(origin).or_insert(window_end);
        *newest = window_end.max(*newest);
        if self.silent(origin).is_some() {
            self.claim(claim(origin, Change::Resolved, window_end, now, self.patience(origin)), now);
        }
    }

    /// Opens an incident for each source that is overdue.
    pub(super) fn look_for_silence(&mut self, now: Micros) {
        let overdue = self.sources.newest.iter().filter(|(origin, newest)| self.is_overdue(**origin, **newest, now));
        for (origin, newest) in overdue.map(|(origin, newest)| (*origin, *newest)).collect::<Vec<_>>() {
            // Once is enough: it is looked for again when it was heard again.
            self.sources.newest.remove(&origin);
            self.claim(claim(origin, Change::Opened, newest, now, self.patience(origin)), now);
        }
    }

    fn is_overdue(&self, origin: Origin, window_end: Micros, now: Micros) -> bool {
        now.saturating_sub(window_end) > self.patience(origin)
    }

    fn patience(&self, origin: Origin) -> Micros {
        self.rules.shortest_slide(origin).saturating_mul(SILENT_SLIDES).max(SILENT_AFTER)
    }

    /// The incident of a source that is silent now.
    fn silent(&self, origin: Origin) -> Option<&Incident> {
        let id = self.current.get(self.sources.prints.get(&origin)?)?;
        self.incidents.get(id).filter(|incident| incident.is_firing)
    }

    /// Why nothing is done on the word of this pipeline, in words.
    pub(super) fn silence_of_source(&self, pipeline: &str) -> Option<String> {
        let origin = self.rules.origin(pipeline)?;
        let since = format_time(self.silent(origin)?.numbers.window_start);
        Some(format!("the deadman: no window of {} has closed since {since}", origin.name()))
    }
}

fn series(origin: Origin) -> Series {
    Series(vec![(LABEL.to_owned(), Label::Text(origin.name().to_owned()))])
}

/// What the book says to itself. The window is the time without any.
fn claim(origin: Origin, change: Change, newest: Micros, now: Micros, patience: Micros) -> Claim {
    let seconds = |time: Micros| time as f64 / 1e6;
    let series = series(origin);
    let id = incident_id(PIPELINE, RULE, &series, newest);
    let is_breach = change != Change::Resolved;
    let (from, to) = (format_time(newest.saturating_sub(patience)), format_time(now));
    Claim {
        change,
        update: 0,
        detection_id: id.clone(),
        incident_id: id,
        name: RuleName { pipeline: PIPELINE.to_owned(), rule: RULE.to_owned() },
        series,
        organisation_id: None,
        module: None,
        severity: Severity::High,
        is_complete: true,
        is_breach,
        numbers: Numbers {
            window_start: newest,
            window_end: now.max(newest.saturating_add(1)),
            measure: MEASURE.to_owned(),
            value: Some(seconds(now.saturating_sub(newest))),
            samples: None,
            threshold: Some(seconds(patience)),
            baseline: None,
            score: None,
        },
        evidence_sql: format!(
            "SELECT pipeline, max(window_end) AS newest, count(*) AS windows FROM windows WHERE window_start >= \
             '{from}' AND window_start < '{to}' GROUP BY pipeline ORDER BY newest DESC"
        ),
    }
}
