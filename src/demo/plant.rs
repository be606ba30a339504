//! The control plane of the simulated platform: a real HTTP server, whose restarts really help.
//!
//! It does what a platform's does: tells how a function is, restarts it, does one thing once for one idempotency key, and
//! refuses whoever comes with a token older than one it has seen. What is restarted the [feed](super::feed) lets recover.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::DemoError;
use super::feed::Controls;
use crate::config::Control;
use crate::simulate::MODULES;

/// What the shipped catalogue calls it.
const CONTROL: &str = "platform";
/// Keys that are remembered; a demo does not do more.
const KEYS_MAX: usize = 10_000;

/// The running control plane.
pub struct Plant {
    address: SocketAddr,
    /// Ends with the plant.
    _runtime: Runtime,
}

#[derive(Default)]
struct Functions {
    restarts: BTreeMap<String, u64>,
    /// The answer to each key, so that one that comes again gets the same.
    answered: HashMap<String, Value>,
    newest_token: u64,
}

#[derive(Clone)]
struct Shared {
    functions: Arc<Mutex<Functions>>,
    controls: Arc<Controls>,
}

impl Plant {
    /// Starts it on a free port of this machine.
    pub fn start(controls: &Arc<Controls>) -> Result<Plant, DemoError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("demo-plant")
            .enable_all()
            .build()
            .map_err(DemoError::Thread)?;
        let shared = Shared { functions: Arc::default(), controls: Arc::clone(controls) };
        let routes = Router::new()
            .route("/v1/functions/{name}", get(function))
            .route("/v1/functions/{name}/restart", post(restart))
            .with_state(shared);
        let listening = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listening.map_err(DemoError::Thread)?;
        let address = listener.local_addr().map_err(DemoError::Thread)?;
        runtime.spawn(async move {
            // It ends with the runtime.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Plant { address, _runtime: runtime })
    }

    /// How the agent reaches it.
    pub fn control(&self) -> Result<Control, DemoError> {
        let url = format!("http://{}", self.address).parse();
        let url = url.map_err(|error| DemoError::Thread(std::io::Error::other(error)))?;
        Ok(Control { name: CONTROL.to_owned(), url, internal: true, token: None })
    }
}

impl Shared {
    fn functions(&self) -> MutexGuard<'_, Functions> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn function(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Json<Value>, StatusCode> {
    if !is_module(&name) {
        return Err(StatusCode::NOT_FOUND);
    }
    let restarts = shared.functions().restarts.get(&name).copied().unwrap_or(0);
    Ok(Json(json!({ "name": name, "restarts": restarts })))
}

async fn restart(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    if !is_module(&name) {
        return Err(StatusCode::NOT_FOUND);
    }
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let key = text("idempotency-key").ok_or(StatusCode::BAD_REQUEST)?.to_owned();
    let token = text("maturion-fencing-token").and_then(|token| token.parse().ok()).unwrap_or(0);
    let mut functions = shared.functions();
    if let Some(answer) = functions.answered.get(&key) {
        return Ok(Json(answer.clone()));
    }
    if token < functions.newest_token || functions.answered.len() >= KEYS_MAX {
        return Err(StatusCode::CONFLICT);
    }
    functions.newest_token = token;
    let restarts = functions.restarts.entry(name.clone()).or_default();
    *restarts += 1;
    let answer = json!({ "name": name, "restarts": *restarts });
    functions.answered.insert(key, answer.clone());
    shared.controls.recycled().push(name);
    Ok(Json(answer))
}

fn is_module(name: &str) -> bool {
    MODULES.iter().any(|module| module.name == name)
}
