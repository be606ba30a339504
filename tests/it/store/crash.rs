//! Storage that fails, and processes that end, at every step of a commit and of maintenance.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::store::Store;
use maturion::store::chunk::OffsetRange;

use super::delta::{DAY, LATER, append, commit, input, logs};
use super::storage::{Call, Fate, faulty};
use super::{open, open_at};

fn later() -> i64 {
    LATER
}

/// Each row of the first offsets, once.
fn has(store: &Arc<Store>, rows: i64) {
    let ask = |sql: &str| super::ask(store, later, &Principal::Operator, sql);
    assert_eq!(ask("SELECT count(*) FROM logs"), rows);
    assert_eq!(ask("SELECT count(DISTINCT kafka_offset) FROM logs"), rows);
    assert_eq!(ask("SELECT CAST(sum(kafka_offset) AS BIGINT) FROM logs"), (0..rows).sum::<i64>());
}

fn add(store: &Store, offsets: std::ops::Range<i64>, first: i64) {
    let range = OffsetRange { start: offsets.start, end: offsets.end };
    let batch = logs(offsets, "edge", first);
    store.state(StoreTable::Logs).append(&input(), range, batch).expect("appended");
}

#[test]
fn a_commit_whose_answer_is_lost_is_made_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let fates = Arc::new(Mutex::new(VecDeque::new()));
    let (next, is_blind) = (Arc::clone(&fates), Arc::new(AtomicBool::new(false)));
    let blind = Arc::clone(&is_blind);
    let location = faulty(folder.path(), move |call| match call {
        _ if call.writes("logs", ".json") => {
            let (fate, sees_nothing) = next.lock().expect("whole").pop_front().unwrap_or((Fate::Done, false));
            blind.store(sees_nothing, Ordering::SeqCst);
            fate
        }
        _ if call.reads("logs") && blind.load(Ordering::SeqCst) => Fate::Failed,
        _ => Fate::Done,
    });
    let store = open_at(&location);
    let rounds = [
        (Fate::Done, false),
        (Fate::Unheard, false),
        (Fate::Failed, false),
        // The look at what has become of it fails as well.
        (Fate::Unheard, true),
        (Fate::Failed, true),
        (Fate::Unheard, false),
    ];
    let mut rows = 0;
    for (fate, sees_nothing) in rounds.into_iter().cycle().take(18) {
        add(&store, rows..rows + 10, LATER - DAY);
        rows += 10;
        has(&store, rows);
        fates.lock().expect("whole").push_back((fate, sees_nothing));
        let chunk = store.state(StoreTable::Logs).seal().expect("rows");
        let first = store.commit(StoreTable::Logs, &chunk);
        is_blind.store(false, Ordering::SeqCst);
        assert!(fates.lock().expect("whole").is_empty(), "it came to the commit");
        assert_eq!(first.is_ok(), fate != Fate::Failed && !sees_nothing, "{fate:?}, {sees_nothing}");
        has(&store, rows);
        if let Err(error) = first {
            assert!(error.passes(), "{error}");
            store.commit(StoreTable::Logs, &chunk).expect("committed");
            has(&store, rows);
        }
        assert_eq!(store.state(StoreTable::Logs).hot_bytes(), 0);
    }
    drop(store);
    let store = open(folder.path());
    has(&store, rows);
    assert_eq!(store.offset(StoreTable::Logs, &input()).expect("read"), Some(rows));
}

/// Small files, one that has expired, and one that no version names.
fn worn(folder: &Path) {
    let store = open(folder);
    add(&store, 1_000..1_005, LATER - 40 * DAY - 1_000 * 1_000_000);
    commit(&store);
    for start in (0..100).step_by(5) {
        let batch = logs(start..start + 5, "edge", LATER - DAY);
        let range = OffsetRange { start, end: start + 5 };
        store.state(StoreTable::Logs).append(&"telemetry.logs-1".into(), range, batch).expect("appended");
        commit(&store);
    }
    let view = store.view();
    let live = folder.join("store/logs").join(view.table(StoreTable::Logs).committed.files[0].path.as_ref());
    std::fs::copy(&live, live.with_file_name(ORPHAN)).expect("copied");
}

