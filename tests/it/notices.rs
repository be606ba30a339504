//! Notices through each channel, against servers that record what arrives and answer what they are told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router as Routes;
use axum::body::to_bytes;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maturion::config::notify::Issue;
use maturion::config::{Config, Notify};
use maturion::model::pipeline::Severity;
use maturion::notify::send::{SendError, Sender};
use maturion::notify::{Delivery, Entry, Kind, Notice, Reason, Router, Routing, State, What};
use serde_json::Value;
use tokio::runtime::Runtime;

/// 2025-12-03T10:00:00Z.
const TEN: i64 = 1_764_756_000_000_000;
const MINUTE: i64 = 60_000_000;

/// What a recorder answers.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
    RedirectTo(SocketAddr),
    Never,
}

#[derive(Default)]
struct Record {
    /// Path, headers that matter, body.
    requests: Vec<(String, Vec<String>, String)>,
    answers: VecDeque<Answer>,
}

struct Recorder {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    _runtime: Runtime,
}

impl Recorder {
    fn start() -> Recorder {
        let record = Arc::new(Mutex::new(Record::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::new().fallback(take).with_state(Arc::clone(&record));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Recorder { address, record, _runtime: runtime }
    }

    fn answer(&self, answers: &[Answer]) {
        self.record.lock().unwrap().answers = answers.iter().copied().collect();
    }

    fn requests(&self) -> Vec<(String, Vec<String>, String)> {
        self.record.lock().unwrap().requests.clone()
    }
}

async fn take(Shared(record): Shared<Arc<Mutex<Record>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let wanted = ["content-type", "idempotency-key", "x-maturion-signature"];
    let headers =
        wanted.iter().filter_map(|name| Some(format!("{name}: {}", parts.headers.get(*name)?.to_str().ok()?)));
    let answer = {
        let mut record = record.lock().unwrap();
        record.requests.push((parts.uri.path().to_owned(), headers.collect(), body));
        record.answers.pop_front().unwrap_or(Answer::Status(202))
    };
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::RetryAfter(status, after) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", after)]).into_response()
        }
        Answer::RedirectTo(address) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", format!("http://{address}/stolen"))]).into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

/// A mail server that takes everything, and what it was told.
fn mail_server(refuse: bool) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, told) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(vec![])));
    let record = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).unwrap_or(());
            say("220 test");
            let mut data = false;
            while let Some(Ok(line)) = lines.next() {
                record.lock().unwrap().push(line.clone());
                match line.get(..4).unwrap_or_default() {
                    _ if data && line != "." => {}
                    _ if data => {
                        data = false;
                        say("250 taken");
                    }
                    "EHLO" => say("250 test"),
                    "RCPT" if refuse => say("550 no such mailbox"),
                    "DATA" => {
                        data = true;
                        say("354 go on");
                    }
                    "QUIT" => say("221 bye"),
                    _ => say("250 ok"),
                }
            }
        }
    });
    (address, told)
}

fn config(text: &str, secrets: &[(&str, String)]) -> Notify {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maturion.toml");
    std::fs::write(&file, text).unwrap();
    let environment = secrets.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Config::load(Some(&file), &environment).unwrap_or_else(|error| panic!("{error}")).notify
}

/// Every channel, to one recorder.
fn all_channels(address: SocketAddr) -> Notify {
    let text = format!(
        r#"
        [notify]
        timeout = "5s"
        [[contact]]
        name = "hook"
        channel = "webhook"
        url_env = "HOOK"
        signing_key_env = "KEY"
        [[contact]]
        name = "slack"
        channel = "slack"
        url_env = "SLACK"
        [[contact]]
        name = "pager"
        channel = "pagerduty"
        routing_key_env = "KEY"
        event_url = "http://{address}/v2/enqueue"
        [[contact]]
        name = "alerts"
        channel = "alertmanager"
        url_env = "ALERTS"
        "#
    );
    let url = |path: &str| format!("http://{address}/{path}");
    config(
        &text,
        &[("HOOK", url("hook")), ("SLACK", url("slack")), ("ALERTS", url("alerts")), ("KEY", "k3y".to_owned())],
    )
}

