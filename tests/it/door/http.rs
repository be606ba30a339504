//! `POST /api/v1/query`: who may ask, in which format, and what is said when the answer is no.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use maturion::log::Log;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::query::{Engine, Limits};
use maturion::serve::guard::Token;
use maturion::serve::status::StatusBoard;
use maturion::serve::{self, Question, ServeHandle, Settings};

use super::tenants::foreign_rows;
use super::{ONE, TWO, engine, engine_with, tables, users};

fn open(engine: Option<Arc<Engine>>, token: Option<&str>) -> ServeHandle {
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        allow_remote: false,
        token: token.and_then(Token::new),
        body_bytes_max: 1 << 20,
        logs_topic: "telemetry.logs".to_owned(),
        metrics_topic: "telemetry.metrics".to_owned(),
        intents_topic: "maturion.intents".to_owned(),
        engine,
        users: users(),
    };
    let appender = EmbeddedLog::new(EmbeddedSettings::default()).appender().unwrap();
    serve::start(settings, appender, Arc::new(StatusBoard::new("a test's log"))).unwrap()
}

fn post(address: SocketAddr, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build();
    let mut request = ureq::Agent::new_with_config(config).post(format!("http://{address}/api/v1/query"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.send(body).unwrap();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status().as_u16(), kind, answer.body_mut().read_to_string().unwrap())
}

fn asked(sql: &str, rest: &str) -> String {
    format!("{{\"sql\": {}{rest}}}", serde_json::to_string(sql).unwrap())
}

#[test]
fn rows_come_in_the_format_that_is_asked_for() {
    let door = open(Some(engine()), None);
    let sql = "SELECT kafka_offset FROM logs WHERE organisation_id = 'org-kestrel' AND kafka_offset < 2 ORDER BY 1";
    let json = "[{\"kafka_offset\":0},\n{\"kafka_offset\":1}]\n";
    let csv = "kafka_offset\r\n0\r\n1\r\n";
    for (rest, accept, kind, text) in [
        ("", "*/*", "application/json", json),
        (", \"format\": \"csv\"", "application/json", "text/csv", csv),
        ("", "text/csv", "text/csv", csv),
        ("", "text/html, application/json;q=0.9", "application/json", json),
    ] {
        let (status, content_type, body) = post(door.address(), &[("accept", accept)], &asked(sql, rest));
        assert_eq!((status, body.as_str()), (200, text), "{rest} {accept}");
        assert!(content_type.starts_with(kind), "{content_type}");
    }
    door.stop();
}

#[test]
fn the_same_rows_come_back_through_arrow() {
    let door = open(Some(engine()), Some("secret"));
    let ask = |tenant: Option<&str>, token| {
        let question = Question { sql: "SELECT * FROM logs".to_owned(), tenant: tenant.map(str::to_owned) };
        serve::ask(door.address(), token, question)
    };
    let count = |tenant| ask(tenant, Some("secret")).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
    assert_eq!((count(None), count(Some(ONE)), count(Some("org-nobody"))), (120, 40, 0));
    let refused = ask(None, None).err().unwrap().to_string();
    assert!(refused.contains("Authorization: Bearer"), "{refused}");
    door.stop();
}

#[test]
fn a_user_sees_what_the_user_may_see() {
    let door = open(Some(engine()), Some("secret"));
    // "ann:ann's password"
    let ann = [("authorization", "Basic YW5uOmFubidzIHBhc3N3b3Jk")];
    let (status, _, body) = post(door.address(), &ann, &asked("SELECT * FROM logs", ""));
    assert_eq!((status, foreign_rows(&body, TWO)), (200, 0));
    assert!(foreign_rows(&body, ONE) > 40, "{body:.500}");
    let own = post(door.address(), &ann, &asked("SELECT 1 AS x", &format!(", \"tenant\": \"{ONE}\"")));
    assert_eq!((own.0, own.2.as_str()), (200, "[{\"x\":1}]\n"));
    let other = post(door.address(), &ann, &asked("SELECT 1", &format!(", \"tenant\": \"{TWO}\"")));
    assert_eq!(other.0, 403);
    for wrong in ["Basic YW5uOndyb25n", "Basic !", "Basic", "Bearer wrong", "Bearer ann's password"] {
        let (status, _, body) = post(door.address(), &[("authorization", wrong)], &asked("SELECT 1", ""));
        assert_eq!(status, 401, "{wrong}: {body}");
    }
    door.stop();
}

#[test]
fn every_refusal_is_a_sentence() {
    let door = open(
        Some(engine_with(tables::source(), Limits { time_max: Duration::from_millis(300), ..Limits::default() })),
        None,
    );
    for (body, status, words) in [
        (asked("DROP TABLE logs", ""), 403, "DROP TABLE is refused"),
        (asked("SELECT nothing FROM logs", ""), 400, "nothing"),
        (asked("SELECT 1", ", \"format\": \"xml\""), 400, "unknown variant `xml`"),
        (asked("SELECT 1", ", \"tenants\": \"x\""), 400, "unknown field `tenants`"),
        ("not JSON".to_owned(), 400, "the body is not a question"),
        (asked("SELECT sum(value) FROM generate_series(1, 1000000000000)", ""), 422, "did not end within"),
    ] {
        let (got, _, said) = post(door.address(), &[], &body);
        assert!(got == status && said.contains(words), "{body:.100}: {got} {said}");
        assert!(said.starts_with("{\"error\":"), "{said}");
    }
    door.stop();
}

/// No more is sent than is read: a client that is not done with sending when the door closes loses the answer sometimes.
#[test]
fn a_question_that_is_too_long_is_refused() {
    const TOO_LONG: usize = (2 << 20) + 1;
    let door = open(Some(engine()), None);
    let mut connection = std::net::TcpStream::connect(door.address()).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!("POST /api/v1/query HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", door.address());
    write!(connection, "{head}content-type: application/json\r\ncontent-length: {TOO_LONG}\r\n\r\n").unwrap();
    connection.write_all(&vec![b'x'; TOO_LONG]).unwrap();
    let mut said = String::new();
    connection.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("{\"error\":"), "{said}");
    door.stop();
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let limits = Limits { time_max: Duration::from_millis(500), ..Limits::default() };
    let door = open(Some(engine_with(tables::source(), limits)), None);
    let question = Question { sql: "SELECT * FROM generate_series(1, 100000000000)".to_owned(), tenant: None };
    let answer = serve::ask(door.address(), None, question).unwrap();
    let last = answer.last().unwrap();
    assert!(last.is_err(), "a part was taken for all of it");
    door.stop();
}