const ORPHAN: &str = "orphan.parquet";

/// True if a file of this name is somewhere below a folder.
fn holds(folder: &Path, name: &str) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .into_iter()
        .any(|path| path.file_name().is_some_and(|own| own == name) || path.is_dir() && holds(&path, name))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
            let made = std::fs::File::options().write(true).open(&target).expect("a file");
            made.set_modified(SystemTime::now() - Duration::from_secs(86_400)).expect("made old");
        }
    }
}

/// A process that ends at the `nth` write of its maintenance, which is done or not. How many writes it came to.
fn maintain_until(folder: &Path, nth: usize, last: Fate) -> usize {
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    let location = faulty(folder, move |call| match call {
        Call::Read(_) => Fate::Done,
        Call::Write(_) => match counted.fetch_add(1, Ordering::SeqCst).cmp(&nth) {
            std::cmp::Ordering::Less => Fate::Done,
            std::cmp::Ordering::Equal => last,
            std::cmp::Ordering::Greater => Fate::Failed,
        },
    });
    let store = open_at(&location);
    let result = store.maintain(StoreTable::Logs, LATER);
    has(&store, 100);
    let came_to = writes.load(Ordering::SeqCst);
    assert!(came_to > nth || result.is_ok(), "it ended by itself: {result:?}");
    came_to
}

#[test]
fn a_crash_at_any_step_of_maintenance_changes_no_row() {
    let template = tempfile::tempdir().expect("a folder");
    worn(template.path());
    for last in [Fate::Failed, Fate::Unheard] {
        for nth in 0.. {
            let folder = tempfile::tempdir().expect("a folder");
            copy(template.path(), folder.path());
            let came_to = maintain_until(folder.path(), nth, last);
            let store = open(folder.path());
            has(&store, 100);
            store.maintain(StoreTable::Logs, LATER).unwrap_or_else(|error| panic!("{last:?} at {nth}: {error}"));
            has(&store, 100);
            let files = store.view().table(StoreTable::Logs).committed.files.len();
            assert_eq!(files, 5, "{last:?} at {nth}: sixteen merged into one, four left, none expired");
            drop(store);
            has(&open(folder.path()), 100);
            if came_to <= nth {
                println!("maintenance writes {came_to} times");
                assert!(came_to >= 8, "{came_to} writes are not all of maintenance");
                assert!(holds(template.path(), ORPHAN) && !holds(folder.path(), ORPHAN));
                break;
            }
        }
    }
}

/// The same for an append: each of its writes is the last.
#[test]
fn a_crash_at_any_step_of_a_commit_loses_no_row() {
    for last in [Fate::Failed, Fate::Unheard] {
        for nth in 0..2 {
            let folder = tempfile::tempdir().expect("a folder");
            drop(open(folder.path()));
            let writes = AtomicUsize::new(0);
            let location = faulty(folder.path(), move |call| match call {
                Call::Write(_) if writes.fetch_add(1, Ordering::SeqCst) == nth => last,
                _ => Fate::Done,
            });
            let store = open_at(&location);
            append(&store, 0..10);
            let chunk = store.state(StoreTable::Logs).seal().expect("rows");
            let landed = store.commit(StoreTable::Logs, &chunk).is_ok();
            assert_eq!(landed, last == Fate::Unheard && nth == 1, "{last:?} at {nth}");
            drop(store);
            let store = open(folder.path());
            let committed = store.offset(StoreTable::Logs, &input()).expect("read");
            assert_eq!(committed, landed.then_some(10), "{last:?} at {nth}");
            append(&store, committed.unwrap_or(0)..20);
            commit(&store);
            assert_eq!(
                store.view().table(StoreTable::Logs).committed.files.iter().map(|file| file.rows).sum::<u64>(),
                20
            );
        }
    }
}
