//! The role, when commits land late or unheard, and when partitions are lost and come back meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::losing::{LosingLog, Signals};
use super::role::{ask, embedded, fill, flow, has_each_once, in_delta, limits, log, until};
use super::storage::{Fate, faulty};
use super::{open, open_at};

/// Holds writes back until it is opened.
#[derive(Default)]
struct Gate {
    is_closed: AtomicBool,
    is_waited_at: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        while self.is_closed.load(Ordering::SeqCst) {
            self.is_waited_at.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The first commit is held back at the file of this kind; meanwhile its partitions are lost and given back.
/// `wait` waits until the commit may go on.
fn lose_during_a_commit(held_back: &'static str, wait: impl Fn(&Signals, &dyn Fn() -> i64)) {
    let (signals, gate) = (Arc::new(Signals::default()), Arc::new(Gate::default()));
    let flow = flow(Arc::new(LosingLog { inner: embedded(), signals: Arc::clone(&signals) }), "lost-");
    let folder = tempfile::tempdir().expect("a folder");
    let held = Arc::clone(&gate);
    let location = faulty(folder.path(), move |call| {
        if call.writes("logs", held_back) {
            held.pass();
        }
        Fate::Done
    });
    let store = open_at(&location);
    gate.is_closed.store(true, Ordering::SeqCst);
    let roles = fill(&flow, "one", &store, limits());
    log(&flow, 0..500);
    until("a commit is under way", || gate.is_waited_at.load(Ordering::SeqCst));
    has_each_once(&store, 500);
    signals.lose();
    let count = || ask(&store, "SELECT count(*) FROM logs");
    wait(&signals, &count);
    gate.is_closed.store(false, Ordering::SeqCst);
    until("the commit has landed", || {
        let seen = count();
        assert!(seen <= 500, "{seen} of 500 rows");
        in_delta(&store) > 0
    });
    has_each_once(&store, 500);
    log(&flow, 500..600);
    has_each_once(&store, 600);
    roles.stop().expect("stopped");
    assert_eq!(in_delta(&open(folder.path())), 600);
    assert!(!has_restarted(&flow), "the worker goes on by itself");
}

fn has_restarted(flow: &crate::flow::Flow) -> bool {
    flow.runtime.board.exposition().contains("maturion_worker_restarts_total{role=\"store\"}")
}

/// The rows were there twice, until the next commit was refused and the worker began anew.
#[test]
fn a_commit_that_lands_after_its_partition_came_back_shows_no_row_twice() {
    lose_during_a_commit(".parquet", |signals, count| {
        until("the partitions are read again", || signals.returned() == 1 && count() == 500);
    });
}

#[test]
fn a_commit_that_lands_before_its_partition_comes_back_is_gone_on_from() {
    lose_during_a_commit(".json", |signals, _| until("the partitions are lost", || signals.released() == 1));
}

#[test]
fn a_worker_goes_on_when_answers_of_its_commits_are_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (commits, is_armed) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let (met, armed) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&is_armed));
    let log_of_fates = Arc::clone(&met);
    let location = faulty(folder.path(), move |call| {
        if !armed.load(Ordering::SeqCst) || !call.writes("logs", ".json") {
            return Fate::Done;
        }
        let fate = [Fate::Done, Fate::Unheard, Fate::Failed][commits.fetch_add(1, Ordering::SeqCst) % 3];
        log_of_fates.lock().expect("whole").push(fate);
        fate
    });
    let (flow, store) = (flow(embedded(), "unheard-"), open_at(&location));
    is_armed.store(true, Ordering::SeqCst);
    let roles = fill(&flow, "one", &store, limits());
    let mut logs = 0;
    while met.lock().expect("whole").len() < 7 {
        log(&flow, logs..logs + 100);
        logs += 100;
        has_each_once(&store, logs);
        until("they are committed", || in_delta(&store) == logs as u64);
        has_each_once(&store, logs);
    }
    roles.stop().expect("stopped");
    has_each_once(&open(folder.path()), logs);
    assert!(!has_restarted(&flow), "the worker goes on by itself");
}