#[test]
fn a_process_without_tables_says_so() {
    let door = open(None, None);
    let (status, _, said) = post(door.address(), &[], &asked("SELECT 1", ""));
    assert!(status == 503 && said.contains("the role store"), "{said}");
    door.stop();
}

/// The command line against a door: what it prints, what it says, its exit code.
fn command(door: &ServeHandle, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.arg("sql").args(arguments).env("MATURION__SERVE__HTTP", door.address().to_string());
    command.env("MATURION__SERVE__TOKEN_ENV", "DOOR_TOKEN").env("DOOR_TOKEN", "secret");
    let output = command.current_dir(std::env::temp_dir()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_asks_the_running_instance() {
    let door = open(Some(engine()), Some("secret"));
    let counted = command(&door, &["SELECT count(*) AS rows FROM logs", "--tenant", ONE]);
    assert_eq!(counted, (Some(0), "rows\n----\n40\n(1 row)\n".to_owned(), String::new()));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "-- of :'who'\nSELECT count(*) AS n FROM logs WHERE organisation_id = :'who'").unwrap();
    let path = file.path().to_str().unwrap();
    for (format, text) in [("csv", "n\r\n40\r\n"), ("json", "[{\"n\":40}]\n")] {
        let (code, said, _) = command(&door, &["-f", path, "--set", &format!("who={TWO}"), "--format", format]);
        assert_eq!((code, said.as_str()), (Some(0), text));
    }
    let (code, _, said) = command(&door, &["-f", path]);
    assert!(code == Some(2) && said.contains("--set who=…"), "{said}");
    let (code, said, reason) = command(&door, &["DROP TABLE logs"]);
    assert!(code == Some(1) && said.is_empty() && reason.starts_with("maturion: DROP TABLE is refused"), "{reason}");
    assert_eq!(command(&door, &["SELECT 1", "-f", path]).0, Some(2));
    door.stop();
}