fn entry(incident: &str) -> Entry {
    Entry {
        incident: incident.to_owned(),
        epoch: 1,
        issue: Issue::High,
        severity: Severity::High,
        title: "Threat API <!channel> fails, see https://evil.example".to_owned(),
        module: Some("threat-analysis".to_owned()),
        ticket: Some("https://github.com/acme/platform/issues/7".to_owned()),
        opened: TEN,
        resolved: None,
        acknowledged: None,
        respond_within: 30 * MINUTE,
    }
}

fn delivery(contact: &str, kind: Kind) -> Delivery {
    let mut second =
        Entry { severity: Severity::Critical, module: None, ticket: None, title: "b".to_owned(), ..entry("5b") };
    second.resolved = (kind != Kind::Trigger).then_some(TEN + 5 * MINUTE);
    let mut first = entry("5a");
    first.acknowledged = (kind == Kind::Acknowledge).then(|| "ann".to_owned());
    first.resolved = (kind == Kind::Resolve).then_some(TEN + 9 * MINUTE);
    Delivery {
        id: format!("d-{}", kind.name()),
        contact: contact.to_owned(),
        kind,
        alert: "5a".to_owned(),
        group: "threat-analysis".to_owned(),
        at: TEN + 10 * MINUTE,
        entries: vec![first, second],
        more: if kind == Kind::Trigger { 3 } else { 0 },
        reason: (kind == Kind::Trigger).then_some(Reason::RepeatedFailure),
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn each_channel_says_what_its_receiver_expects() {
    let recorder = Recorder::start();
    let (runtime, sender) = (runtime(), Sender::new(&all_channels(recorder.address)).unwrap());
    for contact in ["hook", "slack", "pager", "alerts"] {
        for kind in [Kind::Trigger, Kind::Update, Kind::Acknowledge, Kind::Resolve] {
            runtime.block_on(sender.send(&delivery(contact, kind))).unwrap();
        }
        let requests = std::mem::take(&mut recorder.record.lock().unwrap().requests);
        let text: Vec<String> = (requests.into_iter())
            .map(|(path, headers, body)| {
                let body: Value = serde_json::from_str(&body).unwrap();
                format!("POST {path}\n{}\n\n{body:#}\n", headers.join("\n"))
            })
            .collect();
        insta::assert_snapshot!(contact, text.join("\n").replace('\u{200b}', "·"));
    }
}

#[test]
fn answers_are_told_apart() {
    let recorder = Recorder::start();
    let (runtime, sender) = (runtime(), Sender::new(&all_channels(recorder.address)).unwrap());
    let thief = Recorder::start();
    let answers = [
        Answer::Status(200),
        Answer::Status(400),
        Answer::Status(404),
        Answer::Status(500),
        Answer::RetryAfter(429, "17"),
        Answer::RedirectTo(thief.address),
        Answer::Never,
    ];
    recorder.answer(&answers);
    let waits: Vec<Option<Option<u64>>> = (answers.iter())
        .map(|_| runtime.block_on(sender.send(&delivery("hook", Kind::Trigger))))
        .map(|sent| sent.err().map(|error| error.wait(1).map(|wait| wait.as_secs())))
        .collect();
    assert_eq!(waits, [None, Some(None), Some(None), Some(Some(1)), Some(Some(17)), Some(None), Some(Some(1))]);
    assert!(thief.requests().is_empty(), "no redirect is followed");
    let unknown = runtime.block_on(sender.send(&delivery("gone", Kind::Resolve)));
    assert_eq!(unknown, Err(SendError::NoContact("gone".to_owned())));
}

#[test]
fn an_error_shows_no_address() {
    let text = "[[contact]]\nname = \"hook\"\nchannel = \"webhook\"\nurl_env = \"HOOK\"\n";
    let nobody = config(text, &[("HOOK", "http://127.0.0.1:1/s3cret".to_owned())]);
    assert!(!format!("{nobody:?}").contains("s3cret"));
    let sent = runtime().block_on(Sender::new(&nobody).unwrap().send(&delivery("hook", Kind::Trigger))).unwrap_err();
    assert_eq!(
        (sent.to_string(), sent.wait(1)),
        ("the notice is sent again later (no connection)".to_owned(), Some(Duration::from_secs(1)))
    );
}

#[test]
fn encrypted_addresses_can_be_used() {
    // The recorder does not speak TLS, so the connection fails; an address that cannot be used would be refused for good.
    let recorder = Recorder::start();
    let text = "[[contact]]\nname = \"hook\"\nchannel = \"webhook\"\nurl_env = \"HOOK\"\n";
    let encrypted = config(text, &[("HOOK", format!("https://{}/x", recorder.address))]);
    let sent = runtime().block_on(Sender::new(&encrypted).unwrap().send(&delivery("hook", Kind::Trigger)));
    assert!(matches!(sent, Err(SendError::Later { .. })), "{sent:?}");
    assert!(recorder.requests().is_empty());
}

fn mail_config(address: SocketAddr) -> Notify {
    let text = format!(
        "[notify]\ntimeout = \"20s\"\n[[contact]]\nname = \"mail\"\nchannel = \"mail\"\nserver = \"{address}\"\nencryption = \"none\"\n\
         from = \"Maturion <maturion@example.org>\"\nto = [\"ann@example.org\", \"bob@example.org\"]\n"
    );
    config(&text, &[])
}

#[test]
fn mail_says_the_same_in_words() {
    let (address, told) = mail_server(false);
    let (runtime, notify) = (runtime(), mail_config(address));
    let sender = runtime.block_on(async { Sender::new(&notify) }).unwrap();
    for kind in [Kind::Trigger, Kind::Resolve] {
        runtime.block_on(sender.send(&delivery("mail", kind))).unwrap();
    }
    let lines = told.lock().unwrap().clone();
    let kept = lines.iter().filter(|line| !line.starts_with("Date: ") && !line.starts_with("EHLO"));
    insta::assert_snapshot!("mail", kept.map(|line| format!("{}\n", line.trim_end())).collect::<String>());
}

#[test]
fn a_mailbox_that_is_refused_is_refused_for_good() {
    let (address, _) = mail_server(true);
    let (runtime, notify) = (runtime(), mail_config(address));
    let sender = runtime.block_on(async { Sender::new(&notify) }).unwrap();
    let refused = runtime.block_on(sender.send(&delivery("mail", Kind::Trigger))).unwrap_err();
    assert_eq!(
        (refused.to_string(), refused.wait(1)),
        (
            "the notice was refused (the mail server said 550): check the address and the keys of the [[contact]]"
                .to_owned(),
            None
        )
    );
}

/// The configuration of the reference, the router and a channel together.
#[test]
fn an_incident_is_told_and_ended_through_the_whole_way() {
    let recorder = Recorder::start();
    let text = r#"
        [[contact]]
        name = "on-call"
        channel = "webhook"
        url_env = "HOOK"
        [[contact]]
        name = "johan"
        channel = "webhook"
        url_env = "SECOND"
        [[escalation]]
        issue = "critical_platform"
        primary = "on-call"
        secondary = "johan"
    "#;
    let secrets = [
        ("HOOK", format!("http://{}/first", recorder.address)),
        ("SECOND", format!("http://{}/second", recorder.address)),
    ];
    let notify = config(text, &secrets);
    let (runtime, sender) = (runtime(), Sender::new(&notify).unwrap());
    let mut router = Router::new(Routing::of(&notify), State::default());
    let notice = |what| Notice {
        incident: "5a".to_owned(),
        epoch: 0,
        what,
        issue: Issue::CriticalPlatform,
        severity: Severity::Critical,
        title: "the platform is down".to_owned(),
        module: None,
        ticket: None,
        group: "platform".to_owned(),
    };
    let mut deliveries = router.notice(&notice(What::Opened), TEN);
    deliveries.extend(router.tick(router.next_deadline().unwrap()));
    deliveries.extend(router.notice(&notice(What::Resolved), TEN + 10 * MINUTE));
    deliveries.iter().for_each(|delivery| runtime.block_on(sender.send(delivery)).unwrap());
    let kinds: Vec<String> = (recorder.requests().iter())
        .map(|(path, _, body)| {
            format!("{path} {}", serde_json::from_str::<Value>(body).unwrap()["kind"].as_str().unwrap())
        })
        .collect();
    assert_eq!(kinds, ["/first trigger", "/second trigger", "/second resolve", "/first resolve"]);
}
