//! A control plane that records what is asked of it: a real HTTP server.
//!
//! It does one thing once for one idempotency key, and refuses whoever comes from the past: a change with a lower fencing
//! token than another on the same module had before.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use maturion::config::Control;
use serde_json::{Value, json};

/// Requests a minute that every organisation has in every module, until that is changed.
pub const LIMIT: i64 = 100;
/// An answer has left for sure after this.
const ANSWER_LEAVES: Duration = Duration::from_millis(30);

/// What it does when a restart is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Helpful,
    /// It does it, and the answer never comes.
    Mute,
    /// It says no.
    Refusing,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The state before an action.
    Before,
    Apply,
    /// The state that an action left, or its revert.
    After,
    Revert,
}

/// A moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has arrived, and nothing was done.
    Asked,
    /// It was done, and not answered.
    Done,
    Answered,
}

/// What somebody does at the moments of requests.
type Watcher = Box<dyn FnMut(Moment, Ask) + Send>;

/// Something that was done: a restart, a reset, or a number that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub key: String,
    pub module: String,
    pub organisation: Option<String>,
    /// The number that it left.
    pub limit: Option<i64>,
    /// Wall time, in microseconds.
    pub at: i64,
}

#[derive(Clone, Default)]
pub struct Plane {
    asked: Arc<Mutex<Asked>>,
    watcher: Arc<Mutex<Option<Watcher>>>,
}

#[derive(Default)]
struct Asked {
    manner: Manner,
    /// The changes that were asked for, with their keys and tokens, in order.
    changes: Vec<(String, u64)>,
    /// What was done, once for each key, in order.
    effects: Vec<Effect>,
    /// The highest token of each module.
    tokens: BTreeMap<String, u64>,
    limits: BTreeMap<(String, String), i64>,
    address: Option<SocketAddr>,
}

impl Plane {
    /// Starts it on a runtime that lives as long as the test.
    pub fn start(manner: Manner) -> (Plane, tokio::runtime::Runtime) {
        let plane = Plane::default();
        plane.asked.lock().unwrap().manner = manner;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = || get(|| async { Json(json!({ "instances": 3 })) });
        let routes = Router::new()
            .route("/v1/functions/{name}", state())
            .route("/v1/functions/{name}/restart", post(restart))
            .route("/v1/pools/{name}", state())
            .route("/v1/pools/{name}/reset", post(restart))
            .route("/v1/rate-limits/{name}/organisations/{organisation}", get(limit).put(set_limit))
            .layer(middleware::from_fn_with_state(plane.clone(), watch))
            .with_state(plane.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        plane.asked.lock().unwrap().address = Some(listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        (plane, runtime)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.asked.lock().unwrap().address.unwrap())
    }

    pub fn control(&self) -> Control {
        Control { name: "platform".to_owned(), url: self.url().parse().unwrap(), internal: true, token: None }
    }

    /// Has something done at the moments of requests, while they wait.
    pub fn on(&self, watcher: impl FnMut(Moment, Ask) + Send + 'static) {
        *self.watcher.lock().unwrap() = Some(Box::new(watcher));
    }

    /// What was done, by its key: the module.
    pub fn effects(&self) -> BTreeMap<String, String> {
        self.done().into_iter().map(|effect| (effect.key, effect.module)).collect()
    }

    /// What was done, in order.
    pub fn done(&self) -> Vec<Effect> {
        self.asked.lock().unwrap().effects.clone()
    }

    /// The changes that were asked for, by their keys, in order: each as often as it was.
    pub fn changes(&self) -> Vec<String> {
        self.asked.lock().unwrap().changes.iter().map(|(key, _)| key.clone()).collect()
    }

    /// The tokens that came with them.
    pub fn tokens(&self) -> Vec<u64> {
        self.asked.lock().unwrap().changes.iter().map(|(_, token)| *token).collect()
    }

    /// Requests a minute that an organisation has in a module now.
    pub fn limit(&self, module: &str, organisation: &str) -> i64 {
        let place = (module.to_owned(), organisation.to_owned());
        self.asked.lock().unwrap().limits.get(&place).copied().unwrap_or(LIMIT)
    }

    fn tell(&self, moment: Moment, ask: Ask) {
        if let Some(watcher) = self.watcher.lock().unwrap().as_mut() {
            watcher(moment, ask);
        }
    }

    fn ask(&self, method: &Method, key: &str) -> Ask {
        match (method, key.strip_suffix("-snapshot")) {
            (&Method::GET, Some(key)) if self.done().iter().any(|effect| effect.key == key) => Ask::After,
            (&Method::GET, _) => Ask::Before,
            _ if key.ends_with("-revert") => Ask::Revert,
            _ => Ask::Apply,
        }
    }

    /// Takes a change, or refuses it because it comes from the past.
    fn take(&self, key: &str, token: u64, module: &str) -> Result<Manner, StatusCode> {
        let mut asked = self.asked.lock().unwrap();
        asked.changes.push((key.to_owned(), token));
        let highest = asked.tokens.entry(module.to_owned()).or_default();
        if token < *highest {
            return Err(StatusCode::PRECONDITION_FAILED);
        }
        *highest = token;
        Ok(asked.manner)
    }

    /// Does something, unless it was done.
    fn perform(&self, effect: Effect) {
        let mut asked = self.asked.lock().unwrap();
        if asked.effects.iter().any(|done| done.key == effect.key) {
            return;
        }
        if let (Some(organisation), Some(limit)) = (&effect.organisation, effect.limit) {
            asked.limits.insert((effect.module.clone(), organisation.clone()), limit);
        }
        asked.effects.push(effect);
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap().to_str().unwrap()
}

async fn watch(State(plane): State<Plane>, request: Request, next: Next) -> Response {
    let (method, key) = (request.method().clone(), header(request.headers(), "idempotency-key").to_owned());
    let ask = plane.ask(&method, &key);
    plane.tell(Moment::Asked, ask);
    let answer = next.run(request).await;
    plane.tell(Moment::Done, ask);
    tokio::spawn(async move {
        tokio::time::sleep(ANSWER_LEAVES).await;
        plane.tell(Moment::Answered, ask);
    });
    answer
}

async fn restart(State(plane): State<Plane>, Path(module): Path<String>, headers: HeaderMap) -> Response {
    let (key, token) = (header(&headers, "idempotency-key"), header(&headers, "maturion-fencing-token"));
    let manner = match plane.take(key, token.parse().unwrap(), &module) {
        Ok(manner) => manner,
        Err(status) => return status.into_response(),
    };
    if manner == Manner::Refusing {
        return StatusCode::FORBIDDEN.into_response();
    }
    plane.perform(Effect { key: key.to_owned(), module, organisation: None, limit: None, at: now() });
    if manner == Manner::Mute {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    Json(json!({})).into_response()
}

async fn limit(State(plane): State<Plane>, Path((module, organisation)): Path<(String, String)>) -> Json<Value> {
    Json(json!({ "requests_per_minute": plane.limit(&module, &organisation) }))
}

async fn set_limit(
    State(plane): State<Plane>,
    Path((module, organisation)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    let (key, token) = (header(&headers, "idempotency-key"), header(&headers, "maturion-fencing-token"));
    if let Err(status) = plane.take(key, token.parse().unwrap(), &module) {
        return status;
    }
    let (organisation, limit) = (Some(organisation), body["requests_per_minute"].as_i64());
    plane.perform(Effect { key: key.to_owned(), module, organisation, limit, at: now() });
    StatusCode::NO_CONTENT
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
