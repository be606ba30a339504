//! Tables of a folder: appended, committed, compacted, expired, torn, and read by DataFusion under two principals.

use std::sync::Arc;

use arrow::array::RecordBatch;
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::store::chunk::{Input, OffsetRange};
use maturion::store::{Store, StoreError};
use tempfile::TempDir;

/// 2026-11-01T06:00:00Z, in microseconds.
pub const NOW: i64 = 1_793_512_800_000_000;
/// 2100-01-01T06:00:00Z: rows of these days never expire by the clock of the machine, and files that are written now are
/// old by then.
pub const LATER: i64 = 4_102_466_400_000_000;
pub const DAY: i64 = 86_400_000_000;

fn now() -> i64 {
    NOW
}

fn open(folder: &TempDir) -> Arc<Store> {
    super::open(folder.path())
}

pub fn input() -> Input {
    "telemetry.logs-0".into()
}

/// Logs of these offsets, one a second, of two organisations in turn.
pub fn logs(offsets: std::ops::Range<i64>, source: &str, first: i64) -> RecordBatch {
    let limits = DecodeLimits { ahead_max: i64::MAX, ..DecodeLimits::default() };
    let mut decoder = Decoder::new(Table::Logs, limits);
    for offset in offsets {
        let text = format!(
            r#"{{"timestamp":{},"organisation_id":"org_{}","module":"m{}","source":"{source}","level":"INFO","message":"row {offset}"}}"#,
            first + offset * 1_000_000,
            offset % 2,
            offset % 3,
        );
        let incoming = Incoming { value: text.as_bytes(), kafka_timestamp_ms: Some(NOW / 1_000), partition: 0, offset };
        decoder.push(&incoming).expect("a log");
    }
    decoder.finish().expect("a batch")
}

pub fn append(store: &Store, offsets: std::ops::Range<i64>) {
    let range = OffsetRange { start: offsets.start, end: offsets.end };
    let batch = logs(offsets, "edge", NOW - DAY);
    store.state(StoreTable::Logs).append(&input(), range, batch).expect("appended");
}

pub fn commit(store: &Store) {
    let chunk = store.state(StoreTable::Logs).seal().expect("rows");
    store.commit(StoreTable::Logs, &chunk).expect("committed");
}

fn ask(store: &Arc<Store>, principal: &Principal, sql: &str) -> i64 {
    super::ask(store, now, principal, sql)
}

fn count(store: &Arc<Store>) -> i64 {
    ask(store, &Principal::Operator, "SELECT count(*) FROM logs")
}

#[test]
fn rows_are_readable_before_and_after_their_commit_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    append(&store, 0..10);
    assert_eq!(count(&store), 10);
    commit(&store);
    append(&store, 10..15);
    assert_eq!(count(&store), 15);
    let sum = "SELECT CAST(sum(kafka_offset) AS BIGINT) FROM logs";
    assert_eq!(ask(&store, &Principal::Operator, sum), (0..15).sum::<i64>());
    drop(store);
    let store = open(&folder);
    assert_eq!(count(&store), 10, "what was not committed is Kafka's to give again");
    assert_eq!(store.offset(StoreTable::Logs, &input()).expect("read"), Some(10));
}

#[test]
fn an_organisation_sees_its_own_rows_hot_and_cold() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    append(&store, 0..10);
    commit(&store);
    append(&store, 10..20);
    let one = Principal::Organisation("org_1".to_owned());
    assert_eq!(ask(&store, &one, "SELECT count(*) FROM logs"), 10);
    assert_eq!(ask(&store, &one, "SELECT count(*) FROM logs WHERE organisation_id = 'org_0'"), 0);
    assert_eq!(
        ask(
            &store,
            &one,
            "SELECT count(*) FROM logs a JOIN logs b ON a.module = b.module WHERE b.organisation_id <> 'org_1'"
        ),
        0
    );
    let nobody = Principal::Organisation("org_7".to_owned());
    assert_eq!(ask(&store, &nobody, "SELECT count(*) FROM logs"), 0);
}

