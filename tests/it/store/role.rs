//! The role: from topics to tables, through restarts, hand-overs and trimmed topics.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::kafka::{KafkaLog, KafkaSettings};
use maturion::log::{Log, Partition, Position};
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::roles::RunningRoles;
use maturion::roles::store::StoreLimits;
use maturion::store::Store;

use crate::flow::{Flow, pipeline};
use crate::kafka;

const PARTITIONS: i32 = 4;
const WAIT: Duration = Duration::from_secs(60);
const SQL: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests
                   FROM logs GROUP BY 1, 2";

/// 2026-11-01T06:00:00Z: the logs are a few hours old.
fn now() -> i64 {
    1_793_512_800_000_000
}

pub fn limits() -> StoreLimits {
    StoreLimits {
        commit_interval: Duration::from_millis(300),
        chunk_bytes_max: 1 << 20,
        hot_bytes_max: 64 << 20,
        log_id: String::new(),
        accept_gap: false,
    }
}

pub fn embedded() -> Arc<dyn Log> {
    Arc::new(EmbeddedLog::new(EmbeddedSettings::default()))
}

pub fn flow(log: Arc<dyn Log>, prefix: &str) -> Flow {
    Flow::new(log, prefix, PARTITIONS, vec![pipeline("requests", SQL, &["module"], Duration::ZERO)])
}

/// A process of the role alone.
fn start(flow: &Flow, instance: &str, folder: &Path, limits: StoreLimits) -> (Arc<Store>, RunningRoles) {
    let store = super::open(folder);
    let roles = fill(flow, instance, &store, limits);
    (store, roles)
}

pub fn fill(flow: &Flow, instance: &str, store: &Arc<Store>, limits: StoreLimits) -> RunningRoles {
    let (mut runtime, mut roles) = (flow.runtime.clone(), RunningRoles::default());
    runtime.instance = format!("{}{instance}", flow.runtime.topics.logs());
    runtime.fill(store, limits, &mut roles).expect("started");
    roles
}

/// Logs of these numbers, one a second.
pub fn log(flow: &Flow, numbers: std::ops::Range<i64>) {
    let first = now() / 1_000_000 - 3_600 * 5;
    let text =
        |number: i64| format!(r#"{{"timestamp":{},"module":"m{}","message":"{number}"}}"#, first + number, number % 7);
    let records = numbers.map(|number| ((number % i64::from(PARTITIONS)) as i32, text(number))).collect::<Vec<_>>();
    let records = records.iter().map(|(partition, text)| (*partition, text.as_bytes()));
    flow.append(&flow.runtime.topics.logs(), records);
}

pub fn ask(store: &Arc<Store>, sql: &str) -> i64 {
    super::ask(store, now, &Principal::Operator, sql)
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every log from 0 on is there, once.
pub fn has_each_once(store: &Arc<Store>, logs: i64) {
    until("every log is readable", || ask(store, "SELECT count(*) FROM logs") >= logs);
    assert_eq!(ask(store, "SELECT count(*) FROM logs"), logs);
    assert_eq!(ask(store, "SELECT count(DISTINCT message) FROM logs"), logs);
    assert_eq!(ask(store, "SELECT sum(CAST(message AS BIGINT)) FROM logs"), (0..logs).sum::<i64>());
}

pub fn in_delta(store: &Arc<Store>) -> u64 {
    let view = store.view();
    let files = view.table(StoreTable::Logs).committed.files.clone();
    files.iter().map(|file| file.rows).sum()
}

fn goes_on_after_restarts(flow: &Flow) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut logs = 0;
    for _ in 0..4 {
        let (store, roles) = start(flow, "one", folder.path(), limits());
        log(flow, logs..logs + 500);
        logs += 500;
        has_each_once(&store, logs);
        roles.stop().expect("stopped");
        assert_eq!(in_delta(&super::open(folder.path())), logs as u64, "a stop commits what was read");
    }
}

#[test]
fn each_log_is_once_in_its_table_after_restarts() {
    goes_on_after_restarts(&flow(embedded(), "rows-"));
}

#[test]
fn on_kafka_each_log_is_once_in_its_table_after_restarts_and_hand_overs() {
    let broker = match kafka::kafka() {
        Ok(broker) => broker,
        Err(reason) => return kafka::skip(reason),
    };
    let settings = KafkaSettings { brokers: broker.brokers.clone(), properties: Default::default() };
    let flow = flow(Arc::new(KafkaLog::connect(settings).expect("connected")), &kafka::unique_prefix());
    goes_on_after_restarts(&flow);
    let folder = tempfile::tempdir().expect("a folder");
    let (first, one) = start(&flow, "one", folder.path(), limits());
    log(&flow, 2_000..3_000);
    has_each_once(&first, 3_000);
    let (second, two) = start(&flow, "two", folder.path(), limits());
    log(&flow, 3_000..6_000);
    let looked = || {
        for store in [&first, &second] {
            store.refresh(StoreTable::Logs).expect("refreshed");
        }
        in_delta(&first) + in_delta(&second)
    };
    until("both have committed all", || looked() == 12_000);
    one.stop().expect("stopped");
    log(&flow, 6_000..7_000);
    has_each_once(&second, 7_000);
    two.stop().expect("stopped");
    has_each_once(&super::open(folder.path()), 7_000);
}

#[test]
fn windows_and_detections_become_rows() {
    let mut flow = flow(embedded(), "results-");
    let folder = tempfile::tempdir().expect("a folder");
    let (store, roles) = start(&flow, "one", folder.path(), limits());
    flow.start();
    log(&flow, 0..600);
    // Each minute but the last is complete.
    let closed = "SELECT CAST(coalesce(sum(requests), 0) AS BIGINT) FROM windows WHERE pipeline = 'requests'";
    until("windows are readable", || ask(&store, closed) >= 9 * 60);
    let oracle = "SELECT CAST(count(*) AS BIGINT) FROM (
        SELECT date_bin(INTERVAL '1 minute', timestamp) AS minute, module, count(*) AS requests FROM logs GROUP BY 1, 2) l
        JOIN windows w ON w.window_start = l.minute AND w.module = l.module AND w.requests = l.requests";
    assert_eq!(ask(&store, oracle), ask(&store, "SELECT count(*) FROM windows"));
    assert_eq!(ask(&store, "SELECT count(*) FROM windows WHERE NOT complete OR row NOT LIKE '{%}'"), 0);
    flow.stop();
    roles.stop().expect("stopped");
}

