//! A GitHub for the tests: a real HTTP server that keeps issues, labels, comments, branches and pull requests, and behaves as GitHub
//! does where it matters: lists that lag, pages, labels that are left out in silence, limits, and answers that are late,
//! wrong or lost, before and after the effect.

mod issues;
mod pulls;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

pub use issues::Issue;
pub use pulls::Pull;

pub const REPOSITORY: &str = "acme/platform";
pub const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
pub const SECOND: i64 = 1_000_000;
/// 2025-12-03T10:00:00Z.
pub const TEN: i64 = 1_764_756_000_000_000;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500, and nothing is done.
    Before,
    /// It is done, and the answer is 502.
    After,
    /// It is done, and the answer breaks off.
    Lost,
    /// It is done, and the answer comes later than anyone waits.
    Slow,
    /// A secondary limit that says how long.
    Secondary,
    /// A secondary limit that does not.
    SecondaryUnsaid,
    /// The hour's requests are used up.
    Primary,
}

/// How often, of ten thousand requests, each fault happens.
pub const USUAL: [(Fault, u32); 7] = [
    (Fault::Before, 100),
    (Fault::After, 200),
    (Fault::Lost, 200),
    (Fault::Slow, 1),
    (Fault::Secondary, 50),
    (Fault::SecondaryUnsaid, 30),
    (Fault::Primary, 20),
];

