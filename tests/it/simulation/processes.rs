//! Processes of the simulation: each is a worker of both stages with its session; they start, take turns, stop and die.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use maturion::decode::DecodeLimits;
use maturion::log::{Log, LogError, Session};
use maturion::model::pipeline::Micros;
use maturion::roles::detect::{Detect, DetectRoleError};
use maturion::roles::intake::{Intake, IntakeError};
use maturion::roles::{Clock, RolesError, Runtime};
use maturion::serve::status::StatusBoard;

use super::faulty::{CRASHED, FaultyLog};
use super::world::{Life, Mode, Stage, World};

enum Worker {
    Intake(Box<Intake>),
    Detect(Box<Detect>),
}

/// A worker with its session.
pub struct Unit {
    life: Life,
    worker: Worker,
    session: Box<dyn Session>,
    pub board: Arc<StatusBoard>,
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

impl World {
    pub(super) fn is_dead(&self, life: Life) -> bool {
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
            aggregate_bytes_max: maturion::roles::runtime::AGGREGATE_BYTES_MAX,
            intake_commit_interval: Duration::from_millis(250),
            detect_commit_interval: Duration::from_millis(100),
            idle_after,
            dead_letters_per_second: 1_000_000,
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
    pub(super) fn ended(&self, life: Life, error: &RolesError) {
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

    pub(super) fn kill(&self, place: usize) {
        self.lives[place].fetch_add(1, Ordering::Relaxed);
    }

    /// A process commits what it has and leaves, as after SIGTERM.
    pub(super) fn stop(&self, place: usize) {
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
