//! The adapters against real parts: a control interface that records what it is asked, and programs that run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maturion::act::{ActError, Adapters, Order, Snapshot};
use maturion::config::{Config, Control, PolicyTexts, Program};
use maturion::decide::Policy;
use maturion::model::action::{Action, AdapterSpec, CommandSpec, HttpCall, HttpSpec, Intent, ValueChange};

const SECOND_US: i64 = 1_000_000;

/// What was asked, as `METHOD /path`, with the headers and the body.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: axum::http::HeaderMap,
    body: Bytes,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// A control interface that writes down what it is asked. The path says how it answers.
struct Platform {
    port: u16,
    asked: Log,
}

impl Platform {
    async fn start() -> Platform {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Log::default());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Platform { port, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    fn adapters(&self) -> Adapters {
        adapters(&format!("http://localhost:{}/base/", self.port))
    }
}

async fn answer(State(log): State<Log>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let line = format!("{} {}", parts.method, parts.uri);
    log.lock().unwrap().push(Asked { line: line.clone(), headers: parts.headers, body });
    let path = line.split('/').next_back().unwrap_or_default();
    match path {
        "state" => r#"{"limit": 100, "burst": {"size": 5}}"#.into_response(),
        "list" => "[1]".into_response(),
        "large" => format!("{{\"a\": \"{}\"}}", "x".repeat(70_000)).into_response(),
        "slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
        "redirect" => (StatusCode::FOUND, [(header::LOCATION, "/base/secret")]).into_response(),
        status => match status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(status) => (status, "the body with a token hunter2").into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        },
    }
}

/// The adapters with one control, `platform`, and the programs of the tests.
fn adapters(url: &str) -> Adapters {
    let programs = [("echo", "/bin/echo"), ("sleep", "/bin/sleep"), ("sh", "/bin/sh"), ("env", "/usr/bin/env")];
    let programs = programs.map(|(name, program)| Program { name: name.to_owned(), program: PathBuf::from(program) });
    Adapters::new(&[control(url)], &programs).unwrap()
}

/// Through a file, as an operator would write it: the token is a secret.
fn control(url: &str) -> Control {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maturion.toml");
    std::fs::write(folder.path().join("token"), "hunter2\n").unwrap();
    std::fs::write(&file, format!("[[control]]\nname = \"platform\"\nurl = \"{url}\"\ntoken_file = \"token\"\n"))
        .unwrap();
    Config::load(Some(&file), &Default::default()).unwrap().controls.remove(0)
}

fn action(adapter: AdapterSpec) -> Action {
    let policy = Policy::compile(&PolicyTexts::shipped(), &[]).unwrap();
    Action { adapter, ..policy.action("raise_rate_limit").unwrap().clone() }
}

fn call(method: &str, path: &str, body: Option<&str>) -> HttpCall {
    HttpCall { method: method.to_owned(), path: path.to_owned(), body: body.map(str::to_owned) }
}

