//! A small world in one thread: a log, three places for processes, a clock, and a seed that decides everything.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use maturion::evaluate::PipelineSet;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, LogError, Partition, Record, Session};
use maturion::model::pipeline::Micros;
use maturion::roles::Clock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faulty::{Sent, crashed};
use super::mutant::Mutant;
use super::processes::Unit;
use super::records::Records;

/// Processes at a time; each has a worker of both stages.
pub const PLACES: usize = 3;
/// The names that processes go by; two that have the same fence each other.
pub const NAMES: [&str; PLACES] = ["a", "b", "c"];

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
    pub(super) place: usize,
    pub(super) number: u32,
    pub(super) stage: Stage,
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
    pub(super) elapsed: AtomicU64,
    pub(super) wall: AtomicI64,
}

impl Clock for SimulatedClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Micros {
        self.wall.load(Ordering::Relaxed) * 1_000
    }
}

pub struct World {
    pub(super) me: Weak<World>,
    pub log: EmbeddedLog,
    pub set: Arc<PipelineSet>,
    pub topics: Topics,
    pub mode: Mode,
    pub mutant: Option<Mutant>,
    pub(super) series_partitions: i32,
    pub(super) clock: Arc<SimulatedClock>,
    /// Two to a place. A worker whose lock is taken is in the middle of a call.
    pub(super) units: Vec<Mutex<Option<Unit>>>,
    /// The number of the process that lives at each place; an earlier one is dead.
    pub(super) lives: Vec<AtomicU32>,
    pub(super) is_healed: AtomicBool,
    is_told: bool,
    state: Mutex<State>,
}

pub struct State {
    pub(super) chance: StdRng,
    rates: Rates,
    pub(super) stalled: BTreeSet<Partition>,
    /// The transactional ids of all sessions so far.
    pub(super) ids: Vec<String>,
    /// Sessions of crashed workers that their group has not missed yet.
    pub(super) unmissed: Vec<Box<dyn Session>>,
    pub records: Records,
    /// A new partition's records wait until stage two has heard of it: nothing in it is late.
    pub(super) awaits_partitions: Option<usize>,
    pub failure: Option<String>,
    /// What a test wants to happen next, once.
    pub next_fate: Option<Fate>,
    pub refuses_next: bool,
    /// Records shown by one poll in a world without faults.
    pub batch_max: usize,
    /// Counts whatever is more than a heartbeat.
    pub(super) activity: u64,
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
                ids: Vec::new(),
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

    /// A world in which nothing fails but what a test asks for.
    pub fn calm() -> Arc<World> {
        let world = World::new(0, Mode::Strict, None, super::pipelines::set(), false);
        world.is_healed.store(true, Ordering::Relaxed);
        world
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

    pub(super) fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::Relaxed)
    }

    pub(super) fn below(&self, bound: usize) -> usize {
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

    /// Before every call: another worker may come first, and this one may never get to it.
    pub fn enter(&self, life: Life, call: &str) -> Result<(), LogError> {
        if self.happens(|rates| rates.interruption) {
            self.turn(self.below(self.units.len()));
        }
        if !self.is_dead(life) && self.happens(|rates| rates.crash) {
            self.say(|| format!("{life} crashes in {call}"));
            self.crash(life);
        }
        if self.is_dead(life) { Err(crashed()) } else { Ok(()) }
    }

    /// A session of this name was opened.
    pub fn opened(&self, transactional_id: &str) {
        let mut state = self.state();
        if !state.ids.iter().any(|id| id == transactional_id) {
            state.ids.push(transactional_id.to_owned());
        }
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
}

/// True if the heartbeats in a message count so many partitions of the logs.
fn tells_of(record: &Sent, partitions: usize) -> bool {
    let beats = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or(serde_json::Value::Null);
    let counts = |beat: &serde_json::Value| beat["source"] == "logs" && beat["partitions"] == partitions;
    beats.as_array().is_some_and(|beats| beats.iter().any(counts))
}
