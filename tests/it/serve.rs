//! The HTTP door over real connections, before a log that can be told to fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use maturion::log::{Appender, LogError, Outgoing};
use maturion::serve::guard::Token;
use maturion::serve::status::{RoleState, StatusBoard};
use maturion::serve::{self, ServeError, ServeHandle, Settings};

/// Keeps what is appended until the flush, and then what is acknowledged, unless it is told to fail.
#[derive(Default)]
struct Recorder {
    pending: Mutex<Vec<(String, Vec<u8>)>>,
    acknowledged: Mutex<Vec<(String, Vec<u8>)>>,
    fails: bool,
}

impl Appender for Recorder {
    fn append(&self, record: Outgoing<'_>) -> Result<(), LogError> {
        let value = record.value.unwrap_or_default().to_vec();
        self.pending.lock().unwrap().push((record.topic.to_owned(), value));
        Ok(())
    }

    fn flush(&self, _wait: Duration) -> Result<(), LogError> {
        if self.fails {
            let (brokers, reason) = ("kafka:9092".to_owned(), "connection refused".to_owned());
            return Err(LogError::Unreachable { brokers, reason });
        }
        self.acknowledged.lock().unwrap().append(&mut self.pending.lock().unwrap());
        Ok(())
    }
}

const BODY_BYTES_MAX: usize = 4 << 20;

struct Door {
    log: Arc<Recorder>,
    board: Arc<StatusBoard>,
    handle: ServeHandle,
}

fn settings() -> Settings {
    Settings {
        address: ([127, 0, 0, 1], 0).into(),
        allow_remote: false,
        token: None,
        body_bytes_max: BODY_BYTES_MAX,
        logs_topic: "t.telemetry.logs".to_owned(),
        metrics_topic: "t.telemetry.metrics".to_owned(),
        intents_topic: "maturion.intents".to_owned(),
        engine: None,
        users: Arc::default(),
    }
}

fn open_with(settings: Settings, log: Recorder) -> Door {
    let (log, board) = (Arc::new(log), Arc::new(StatusBoard::new("a test's log")));
    let handle = serve::start(settings, log.clone(), board.clone()).unwrap();
    Door { log, board, handle }
}

fn open() -> Door {
    open_with(settings(), Recorder::default())
}

impl Door {
    fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    fn post(&self, query: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut request = agent().post(format!("http://{}/ingest/json{query}", self.address()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body).unwrap())
    }

    fn post_json(&self, body: &str) -> (u16, String) {
        self.post("", &[("content-type", "application/json")], body.as_bytes())
    }

    fn get(&self, path: &str) -> (u16, String) {
        answer(agent().get(format!("http://{}{path}", self.address())).call().unwrap())
    }

