//! A control plane that records what is asked of it: a real HTTP server.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use maturion::config::Control;
use serde_json::json;

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

#[derive(Clone, Default)]
pub struct Plane {
    asked: Arc<Mutex<Asked>>,
}

#[derive(Default)]
struct Asked {
    manner: Manner,
    /// The restarts that were asked for, with their keys and tokens, in order.
    restarts: Vec<(String, String, u64)>,
    /// What was done, once for each key.
    effects: BTreeMap<String, String>,
    address: Option<SocketAddr>,
}

impl Plane {
    /// Starts it on a runtime that lives as long as the test.
    pub fn start(manner: Manner) -> (Plane, tokio::runtime::Runtime) {
        let plane = Plane::default();
        plane.asked.lock().unwrap().manner = manner;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let routes = Router::new()
            .route("/v1/functions/{name}", get(|| async { axum::Json(json!({ "instances": 3 })) }))
            .route("/v1/functions/{name}/restart", post(restart))
            .with_state(plane.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        plane.asked.lock().unwrap().address = Some(listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        (plane, runtime)
    }

    pub fn control(&self) -> Control {
        let address = self.asked.lock().unwrap().address.unwrap();
        let url = format!("http://{address}").parse().unwrap();
        Control { name: "platform".to_owned(), url, internal: true, token: None }
    }

    /// The restarts that were done: key and function.
    pub fn effects(&self) -> BTreeMap<String, String> {
        self.asked.lock().unwrap().effects.clone()
    }

    /// How often a restart was asked for, and the tokens that came with it.
    pub fn tokens(&self) -> Vec<u64> {
        self.asked.lock().unwrap().restarts.iter().map(|(_, _, token)| *token).collect()
    }
}

async fn restart(
    State(plane): State<Plane>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let text = |header: &str| headers.get(header).unwrap().to_str().unwrap().to_owned();
    let (key, token) = (text("idempotency-key"), text("maturion-fencing-token").parse().unwrap());
    let manner = {
        let mut asked = plane.asked.lock().unwrap();
        asked.restarts.push((key.clone(), name.clone(), token));
        if asked.manner != Manner::Refusing {
            asked.effects.insert(key, name);
        }
        asked.manner
    };
    match manner {
        Manner::Helpful => Ok("{}".to_owned()),
        Manner::Refusing => Err(StatusCode::FORBIDDEN),
        Manner::Mute => {
            tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
            Err(StatusCode::GATEWAY_TIMEOUT)
        }
    }
}
