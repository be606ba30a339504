//! The doors. HTTP: records come in, answers and the state of every stage go out. PostgreSQL ([`postgres`]): answers.
//!
//! | request | answer |
//! |---|---|
//! | `POST /ingest/json?topic=logs\|metrics` | `{"accepted": n}`, once the log has acknowledged every record |
//! | `POST /api/v1/query` | the rows of one statement ([`crate::query`]), as they come |
//! | `GET /status` | [`status::Status`] as JSON |
//! | `GET /metrics` | [`metrics::Metrics`] as OpenMetrics text |
//! | `GET /health/live` | 200 while the process answers and no worker hangs, else 503 |
//! | `GET /health/ready` | 200 while every role runs and knows its partitions, else 503 |
//!
//! Every refusal is `{"error": "one sentence"}`. `serve` listens on the own machine only unless told otherwise, never
//! changes a byte of a record, never answers before the log did, and never waits or grows without a named bound.
//! It has one thread of its own for the network and at most [`INGESTIONS_MAX`] more that wait for the log.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::events;
use crate::log::Appender;
use crate::query::Engine;
use guard::Token;
use status::StatusBoard;
use users::Users;

mod asking;
mod client;
mod commands;
mod connections;
pub mod guard;
mod http;
mod ingest;
pub mod metrics;
pub mod postgres;
mod split;
mod sql;
pub mod status;
mod table;
pub mod users;

pub use asking::{Answer, AskError, Question, ask};
pub use client::{FetchError, fetch};
pub use ingest::{INGESTIONS_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
pub use table::render;

/// How long requests under way may take to finish after [`ServeHandle::stop`]; then they are cut off.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Where to listen, who may speak, and where records go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// Allows an address that other machines can reach without a token: behind a proxy that checks who speaks.
    pub allow_remote: bool,
    /// Asked of every request but the health checks, as `Authorization: Bearer …`.
    pub token: Option<Token>,
    /// The largest body of an ingestion, as it is sent and again after decompression.
    pub body_bytes_max: usize,
    /// Full name of the topic behind `topic=logs`.
    pub logs_topic: String,
    /// Full name of the topic behind `topic=metrics`.
    pub metrics_topic: String,
    /// Full name of the topic that commands are written to.
    pub intents_topic: String,
    /// What answers SQL; without it such a request gets 503.
    pub engine: Option<Arc<Engine>>,
    /// Who may ask beside whoever has the token.
    pub users: Arc<Users>,
}

/// Why the door cannot open.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error(
        "serve.http = \"{address}\" can be reached from other machines; configure serve.token_env, or set \
         serve.allow_remote = true where a proxy checks who speaks"
    )]
    Remote { address: SocketAddr },
    #[error(
        "address {address} is in use by another program; stop it or choose another port in serve.http (0: a free one)"
    )]
    InUse { address: SocketAddr },
    #[error("cannot listen on {address}: {reason}; check serve.http")]
    Bind { address: SocketAddr, reason: io::Error },
    #[error("cannot start the HTTP server: {0}")]
    Start(io::Error),
}

/// An open door. Dropping it closes the door without waiting; [`ServeHandle::stop`] waits.
#[derive(Debug)]
pub struct ServeHandle {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ServeHandle {
    /// The address listened on, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, lets the requests under way finish for ten seconds, and returns.
    pub fn stop(self) {
        // Either send can only fail if the server's thread has ended already, which is what is asked for.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            events::http_ended("it panicked");
        }
    }
}

/// Opens the door. `appender` must belong to it alone: [`Appender::flush`] reports failures to whoever asks first, and
/// an ingestion must hear of its own.
pub fn start(
    settings: Settings,
    appender: Arc<dyn Appender>,
    board: Arc<StatusBoard>,
) -> Result<ServeHandle, ServeError> {
    let listener = listen(&settings)?;
    let address = listener.local_addr().map_err(ServeError::Start)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(INGESTIONS_MAX)
        .build()
        .map_err(ServeError::Start)?;
    if !address.ip().is_loopback() && settings.token.is_none() {
        events::http_unprotected(&address.to_string());
    }
    let (stop, stopped) = oneshot::channel();
    let app = http::router(settings, address, appender, board);
    let thread = std::thread::Builder::new()
        .name("serve".to_owned())
        .spawn(move || run(runtime, listener, app, stopped))
        .map_err(ServeError::Start)?;
    events::http_listening(&address.to_string());
    Ok(ServeHandle { address, stop, thread })
}

/// Binds before anything is started, so that a refusal is the caller's result and not a line in a log.
fn listen(settings: &Settings) -> Result<TcpListener, ServeError> {
    let address = settings.address;
    if !address.ip().is_loopback() && !settings.allow_remote && settings.token.is_none() {
        return Err(ServeError::Remote { address });
    }
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|reason| match reason.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { address },
        _ => ServeError::Bind { address, reason },
    })
}

fn run(runtime: runtime::Runtime, listener: TcpListener, app: axum::Router, stopped: oneshot::Receiver<()>) {
    let ended = runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (drain, draining) = oneshot::channel();
        let too_long = async move {
            // A dropped handle means the same as a call of `stop`.
            let _ = stopped.await;
            let _ = drain.send(());
            tokio::time::sleep(STOP_WAIT).await;
        };
        tokio::select! {
            () = connections::serve(listener, app, draining) => {}
            () = too_long => {}
        }
        Ok::<(), io::Error>(())
    });
    if let Err(error) = ended {
        events::http_ended(&error.to_string());
    }
    runtime.shutdown_timeout(STOP_WAIT);
}
