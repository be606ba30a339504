//! Apache Kafka for the tests: `MATURION_TEST_KAFKA=host:port` if set, else one node started by `scripts/kafka` for the
//! whole test binary, which ends with it. Where neither is possible a test says that it was skipped and why; with `CI`
//! set that is a failure.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The Kafka that all tests share.
pub struct Kafka {
    pub brokers: String,
    /// A listener that wants PLAIN credentials; only of a node that was started here.
    pub sasl: Option<String>,
    /// Where a proxy must forward to; only of a node that was started with one.
    pub proxied: Option<String>,
    node: Option<Node>,
}

/// A node that was started here. The script stops it when its standard input closes: when this process ends, however it
/// ends.
struct Node {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _script: Child,
}

impl Kafka {
    /// Tells the script to `stop`, `kill` or `start` the node, and waits until it is done.
    pub fn tell(&mut self, command: &str) {
        let node = self.node.as_mut().expect("a node that was started here");
        writeln!(node.commands, "{command}").expect("the script listens");
        let answer = node.answers.next().unwrap_or_else(|| panic!("the script ended at `{command}`")).expect("a line");
        let expected = if command == "start" { "started" } else { "stopped" };
        assert_eq!(answer, expected, "after `{command}`");
    }
}

static KAFKA: LazyLock<Result<Kafka, String>> = LazyLock::new(|| match std::env::var("MATURION_TEST_KAFKA") {
    Ok(brokers) => Ok(Kafka { brokers, sasl: None, proxied: None, node: None }),
    Err(_) => start(None),
});

/// Begins a test that needs Kafka: its value is the [`Kafka`], or the test ends as skipped.
#[macro_export]
macro_rules! kafka_or_skip {
    () => {
        match $crate::kafka::kafka() {
            Ok(kafka) => kafka,
            Err(reason) => return $crate::kafka::skip(reason),
        }
    };
}

pub fn kafka() -> Result<&'static Kafka, &'static str> {
    KAFKA.as_ref().map_err(String::as_str)
}

/// Reports the running test as skipped.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // The print macros are captured for tests that pass; this line must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
    assert!(std::env::var_os("CI").is_none(), "{name} was skipped, which CI does not allow: {reason}");
}

/// A prefix for topics, groups and transactional ids that no other test uses.
pub fn unique_prefix() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("t{}-{}.", now.as_nanos(), USED.fetch_add(1, Ordering::Relaxed))
}

/// The folder with Kafka's jars, for its console tools.
pub fn libs() -> Result<PathBuf, String> {
    let output = script().arg("--libs").output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.lines().last().unwrap_or_default().into())
}

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka"))
}

/// Starts a node; with a listener for clients that begin at this port, where a proxy is.
pub fn start(proxy_port: Option<u16>) -> Result<Kafka, String> {
    let started = script()
        .arg("--until-stdin-closes")
        .args(proxy_port.map(|port| port.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut script = started.map_err(|error| format!("scripts/kafka cannot be run: {error}"))?;
    let (mut brokers, mut sasl, mut proxied) = (None, None, None);
    let mut answers = BufReader::new(script.stdout.take().unwrap()).lines();
    for line in answers.by_ref() {
        let line = line.map_err(|error| error.to_string())?;
        match line.split_once(' ') {
            Some((name, value)) if name.ends_with("brokers") => brokers = Some(value.to_owned()),
            Some(("sasl", value)) => sasl = Some(value.to_owned()),
            Some(("proxied", value)) => proxied = Some(value.to_owned()),
            Some(("log", _)) => break,
            _ => {}
        }
    }
    match brokers {
        Some(brokers) => {
            let node = Node { commands: script.stdin.take().unwrap(), answers, _script: script };
            Ok(Kafka { brokers, sasl, proxied, node: Some(node) })
        }
        None => {
            let mut reason = String::new();
            script.stderr.take().unwrap().read_to_string(&mut reason).map_err(|error| error.to_string())?;
            Err(reason.trim().to_owned())
        }
    }
}
