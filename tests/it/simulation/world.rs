//! A small world in one thread: a log, three places for processes, a clock, and a seed that decides everything.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use maturion::decode::DecodeLimits;
use maturion::evaluate::PipelineSet;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, LogError, Outgoing, Partition, Record, Session};
use maturion::model::pipeline::Micros;
use maturion::roles::detect::{Detect, DetectRoleError};
use maturion::roles::intake::{Intake, IntakeError};
use maturion::roles::{Clock, RolesError, Runtime};
use maturion::serve::status::StatusBoard;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faulty::{CRASHED, FaultyLog, Sent};
use super::mutant::Mutant;
use super::records::Records;

/// Processes at a time; each has a worker of both stages.
const PLACES: usize = 3;
/// The names that processes go by; two that have the same fence each other.
const NAMES: [&str; PLACES] = ["a", "b", "c"];

/// How much the records ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing may be late, so every result is known beforehand.
    Strict,
    /// Disorder beyond the lateness, partitions that count as idle.
    Lossy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Intake,
    Detect,
}

/// One life of a worker: its place, and which of the processes there it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    place: usize,
    number: u32,
    stage: Stage,
}

impl fmt::Display for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {}.{}", self.stage, self.place, self.number)
    }
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Done,
    Abort,
    DoneThenCrash,
}

/// How likely everything is, of a thousand calls.
struct Rates {
    crash: u32,
    interruption: u32,
    abort: u32,
    crash_after_commit: u32,
    refused_record: u32,
}

#[derive(Default)]
pub struct SimulatedClock {
    elapsed: AtomicU64,
    wall: AtomicI64,
}

impl Clock for SimulatedClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Micros {
        self.wall.load(Ordering::Relaxed) * 1_000
    }
}

enum Worker {
    Intake(Box<Intake>),
    Detect(Box<Detect>),
}

/// A worker with its session.
struct Unit {
    life: Life,
    worker: Worker,
    session: Box<dyn Session>,
    board: Arc<StatusBoard>,
}

pub struct World {
    me: Weak<World>,
    pub log: EmbeddedLog,
    pub set: Arc<PipelineSet>,
    pub topics: Topics,
    pub mode: Mode,
    pub mutant: Option<Mutant>,
    series_partitions: i32,
    clock: Arc<SimulatedClock>,
    /// Two to a place. A worker whose lock is taken is in the middle of a call.
    units: Vec<Mutex<Option<Unit>>>,
    /// The number of the process that lives at each place; an earlier one is dead.
    lives: Vec<AtomicU32>,
    is_healed: AtomicBool,
    is_told: bool,
    state: Mutex<State>,
}

pub struct State {
    chance: StdRng,
    rates: Rates,
    stalled: BTreeSet<Partition>,
    /// Sessions of crashed workers that their group has not missed yet.
    unmissed: Vec<Box<dyn Session>>,
    pub records: Records,
    /// A new partition's records wait until stage two has heard of it: nothing in it is late.
    awaits_partitions: Option<usize>,
    pub failure: Option<String>,
    /// What a test wants to happen next, once.
    pub next_fate: Option<Fate>,
    pub refuses_next: bool,
    /// Records shown by one poll in a world without faults.
    pub batch_max: usize,
    /// Counts whatever is more than a heartbeat.
    activity: u64,
}