/// From the topics to SQL: every change of an incident, every entry of the audit, once; what is neither is left out.
fn incidents_and_the_audit_become_rows_of(flow: &Flow) {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, roles) = start(flow, "one", folder.path(), limits());
    let state = |revision: i64| {
        format!(
            r#"{{"incident_id":"i1","revision":{revision},"phase":"firing","changed_at":"2026-11-01T05:00:0{revision}Z"}}"#
        )
    };
    let appender = flow.runtime.log.appender().expect("an appender");
    let send = |topic: &str, key: &str, value: Option<&str>| {
        let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
        appender.append(maturion::log::Outgoing { topic, key, value, ..Default::default() }).expect("appended");
    };
    let (incidents, audit) = (flow.runtime.topics.incidents(), flow.runtime.topics.audit());
    for value in [Some(state(1)), Some("no incident".to_owned()), Some(state(2)), None, Some(state(3))] {
        send(&incidents, "i1", value.as_deref());
    }
    let (messages, _) = crate::audit::messages(3);
    for (key, text) in &messages {
        send(&audit, key, Some(text));
    }
    appender.flush(WAIT).expect("flushed");
    let newest = "SELECT coalesce(max(revision), 0) FROM incident_changes";
    until("the changes are readable", || ask(&store, newest) == 3 && ask(&store, "SELECT count(*) FROM audit") == 15);
    assert_eq!(ask(&store, "SELECT count(*) FROM audit WHERE kind = 'checkpoint'"), 3);
    assert_eq!(ask(&store, "SELECT count(DISTINCT seq) FROM audit"), 12);
    roles.stop().expect("stopped");
    let store = super::open(folder.path());
    assert_eq!(ask(&store, newest), 3, "committed");
    assert_eq!(ask(&store, "SELECT count(*) FROM audit"), 15, "committed");
}

#[test]
fn incidents_and_the_audit_become_rows() {
    incidents_and_the_audit_become_rows_of(&flow(embedded(), "audited-"));
}

#[test]
fn on_kafka_incidents_and_the_audit_become_rows() {
    let broker = match kafka::kafka() {
        Ok(broker) => broker,
        Err(reason) => return kafka::skip(reason),
    };
    let settings = KafkaSettings { brokers: broker.brokers.clone(), properties: Default::default() };
    let log = Arc::new(KafkaLog::connect(settings).expect("connected"));
    incidents_and_the_audit_become_rows_of(&flow(log, &kafka::unique_prefix()));
}

#[test]
fn a_gap_in_kafka_is_said_and_not_jumped_over() {
    let flow = flow(embedded(), "gap-");
    let folder = tempfile::tempdir().expect("a folder");
    let (store, roles) = start(&flow, "one", folder.path(), limits());
    log(&flow, 0..400);
    has_each_once(&store, 400);
    roles.stop().expect("stopped");
    log(&flow, 400..800);
    let partition = Partition { topic: flow.runtime.topics.logs().into(), number: 0 };
    flow.runtime.log.trim(&[Position { partition, offset: 150 }]).expect("trimmed");
    let (_, roles) = start(&flow, "one", folder.path(), limits());
    until("the role ends", || roles.has_ended());
    let error = roles.stop().expect_err("a gap").to_string();
    assert!(error.contains("up to offset 100") && error.contains("from 150 on only"), "{error}");
    let (store, roles) = start(&flow, "one", folder.path(), StoreLimits { accept_gap: true, ..limits() });
    until("the rest is readable", || ask(&store, "SELECT count(*) FROM logs") == 750);
    roles.stop().expect("stopped");
    assert_eq!(in_delta(&super::open(folder.path())), 750);
}

#[test]
fn another_log_under_the_same_name_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = flow(embedded(), "same-");
    let (store, roles) = start(&old, "one", folder.path(), limits());
    log(&old, 0..400);
    has_each_once(&store, 400);
    roles.stop().expect("stopped");
    let (_, roles) = start(&flow(embedded(), "same-"), "one", folder.path(), limits());
    until("the role ends", || roles.has_ended());
    let error = roles.stop().expect_err("another log").to_string();
    assert!(error.contains("this is another Kafka"), "{error}");
}

#[test]
fn full_memory_stops_reading_and_loses_nothing() {
    let flow = flow(embedded(), "full-");
    let folder = tempfile::tempdir().expect("a folder");
    let tight = StoreLimits { commit_interval: WAIT, chunk_bytes_max: usize::MAX, hot_bytes_max: 200_000, ..limits() };
    let (store, roles) = start(&flow, "one", folder.path(), tight);
    for nth in 0..20 {
        log(&flow, nth * 1_000..(nth + 1) * 1_000);
    }
    has_each_once(&store, 20_000);
    assert!(in_delta(&store) > 10_000, "memory was full, and commits have made room");
    roles.stop().expect("stopped");
}
