//! Real faults on real Kafka: processes killed, brokers stopped, networks cut while records arrive; afterwards every
//! window, every detection and every dead letter is there once, and equal to the oracle in plain Rust.
//!
//! The broker is this group's own, because it is stopped; the trials run one after the other. By default one short trial
//! does a little of everything, and one stops a process whose broker is gone:
//! `cargo test --release --test it faults:: -- --ignored --test-threads=1`. With `MATURION_FAULTS=full` all of it is done,
//! in about forty minutes; `MATURION_FAULTS_SEED` repeats what was done. Each trial prints a line for docs/guarantees.md.

use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy::Trouble;
use trial::{Stage, Trial, say};

pub mod fleet;
mod load;
mod proxy;
mod trial;

static STAGE: LazyLock<Result<Mutex<Stage>, String>> = LazyLock::new(|| Stage::start().map(Mutex::new));

/// The stage, for one test at a time; `None` if there is none, which is reported.
fn stage() -> Option<MutexGuard<'static, Stage>> {
    match STAGE.as_ref() {
        Ok(stage) => Some(stage.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(reason) => {
            crate::kafka::skip(reason);
            None
        }
    }
}

/// The stage, if the full form is asked for.
fn full() -> Option<MutexGuard<'static, Stage>> {
    if std::env::var("MATURION_FAULTS").is_ok_and(|form| form == "full") {
        return stage();
    }
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // The print macros are captured for tests that pass; this line must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: it runs with MATURION_FAULTS=full");
    None
}

#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn kills_a_bounce_a_cut_and_a_stop_lose_nothing_and_double_nothing() {
    let Some(mut stage) = stage() else { return };
    let mut trial = Trial::begin("a little of everything", &mut stage, "");
    for _ in 0..3 {
        let nth = trial.any();
        trial.processes[nth].kill();
        trial.go_on(0.0..1.0);
        trial.restart(nth);
        trial.go_on(1.0..3.0);
    }
    trial.bounce();
    trial.trouble(Trouble::Drop, 3.0);
    let nth = trial.any();
    trial.processes[nth].stop();
    trial.restart(nth);
    trial.finish("3 kills, 1 bounce, 1 cut, 1 stop");
}

/// librdkafka waits for ever for a broker that is gone to abort a transaction; the process could only be killed.
#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn a_process_can_be_stopped_while_the_broker_is_gone() {
    let Some(mut stage) = stage() else { return };
    let mut trial = Trial::begin("SIGTERM while the broker is gone", &mut stage, "");
    trial.stage.kafka.tell("kill");
    // Until what was sent has failed, and its transaction is to be aborted.
    std::thread::sleep(Duration::from_secs(13));
    trial.processes[1].signal("TERM");
    trial.processes[1].wait();
    trial.stage.kafka.tell("start");
    trial.restart(1);
    trial.finish("1 outage, 1 stop");
}

#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn full_kills() {
    let Some(mut stage) = full() else { return };
    let mut trial = Trial::begin("kill -9 of a random one of three", &mut stage, "");
    (0..100).for_each(|_| trial.kill());
    trial.finish("100 kills");
}

/// With one node, each of these is a change of both coordinators, and of every leader, too.
#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn full_bounces() {
    let Some(mut stage) = full() else { return };
    let mut trial = Trial::begin("broker stopped or killed, and started", &mut stage, "");
    (0..10).for_each(|_| trial.bounce());
    trial.finish("10 bounces");
}

/// Longer than the group waits for a poll, than its session, and than Kafka leaves a transaction open, its clean-up every
/// ten seconds included.
#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn full_pauses() {
    let Some(mut stage) = full() else { return };
    let properties = "\"max.poll.interval.ms\" = \"8000\"\n\"session.timeout.ms\" = \"6000\"\n\
                      \"transaction.timeout.ms\" = \"6000\"\n\"message.timeout.ms\" = \"5000\"";
    let mut trial = Trial::begin("a process paused (SIGSTOP) for 25 s", &mut stage, properties);
    for _ in 0..3 {
        let nth = trial.any();
        trial.processes[nth].signal("STOP");
        std::thread::sleep(Duration::from_secs(25));
        trial.processes[nth].signal("CONT");
        trial.go_on(8.0..12.0);
        trial.processes[nth].check();
    }
    trial.finish("3 pauses");
}

#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn full_namesakes() {
    let Some(mut stage) = full() else { return };
    let mut trial = Trial::begin("a second process of the same name", &mut stage, "");
    for _ in 0..3 {
        let nth = trial.any();
        let (name, brokers) = (trial.processes[nth].name.clone(), trial.processes[nth].brokers.clone());
        let newer = trial.installation.start(&name, &brokers);
        let mut older = std::mem::replace(&mut trial.processes[nth], newer);
        let status = older.wait();
        assert_eq!(status.code(), Some(1), "{}", older.last_words());
        assert!(older.last_words().contains("another instance took over"), "{}", older.last_words());
        trial.go_on(3.0..6.0);
    }
    trial.finish("3 namesakes, the newer won");
}

#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn full_cuts() {
    let Some(mut stage) = full() else { return };
    let mut trial = Trial::begin("the network of one process cut and healed", &mut stage, "");
    let troubles = [
        (Trouble::Drop, 3.0),
        (Trouble::Reset, 1.0),
        (Trouble::Delay(Duration::from_millis(150)), 10.0),
        (Trouble::Drop, 12.0),
        (Trouble::Reset, 5.0),
        (Trouble::Drop, 30.0),
        (Trouble::Reset, 20.0),
        (Trouble::Delay(Duration::from_secs(1)), 10.0),
    ];
    for (trouble, seconds) in troubles {
        trial.trouble(trouble, seconds);
    }
    trial.finish("3 drops of up to 30 s, 3 resets of up to 20 s, 2 delays");
}

#[test]
#[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
fn full_stops() {
    let Some(mut stage) = full() else { return };
    let mut trial = Trial::begin("SIGTERM of a random one of three", &mut stage, "");
    let mut longest = Duration::ZERO;
    for nth_time in 0..10 {
        let nth = trial.any();
        longest = longest.max(trial.processes[nth].stop());
        // Every third time the others have to take over.
        trial.go_on(if nth_time % 3 == 2 { 11.0..14.0 } else { 0.0..1.0 });
        trial.restart(nth);
        trial.go_on(2.0..5.0);
    }
    say(&format!("the slowest of 10 stops took {:.1} s", longest.as_secs_f64()));
    trial.finish("10 stops");
}
