//! `maturion audit`: exit codes, what is said, and the key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use maturion::log::Log;
use maturion::log::Outgoing;
use maturion::log::topics::{Partitions, Topics};
use tempfile::TempDir;

use super::{Filed, SECRET, TAMPERINGS, messages, signer};
use crate::kafka::unique_prefix;
use crate::kafka_or_skip;
use crate::subject::{PATIENCE, connect};

fn folder(configuration: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("maturion.toml"), configuration).unwrap();
    fs::write(folder.path().join("key"), SECRET).unwrap();
    folder
}

/// Exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    let output = command.arg("audit").args(arguments).current_dir(folder).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn write(folder: &TempDir, messages: &[Filed]) {
    let lines: String = messages.iter().map(|(_, text)| format!("{text}\n")).collect();
    fs::write(folder.path().join("audit.ndjson"), lines).unwrap();
}

const SIGNED: &str = "[audit]\nkey_file = \"key\"\n";

#[test]
fn a_file_is_verified_line_by_line() {
    let folder = folder(SIGNED);
    let (all, end) = messages(2);
    write(&folder, &all);
    let said = format!(
        "entries: 8 (1 to 8), the last at 2026-06-01T12:01:03Z\n\
         2 checkpoints; signed up to entry 8 at 2026-06-01T12:01:00Z, nothing since\n\
         end: {end}\nok\n"
    );
    assert_eq!(run(folder.path(), &["verify", "audit.ndjson"]), (0, said.clone(), String::new()));
    assert_eq!(run(folder.path(), &["verify", "audit.ndjson", "--expect", &end.to_string()]), (0, said, String::new()));
    write(&folder, &all[..7]);
    let (code, said, _) = run(folder.path(), &["verify", "audit.ndjson"]);
    assert_eq!(code, 0);
    assert!(said.contains("signed up to entry 4") && said.contains("2 since, which only the chain protects"), "{said}");
    let (code, _, error) = run(folder.path(), &["verify", "audit.ndjson", "--expect", &end.to_string()]);
    let cut = "from entry 7 on: the chain ends with entry 6, but entry 8 is expected: what followed was cut off\n";
    assert_eq!((code, error), (1, format!("maturion: the audit is not as it was written, {cut}")));
}

#[test]
fn every_tampering_is_a_failure_in_one_sentence() {
    let folder = folder(SIGNED);
    for (what, tamper, sentence) in TAMPERINGS {
        let (mut copy, _) = messages(2);
        tamper(&mut copy);
        write(&folder, &copy);
        let (code, output, error) = run(folder.path(), &["verify", "audit.ndjson"]);
        assert_eq!((code, output.as_str(), error.lines().count()), (1, "", 1), "{what}: {error}");
        assert!(error.starts_with(&format!("maturion: the audit is not as it was written, {sentence}")), "{error}");
    }
}

/// What the reference says about hashes is enough for another program.
#[test]
fn the_chain_can_be_checked_without_maturion() {
    let folder = folder("");
    let (all, end) = messages(20);
    write(&folder, &all);
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/audit/check.py"));
    let checked = match python.stdin(fs::File::open(folder.path().join("audit.ndjson")).unwrap()).output() {
        Ok(checked) => checked,
        Err(error) => return crate::kafka::skip(&format!("python3 cannot be run: {error}")),
    };
    assert_eq!(String::from_utf8_lossy(&checked.stdout), format!("{end}\n"), "{checked:?}");
}

#[test]
fn without_a_key_it_says_that_only_the_chain_was_checked() {
    let folder = folder("");
    write(&folder, &messages(1).0);
    let (code, said, _) = run(folder.path(), &["verify", "audit.ndjson"]);
    assert_eq!(code, 0);
    assert!(
        said.contains("1 checkpoint, not compared with a known key: [audit] has neither key nor public_keys"),
        "{said}"
    );
}

#[test]
fn a_key_of_somebody_else_is_no_signature() {
    let public = signer().public_key().to_string();
    let folder = folder(&format!("[audit]\npublic_keys = [\"{}\"]\n", "ab".repeat(32)));
    write(&folder, &messages(1).0);
    let (code, _, error) = run(folder.path(), &["verify", "audit.ndjson"]);
    assert_eq!(code, 1);
    assert!(error.contains(&format!("is signed by {public}, which is not among [audit] public_keys")), "{error}");
}

#[test]
fn what_cannot_be_read_is_unusable() {
    let folder = folder("");
    let (code, _, error) = run(folder.path(), &["verify", "gone.ndjson"]);
    assert_eq!(code, 2);
    assert!(error.starts_with("maturion: gone.ndjson: cannot be read"), "{error}");
    let (code, _, error) = run(folder.path(), &["verify"]);
    assert_eq!(code, 2);
    assert!(error.contains("kafka.brokers is \"embedded\"") && error.contains("--store"), "{error}");
    let (code, _, error) = run(folder.path(), &["verify", "--expect", "8"]);
    assert_eq!((code, error.lines().count()), (2, 1), "{error}");
}

#[test]
fn a_new_key_is_its_owners_alone_and_never_replaces_one() {
    let folder = folder("");
    let (code, said, error) = run(folder.path(), &["keygen", "new"]);
    assert_eq!(code, 0, "{error}");
    let path = folder.path().join("new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&path).unwrap();
    let public = maturion::audit::Signer::parse(&secret).unwrap().public_key().to_string();
    assert!(said.contains(&format!("public_keys = [\"{public}\"]")), "{said}");
    assert!(!said.contains(secret.trim()));
    let (code, _, error) = run(folder.path(), &["keygen", "new"]);
    assert_eq!(code, 2);
    assert!(error.starts_with("maturion: new: cannot be written (File exists"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), secret);
    fs::write(folder.path().join("maturion.toml"), "[audit]\nkey_file = \"new\"\n").unwrap();
    write(&folder, &[]);
    assert_eq!(run(folder.path(), &["verify", "audit.ndjson"]), (0, "no entries: ok\n".to_owned(), String::new()));
}

#[test]
fn on_kafka_the_topic_is_verified() {
    let kafka = kafka_or_skip!();
    let prefix = unique_prefix();
    let topics = Topics::new(&prefix);
    let log = connect(&kafka.brokers, &[]).unwrap();
    topics.ensure(&log, Partitions { inputs: 1, series: 1 }).unwrap();
    let folder = folder(&format!("[kafka]\nbrokers = \"{}\"\ntopic_prefix = \"{prefix}\"\n{SIGNED}", kafka.brokers));
    let append = |messages: &[Filed]| {
        let (topic, appender) = (topics.audit(), log.appender().unwrap());
        for (key, text) in messages {
            let (key, value) = (Some(key.as_bytes()), Some(text.as_bytes()));
            appender.append(Outgoing { topic: &topic, key, value, ..Outgoing::default() }).unwrap();
        }
        appender.flush(PATIENCE).unwrap();
    };
    let (all, end) = messages(2);
    append(&all);
    let (code, said, error) = run(folder.path(), &["verify"]);
    assert_eq!(code, 0, "{error}");
    assert!(said.ends_with(&format!("end: {end}\nok\n")), "{said}");
    append(&all[..1]);
    let (code, _, error) = run(folder.path(), &["verify"]);
    assert_eq!(code, 1);
    assert!(error.contains("from entry 1 on: entry 1 stands there twice"), "{error}");
}