impl World {
    pub fn new(seed: u64, mode: Mode, mutant: Option<Mutant>, set: Arc<PipelineSet>, is_told: bool) -> Arc<World> {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut of = |rates: &[u32]| rates[chance.random_range(0..rates.len())];
        let rates = Rates {
            crash: of(&[0, 1, 2, 5]),
            interruption: of(&[0, 10, 50, 200]),
            abort: of(&[0, 50, 200]),
            crash_after_commit: of(&[0, 20, 100]),
            refused_record: of(&[0, 2, 10]),
        };
        let log = EmbeddedLog::new(EmbeddedSettings { clock_ms: Box::new(|| 0), ..EmbeddedSettings::default() });
        let topics = Topics::new("");
        let series_partitions = chance.random_range(2..=4);
        for mut topic in topics.specification(Partitions { inputs: 2, series: series_partitions }) {
            topic.partitions = if topic.name == topics.metrics() { 1 } else { topic.partitions };
            log.create(&topic).unwrap();
        }
        let clock = SimulatedClock::default();
        clock.wall.store(1_764_756_000_000, Ordering::Relaxed);
        let records = Records::new(2, chance.random_range(60..180), mode == Mode::Strict);
        Arc::new_cyclic(|me| World {
            me: Weak::clone(me),
            log,
            set,
            topics,
            mode,
            mutant,
            series_partitions,
            clock: Arc::new(clock),
            units: (0..2 * PLACES).map(|_| Mutex::new(None)).collect(),
            lives: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            is_healed: AtomicBool::new(false),
            is_told,
            state: Mutex::new(State {
                chance,
                rates,
                stalled: BTreeSet::new(),
                unmissed: Vec::new(),
                records,
                awaits_partitions: None,
                failure: None,
                next_fate: None,
                refuses_next: false,
                batch_max: usize::MAX,
                activity: 0,
            }),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn say(&self, words: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:>7} ms  {}", self.clock.elapsed().as_millis(), words());
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::Relaxed)
    }

    fn below(&self, bound: usize) -> usize {
        self.state().chance.random_range(0..bound)
    }

    pub fn one_in(&self, times: u32) -> bool {
        !self.is_healed() && self.state().chance.random_ratio(1, times)
    }

    fn happens(&self, of: impl Fn(&Rates) -> u32) -> bool {
        let mut state = self.state();
        let rate = of(&state.rates);
        !self.is_healed() && rate > 0 && state.chance.random_ratio(rate, 1_000)
    }

    // What the log asks.

    /// Before every call: another worker may come first, and this one may never get to it.
    pub fn enter(&self, life: Life, call: &str) -> Result<(), LogError> {
        if self.happens(|rates| rates.interruption) {
            self.turn(self.below(self.units.len()));
        }
        if !self.is_dead(life) && self.happens(|rates| rates.crash) {
            self.say(|| format!("{life} crashes in {call}"));
            self.crash(life);
        }
        if self.is_dead(life) { Err(super::faulty::crashed()) } else { Ok(()) }
    }

    pub fn fate(&self) -> Fate {
        if let Some(fate) = self.state().next_fate.take() {
            return fate;
        }
        if self.happens(|rates| rates.abort) {
            Fate::Abort
        } else if self.happens(|rates| rates.crash_after_commit) {
            Fate::DoneThenCrash
        } else {
            Fate::Done
        }
    }

    pub fn refuses_a_record(&self) -> bool {
        std::mem::take(&mut self.state().refuses_next) || self.happens(|rates| rates.refused_record)
    }

    /// How many records a poll shows.
    pub fn batch(&self, max: usize) -> usize {
        max.min(if self.is_healed() { self.state().batch_max } else { 1 + self.below(12) })
    }

    /// True if a partition has nothing to show for now.
    pub fn withholds(&self, partition: &Partition) -> bool {
        self.one_in(4) || self.state().stalled.contains(partition)
    }

    pub fn delivered(&self, record: &Record<'_>) {
        self.state().activity += u64::from(!record.headers.contains(&("kind", b"heartbeats")));
    }

    pub fn committed(&self, life: Life, sent: &[Sent]) {
        let mut state = self.state();
        let internal = [self.topics.progress(), self.topics.panes()];
        let is_news = |record: &&Sent| {
            let is_heartbeat = life.stage == Stage::Intake && record.kind() == Some(b"heartbeats");
            !is_heartbeat && !internal.contains(&record.topic)
        };
        state.activity += sent.iter().filter(is_news).count() as u64;
        if let Some(partitions) = state.awaits_partitions
            && sent.iter().any(|record| record.kind() == Some(b"heartbeats") && tells_of(record, partitions))
        {
            state.awaits_partitions = None;
        }
    }

    // Processes.

    fn is_dead(&self, life: Life) -> bool {
        self.lives[life.place].load(Ordering::Relaxed) != life.number
    }

    /// The process of this worker is no more.
    pub fn crash(&self, life: Life) {
        let _ =
            self.lives[life.place].compare_exchange(life.number, life.number + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_empty(&self, place: usize) -> bool {
        self.units[2 * place..2 * place + 2].iter().all(|unit| unit.try_lock().is_ok_and(|unit| unit.is_none()))
    }

    pub fn start(&self, place: usize, name: &str) {
        if !self.is_empty(place) {
            return;
        }
        let number = self.lives[place].fetch_add(1, Ordering::Relaxed) + 1;
        self.say(|| format!("process {place}.{number} starts as `{name}`"));
        for (nth, stage) in [Stage::Detect, Stage::Intake].into_iter().enumerate() {
            let life = Life { place, number, stage };
            match self.unit(life, name) {
                Ok(unit) => *self.units[2 * place + nth].try_lock().unwrap() = Some(unit),
                Err(error) => return self.ended(life, &error),
            }
        }
    }

    fn unit(&self, life: Life, name: &str) -> Result<Unit, RolesError> {
        let log = Arc::new(FaultyLog { world: Weak::clone(&self.me), life });
        let board = Arc::new(StatusBoard::new(log.describe_self()));
        let idle_after = if self.mode == Mode::Strict { Duration::MAX } else { Duration::from_secs(2) };
        let runtime = Runtime {
            log,
            topics: self.topics.clone(),
            set: Arc::clone(&self.set),
            board: Arc::clone(&board),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            instance: name.to_owned(),
            partitions: self.series_partitions,
            limits: DecodeLimits { ahead_max: Micros::MAX, ..DecodeLimits::default() },
            batch_rows: 8,
            intake_commit_interval: Duration::from_millis(250),
            detect_commit_interval: Duration::from_millis(100),
            idle_after,
            snapshot_interval: Duration::from_millis(700),
        };
        Ok(match life.stage {
            Stage::Intake => {
                let mut worker = Box::new(Intake::new(runtime)?);
                let session = worker.join()?;
                Unit { life, worker: Worker::Intake(worker), session, board }
            }
            Stage::Detect => {
                let worker = Box::new(Detect::new(runtime));
                let session = worker.join()?;
                Unit { life, worker: Worker::Detect(worker), session, board }
            }
        })
    }

    /// One turn of one worker, unless it is in the middle of one. Detect is the first of a place, intake the second.
    pub fn turn(&self, index: usize) {
        let Ok(mut unit) = self.units[index].try_lock() else { return };
        let Some(alive) = unit.as_mut() else { return };
        let result = if self.is_dead(alive.life) { Ok(()) } else { alive.turn() };
        if let Err(error) = &result {
            self.ended(alive.life, error);
        }
        if self.is_dead(alive.life)
            && let Some(dead) = unit.take()
        {
            self.bury(dead);
        }
    }

    /// A worker's error ends its process. Only a crash, and a namesake, may be its reason.
    fn ended(&self, life: Life, error: &RolesError) {
        self.say(|| format!("{life} ended: {error}"));
        self.crash(life);
        let cause = match error {
            RolesError::Intake(IntakeError::Log(cause)) | RolesError::Detect(DetectRoleError::Log(cause)) => cause,
            RolesError::Log(cause) => cause,
            _ => return self.fail(format!("{life} ended: {error}")),
        };
        let is_expected = match cause {
            LogError::Fenced { .. } => !self.is_healed(),
            LogError::Failed(reason) => reason == CRASHED,
            _ => false,
        };
        if !is_expected {
            self.fail(format!("{life} ended: {error}"));
        }
    }

    fn fail(&self, reason: String) {
        self.state().failure.get_or_insert(reason);
    }

    /// The group may need a while to miss a dead member.
    fn bury(&self, dead: Unit) {
        if self.one_in(2) {
            self.state().unmissed.push(dead.session);
        }
    }

    fn kill(&self, place: usize) {
        self.lives[place].fetch_add(1, Ordering::Relaxed);
    }

    /// A process commits what it has and leaves, as after SIGTERM.
    fn stop(&self, place: usize) {
        self.say(|| format!("the process at {place} is told to stop"));
        for unit in &self.units[2 * place..2 * place + 2] {
            let Some(mut unit) = unit.try_lock().ok().and_then(|mut unit| unit.take()) else { continue };
            match if self.is_dead(unit.life) { Ok(()) } else { unit.finish() } {
                Err(error) => {
                    self.ended(unit.life, &error);
                    self.bury(unit);
                }
                Ok(()) => unit.session.close(),
            }
        }
        self.kill(place);
    }

    // The schedule.

    /// Something happens.
    pub fn step(&self) {
        self.pass(self.below(120) as u64);
        let place = self.below(PLACES);
        match self.below(100) {
            0..68 => self.turn(self.below(self.units.len())),
            68..84 => self.append(1 + self.below(6)),
            84..90 => self.start(place, NAMES[(place + self.below(10) / 9) % PLACES]),
            90 => self.stop(place),
            91 => self.kill(place),
            92 | 93 => {
                let id = format!("{}-{}", NAMES[place], ["intake", "detect"][self.below(2)]);
                self.say(|| format!("the session of `{id}` expires"));
                self.log.expire(&id);
            }
            94 => drop(self.state().unmissed.pop()),
            95..98 => self.stall(),
            98 => self.jump(),
            _ => self.grow(),
        }
    }

    pub fn pass(&self, milliseconds: u64) {
        self.clock.elapsed.fetch_add(milliseconds, Ordering::Relaxed);
        self.clock.wall.fetch_add(milliseconds as i64, Ordering::Relaxed);
    }

    fn jump(&self) {
        let jump = (self.below(20_000) as i64 - 10_000) * 3;
        self.say(|| format!("the wall clock jumps by {jump} ms"));
        self.clock.wall.fetch_add(jump, Ordering::Relaxed);
    }

    fn stall(&self) {
        let mut state = self.state();
        let topic = if state.chance.random_bool(0.5) { self.topics.logs() } else { self.topics.partials() };
        let partition = Partition { topic: topic.into(), number: state.chance.random_range(0..4) };
        if !state.stalled.remove(&partition) {
            state.stalled.insert(partition);
        }
    }

    /// A new partition of the logs.
    fn grow(&self) {
        let mut state = self.state();
        if state.records.partitions() > 2 || state.records.left == 0 {
            return;
        }
        self.log.grow(&self.topics.logs(), 3).unwrap();
        state.records.grow();
        if self.mode == Mode::Strict {
            state.awaits_partitions = Some(state.records.partitions());
        }
        drop(state);
        self.say(|| "the logs have a partition more".to_owned());
    }

    fn append(&self, count: usize) {
        let mut state = self.state();
        let State { records, chance, awaits_partitions, .. } = &mut *state;
        if awaits_partitions.is_some() {
            return;
        }
        let appender = self.log.appender().unwrap();
        for _ in 0..count.min(records.left) {
            let partition = chance.random_range(0..records.partitions());
            let value = records.next(partition, chance);
            let (topic, partition) = (self.topics.logs(), Some(partition as i32));
            let value = value.as_deref();
            appender.append(Outgoing { topic: &topic, partition, value, ..Outgoing::default() }).unwrap();
        }
    }

    /// The last record of every input partition.
    fn close_inputs(&self) {
        let closing = self.state().records.close();
        let (appender, topic) = (self.log.appender().unwrap(), self.topics.logs());
        for (partition, value) in &closing {
            let (partition, value) = (Some(*partition as i32), Some(value.as_slice()));
            appender.append(Outgoing { topic: &topic, partition, value, ..Outgoing::default() }).unwrap();
        }
    }

    /// No more faults: new processes finish what is left. True once nothing happens any more.
    pub fn heal(&self) -> bool {
        const ROUNDS_MAX: usize = 200;
        const QUIET_ROUNDS: usize = 4;
        self.say(|| "nothing fails from here on".to_owned());
        self.is_healed.store(true, Ordering::Relaxed);
        (0..PLACES).for_each(|place| self.kill(place));
        (0..self.units.len()).for_each(|index| self.turn(index));
        self.state().unmissed.clear();
        self.state().stalled.clear();
        let processes = 1 + self.below(PLACES);
        (0..processes).for_each(|place| self.start(place, NAMES[place]));
        let (mut is_closed, mut quiet) = (false, 0);
        for _ in 0..ROUNDS_MAX {
            let before = self.state().activity;
            self.pass(1_100);
            self.append(50);
            if !is_closed && self.state().records.left == 0 && self.state().awaits_partitions.is_none() {
                self.close_inputs();
                is_closed = true;
            }
            (0..3 * self.units.len()).for_each(|index| self.turn(index % self.units.len()));
            let is_quiet = is_closed && self.state().activity == before;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == QUIET_ROUNDS || self.state().failure.is_some() {
                return true;
            }
        }
        false
    }

    /// A world in which nothing fails but what a test asks for.
    pub fn calm() -> Arc<World> {
        let world = World::new(0, Mode::Strict, None, super::pipelines::set(), false);
        world.is_healed.store(true, Ordering::Relaxed);
        world
    }

    /// Dead letters as the living count them.
    pub fn dead_letters(&self) -> u64 {
        let units = self.units.iter().map(|unit| unit.try_lock().unwrap());
        units.filter_map(|unit| Some(unit.as_ref()?.board.snapshot().dead_letters.values().sum::<u64>())).sum()
    }

    /// What the living say of a pipeline: late rows, open windows.
    pub fn report(&self, pipeline: &str) -> (u64, u64) {
        let mut sum = (0, 0);
        for unit in &self.units {
            let unit = unit.try_lock().unwrap();
            let Some(unit) = unit.as_ref() else { continue };
            for status in unit.board.snapshot().pipelines.iter().filter(|status| status.pipeline == pipeline) {
                sum = (sum.0 + status.late_rows, sum.1 + status.open_windows);
            }
        }
        sum
    }
}

impl Unit {
    fn turn(&mut self) -> Result<(), RolesError> {
        match &mut self.worker {
            Worker::Intake(worker) => Ok(worker.turn(self.session.as_mut())?),
            Worker::Detect(worker) => Ok(worker.turn(self.session.as_mut())?),
        }
    }

    fn finish(&mut self) -> Result<(), RolesError> {
        match &mut self.worker {
            Worker::Intake(worker) => Ok(worker.finish(self.session.as_mut())?),
            Worker::Detect(worker) => Ok(worker.finish(self.session.as_mut())?),
        }
    }
}

/// True if the heartbeats in a message count so many partitions of the logs.
fn tells_of(record: &Sent, partitions: usize) -> bool {
    let beats = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or(serde_json::Value::Null);
    let counts = |beat: &serde_json::Value| beat["source"] == "logs" && beat["partitions"] == partitions;
    beats.as_array().is_some_and(|beats| beats.iter().any(counts))
}
