//! Two stores on one folder, as two processes have it: both append, both maintain, at the same time.

use std::sync::{Arc, Barrier};

use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::roles::{Clock, SystemClock};
use maturion::store::chunk::{Input, OffsetRange};
use maturion::store::{Store, StoreError};

use super::delta::{DAY, LATER, logs};
use super::open;

const COMMITS: i64 = 80;
const ROWS: i64 = 5;
/// Fewer than are made into one, of each of two sizes.
const FILES_MAX: usize = 32;
/// Commits between two rounds of maintenance.
const ROUND: i64 = 8;

const HOUR: i64 = 3_600_000_000;

fn now() -> i64 {
    LATER
}

/// Rows of one input, which no other process reads, committed bit by bit.
fn work(store: &Arc<Store>, number: i64, both: &Barrier) {
    let input: Input = format!("telemetry.logs-{number}").into();
    both.wait();
    for nth in 0..COMMITS {
        let range = OffsetRange { start: nth * ROWS, end: (nth + 1) * ROWS };
        let batch = logs(range.start..range.end, "audit", LATER - DAY + number * HOUR);
        store.state(StoreTable::Logs).append(&input, range, batch).expect("appended");
        let chunk = store.state(StoreTable::Logs).seal().expect("rows");
        while let Err(error) = store.commit(StoreTable::Logs, &chunk) {
            assert!(matches!(error, StoreError::Busy(_)), "{error}");
        }
        if nth % ROUND == ROUND - 1 {
            store.maintain(StoreTable::Logs, SystemClock::default().wall()).expect("maintained");
        }
        assert_eq!(own(store, number), range.end);
    }
}

/// How many rows of a process there are.
fn own(store: &Arc<Store>, number: i64) -> i64 {
    let sql = format!("SELECT count(*) FROM logs WHERE extract(hour FROM timestamp) = {}", 6 + number);
    super::ask(store, now, &Principal::Operator, &sql)
}

#[test]
fn two_processes_append_and_maintain_one_table_at_the_same_time() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let both = Barrier::new(2);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (folder, both) = (folder.path(), &both);
            scope.spawn(move || work(&open(folder), number, both));
        }
    });
    let store = open(folder.path());
    store.maintain(StoreTable::Logs, SystemClock::default().wall()).expect("maintained");
    let ask = |sql: &str| super::ask(&store, now, &Principal::Operator, sql);
    assert_eq!(ask("SELECT count(*) FROM logs"), 2 * COMMITS * ROWS);
    assert_eq!(ask("SELECT count(DISTINCT timestamp) FROM logs"), 2 * COMMITS * ROWS);
    let files = store.view().table(StoreTable::Logs).committed.files.len();
    assert!(files < FILES_MAX, "{files} files");
    for number in 0..2 {
        assert_eq!(own(&store, number), COMMITS * ROWS);
        let input: Input = format!("telemetry.logs-{number}").into();
        assert_eq!(store.offset(StoreTable::Logs, &input).expect("read"), Some(COMMITS * ROWS));
    }
}

/// A former owner's commit lands while the new one has read the same rows: they were there twice in its view.
#[test]
fn a_commit_of_a_former_owner_takes_its_rows_out_of_the_new_ones_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let (former, new) = (open(folder.path()), open(folder.path()));
    let input: Input = "telemetry.logs-0".into();
    let append = |store: &Store, range: std::ops::Range<i64>| {
        let offsets = OffsetRange { start: range.start, end: range.end };
        let batch = logs(range, "audit", LATER - DAY);
        store.state(StoreTable::Logs).append(&input, offsets, batch).expect("appended");
    };
    let count = || super::ask(&new, now, &Principal::Operator, "SELECT count(*) FROM logs");
    append(&former, 0..10);
    let late = former.state(StoreTable::Logs).seal().expect("rows");
    assert_eq!(new.offset(StoreTable::Logs, &input).expect("read"), None);
    append(&new, 0..6);
    former.commit(StoreTable::Logs, &late).expect("committed");
    assert_eq!(count(), 6);
    new.refresh(StoreTable::Logs).expect("refreshed");
    assert_eq!(count(), 10);
    append(&new, 6..13);
    assert_eq!(count(), 13);
    let rest = new.state(StoreTable::Logs).seal().expect("rows");
    new.commit(StoreTable::Logs, &rest).expect("committed: it follows");
    assert_eq!(count(), 13);
    assert_eq!(new.offset(StoreTable::Logs, &input).expect("read"), Some(13));
}

/// What its last look at the log rested on was gone: no offset could be looked up, and no round of maintenance ended.
#[test]
fn a_store_goes_on_when_another_has_cleaned_the_log_below_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (idle, busy) = (open(folder.path()), open(folder.path()));
    let append = |store: &Store, input: &str, offsets: std::ops::Range<i64>| {
        let range = OffsetRange { start: offsets.start, end: offsets.end };
        let batch = logs(offsets, "audit", LATER - DAY);
        store.state(StoreTable::Logs).append(&input.into(), range, batch).expect("appended");
        let chunk = store.state(StoreTable::Logs).seal().expect("rows");
        store.commit(StoreTable::Logs, &chunk).expect("committed");
    };
    (0..100).step_by(5).for_each(|start| append(&busy, "telemetry.logs-0", start..start + 5));
    idle.refresh(StoreTable::Logs).expect("refreshed");
    // Every commit is old by then.
    assert!(busy.maintain(StoreTable::Logs, LATER).expect("maintained").is_checkpointed);
    assert_eq!(busy.offset(StoreTable::Logs, &"telemetry.logs-0".into()).expect("read"), Some(100));
    assert_eq!(idle.offset(StoreTable::Logs, &"telemetry.logs-0".into()).expect("read"), Some(100));
    append(&busy, "telemetry.logs-0", 100..105);
    append(&idle, "telemetry.logs-1", 0..5);
    idle.maintain(StoreTable::Logs, LATER).expect("maintained");
    assert_eq!(super::ask(&idle, now, &Principal::Operator, "SELECT count(*) FROM logs"), 110);
}
