//! A process of the store that is killed loses no row and writes none twice.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maturion::log::kafka::{KafkaLog, KafkaSettings};
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;

use crate::flow::Flow;
use crate::kafka;

const WAIT: Duration = Duration::from_secs(90);

fn now() -> i64 {
    1_793_512_800_000_000
}

/// The role alone, in a process of its own, that commits every second.
fn start(brokers: &str, prefix: &str, folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("maturion.log")).expect("a log");
    Command::new(env!("CARGO_BIN_EXE_maturion"))
        .args(["run", "--roles", "store"])
        .current_dir(folder)
        .env("MATURION__KAFKA__BROKERS", brokers)
        .env("MATURION__KAFKA__TOPIC_PREFIX", prefix)
        .env("MATURION__STORE__COMMIT_INTERVAL", "1s")
        .env("MATURION__STORE__URL", "file:store")
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("maturion runs")
}

#[test]
fn a_killed_process_loses_no_row_and_writes_none_twice() {
    let broker = match kafka::kafka() {
        Ok(broker) => broker,
        Err(reason) => return kafka::skip(reason),
    };
    let settings = KafkaSettings { brokers: broker.brokers.clone(), properties: Default::default() };
    let prefix = kafka::unique_prefix();
    let flow = Flow::new(Arc::new(KafkaLog::connect(settings).expect("connected")), &prefix, 4, Vec::new());
    let folder = tempfile::tempdir().expect("a folder");
    let mut logs = 0_i64;
    let mut append = |count: i64| {
        let text = |number: i64| format!(r#"{{"timestamp":{},"message":"{number}"}}"#, now() / 1_000_000 - 86_400);
        let records = (logs..logs + count).map(|number| ((number % 4) as i32, text(number))).collect::<Vec<_>>();
        flow.append(&flow.runtime.topics.logs(), records.iter().map(|(number, text)| (*number, text.as_bytes())));
        logs += count;
        logs
    };
    for _ in 0..3 {
        let mut process = start(&broker.brokers, &prefix, folder.path());
        // From before it has its partitions until after its first commits.
        for _ in 0..10 {
            append(500);
            std::thread::sleep(Duration::from_millis(800));
        }
        process.kill().expect("killed");
        process.wait().expect("reaped");
    }
    let all = append(500);
    let mut process = start(&broker.brokers, &prefix, folder.path());
    let store = super::open(folder.path());
    let deadline = Instant::now() + WAIT;
    let ask = |sql: &str| super::ask(&store, now, &Principal::Operator, sql);
    while ask("SELECT count(*) FROM logs") < all {
        let said = || std::fs::read_to_string(folder.path().join("maturion.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "{} of {all} rows\n{}", ask("SELECT count(*) FROM logs"), said());
        std::thread::sleep(Duration::from_millis(200));
        store.refresh(StoreTable::Logs).expect("refreshed");
    }
    assert_eq!(ask("SELECT count(*) FROM logs"), all);
    assert_eq!(ask("SELECT count(DISTINCT message) FROM logs"), all);
    process.kill().expect("killed");
    process.wait().expect("reaped");
}
