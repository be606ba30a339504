//! The book of incidents: claims, answers, windows, commands and time in; states, facts and news out.
//!
//! The book holds every incident that is open or may be reopened. Whatever it is told, it looks up the incident, moves it
//! one step, and notes what is to be written. It never decides twice about one thing: what is already so changes nothing, so
//! everything may be told again after a crash.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::attempt::Job;
use super::claim::{Claim, ClaimError, RuleFacts, Rules};
use super::silence::Silences;
use super::{Acknowledgement, Escalation, EscalationReason, Incident, Phase, TicketNote};
use crate::decide::Policy;
use crate::model::action::Mode;
use crate::model::pipeline::{Micros, Severity};
use crate::model::series::Series;
use crate::model::silence::Silence;
use outputs::{Fact, FactKind, News, NewsKind, Outputs};
use platform::Platform;
use recent::Recent;
use sources::Sources;

mod acting;
mod circumstances;
mod command;
mod deciding;
mod handover;
mod life;
pub mod outputs;
mod platform;
mod recent;
mod sources;

pub use command::{Command, CommandError, PERSON_BYTES_MAX, is_person};

/// Open incidents; beyond it new ones are refused, loudly. Each costs about three kilobytes, and two more once it has lines of logs.
pub const INCIDENTS_MAX: usize = 200_000;

/// The header of a message on `maturion.intents` that says what it is: …
pub const KIND: &str = "kind";
/// … a detection, …
pub const DETECTION: &[u8] = b"detection";
/// … or a [`Command`].
pub const COMMAND: &[u8] = b"command";

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// How long it must be over before it is.
    pub hold: Micros,
    /// What fires again within this time is the same incident.
    pub reopen_within: Micros,
    /// By when there must be a response, by severity from low to critical.
    pub respond_within: [Micros; 4],
}

impl Default for Settings {
    /// The plan's table: low 24 hours, medium an hour, high 15 minutes, critical at once (a minute, for whoever reads it).
    fn default() -> Settings {
        const MINUTE: Micros = 60 * 1_000_000;
        Settings {
            mode: Mode::Observe,
            hold: 10 * MINUTE,
            reopen_within: 7 * 24 * 60 * MINUTE,
            respond_within: [24 * 60 * MINUTE, 60 * MINUTE, 15 * MINUTE, MINUTE],
        }
    }
}

impl Settings {
    fn respond_by(&self, severity: Severity, from: Micros) -> Micros {
        let [low, medium, high, critical] = self.respond_within;
        let within = match severity {
            Severity::Low => low,
            Severity::Medium => medium,
            Severity::High => high,
            Severity::Critical => critical,
        };
        from.saturating_add(within)
    }
}

/// See the module's head.
pub struct Book {
    rules: Rules,
    policy: Arc<Policy>,
    settings: Settings,
    kill_switch: bool,
    incidents: BTreeMap<String, Incident>,
    /// The incident of each fingerprint that a new detection would belong to.
    current: HashMap<String, String>,
    silences: Silences,
    /// Actions of the last hour and what came of them, for budgets and breakers.
    recent: Recent,
    /// Numbers that an action would change, as they are now; by incident. Read before a decision, and not kept.
    readings: HashMap<String, f64>,
    /// Incidents for whose decision the present value is to be read.
    wanted: BTreeSet<String>,
    platform: Platform,
    sources: Sources,
    /// Incidents with attempts that are not over.
    active: BTreeSet<String>,
    /// Incidents about which closed windows have something to say, by pipeline and series.
    watching: HashMap<String, HashMap<Series, BTreeSet<String>>>,
    deadlines: BTreeSet<(Micros, String)>,
    deadline_of: HashMap<String, Micros>,
    outputs: Outputs,
}

impl Book {
    pub fn new(rules: Rules, policy: Arc<Policy>, settings: Settings) -> Book {
        Book {
            rules,
            policy,
            settings,
            kill_switch: false,
            incidents: BTreeMap::new(),
            current: HashMap::new(),
            silences: Silences::default(),
            recent: Recent::default(),
            readings: HashMap::new(),
            wanted: BTreeSet::new(),
            platform: Platform::default(),
            sources: Sources::default(),
            active: BTreeSet::new(),
            watching: HashMap::new(),
            deadlines: BTreeSet::new(),
            deadline_of: HashMap::new(),
            outputs: Outputs::default(),
        }
    }

    /// Puts an incident back as it was written.
    pub fn restore(&mut self, incident: Incident) {
        let id = incident.incident_id.clone();
        let is_newer = self.current.get(&incident.fingerprint).and_then(|known| self.incidents.get(known));
        if is_newer.is_none_or(|known| known.epoch <= incident.epoch) {
            self.current.insert(incident.fingerprint.clone(), id.clone());
        }
        incident.attempts.iter().for_each(|attempt| self.recent.note(attempt));
        self.incidents.insert(id.clone(), incident);
        self.plan(&id);
    }

