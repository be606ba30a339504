//! What happens in a world, step by step, until it heals.

use std::sync::atomic::Ordering;

use maturion::log::{Log, Outgoing, Partition};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::world::{Mode, NAMES, PLACES, State, World};

impl World {
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
            92 | 93 => self.expire(),
            94 => drop(self.state().unmissed.pop()),
            95..98 => self.stall(),
            98 => self.jump(),
            _ => self.grow(),
        }
    }

    fn expire(&self) {
        let mut state = self.state();
        let State { ids, chance, .. } = &mut *state;
        let Some(id) = ids.choose(chance).cloned() else { return };
        drop(state);
        self.say(|| format!("the session of `{id}` expires"));
        self.log.expire(&id);
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
}
