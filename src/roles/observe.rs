//! Observing: what other processes do, and how this one is.
//!
//! Once a second each process tells the others what it owns, in a [`Bulletin`] on `maturion.progress`, and hears what they
//! tell; so every process can show all of it. Every few seconds it writes how things stand to the input of metrics,
//! where the pipelines `agent_*` judge them like anybody's.
//!
//! It works on a thread of its own, with connections of its own, outside of every transaction: it can be late or fail, and
//! no role will notice. What it says is for people; nothing is decided by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{RolesError, Runtime};
use crate::events;
use crate::log::{Appender, LogError, Outgoing, Partition, Position, Reader, Record};
use crate::model::pipeline::Micros;
use crate::serve::status::Bulletin;
use watch::Watch;

mod watch;

/// How often other processes are listened to.
const ROUND: Duration = Duration::from_millis(500);
/// How often others are told, and ends are asked for.
const SPEAK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How soon a stop is noticed.
const STEP: Duration = Duration::from_millis(50);
/// How long the log may take to acknowledge a bulletin or the metrics.
const FLUSH_WAIT: Duration = Duration::from_secs(10);
/// At its start an observer reads so many offsets of each partition again: some seconds of what was said.
const TAIL_OFFSETS: i64 = 500;
/// Records heard by one poll, and polls of one round; what is left waits for the next.
const POLL_RECORDS_MAX: usize = 1_000;
const POLLS_MAX: usize = 100;
/// Before the instance's name, in the keys of bulletins. Detect's own progress has the partition's number for a key.
const KEY_PREFIX: &str = "status/";

/// One observer.
pub struct Observer {
    runtime: Runtime,
    /// Tells the others: a process that works on partitions.
    speaks: bool,
    watch: Watch,
    appender: Arc<dyn Appender>,
    reader: Option<Box<dyn Reader>>,
}

/// An observer on its thread. Dropping it lets it end by itself; [`Observing::stop`] waits.
pub struct Observing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Observing {
    /// Ends within a round, or when the log has answered.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of the observer was said on standard error, and concerns nobody else.
        let _ = self.thread.join();
    }
}

/// Starts observing. Metrics are written each `watch_interval`; zero is never.
pub fn start(runtime: &Runtime, speaks: bool, watch_interval: Duration) -> Result<Observing, RolesError> {
    let observer = Observer::new(runtime.clone(), speaks)?;
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let body = move || observer.run(&seen, watch_interval);
    let thread = std::thread::Builder::new().name("observe".to_owned()).spawn(body).map_err(RolesError::Thread)?;
    Ok(Observing { stop, thread })
}

impl Observer {
    /// An observer that has heard nothing yet.
    pub fn new(runtime: Runtime, speaks: bool) -> Result<Self, LogError> {
        let appender = runtime.log.appender()?;
        Ok(Self { runtime, speaks, watch: Watch::default(), appender, reader: None })
    }

    fn run(mut self, stop: &AtomicBool, watch_interval: Duration) {
        let (mut spoken, mut watched, mut is_failing) = (None::<Instant>, Instant::now(), false);
        while !stop.load(Ordering::Relaxed) {
            let is_watch_due = watch_interval > Duration::ZERO && watched.elapsed() >= watch_interval;
            let is_speech_due = spoken.is_none_or(|at| at.elapsed() >= SPEAK_INTERVAL);
            let mut round = self.listen();
            if is_speech_due {
                spoken = Some(Instant::now());
                round = round.and_then(|()| self.ask_ends()).and_then(|()| self.speak());
            }
            if is_watch_due {
                watched = Instant::now();
                round = round.and_then(|()| self.write_metrics(self.runtime.clock.wall()));
            }
            match round {
                Ok(()) => is_failing = false,
                Err(error) => {
                    self.reader = None;
                    if !std::mem::replace(&mut is_failing, true) {
                        events::observer_failed(&error.to_string());
                    }
                }
            }
            pause(stop, if is_failing { RETRY_PAUSE } else { ROUND });
        }
    }

    /// Hears what others said since the last call.
    pub fn listen(&mut self) -> Result<(), LogError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open()?,
        };
        let board = &self.runtime.board;
        let mut hear = |record: &Record<'_>| {
            let is_bulletin = record.key.is_some_and(|key| key.starts_with(KEY_PREFIX.as_bytes()));
            let Some(value) = record.value.filter(|_| is_bulletin) else { return };
            match serde_json::from_slice::<Bulletin>(value) {
                Ok(bulletin) => board.heard(bulletin),
                Err(error) => events::bulletin_unreadable(&error.to_string()),
            }
        };
        for _ in 0..POLLS_MAX {
            if reader.poll(Duration::ZERO, POLL_RECORDS_MAX, &mut hear)? == 0 {
                break;
            }
        }
        self.reader = Some(reader);
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn Reader>, LogError> {
        let topic: Arc<str> = self.runtime.topics.progress().into();
        let partitions = (0..self.runtime.partitions).map(|number| Partition { topic: Arc::clone(&topic), number });
        let tail = |partition: Partition| {
            let (earliest, end) = self.bounds(&partition)?;
            Ok(Position { partition, offset: earliest.max(end - TAIL_OFFSETS) })
        };
        self.runtime.log.reader(&partitions.map(tail).collect::<Result<Vec<_>, LogError>>()?)
    }

    /// Asks for one partition at a time: the roles ask the same connection, and must not wait for all of them.
    fn bounds(&self, partition: &Partition) -> Result<(i64, i64), LogError> {
        let bounds = self.runtime.log.bounds(std::slice::from_ref(partition))?;
        Ok(bounds.first().copied().unwrap_or_default())
    }

    /// Asks for the ends that the board lacks.
    pub fn ask_ends(&mut self) -> Result<(), LogError> {
        let wanted = self.runtime.board.wanted_ends();
        let ends = wanted.into_iter().map(|partition| self.bounds(&partition).map(|(_, end)| (partition, end)));
        self.runtime.board.ends(ends.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    }

    /// Tells the others what this process owns.
    pub fn speak(&mut self) -> Result<(), LogError> {
        if !self.speaks {
            return Ok(());
        }
        let bulletin = self.runtime.board.bulletin();
        let value = serde_json::to_vec(&bulletin).map_err(|error| LogError::Failed(error.to_string()))?;
        let (topic, key) = (self.runtime.topics.progress(), format!("{KEY_PREFIX}{}", self.runtime.instance));
        let (key, value) = (Some(key.as_bytes()), Some(value.as_slice()));
        self.appender.append(Outgoing { topic: &topic, key, value, ..Outgoing::default() })?;
        self.appender.flush(FLUSH_WAIT)
    }

    /// Writes how things stand to the input of metrics, with this event time.
    pub fn write_metrics(&mut self, now: Micros) -> Result<(), LogError> {
        let (read, rejected) = self.runtime.board.metrics().intake_totals();
        let records = self.watch.records(&self.runtime.board.snapshot(), read, rejected, now);
        let topic = self.runtime.topics.metrics();
        let key = Some(self.runtime.instance.as_bytes());
        for record in &records {
            self.appender.append(Outgoing { topic: &topic, key, value: Some(record), ..Outgoing::default() })?;
        }
        self.appender.flush(FLUSH_WAIT)
    }
}

/// Waits, but not for long once a stop is asked for.
fn pause(stop: &AtomicBool, length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(STEP);
    }
}
