//! Organisations whose rate limit turns requests away, and the agent that may raise it: minute by minute, with the shipped
//! catalogue, by a clock that the test turns.

use std::collections::BTreeMap;
use std::path::Path;

use maturion::config::PipelineFiles;
use maturion::model::detection::{detection_id, format_time, incident_id};
use maturion::model::pipeline::Pipeline;
use maturion::model::series::{Label, Series};
use maturion::roles::remediate::hands::PlatformHands;
use serde_json::{Value, json};

use super::plane::Plane;
use super::platform::{MINUTE, MODULE, OTHERS, Platform, START, Worker};

const PIPELINE: &str = "turned_away";
/// The share of requests that is turned away while the limit is too low.
const SHARE: f64 = 0.4;

/// The pipelines beside the tests.
pub fn pipelines() -> Vec<Pipeline> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/remediate");
    let files = PipelineFiles::Folder { dir: folder.join("pipelines"), sql: folder.join("sql") };
    maturion::pipelines::load(&files).unwrap_or_else(|error| panic!("{error}"))
}

/// See the module's head.
pub struct Limited {
    pub platform: Platform,
    /// How many requests a minute each organisation makes: with that limit none is turned away.
    needs: BTreeMap<String, i64>,
    /// Since when that is so.
    enough_since: BTreeMap<String, i64>,
    /// What detect said of each organisation so far: its onset and how many messages.
    said: BTreeMap<String, (i64, u32)>,
    /// Everything that detect said, in order: the type and the body.
    messages: Vec<(String, Value)>,
    worker: Option<Worker<PlatformHands>>,
}

impl Limited {
    pub fn new(plane: Plane, needs: &[(&str, i64)]) -> Limited {
        let platform = Platform::of(pipelines(), plane, str::to_owned);
        let needs = needs.iter().map(|(organisation, need)| ((*organisation).to_owned(), *need)).collect();
        let (enough_since, said, messages) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Limited { platform, needs, enough_since, said, messages, worker: None }
    }

    pub fn needs(&mut self, organisation: &str, need: i64) {
        self.needs.insert(organisation.to_owned(), need);
    }

    /// The process ends as when the power goes: nothing is said and nothing closed.
    pub fn die(&mut self) {
        self.worker = None;
    }

    pub fn limit(&self, organisation: &str) -> i64 {
        self.platform.plane.limit(MODULE, organisation)
    }

    /// The numbers that the limits were set to, in order.
    pub fn limits_set(&self) -> Vec<i64> {
        self.platform.plane.done().into_iter().filter_map(|effect| effect.limit).collect()
    }

    pub fn incident(&self, organisation: &str) -> Value {
        let all = self.platform.incidents();
        all.into_iter().find(|incident| incident["organisation_id"] == organisation).unwrap_or_default()
    }

    /// Detect says that requests of an organisation are turned away, or that it is over. Each `opened` is a new detection.
    pub fn detect(&mut self, organisation: &str, event: &str) {
        let now = self.platform.now();
        let said = self.said.entry(organisation.to_owned()).or_insert((START, 0));
        *said = if event == "opened" { (now, 0) } else { (said.0, said.1 + 1) };
        let (onset, update) = *said;
        let label = |name: &str, value: &str| (name.to_owned(), Label::Text(value.to_owned()));
        let series = Series(vec![label("organisation_id", organisation), label("module", MODULE)]);
        let share = if event == "resolved" { 0.0 } else { SHARE };
        let body = json!({
            "update": update, "detection_id": detection_id(PIPELINE, PIPELINE, &series, onset), "pipeline": PIPELINE,
            "rule": PIPELINE, "technique": "threshold", "organisation_id": organisation, "module": MODULE,
            "series": {"organisation_id": organisation, "module": MODULE}, "window_start": format_time(now - MINUTE),
            "window_end": format_time(now), "complete": true, "measure": "share", "value": share, "samples": 4_210,
            "threshold": 0.05, "baseline": null, "score": null, "severity": "high", "scope": "configuration",
            "remedy": {"action": "raise_rate_limit", "target": MODULE},
            "incident_id": incident_id(PIPELINE, PIPELINE, &series, onset), "evidence_sql": "SELECT 1",
        });
        self.messages.push((format!("maturion.detection.{event}.v1"), body));
        self.repeat(self.messages.len() - 1);
    }

    /// The nth message of detect comes (again).
    pub fn repeat(&self, nth: usize) {
        let (kind, body) = &self.messages[nth];
        self.platform.send(&self.platform.flow.runtime.topics.remediation(), body, &[("ce_type", kind.as_bytes())]);
    }

    /// A minute of the platform and of the agent.
    pub fn minute(&mut self) {
        self.minute_without_agent();
        self.turn(4);
    }

    /// A minute of the platform: windows close.
    pub fn minute_without_agent(&mut self) {
        let now = self.platform.pass(MINUTE);
        for (organisation, need) in &self.needs {
            if self.limit(organisation) >= *need {
                self.enough_since.entry(organisation.clone()).or_insert(now);
            } else {
                self.enough_since.remove(organisation);
            }
        }
        let organisations = self.needs.keys().cloned().collect::<Vec<_>>();
        for organisation in organisations {
            let is_well = self.enough_since.get(&organisation).is_some_and(|since| *since <= now - MINUTE);
            self.window(&organisation, MODULE, if is_well { 0.0 } else { SHARE });
            OTHERS.iter().for_each(|module| self.window(&organisation, module, 0.0));
        }
    }

    pub fn window(&self, organisation: &str, module: &str, share: f64) {
        let now = self.platform.now();
        let row = json!({
            "pipeline": PIPELINE, "organisation_id": organisation, "module": module,
            "window_start": format_time(now - MINUTE), "window_end": format_time(now), "share": share, "requests": 4_000,
        });
        self.platform.send(&self.platform.flow.runtime.topics.windows(), &row, &[]);
    }

    /// So many turns of the process that runs; one is started if none does.
    pub fn turn(&mut self, turns: usize) {
        let platform = &self.platform;
        let Worker { worker, session } = self.worker.get_or_insert_with(|| platform.worker(platform.hands()));
        (0..turns).for_each(|_| worker.turn(session.as_mut()).unwrap());
    }

    /// Lets minutes pass until an organisation's incident is as expected.
    pub fn until(
        &mut self,
        organisation: &str,
        minutes_max: usize,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        for _ in 0..minutes_max {
            let incident = self.incident(organisation);
            if is_so(&incident) {
                return incident;
            }
            self.minute();
        }
        panic!("not {what}: {:#?}\n{:#?}", self.incident(organisation), self.platform.entries());
    }

    /// The audit's entries of a kind.
    pub fn entries(&self, kind: &str) -> Vec<Value> {
        self.platform.entries().into_iter().filter(|entry| entry["kind"] == kind).collect()
    }
}
