//! `maturion topics` and what the command line says about a Kafka that is not as it should be.

use std::fs;
use std::process::Command;

use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Log, Outgoing, Position};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tempfile::TempDir;

use crate::kafka::{Kafka, unique_prefix};
use crate::kafka_or_skip;
use crate::subject::{PATIENCE, STEP, Subject, eventually, outgoing, partition};

/// A folder whose configuration names topics that no other test uses.
fn folder(kafka: &Kafka) -> (TempDir, String) {
    let (folder, prefix) = (tempfile::tempdir().unwrap(), unique_prefix());
    let text = format!("[kafka]\nbrokers = \"{}\"\ntopic_prefix = \"{prefix}\"\npartitions = 1\n", kafka.brokers);
    fs::write(folder.path().join("maturion.toml"), text).unwrap();
    (folder, prefix)
}

/// Exit code, standard output and standard error.
fn maturion(folder: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.args(arguments).current_dir(folder.path()).env_clear().env("MATURION_LOG", "off");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn topics_are_created_once_and_then_pass() {
    let (folder, prefix) = folder(kafka_or_skip!());
    let (code, said, error) = maturion(&folder, &["topics"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(said.contains(&format!("created {prefix}maturion.remediation\n")), "{said}");
    let passed = "12 topics: ok\n";
    assert!(said.ends_with(passed), "{said}");
    for arguments in [["topics"].as_slice(), &["topics", "--check"]] {
        assert_eq!(maturion(&folder, arguments), (0, passed.to_owned(), String::new()));
    }
}

#[test]
fn topics_that_do_not_exist_are_named() {
    let (folder, prefix) = folder(kafka_or_skip!());
    let sentence =
        format!("maturion: topic `{prefix}telemetry.logs` does not exist; create it with `maturion topics`\n");
    for arguments in [["run"].as_slice(), &["topics", "--check"]] {
        let (code, said, error) = maturion(&folder, arguments);
        assert_eq!((code, said.as_str()), (1, ""), "{error}");
        assert!(error.starts_with(&sentence), "{error}");
    }
}

#[test]
fn topics_that_forget_before_a_window_closes_are_named() {
    let (folder, prefix) = folder(kafka_or_skip!());
    assert_eq!(maturion(&folder, &["topics"]).0, 0);
    let pipeline = "name = \"month\"\nsource = \"logs\"\nsql = \"month.sql\"\nseries = []\nlateness = \"0s\"\n";
    let sql = "SELECT tumble(timestamp, INTERVAL '30 days') AS window_start, count(*) AS records FROM logs GROUP BY 1";
    for (name, text) in [("pipelines/month.toml", pipeline), ("sql/month.sql", sql)] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let (code, said, error) = maturion(&folder, &["run"]);
    assert_eq!((code, said.as_str()), (1, ""), "{error}");
    let sentence = format!(
        "maturion: topic `{prefix}telemetry.logs` keeps records for 604800 s, less than the longest window with its \
         lateness of 2592000 s; raise its retention.ms above 2592000000\n"
    );
    assert!(error.starts_with(&sentence), "{error}");
}

#[test]
fn refused_credentials_are_said_without_showing_them() {
    let kafka = kafka_or_skip!();
    let Some(sasl) = &kafka.sasl else { return crate::kafka::skip("the given Kafka has no SASL listener") };
    let (folder, _) = folder(kafka);
    let text = format!(
        "[kafka]\nbrokers = \"{sasl}\"\n[kafka.properties]\nsecurity.protocol = \"sasl_plaintext\"\n\
         sasl.mechanism = \"PLAIN\"\nsasl.username = \"maturion\"\nsasl.password_file = \"password\"\n"
    );
    fs::write(folder.path().join("maturion.toml"), text).unwrap();
    fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let (code, said, error) = maturion(&folder, &["topics"]);
    assert_eq!((code, said.as_str()), (1, ""), "{error}");
    assert!(error.starts_with(&format!("maturion: Kafka at {sasl} refused to authenticate: ")), "{error}");
    assert!(error.lines().count() == 1 && !error.contains("hunter2"), "{error}");
}

/// A restart reads the state from its start. With Kafka's defaults everything that was ever written would stay there.
#[test]
fn overwritten_state_is_let_go_of() {
    let subject = Subject::kafka(kafka_or_skip!());
    let topics = Topics::new(&subject.prefix);
    topics.ensure(&*subject.log, Partitions { inputs: 1, series: 1 }).unwrap();
    let (topic, written) = (topics.baselines(), 400);
    let appender = subject.log.appender().unwrap();
    // Bytes that do not compress: three segments full.
    let mut value = vec![0; 125_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut value);
    for _ in 0..written {
        let record = outgoing(&topic, 0, "");
        appender.append(Outgoing { key: Some(b"series"), value: Some(&value), ..record }).unwrap();
    }
    appender.flush(PATIENCE).unwrap();
    eventually("less than half of it is left", || {
        std::thread::sleep(STEP * 20);
        count(&*subject.log, &topic) < written / 2
    });
}

fn count(log: &dyn Log, topic: &str) -> usize {
    let place = partition(topic, 0);
    let end = log.bounds(std::slice::from_ref(&place)).unwrap()[0].1;
    let mut reader = log.reader(&[Position { partition: place, offset: 0 }]).unwrap();
    let mut records = 0;
    while reader.positions().unwrap()[0].offset < end {
        records += reader.poll(STEP, 1_000, &mut |_| {}).unwrap();
    }
    records
}
