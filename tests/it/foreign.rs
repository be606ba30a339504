//! Others' clients: what Kafka's console tools and Python write is read here, and what is written here they read.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use maturion::log::{Outgoing, Session};

use crate::flow::{Flow, pipeline};
use crate::kafka;
use crate::kafka_or_skip;
use crate::python;
use crate::subject::{Subject, connect};

const CONSOLE_PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PYTHON_CLIENT: &str = "confluent-kafka==2.12.2";

#[test]
fn kafkas_console_tools_and_maturion_read_each_other() {
    let node = kafka_or_skip!();
    let libs = match kafka::libs() {
        Ok(libs) => libs,
        Err(reason) => return kafka::skip(&reason),
    };
    let tool = |class, arguments: &[&str], input| console(&libs, &node.brokers, class, arguments, input);
    let subject = Subject::kafka(node);
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    let keyed = ["--topic", &input, "--property", "parse.key=true", "--property", "key.separator=:"];
    tool(CONSOLE_PRODUCER, &keyed, "k:{\"a\":1}\nk:{\"a\":2}\n");

    let mut member = subject.member("g", &input, "id");
    member.see(&["{\"a\":1}", "{\"a\":2}"]);
    write(&mut *member.session, &output, "answer");
    member.commit();
    write(&mut *member.session, &output, "never");
    member.session.abort().unwrap();

    let shown = ["--property", "print.key=true", "--property", "print.headers=true"];
    let committed = ["--topic", &output, "--from-beginning", "--isolation-level", "read_committed"];
    let until = ["--timeout-ms", "5000"];
    let read = tool(CONSOLE_CONSUMER, &[&shown[..], &committed, &until].concat(), "");
    assert_eq!(String::from_utf8_lossy(&read.stdout), "from:maturion\tkey\tanswer\n");
}

#[test]
fn python_and_maturion_read_each_other_in_every_compression() {
    let node = kafka_or_skip!();
    let client = match python::packages(PYTHON_CLIENT, &[PYTHON_CLIENT]) {
        Ok(client) => client,
        Err(reason) => return kafka::skip(&reason),
    };
    let python = |what: &str, topic: &str| {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/foreign.py"));
        command.args([what, &node.brokers, topic]).env("PYTHONPATH", &client);
        run(command, "")
    };
    let subject = Subject::kafka(node);
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    python("produce", &input);

    let mut member = subject.member("g", &input, "id");
    let written = ["none", "gzip", "snappy", "lz4", "zstd"].map(|compression| compression.repeat(100));
    member.see(&written.each_ref().map(String::as_str));
    write(&mut *member.session, &output, "never");
    member.session.abort().unwrap();
    write(&mut *member.session, &output, "answer");
    member.commit();

    assert_eq!(String::from_utf8_lossy(&python("consume", &output).stdout), "key answer from=maturion\n");
}

/// What the console producer writes is aggregated, and the console consumer reads the windows.
#[test]
fn telemetry_from_the_console_producer_becomes_windows_for_the_console_consumer() {
    let node = kafka_or_skip!();
    let libs = match kafka::libs() {
        Ok(libs) => libs,
        Err(reason) => return kafka::skip(&reason),
    };
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests
               FROM logs GROUP BY 1, 2";
    let counts = pipeline("counts", sql, &["module"], Duration::ZERO);
    let log = Arc::new(connect(&node.brokers, &[]).expect("Kafka"));
    let mut flow = Flow::new(log, &kafka::unique_prefix(), 1, vec![counts]);
    flow.start();
    let lines = [(1, "a"), (2, "b"), (3, "a"), (120, "a")].map(|(second, module)| {
        format!("{{\"timestamp\":\"2025-12-03T10:{:02}:{:02}Z\",\"module\":\"{module}\"}}\n", second / 60, second % 60)
    });
    let topic = flow.runtime.topics.logs();
    console(&libs, &node.brokers, CONSOLE_PRODUCER, &["--topic", &topic], &lines.concat());
    flow.wait_for(&flow.runtime.topics.windows(), |windows| windows.len() >= 2);
    flow.stop();
    let windows = flow.runtime.topics.windows();
    let arguments =
        ["--topic", &windows, "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "5000"];
    let read = console(&libs, &node.brokers, CONSOLE_CONSUMER, &arguments, "");
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    let mut rows = read.lines().collect::<Vec<_>>();
    rows.sort_unstable();
    let head = r#"{"pipeline":"counts","window_start":"2025-12-03T10:00:00Z","window_end":"2025-12-03T10:01:00Z""#;
    let expected =
        [r#"module":"a","requests":2}"#, r#"module":"b","requests":1}"#].map(|tail| format!("{head},\"{tail}"));
    assert_eq!(rows, expected);
}

/// Runs one of Kafka's own console tools.
fn console(libs: &Path, brokers: &str, class: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("java");
    command.arg("-Dorg.apache.logging.log4j.level=OFF").arg("-cp").arg(libs.join("*")).arg(class);
    command.args(["--bootstrap-server", brokers]).args(arguments);
    run(command, input)
}

fn write(session: &mut dyn Session, topic: &str, value: &str) {
    let headers: [(&str, &[u8]); 1] = [("from", b"maturion")];
    let value = Some(value.as_bytes());
    session.send(Outgoing { topic, key: Some(b"key"), value, headers: &headers, ..Outgoing::default() }).unwrap();
}

/// Runs a command to its end and fails the test with what it said if it failed.
fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
