//! What people tell the agent over HTTP reaches the actor, and nothing unusable does.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use maturion::incident::book::Command;
use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::serve::guard::Token;
use maturion::serve::{self, Settings};
use serde_json::json;

use crate::flow::Flow;

/// The status that a request is answered with.
fn post(address: std::net::SocketAddr, path: &str, token: &str, body: &str) -> u16 {
    use std::io::Write;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn commands_are_checked_and_written_for_the_actor() {
    let flow = Flow::new(Arc::new(EmbeddedLog::new(EmbeddedSettings::default())), "c.", 1, vec![]);
    let topics = &flow.runtime.topics;
    let settings = Settings {
        address: "127.0.0.1:0".parse().unwrap(),
        allow_remote: false,
        token: Token::new("s3cret"),
        body_bytes_max: 1 << 20,
        logs_topic: topics.logs(),
        metrics_topic: topics.metrics(),
        intents_topic: topics.intents(),
        engine: None,
        users: Arc::default(),
    };
    let appender = flow.runtime.log.appender().unwrap();
    let door = serve::start(settings, appender, Arc::clone(&flow.runtime.board)).unwrap();
    let id = "0123456789abcdef0123456789abcdef";
    let until = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let silence = |owner: &str, labels: serde_json::Value| {
        let from = until - chrono::TimeDelta::hours(2);
        json!({ "id": "s1", "labels": labels, "owner": owner, "reason": "upgrade", "from": from, "until": until })
            .to_string()
    };
    let by = r#"{"by": "mia"}"#;
    let acknowledge = format!("/api/v1/incidents/{id}/acknowledge");
    let requests = [
        (acknowledge.as_str(), "s3cret", by.to_owned(), 202),
        (acknowledge.as_str(), "wrong", by.to_owned(), 401),
        (acknowledge.as_str(), "s3cret", r#"{"by": " "}"#.to_owned(), 400),
        (acknowledge.as_str(), "s3cret", r#"{"by": "mia", "and": 1}"#.to_owned(), 400),
        ("/api/v1/incidents/..%2F..%2Fetc/unlock", "s3cret", by.to_owned(), 400),
        ("/api/v1/silences", "s3cret", silence("mia", json!({ "module": "exports" })), 202),
        ("/api/v1/silences", "s3cret", silence("", json!({ "module": "exports" })), 400),
        ("/api/v1/silences", "s3cret", silence("mia", json!({})), 400),
        ("/api/v1/silences/s1/end", "s3cret", by.to_owned(), 202),
    ];
    for (path, token, body, expected) in requests {
        assert_eq!(post(door.address(), path, token, &body), expected, "{path} {body}");
    }
    door.stop();
    let written = flow.read(&topics.intents());
    let commands = written.iter().map(|output| serde_json::from_slice::<Command>(&output.value).unwrap());
    let commands = commands.collect::<Vec<_>>();
    assert_eq!(commands[0], Command::Acknowledge { incident_id: id.to_owned(), by: "mia".to_owned() });
    assert!(matches!(&commands[1], Command::Silence { silence, by } if silence.id == "s1" && by == "mia"));
    assert_eq!(commands[2], Command::EndSilence { id: "s1".to_owned(), by: "mia".to_owned() });
    assert_eq!(commands.len(), 3);
}