/// Everything that GitHub knows.
pub struct World {
    /// The time that tests turn.
    pub now: i64,
    /// How long an issue that was created is in no list.
    pub lag: i64,
    /// Items of a page, whatever is asked for.
    pub page_most: usize,
    pub token_may_write: bool,
    pub issues_enabled: bool,
    pub exists: bool,
    pub moved: bool,
    pub issues: BTreeMap<u64, Issue>,
    pub labels: Vec<String>,
    pub files: BTreeMap<String, BTreeMap<String, String>>,
    pub pulls: Vec<Pull>,
    /// What happens to the next requests, before chance is asked.
    pub planned: VecDeque<Option<Fault>>,
    pub chance: Option<(StdRng, &'static [(Fault, u32)])>,
    /// Method and path of every request.
    pub requests: Vec<String>,
    next: u64,
}

/// The server, until it is dropped.
pub struct FakeGitHub {
    pub address: SocketAddr,
    pub world: Arc<Mutex<World>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeGitHub {
    pub fn start() -> FakeGitHub {
        let world = Arc::new(Mutex::new(World::new()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&world));
        runtime.spawn(async move { axum::serve(listener, router).await });
        FakeGitHub { address, world, _runtime: runtime }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl World {
    fn new() -> World {
        World {
            now: TEN,
            lag: 0,
            page_most: 100,
            token_may_write: true,
            issues_enabled: true,
            exists: true,
            moved: false,
            issues: BTreeMap::new(),
            labels: vec![],
            files: BTreeMap::from([("main".to_owned(), BTreeMap::new())]),
            pulls: vec![],
            planned: VecDeque::new(),
            chance: None,
            requests: vec![],
            next: 0,
        }
    }

    pub fn with_chance(&mut self, seed: u64, faults: &'static [(Fault, u32)]) {
        self.chance = Some((StdRng::seed_from_u64(seed), faults));
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn fault(&mut self) -> Option<Fault> {
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        let (chance, faults) = self.chance.as_mut()?;
        let mut drawn = chance.random_range(0..10_000);
        for (fault, often) in *faults {
            match drawn < *often {
                true => return Some(*fault),
                false => drawn -= often,
            }
        }
        None
    }

    /// The answer of a GitHub without faults.
    fn serve(&mut self, call: &Call) -> Response {
        let parts: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        if let ["elsewhere", number] = parts.as_slice() {
            let issue = number.parse().ok().and_then(|number: u64| self.issues.get(&number));
            return issue.map_or_else(|| said(404, "Not Found"), |issue| reply(200, issue.to_json()));
        }
        // Redirects and pages name a repository by its number.
        let by_number = parts.strip_prefix(&["repositories", "7"]);
        let named = parts.strip_prefix(&["repos", "acme", "platform"]);
        let Some(rest) = by_number.or(named).filter(|_| self.exists) else { return said(404, "Not Found") };
        if self.moved && by_number.is_none() {
            return moved(&format!("/repositories/7/{}", rest.join("/")));
        }
        match rest {
            [] => reply(200, json!({ "default_branch": "main" })),
            ["installation"] => reply(200, json!({ "id": 99 })),
            ["issues" | "labels", ..] if !self.issues_enabled => said(410, "Issues are disabled for this repo"),
            ["issues" | "labels", ..] => self.issues_call(call, rest),
            ["pulls" | "git" | "contents", ..] => self.pulls_call(call, rest),
            _ => said(404, "Not Found"),
        }
    }
}

/// One request, read.
pub struct Call {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    body: Value,
}

impl Call {
    fn asked(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.body[name].as_str().map(str::to_owned)
    }
}

async fn answer(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let call = Call {
        method: parts.method,
        path: percent_decoded(parts.uri.path()),
        query,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let (fault, response) = {
        let mut world = world.lock().unwrap();
        world.requests.push(format!("{} {}", call.method, parts.uri));
        if let Some(response) = sign_in(&world, &call, &parts.headers) {
            return response;
        }
        let fault = world.fault();
        match fault {
            Some(Fault::Before) => return said(500, "Internal Server Error"),
            Some(Fault::Secondary) => {
                return limited(403, "retry-after", "7", "You have exceeded a secondary rate limit.");
            }
            Some(Fault::SecondaryUnsaid) => {
                return limited(429, "x-none", "", "You have exceeded a secondary rate limit.");
            }
            Some(Fault::Primary) => {
                let reset = (world.now / SECOND + 90).to_string();
                let mut response = limited(403, "x-ratelimit-remaining", "0", "API rate limit exceeded");
                response.headers_mut().insert("x-ratelimit-reset", reset.parse().unwrap());
                return response;
            }
            _ => (fault, world.serve(&call)),
        }
    };
    match fault {
        Some(Fault::After) => said(502, "Bad Gateway"),
        Some(Fault::Lost) => {
            let broken = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("lost"))]);
            (response.status(), Body::from_stream(broken)).into_response()
        }
        Some(Fault::Slow) => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            response
        }
        _ => response,
    }
}

/// Refuses who has not signed in; answers an app that does.
fn sign_in(world: &World, call: &Call, headers: &HeaderMap) -> Option<Response> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let app = given.strip_prefix("Bearer ").is_some_and(|token| token.starts_with("eyJ"));
    if call.path == "/app/installations/99/access_tokens" && app {
        let expires = chrono::DateTime::from_timestamp_micros(world.now).unwrap() + chrono::Duration::days(36_500);
        return Some(reply(201, json!({ "token": TOKEN, "expires_at": expires.to_rfc3339(), "permissions": {} })));
    }
    let known = given == format!("Bearer {TOKEN}") || app && call.path.ends_with("/installation");
    (!known).then(|| said(401, "Bad credentials"))
}

fn percent_decoded(path: &str) -> String {
    url::form_urlencoded::parse(format!("p={}", path.replace('+', "%2B")).as_bytes()).next().unwrap().1.into_owned()
}

pub fn reply(status: u16, body: Value) -> Response {
    let headers = [("content-type", "application/json"), ("x-ratelimit-remaining", "4999")];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}

pub fn said(status: u16, message: &str) -> Response {
    reply(status, json!({ "message": message, "documentation_url": "https://docs.github.com/rest" }))
}

/// A redirect that keeps the method.
pub fn moved(to: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [("location", to)], "{}").into_response()
}

fn limited(status: u16, header: &'static str, value: &'static str, message: &str) -> Response {
    let mut response = said(status, message);
    response.headers_mut().insert(header, value.parse().unwrap());
    response
}

/// A page of a list, with a `Link` to the next as GitHub writes it: by the repository's number.
pub fn page(world: &World, call: &Call, items: Vec<Value>) -> Response {
    let asked = call.asked("per_page").parse().unwrap_or(30);
    let (size, nth) = (world.page_most.min(asked), call.asked("page").parse().unwrap_or(1_usize));
    let rest = call.path.trim_start_matches("/repos/acme/platform");
    let more = items.len() > nth * size;
    let items: Vec<Value> = items.into_iter().skip((nth - 1) * size).take(size).collect();
    let mut response = reply(200, items.into());
    if more {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(call.query.iter().filter(|(name, _)| *name != "page"));
        query.append_pair("page", &(nth + 1).to_string());
        let link = format!("<https://api.github.com/repositories/7{rest}?{}>; rel=\"next\"", query.finish());
        response.headers_mut().insert("link", link.parse().unwrap());
    }
    response
}