    /// Puts a silence back.
    pub fn restore_silence(&mut self, silence: Silence) {
        // There was room for it when it was taken.
        let _ = self.silences.take(silence);
    }

    /// Whether the operator has stopped everything.
    pub fn set_kill_switch(&mut self, is_on: bool) {
        self.kill_switch = is_on;
    }

    /// True if the operator has stopped everything.
    pub fn is_stopped(&self) -> bool {
        self.kill_switch
    }

    /// How many incidents are in each phase. Looks at every one.
    pub fn phases(&self) -> BTreeMap<&'static str, u64> {
        let mut phases = BTreeMap::new();
        self.incidents.values().for_each(|incident| *phases.entry(incident.phase.name()).or_default() += 1);
        phases
    }

    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    pub fn incident(&self, id: &str) -> Option<&Incident> {
        self.incidents.get(id)
    }

    pub fn silences(&self) -> &Silences {
        &self.silences
    }

    /// Hears of a module: what is unhealthy is a share of all that are known.
    pub fn saw(&mut self, module: &str) {
        self.platform.saw_module(module);
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What was said since the last call.
    pub fn take_outputs(&mut self) -> Outputs {
        std::mem::take(&mut self.outputs)
    }

    /// True if something is to be written.
    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Hears a message of the remediation topic; one that is refused is a fact.
    pub fn hear(&mut self, event_type: &str, value: &[u8], now: Micros) -> Result<(), ClaimError> {
        match self.rules.hear(event_type, value, now) {
            Ok(claim) => {
                self.claim(claim, now);
                Ok(())
            }
            Err(error) => {
                self.outputs.facts.push(Fact::refused(&error.to_string()));
                Err(error)
            }
        }
    }

    /// Does what a person asks, or says why not.
    pub fn command(&mut self, command: Command, now: Micros) -> Result<(), CommandError> {
        match command {
            Command::Acknowledge { incident_id, .. } | Command::Unlock { incident_id, .. }
                if !self.incidents.contains_key(&incident_id) =>
            {
                return Err(CommandError::UnknownIncident);
            }
            Command::Acknowledge { incident_id, by } => self.acknowledge(&incident_id, by, now),
            Command::Unlock { incident_id, by } => self.unlock(&incident_id, &by, now),
            Command::Silence { silence, by } => {
                silence.check(now)?;
                self.silences.take(silence.clone())?;
                self.outputs.facts.push(Fact::silenced(&by, &silence));
                self.outputs.silences.push((silence.id.clone(), Some(silence)));
            }
            Command::EndSilence { id, by } => {
                if let Some(silence) = self.silences.end(&id) {
                    self.outputs.facts.push(Fact::unsilenced(&by, &silence));
                    self.outputs.silences.push((id, None));
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, id: &str, by: String, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id).filter(|one| one.is_open() && one.acknowledged.is_none())
        else {
            return;
        };
        incident.acknowledged = Some(Acknowledgement { by: by.clone(), at: now });
        incident.respond_by = None;
        let sentence = format!("{by} acknowledged the incident");
        self.outputs.facts.push(Fact::of(FactKind::Acknowledged, incident, sentence).by(&by));
        self.news(id, NewsKind::Acknowledged { by });
        self.changed(id, now);
    }

    fn unlock(&mut self, id: &str, by: &str, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| incident.is_locked) else { return };
        incident.is_locked = false;
        // What was tried was tried: from here on it counts anew, and keys go on.
        incident.cleared_attempts = incident.attempts.iter().map(|one| one.intent.attempt).max().unwrap_or(0);
        incident.decide_at = Some(now);
        let sentence = format!("{by} cleared the lock: attempts may begin anew");
        self.outputs.facts.push(Fact::of(FactKind::Unlocked, incident, sentence).by(by));
        self.changed(id, now);
    }

    /// What is known of a ticket now.
    pub fn ticket(&mut self, id: &str, note: TicketNote) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        if incident.ticket.as_ref() != Some(&note) {
            incident.ticket = Some(note);
            // The incident itself did not change: else its ticket would have to say so, and that would be a change.
            self.written(id);
        }
    }

    /// Time has come to `now`: deadlines that are over are acted upon. `token` is that of what begins.
    pub fn tick(&mut self, now: Micros, token: u64) {
        for id in self.silences.expire(now) {
            self.outputs.silences.push((id, None));
        }
        self.recent.forget_before(now);
        self.look_for_silence(now);
        while let Some((due, id)) = self.deadlines.first().cloned().filter(|(due, _)| *due <= now) {
            self.deadlines.remove(&(due, id.clone()));
            self.deadline_of.remove(&id);
            self.due(&id, now, token);
            self.plan(&id);
        }
    }

    fn due(&mut self, id: &str, now: Micros, token: u64) {
        let is_due = |at: Option<Micros>| at.is_some_and(|at| at <= now);
        let Some(incident) = self.incidents.get(id) else { return };
        let (hold, respond) = (is_due(incident.hold_until), is_due(incident.respond_by));
        let forget = incident.resolved_at.is_some_and(|at| at.saturating_add(self.settings.reopen_within) <= now);
        if forget {
            return self.forget(id);
        }
        if hold {
            self.resolve(id, now);
        }
        if respond {
            self.escalate(id, EscalationReason::Unanswered, now);
        }
        self.attempts_due(id, now, token);
        if self.incidents.get(id).is_some_and(|incident| is_due(incident.decide_at)) {
            self.consider(id, now, token);
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some(incident) = self.incidents.remove(id) {
            self.active.remove(id);
            self.platform.forget(&incident);
            if self.current.get(&incident.fingerprint).is_some_and(|current| current == id) {
                self.current.remove(&incident.fingerprint);
            }
            self.outputs.forgotten.push(id.to_owned());
        }
    }

    /// The calls that are to be made, each for as long as it is not answered.
    pub fn jobs(&self, now: Micros) -> impl Iterator<Item = (&Incident, Job)> {
        let active = self.active.iter().filter_map(|id| self.incidents.get(id));
        active.flat_map(move |incident| {
            let ready = incident.attempts.iter().filter(move |attempt| attempt.is_ready(now));
            ready.filter_map(move |attempt| Some((incident, attempt.job()?)))
        })
    }

    fn watch(&mut self, id: &str) {
        let Some(incident) = self.incidents.get(id) else { return };
        let (pipeline, series) = (incident.pipeline.clone(), incident.series.clone());
        if incident.wants_windows() {
            self.watching.entry(pipeline).or_default().entry(series).or_default().insert(id.to_owned());
            return;
        }
        let Some(of_pipeline) = self.watching.get_mut(&pipeline) else { return };
        if let Some(ids) = of_pipeline.get_mut(&series) {
            ids.remove(id);
            if ids.is_empty() {
                of_pipeline.remove(&series);
            }
        }
        if of_pipeline.is_empty() {
            self.watching.remove(&pipeline);
        }
    }

    fn facts_of(&self, incident: &Incident) -> Option<&RuleFacts> {
        self.rules.get(&incident.rule_name())
    }

    fn escalate(&mut self, id: &str, reason: EscalationReason, now: Micros) {
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| incident.is_open()) else { return };
        incident.respond_by = None;
        if incident.escalated.as_ref().is_none_or(|before| before.reason != reason) {
            incident.escalated = Some(Escalation { reason, at: now });
            if !incident.is_busy() && incident.phase != Phase::Recovering {
                incident.phase = Phase::Escalated;
            }
            let sentence = format!("Escalated to people: {}", reason.words());
            self.outputs.facts.push(Fact::of(FactKind::Escalated, incident, sentence));
            self.news(id, NewsKind::Escalated(reason));
        }
        self.changed(id, now);
    }

    fn news(&mut self, id: &str, kind: NewsKind) {
        self.outputs.news.push(News { incident_id: id.to_owned(), kind });
    }

    /// Notes that an incident is to be written, and when it needs attention next.
    fn changed(&mut self, id: &str, now: Micros) {
        if let Some(incident) = self.incidents.get_mut(id) {
            incident.changed_at = now;
        }
        self.written(id);
        self.plan(id);
    }

    /// Notes that an incident is to be written.
    fn written(&mut self, id: &str) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        if self.outputs.changed.insert(id.to_owned()) {
            incident.revision += 1;
        }
    }

    fn plan(&mut self, id: &str) {
        if let Some(before) = self.deadline_of.remove(id) {
            self.deadlines.remove(&(before, id.to_owned()));
        }
        self.watch(id);
        let Some(incident) = self.incidents.get(id) else { return };
        belongs(&mut self.active, id, incident.running().next().is_some());
        self.platform.note(incident);
        let forget = incident.resolved_at.map(|at| at.saturating_add(self.settings.reopen_within));
        let attempts = incident.attempts.iter().map(|attempt| attempt.due_at);
        let fixed = [incident.decide_at, incident.respond_by, incident.hold_until, forget];
        if let Some(next) = fixed.into_iter().chain(attempts).flatten().min() {
            self.deadlines.insert((next, id.to_owned()));
            self.deadline_of.insert(id.to_owned(), next);
        }
    }
}

/// Puts an id into a set, or takes it out.
fn belongs(set: &mut BTreeSet<String>, id: &str, is_member: bool) {
    if is_member {
        set.insert(id.to_owned());
    } else {
        set.remove(id);
    }
}
