//! Every command in the README is run: by `.ci/run`, by a test that is named here, or right here.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maturion::log::{Appender, LogError, Outgoing};
use maturion::serve::status::StatusBoard;
use maturion::serve::{self, Settings};

use crate::kafka::unique_prefix;
use crate::kafka_or_skip;

/// The README's commands in their order, and who runs each: a step of `.ci/run`, or a test of this file.
const COMMANDS: [(&str, &str); 10] = [
    ("cargo run --release -- demo", ".ci/run"),
    ("cargo test --release", ".ci/run"),
    ("export MATURION__KAFKA__BROKERS=", "its_commands_work_on_kafka"),
    ("cargo run --release -- check", "its_commands_work_on_kafka"),
    ("cargo run --release -- topics", "its_commands_work_on_kafka"),
    ("cargo run --release -- run", "its_commands_work_on_kafka"),
    ("cargo run --release -- status", "its_commands_work_on_kafka"),
    ("curl ", "its_record_is_accepted"),
    ("cargo run --release -- sql ", "its_commands_work_on_kafka"),
    ("cargo run --release -- generate --replay ", "its_commands_work_on_kafka"),
];

/// How long an instance may take to answer after its start.
const START_WAIT: Duration = Duration::from_secs(60);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap()
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = text("README.md");
    let fenced = readme.split("\n```").skip(1).step_by(2);
    let bodies = fenced.filter_map(|block| block.split_once('\n').filter(|(tag, _)| *tag == language));
    bodies.map(|(_, body)| body.to_owned()).collect()
}

fn commands() -> Vec<String> {
    blocks("sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_command_is_run_somewhere() {
    let (commands, steps) = (commands(), text(".ci/run"));
    assert_eq!(commands.len(), COMMANDS.len(), "{commands:#?}");
    for (command, (start, runner)) in commands.iter().zip(COMMANDS) {
        assert!(command.starts_with(start), "{command}");
        let step = |line: &str| line.starts_with("step ") && line.contains(command.as_str());
        let tests = include_str!("readme.rs");
        let runs =
            if runner == ".ci/run" { steps.lines().any(step) } else { tests.contains(&format!("fn {runner}()")) };
        assert!(runs, "{command}: not in {runner}");
    }
}

/// The commands that `its_commands_work_on_kafka` runs, without `cargo run --release --`.
fn maturion_commands() -> Vec<Vec<String>> {
    let commands =
        commands().into_iter().zip(COMMANDS).filter(|(_, (_, runner))| *runner == "its_commands_work_on_kafka");
    let arguments = commands.filter_map(|(command, _)| Some(words(command.strip_prefix("cargo run --release -- ")?)));
    arguments.collect()
}

/// A command's words; what stands in double quotes is one.
fn words(command: &str) -> Vec<String> {
    let part = |(nth, part): (usize, &str)| match nth % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    };
    command.split('"').enumerate().flat_map(part).collect()
}

/// An instance that ends with the test, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It can only fail if the instance has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn its_commands_work_on_kafka() {
    let kafka = kafka_or_skip!();
    let (prefix, port) = (unique_prefix(), free_port());
    let tables = tempfile::tempdir().unwrap();
    let maturion = |arguments: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
        command.args(arguments).current_dir(project(""));
        command.env("MATURION__KAFKA__BROKERS", &kafka.brokers).env("MATURION__KAFKA__TOPIC_PREFIX", &prefix);
        command.env("MATURION__SERVE__HTTP", format!("127.0.0.1:{port}"));
        command.env("MATURION__STORE__URL", format!("file:{}", tables.path().display()));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut running = None;
    for arguments in maturion_commands() {
        match arguments[0].as_str() {
            "run" => running = Some(Running(maturion(&arguments).spawn().unwrap())),
            "status" => assert!(succeeds_within(START_WAIT, || maturion(&arguments)), "{arguments:?}"),
            _ => assert!(maturion(&arguments).status().unwrap().success(), "{arguments:?}"),
        }
    }
    let mut running = running.unwrap();
    assert!(running.0.try_wait().unwrap().is_none(), "`run` goes on until it is stopped");
}

fn succeeds_within(wait: Duration, command: impl Fn() -> Command) -> bool {
    let start = Instant::now();
    while start.elapsed() < wait {
        if command().status().unwrap().success() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_path_it_names_exists() {
    let readme = text("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local: BTreeSet<&str> = links.filter(|link| !link.starts_with("http")).collect();
    let named = ["docker-compose.yml", ".ci/run", "pipelines", "sql", "tests/data"].into_iter();
    for path in named.chain(local) {
        assert!(project(path).exists(), "{path}");
    }
    for command in commands() {
        let files = command.split_whitespace().filter(|word| word.starts_with("tests/"));
        files.for_each(|file| assert!(project(file).exists(), "{file}"));
    }
}

#[test]
fn the_first_screen_is_what_the_gate_runs() {
    let first = &blocks("sh")[0];
    assert_eq!(first.trim(), "cargo run --release -- demo\ncargo test --release");
    assert!(text(".ci/run").lines().any(|line| line == "step tests cargo test --release"));
}

/// The configuration and the pipeline shown are accepted as they stand.
#[test]
fn what_it_shows_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let toml = blocks("toml");
    fs::create_dir_all(folder.path().join("pipelines")).unwrap();
    fs::create_dir_all(folder.path().join("sql")).unwrap();
    fs::write(folder.path().join("maturion.toml"), &toml[0]).unwrap();
    fs::write(folder.path().join("pipelines/logins.toml"), &toml[1]).unwrap();
    fs::write(folder.path().join("sql/logins.sql"), &blocks("sql")[0]).unwrap();
    let environment = [("KAFKA_PASSWORD".to_owned(), "secret".to_owned())].into();
    let config = maturion::config::Config::load(Some(&folder.path().join("maturion.toml")), &environment).unwrap();
    assert_eq!(config.kafka.properties["sasl.password"], "secret");
    let pipelines = maturion::pipelines::load(&config.pipelines).unwrap();
    assert_eq!(pipelines.len(), 1);
    assert_eq!((pipelines[0].name.as_str(), pipelines[0].rules.len()), ("logins", 1));
}

/// Keeps what `curl` sent.
#[derive(Default)]
struct Kept(Mutex<Vec<Vec<u8>>>);

impl Appender for Kept {
    fn append(&self, record: Outgoing<'_>) -> Result<(), LogError> {
        self.0.lock().unwrap().push(record.value.unwrap_or_default().to_vec());
        Ok(())
    }

    fn flush(&self, _wait: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

#[test]
fn its_record_is_accepted() {
    let kept = Arc::new(Kept::default());
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        allow_remote: false,
        token: None,
        body_bytes_max: 1 << 20,
        logs_topic: "telemetry.logs".to_owned(),
        metrics_topic: "telemetry.metrics".to_owned(),
        intents_topic: "maturion.intents".to_owned(),
        engine: None,
        users: Arc::default(),
    };
    let door = serve::start(settings, kept.clone(), Arc::new(StatusBoard::new(""))).unwrap();
    let command = commands().into_iter().find(|command| command.starts_with("curl ")).unwrap();
    let command = command.replace("127.0.0.1:8080", &door.address().to_string());
    let output = Command::new("sh").args(["-c", &command]).env_remove("http_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.success(), said.as_ref()), (true, r#"{"accepted":1}"#), "{output:?}");
    let value: serde_json::Value = serde_json::from_slice(&kept.0.lock().unwrap()[0]).unwrap();
    assert_eq!(value["status_code"], 500);
}
