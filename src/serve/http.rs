//! Routes and answers: what each path does, and how a refusal reads.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::Settings;
use super::commands;
use super::guard::Guard;
use super::ingest::{self, Ingestion};
use super::sql::{self, Answering};
use super::status::{Health, Status, StatusBoard};
use crate::events;
use crate::log::Appender;

/// What a client should wait after a 503.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// What the metrics are written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all requests share.
pub struct Door {
    pub guard: Guard,
    board: Arc<StatusBoard>,
    pub ingestion: Ingestion,
    pub answering: Answering,
    pub intents_topic: Box<str>,
}

/// A request that is not served, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(serde_json::json!({ "error": self.reason }))).into_response();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S),
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => None,
        };
        response
    }
}

/// All paths, behind the guard.
pub fn router(settings: Settings, address: SocketAddr, appender: Arc<dyn Appender>, board: Arc<StatusBoard>) -> Router {
    let guard = Guard::new(address, settings.token.clone());
    let ingestion = Ingestion::new(&settings, appender);
    let answering = Answering { engine: settings.engine.clone(), users: Arc::clone(&settings.users) };
    let door = Arc::new(Door { guard, board, ingestion, answering, intents_topic: settings.intents_topic.into() });
    let behind_token = Router::new()
        .route("/ingest/json", post(ingest::handle).layer(DefaultBodyLimit::max(settings.body_bytes_max)))
        .merge(commands())
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(Arc::clone(&door), ask_for_token));
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/api/v1/query", post(sql::handle).layer(DefaultBodyLimit::max(sql::BODY_BYTES_MAX)))
        .merge(behind_token)
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is no such path") })
        .layer(from_fn_with_state(Arc::clone(&door), ask_for_origin))
        .with_state(door)
}

/// What people tell the agent.
fn commands() -> Router<Arc<Door>> {
    Router::new()
        .route("/api/v1/incidents/{id}/acknowledge", post(commands::acknowledge))
        .route("/api/v1/incidents/{id}/unlock", post(commands::unlock))
        .route("/api/v1/silences", post(commands::silence))
        .route("/api/v1/silences/{id}/end", post(commands::end_silence))
        .layer(DefaultBodyLimit::max(commands::BODY_BYTES_MAX))
}

async fn ask_for_origin(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.guard.admit_origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn ask_for_token(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.guard.admit_bearer(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn status(State(door): State<Arc<Door>>) -> Json<Status> {
    Json(door.board.snapshot())
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], door.board.exposition()).into_response()
}

/// Not the place for what Kafka does: whoever asks restarts the process if the answer is no.
async fn live(State(door): State<Arc<Door>>) -> Response {
    match door.board.wedged() {
        None => "live\n".into_response(),
        Some(reason) => {
            events::not_live(&reason);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
        }
    }
}

async fn ready(State(door): State<Arc<Door>>) -> Response {
    match door.board.snapshot().health {
        Health::Running => "ready\n".into_response(),
        health => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, health.to_string()).into_response(),
    }
}