    fn values(&self) -> Vec<String> {
        let acknowledged = self.log.acknowledged.lock().unwrap();
        acknowledged.iter().map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect()
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build())
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> (u16, String) {
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

#[test]
fn each_element_is_written_unchanged_before_the_answer() {
    let door = open();
    assert_eq!(door.post_json(r#"[ {"a": 1.10}, 7, {"a":"ü"} ]"#), (200, r#"{"accepted":3}"#.to_owned()));
    assert_eq!(door.values(), [r#"{"a": 1.10}"#, "7", r#"{"a":"ü"}"#]);
    let lines = [("content-type", "application/x-ndjson; charset=utf-8")];
    assert_eq!(door.post("", &lines, b"{\"b\":1}\n{\"b\":2}\n").0, 200);
    assert_eq!(door.values().len(), 5);
    door.handle.stop();
}

#[test]
fn the_topic_is_what_the_query_says_and_never_guessed() {
    let door = open();
    let json = [("content-type", "application/json")];
    for query in ["", "?topic=logs", "?topic=metrics"] {
        assert_eq!(door.post(query, &json, b"{}").0, 200, "{query}");
    }
    let topics: Vec<String> = door.log.acknowledged.lock().unwrap().iter().map(|(topic, _)| topic.clone()).collect();
    assert_eq!(topics, ["t.telemetry.logs", "t.telemetry.logs", "t.telemetry.metrics"]);
    for query in ["?topic=audit", "?tpoic=logs"] {
        let (status, reason) = door.post(query, &json, b"{}");
        assert_eq!(status, 400);
        assert!(reason.contains("use topic=logs or topic=metrics"), "{reason}");
    }
}

#[test]
fn a_malformed_body_writes_nothing_and_says_where_it_breaks() {
    let door = open();
    let (status, reason) = door.post_json("{\"a\":1}\n{\"a\":}\n{\"a\":3}");
    assert_eq!(status, 400);
    assert!(reason.contains("line 2 column 6"), "{reason}");
    assert_eq!(door.post_json("").0, 400);
    assert!(door.log.pending.lock().unwrap().is_empty());
    assert!(door.values().is_empty());
}

#[test]
fn sizes_are_limited_before_and_after_decompression() {
    let door = open();
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let packed = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(door.post("", &gzip, &packed(b"[{},{}]")).1, r#"{"accepted":2}"#);
    let bomb = packed(&vec![b' '; BODY_BYTES_MAX + 1]);
    assert_eq!(door.post("", &gzip, &bomb).0, 413);
    assert_eq!(door.post("", &gzip, b"{}").0, 400);
    let large = format!("\"{}\"", "x".repeat(serve::RECORD_BYTES_MAX));
    assert_eq!(door.post_json(&large).0, 413);
    assert_eq!(door.post_json(&"1 ".repeat(serve::RECORDS_MAX + 1)).0, 413);
    let other = [("content-type", "application/json"), ("content-encoding", "br")];
    assert_eq!(door.post("", &other, b"{}").0, 415);
    assert_eq!(door.values(), ["{}", "{}"]);
}

#[test]
fn a_body_declared_too_large_is_refused_before_it_is_read() {
    let door = open();
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", BODY_BYTES_MAX + 1);
    assert!(raw(&door, "localhost", &head).starts_with("HTTP/1.1 413"));
}

#[test]
fn an_unavailable_log_is_not_the_clients_fault() {
    let door = open_with(settings(), Recorder { fails: true, ..Recorder::default() });
    let (status, reason) = door.post_json("{}");
    assert_eq!(status, 503);
    assert!(reason.contains("cannot reach Kafka at kafka:9092"), "{reason}");
}

#[test]
fn a_web_page_cannot_write() {
    let door = open();
    let page = [("content-type", "application/json"), ("origin", "https://evil.example")];
    assert_eq!(door.post("", &page, b"{}").0, 403);
    assert_eq!(door.post("", &[("content-type", "text/plain")], b"{}").0, 415);
    assert_eq!(door.post("", &[], b"{}").0, 415);
    assert!(raw(&door, "rebound.example", "Content-Length: 0\r\n").starts_with("HTTP/1.1 403"));
    assert!(door.values().is_empty());
}

/// Sends only the head of an ingestion, and returns the answer until the server closes the connection.
fn raw(door: &Door, host: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(door.address()).unwrap();
    write!(stream, "POST /ingest/json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{head}\r\n").unwrap();
    let mut answer = Vec::new();
    // A server that closes with unread input may reset the connection after its answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_token_is_asked_of_everything_but_the_health_checks() {
    let token = Token::new("secret");
    let door = open_with(Settings { token, ..settings() }, Recorder::default());
    assert_eq!(door.post_json("{}").0, 401);
    assert_eq!(door.get("/status").0, 401);
    assert_eq!(door.get("/health/live").0, 200);
    let with_token = [("content-type", "application/json"), ("authorization", "Bearer secret")];
    assert_eq!(door.post("", &with_token, b"{}").0, 200);
    let address = door.address();
    assert!(serve::fetch(address, Some("secret")).is_ok());
    let refused = serve::fetch(address, None).unwrap_err().to_string();
    assert!(refused.contains("401") && refused.contains("Authorization: Bearer"), "{refused}");
}

#[test]
fn a_process_is_ready_once_every_role_knows_its_partitions() {
    let door = open();
    assert_eq!(door.get("/health/ready").0, 503, "nothing has started");
    door.board.role("serve", RoleState::Running);
    door.board.role("intake", RoleState::Starting);
    let (status, reason) = door.get("/health/ready");
    assert_eq!((status, reason.contains("starting")), (503, true), "{reason}");
    door.board.role("intake", RoleState::Restoring);
    assert_eq!(door.get("/health/ready").0, 503);
    door.board.role("intake", RoleState::Running);
    assert_eq!(door.get("/health/ready"), (200, "ready\n".to_owned()));
    door.board.role("intake", RoleState::Failed("Kafka is away".to_owned()));
    assert_eq!(door.get("/health/ready").0, 503);
}

#[test]
fn a_process_that_is_not_ready_is_live() {
    let door = open();
    for state in [RoleState::Starting, RoleState::Restoring, RoleState::Failed("Kafka is away".to_owned())] {
        door.board.turned("detect");
        door.board.role("detect", state.clone());
        assert_eq!(door.get("/health/ready").0, 503, "{state:?}");
        assert_eq!(door.get("/health/live"), (200, "live\n".to_owned()), "a restart would cure nothing: {state:?}");
    }
}

#[test]
fn metrics_are_served_as_openmetrics_behind_the_token() {
    let door = open_with(Settings { token: Token::new("secret"), ..settings() }, Recorder::default());
    assert_eq!(door.get("/metrics").0, 401);
    let asked = agent().get(format!("http://{}/metrics", door.address())).header("authorization", "Bearer secret");
    let answered = asked.call().unwrap();
    let kind = answered.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let (status, text) = answer(answered);
    assert_eq!(status, 200);
    assert!(text.contains("\nmaturion_build_info{version=\"") && text.ends_with("# EOF\n"), "{text}");
}

/// Half a request held one of the bounded connections for ever.
#[test]
fn half_a_request_does_not_hold_a_connection_for_ever() {
    let door = open();
    let mut stream = TcpStream::connect(door.address()).unwrap();
    // Only ends a test that fails.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /health/live HTTP/1.1\r\nHost: loc").unwrap();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let is_open = matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!is_open, "the connection is still held: {}", String::from_utf8_lossy(&answer));
    assert_eq!(door.get("/health/live").0, 200);
}

#[test]
fn the_status_is_what_the_roles_said() {
    let door = open();
    assert_eq!(door.get("/health/ready").0, 503);
    door.board.role("intake", RoleState::Running);
    assert_eq!(door.get("/health/ready"), (200, "ready\n".to_owned()));
    let status = serve::fetch(door.address(), None).unwrap();
    assert_eq!(status, door.board.snapshot());
    assert!(serve::render(&status).contains("log: a test's log"));
    assert_eq!(door.get("/nowhere").0, 404);
}

#[test]
fn an_address_in_use_or_open_to_the_world_is_refused_in_words() {
    let door = open();
    let start = |address: SocketAddr| {
        let settings = Settings { address, ..settings() };
        serve::start(settings, Arc::new(Recorder::default()), Arc::new(StatusBoard::new(""))).unwrap_err()
    };
    let in_use = start(door.address());
    assert!(matches!(in_use, ServeError::InUse { .. }), "{in_use}");
    let remote = start(([0, 0, 0, 0], 0).into());
    assert!(matches!(remote, ServeError::Remote { .. }), "{remote}");
}

#[test]
fn a_door_open_to_all_is_asked_on_loopback() {
    let door = open_with(
        Settings { address: ([0, 0, 0, 0], 0).into(), token: Token::new("secret"), ..settings() },
        Recorder::default(),
    );
    assert!(serve::fetch(door.address(), Some("secret")).is_ok());
}

#[test]
fn a_stopped_door_frees_its_address() {
    let door = open();
    let (address, idle) = (door.address(), TcpStream::connect(door.address()).unwrap());
    assert_eq!(door.get("/health/live").0, 200);
    door.handle.stop();
    let again = Settings { address, ..settings() };
    open_with(again, Recorder::default()).handle.stop();
    drop(idle);
    assert!(serve::fetch(address, None).unwrap_err().to_string().contains("no instance answers"));
}