#[test]
fn offsets_that_do_not_follow_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (open(&folder), open(&folder));
    append(&one, 0..10);
    append(&other, 0..5);
    commit(&one);
    let chunk = other.state(StoreTable::Logs).seal().expect("rows");
    let refused = other.commit(StoreTable::Logs, &chunk);
    assert!(matches!(refused, Err(StoreError::NotNext { committed: 10, start: 0, .. })), "{:?}", refused.err());
    other.state(StoreTable::Logs).forget(&[input()]);
    other.refresh(StoreTable::Logs).expect("refreshed");
    assert_eq!(count(&other), 10);
}

#[test]
fn many_small_files_become_few_and_no_row_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    for nth in 0..40 {
        append(&store, nth * 5..nth * 5 + 5);
        commit(&store);
    }
    let files = || store.view().table(StoreTable::Logs).committed.files.len();
    assert_eq!(files(), 40);
    let done = store.maintain(StoreTable::Logs, NOW).expect("maintained");
    assert_eq!(done.merged, 32);
    assert_eq!(files(), 10);
    let sum = "SELECT CAST(sum(kafka_offset) AS BIGINT) FROM logs";
    assert_eq!(ask(&store, &Principal::Operator, sum), (0..200).sum::<i64>());
    append(&store, 200..205);
    commit(&store);
    assert_eq!(count(&open(&folder)), 205);
}

#[test]
fn what_has_expired_is_hidden_at_once_and_deleted_by_the_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let add = |first: i64, source: &str, start: i64| {
        let range = OffsetRange { start, end: start + 10 };
        // Their event times begin at `first`, whatever the offsets are.
        let batch = logs(start..start + 10, source, first - start * 1_000_000);
        store.state(StoreTable::Logs).append(&input(), range, batch).expect("appended");
    };
    add(NOW - 30 * DAY - 5_000_000, "edge", 0);
    add(NOW - 32 * DAY, "edge", 10);
    add(NOW - 32 * DAY, "audit", 20);
    add(NOW - 32 * DAY, "frontend", 30);
    assert_eq!(count(&store), 5 + 10 + 10, "hot");
    commit(&store);
    assert_eq!(count(&store), 5 + 10 + 10, "cold");
    let before = store.view().table(StoreTable::Logs).committed.files.len();
    let done = store.maintain(StoreTable::Logs, NOW).expect("maintained");
    assert_eq!(done.expired, 1);
    assert_eq!(store.view().table(StoreTable::Logs).committed.files.len(), before - 1);
    assert_eq!(count(&store), 5 + 10 + 10);
}

#[test]
fn a_torn_newest_commit_is_taken_away_and_its_rows_are_asked_for_again() {
    for damage in ["cut", "emptied", "data file gone"] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        append(&store, 0..10);
        commit(&store);
        append(&store, 10..20);
        commit(&store);
        let newest = store.view().table(StoreTable::Logs).committed.version;
        let entry = folder.path().join(format!("store/logs/_delta_log/{newest:020}.json"));
        let text = std::fs::read_to_string(&entry).expect("a commit");
        match damage {
            "cut" => std::fs::write(&entry, &text[..text.len() / 2]).expect("cut"),
            "emptied" => std::fs::write(&entry, "").expect("emptied"),
            _ => {
                let add = text.lines().find(|line| line.contains("\"add\"")).expect("a file");
                let add: serde_json::Value = serde_json::from_str(add).expect("JSON");
                let path = add["add"]["path"].as_str().expect("a path");
                std::fs::remove_file(folder.path().join("store/logs").join(path)).expect("removed");
            }
        }
        drop(store);
        let store = open(&folder);
        assert_eq!(count(&store), 10, "{damage}");
        assert_eq!(store.offset(StoreTable::Logs, &input()).expect("read"), Some(10), "{damage}");
        append(&store, 10..20);
        commit(&store);
        assert_eq!(count(&store), 20, "{damage}");
    }
}
