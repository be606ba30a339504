//! Deterministic simulation: both stages, in several processes, on a log where everything that can go wrong does.
//!
//! A seed decides who takes the next step, what every call of the log does, when processes start, stop and crash, and
//! what the records are. After the faults the world heals, and what was committed must be exactly what the records say.
//! `MATURION_SIMULATION_SCHEDULES` runs more schedules; `MATURION_SIMULATION_SEED` runs one and prints its steps.

#![allow(clippy::print_stderr, reason = "the steps of a schedule are for whoever repeats it")]

mod faulty;
mod mutant;
mod oracle;
mod pipelines;
mod processes;
mod records;
mod regressions;
mod schedule;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mutant::Mutant;
use world::{Mode, World};

/// Schedules of each mode unless the environment says otherwise: about ten seconds.
const SCHEDULES: u64 = 400;
/// Steps of a schedule before it heals.
const STEPS: usize = 300;
/// A mutant that this many schedules do not catch is not caught.
const MUTANT_SCHEDULES: u64 = 400;

/// One schedule; what was wrong with its outcome.
fn run(seed: u64, mode: Mode, mutant: Option<Mutant>, is_told: bool) -> Result<(), String> {
    let world = World::new(seed, mode, mutant, pipelines::set(), is_told);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
            if let Some(failure) = world.state().failure.take() {
                return Err(failure);
            }
        }
        let is_quiet = world.heal();
        match world.state().failure.take() {
            Some(failure) => Err(failure),
            None if !is_quiet => Err("it never comes to rest".to_owned()),
            None => Ok(()),
        }?;
        oracle::check(&world)
    }));
    outcome.unwrap_or_else(|_| Err("it panicked".to_owned()))
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// Runs schedules on all cores; each failure with the command that repeats it.
fn check(mode: Mode, test: &str) {
    let one = from_environment("MATURION_SIMULATION_SEED");
    let schedules = from_environment("MATURION_SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let (first, end) = one.map_or((0, schedules), |seed| (seed, seed + 1));
    let next = AtomicU64::new(first);
    let started = Instant::now();
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || !failures.is_empty() {
                return failures;
            }
            if let Err(failure) = run(seed, mode, None, one.is_some()) {
                let again = format!("MATURION_SIMULATION_SEED={seed} cargo test --release --test it {test}");
                failures.push(format!("{failure}\n    again: {again} -- --nocapture"));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures = std::thread::scope(|scope| {
        let threads = (0..threads).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let ran = next.into_inner().min(end) - first;
    let per_second = ran as f64 / started.elapsed().as_secs_f64();
    eprintln!("{mode:?}: {ran} schedules from seed {first} on, {per_second:.0} a second");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    check(Mode::Strict, "nothing_is_lost_or_doubled_whatever_fails");
}

#[test]
fn what_is_late_is_counted_and_nothing_is_said_twice() {
    check(Mode::Lossy, "what_is_late_is_counted_and_nothing_is_said_twice");
}

/// The simulation is worth something only if it sees what it is for.
#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let caught =
            (0..MUTANT_SCHEDULES).find_map(|seed| Some((seed, run(seed, Mode::Strict, Some(mutant), false).err()?)));
        let Some((seed, failure)) = caught else { panic!("{mutant:?} was not caught in {MUTANT_SCHEDULES} schedules") };
        assert_eq!(run(seed, Mode::Strict, None, false), Ok(()), "schedule {seed} fails without a mutant");
        eprintln!("{mutant:?} was caught by schedule {}: {failure}", seed + 1);
    }
}