/// An action whose three calls go to this path.
fn http(path: &str) -> Action {
    action(AdapterSpec::Http(HttpSpec {
        control: "platform".to_owned(),
        snapshot: Some(call("GET", path, None)),
        apply: call("PUT", path, Some(r#"{"limit": "{value}", "for": "{organisation}"}"#)),
        revert: Some(call("PUT", path, Some(r#""{before}""#))),
        timeout: SECOND_US,
    }))
}

fn command(name: &str, arguments: &[&str], timeout: i64) -> Action {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    action(AdapterSpec::Command(CommandSpec {
        command: name.to_owned(),
        snapshot: Some(arguments.clone()),
        apply: arguments.clone(),
        revert: Some(arguments),
        timeout,
    }))
}

fn intent(target: &str) -> Intent {
    Intent {
        incident_id: "incident".to_owned(),
        action: "raise_rate_limit".to_owned(),
        target: target.to_owned(),
        organisation_id: Some("org_1".to_owned()),
        attempt: 1,
        change: Some(ValueChange { parameter: "limit".to_owned(), from: 100.0, to: 150.0 }),
    }
}

fn order<'a>(action: &'a Action, intent: &'a Intent) -> Order<'a> {
    Order { action, intent, fencing_token: 7 }
}

async fn apply(adapters: &Adapters, action: &Action) -> Result<(), ActError> {
    let intent = intent("threat-analysis");
    adapters.of(action).unwrap().apply(&order(action, &intent)).await
}

#[tokio::test]
async fn a_change_is_read_applied_and_taken_back() {
    let platform = Platform::start().await;
    let (adapters, action, intent) = (platform.adapters(), http("/m/{target}/state"), intent("threat-analysis"));
    let adapter = adapters.of(&action).unwrap();
    let before = adapter.snapshot(&order(&action, &intent)).await.unwrap();
    assert_eq!(before.number("limit"), Some(100.0));
    adapter.apply(&order(&action, &intent)).await.unwrap();
    adapter.revert(&order(&action, &intent), &before).await.unwrap();

    let path = "/base/m/threat-analysis/state";
    assert_eq!(platform.lines(), [format!("GET {path}"), format!("PUT {path}"), format!("PUT {path}")]);
    let asked = platform.asked();
    assert_eq!(asked[1].body, r#"{"limit":150,"for":"org_1"}"#);
    assert_eq!(asked[2].body, r#"{"limit":100,"burst":{"size":5}}"#);
    assert_eq!(asked[1].header("idempotency-key"), intent.key());
    assert_eq!(asked[2].header("idempotency-key"), format!("{}-revert", intent.key()));
    assert!(asked.iter().all(|asked| asked.header("maturion-fencing-token") == "7"));
    assert!(asked.iter().all(|asked| asked.header("authorization") == "Bearer hunter2"));
}

#[tokio::test]
async fn an_answer_says_what_is_known() {
    let platform = Platform::start().await;
    let adapters = platform.adapters();
    for (path, expected) in [
        ("/200", Ok(())),
        ("/202", Ok(())),
        ("/400", Err("refused: the answer was 400 Bad Request")),
        ("/403", Err("refused: the answer was 403 Forbidden")),
        ("/412", Err("refused: the answer was 412 Precondition Failed")),
        ("/408", Err("sent, and nobody knows whether it was done: the answer was 408 Request Timeout")),
        ("/409", Err("sent, and nobody knows whether it was done: the answer was 409 Conflict")),
        ("/500", Err("sent, and nobody knows whether it was done: the answer was 500 Internal Server Error")),
        ("/503", Err("sent, and nobody knows whether it was done: the answer was 503 Service Unavailable")),
    ] {
        let outcome = apply(&adapters, &http(path)).await.map_err(|error| error.to_string());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{path}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let platform = Platform::start().await;
    let outcome = apply(&platform.adapters(), &http("/redirect")).await;
    assert!(
        matches!(&outcome, Err(ActError::Refused(text)) if text.contains("no redirect is followed")),
        "{outcome:?}"
    );
    assert_eq!(platform.lines(), ["PUT /base/redirect"]);
}

#[tokio::test]
async fn no_answer_in_time_is_unknown() {
    let platform = Platform::start().await;
    let outcome = apply(&platform.adapters(), &http("/slow")).await;
    assert_eq!(outcome, Err(ActError::Unknown("no answer in time".to_owned())));
    assert_eq!(platform.lines(), ["PUT /base/slow"], "it was sent");
}

#[tokio::test]
async fn nobody_there_is_not_sent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let adapters = adapters(&format!("http://127.0.0.1:{free}"));
    let outcome = apply(&adapters, &http("/200")).await;
    assert!(matches!(&outcome, Err(ActError::NotSent(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        socket.readable().await.unwrap();
    });
    let outcome = apply(&adapters(&format!("http://127.0.0.1:{port}")), &http("/200")).await;
    assert!(matches!(&outcome, Err(ActError::Unknown(_))), "{outcome:?}");
    accepted.await.unwrap();
}

#[tokio::test]
async fn a_state_that_is_too_large_or_no_object_is_refused() {
    let platform = Platform::start().await;
    let (adapters, intent) = (platform.adapters(), intent("m"));
    for (path, words) in [("/large", "more than 65536 bytes"), ("/list", "not a JSON object"), ("/204", "not a JSON")] {
        let action = http(path);
        let outcome = adapters.of(&action).unwrap().snapshot(&order(&action, &intent)).await;
        assert!(matches!(&outcome, Err(ActError::Refused(text)) if text.contains(words)), "{outcome:?}");
    }
    let large = http("/large");
    assert_eq!(apply(&adapters, &large).await, Ok(()), "it is done, however much is said about it");
}

#[tokio::test]
async fn a_hostile_target_stays_one_segment_of_the_path() {
    let platform = Platform::start().await;
    let (adapters, action) = (platform.adapters(), http("/m/{target}/200"));
    for (target, line) in [
        ("../../admin", "PUT /base/m/..%2F..%2Fadmin/200"),
        ("a?b#c", "PUT /base/m/a%3Fb%23c/200"),
        ("@evil.example:80/", "PUT /base/m/%40evil.example%3A80%2F/200"),
        ("a\r\nHost: evil", "PUT /base/m/a%0D%0AHost%3A%20evil/200"),
    ] {
        adapters.of(&action).unwrap().apply(&order(&action, &intent(target))).await.unwrap();
        assert_eq!(platform.lines().last().unwrap(), line);
    }
    for target in ["..", ".", ""] {
        let outcome = adapters.of(&action).unwrap().apply(&order(&action, &intent(target))).await;
        assert!(matches!(outcome, Err(ActError::NotSent(_))), "{target}");
    }
    assert_eq!(platform.lines().len(), 4);
}

#[tokio::test]
async fn no_secret_is_part_of_an_error() {
    let platform = Platform::start().await;
    for path in ["/400", "/500", "/redirect", "/large", "/list"] {
        let (adapters, action, intent) = (platform.adapters(), http(path), intent("m"));
        let adapter = adapters.of(&action).unwrap();
        let said = format!(
            "{:?} {:?}",
            adapter.apply(&order(&action, &intent)).await,
            adapter.snapshot(&order(&action, &intent)).await
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn what_is_not_configured_is_not_supported() {
    let adapters = Adapters::new(&[], &[]).unwrap();
    assert!(adapters.of(&http("/200")).is_none());
    let missing = adapters.missing(&http("/200")).unwrap();
    assert_eq!(missing, "raise_rate_limit needs the control `platform`, and no [[control]] has that name");
    let missing = adapters.missing(&command("echo", &[], SECOND_US)).unwrap();
    assert_eq!(missing, "raise_rate_limit needs the command `echo`, and no [[command]] has that name");
}

async fn output(name: &str, arguments: &[&str]) -> Result<Snapshot, ActError> {
    let (action, intent) = (command(name, arguments, 10 * SECOND_US), intent("$(id); rm -rf /"));
    adapters("https://localhost").of(&action).unwrap().snapshot(&order(&action, &intent)).await
}

#[tokio::test]
async fn a_program_gets_its_arguments_as_they_are_and_no_shell() {
    let state = output("echo", &[r#"["{target}", {"#]).await;
    assert!(matches!(state, Err(ActError::NotSent(_))), "a brace without its other half: {state:?}");
    let action = command("sh", &["-c", "test \"$1\" = '$(id); rm -rf /' && test $# = 1", "sh", "{target}"], SECOND_US);
    let adapters = adapters("https://localhost");
    let hostile = intent("$(id); rm -rf /");
    adapters.of(&action).unwrap().apply(&order(&action, &hostile)).await.unwrap();
}

#[tokio::test]
async fn a_program_has_an_environment_of_its_own() {
    let script = "test \"$(/usr/bin/env | /usr/bin/grep -cv -e ^PWD= -e ^SHLVL= -e ^_= -e ^MATURION_)\" = 0 \
                  && test \"$MATURION_FENCING_TOKEN\" = 7 && test -n \"$MATURION_IDEMPOTENCY_KEY\" && test \"$PWD\" = /";
    assert_eq!(apply(&adapters("https://localhost"), &command("sh", &["-c", script], 10 * SECOND_US)).await, Ok(()));
}

#[tokio::test]
async fn a_state_is_what_a_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    std::fs::write(&file, r#"{"limit": 100}"#).unwrap();
    let state = output("sh", &["-c", &format!("/bin/cat {}", file.display())]).await.unwrap();
    assert_eq!(state.number("limit"), Some(100.0));
    let state = output("echo", &["no object"]).await;
    assert!(matches!(&state, Err(ActError::Refused(text)) if text.contains("not a JSON object")), "{state:?}");
    let state = output("sh", &["-c", "/usr/bin/head -c 1000000 /dev/zero"]).await;
    assert!(matches!(&state, Err(ActError::Refused(text)) if text.contains("more than 65536 bytes")), "{state:?}");
}

#[tokio::test]
async fn a_program_that_fails_may_have_done_a_part() {
    let adapters = adapters("https://localhost");
    let outcome = apply(&adapters, &command("sh", &["-c", "exit 3"], SECOND_US)).await;
    assert_eq!(outcome, Err(ActError::Unknown("the program ended with exit status: 3".to_owned())));
    let gone = Program { name: "gone".to_owned(), program: PathBuf::from("/nowhere/gone") };
    let adapters = Adapters::new(&[], &[gone]).unwrap();
    let outcome = apply(&adapters, &command("gone", &[], SECOND_US)).await;
    assert!(matches!(outcome, Err(ActError::NotSent(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("children");
    let adapters = adapters("https://localhost");
    let outcome = apply(&adapters, &command("sleep", &["600"], SECOND_US / 10)).await;
    assert_eq!(outcome, Err(ActError::Unknown("the program was killed: it did not end in time".to_owned())));

    let script = format!("/bin/sleep 601 & echo $! > {0}.new && /bin/mv {0}.new {0} && wait", file.display());
    let outcome = apply(&adapters, &command("sh", &["-c", &script], 2 * SECOND_US)).await;
    assert!(matches!(outcome, Err(ActError::Unknown(_))), "{outcome:?}");
    let child = std::fs::read_to_string(&file).unwrap();
    let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let begun = Instant::now();
    while !gone() {
        assert!(begun.elapsed() < Duration::from_secs(20), "process {child} goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
