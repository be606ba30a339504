//! The PostgreSQL door: psql, Grafana, BI tools and drivers ask in SQL.
//!
//! ```text
//!  accept ─▶ conversation: TLS? ─▶ sign_in (SCRAM) ─▶ answers ─▶ query::Session of that user
//! ```
//!
//! Every connection signs in with a name and a password, and has a session of its own that only reaches what its user may
//! see. With a certificate, connections from other machines are encrypted or refused; without one, the door only opens
//! on the own machine, unless a proxy is said to take care of it. The door never speaks to anyone who has not signed in
//! but to refuse, and never does anything but read. It has two threads of its own; statements run on those of
//! [`crate::query`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use datafusion_postgres::pgwire::api::ConnectionManager;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::users::Users;
use crate::events;
use crate::query::Engine;

mod answers;
mod conversation;
mod failure;
mod limits;
mod parameters;
mod rows;
mod settings;
mod sign_in;
mod tls;

/// Connections that have not signed in yet. The next ones wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;
/// After the kernel refused to hand a connection over, which it does when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const THREADS: usize = 2;

/// Where to listen and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// Allows an address that other machines can reach without a certificate.
    pub allow_remote: bool,
    pub certificate: Option<Certificate>,
    /// Connections that have signed in.
    pub connections_max: usize,
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, and those that lead to its authority.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Why the door cannot open.
#[derive(Debug, Error)]
pub enum PostgresError {
    #[error(
        "serve.postgres = \"{address}\" can be reached from other machines; configure serve.postgres_certificate_file \
         and serve.postgres_key_file, or set serve.allow_remote = true where a proxy encrypts"
    )]
    Remote { address: SocketAddr },
    #[error("nobody may use serve.postgres: there is no [[user]] with a password")]
    WithoutUsers,
    #[error(
        "{path} cannot be used for TLS ({reason}); check serve.postgres_certificate_file and serve.postgres_key_file"
    )]
    Certificate { path: PathBuf, reason: String },
    #[error("cannot listen on {address}: {reason}; check serve.postgres")]
    Bind { address: SocketAddr, reason: io::Error },
    #[error("cannot start the PostgreSQL server: {0}")]
    Start(io::Error),
}

/// An open door. Dropping it closes the door; [`PostgresHandle::stop`] waits until it is closed.
#[derive(Debug)]
pub struct PostgresHandle {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl PostgresHandle {
    /// The address listened on, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and returns.
    pub fn stop(self) {
        // It can only fail if the thread has ended already, which is what is asked for.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            events::postgres_ended("it panicked");
        }
    }
}

/// What all connections share.
struct Door {
    engine: Arc<Engine>,
    users: Arc<Users>,
    tls: Option<tls::Tls>,
    /// Places for those who have signed in.
    places: Arc<Semaphore>,
    connections_max: usize,
    /// Who can be told to cancel.
    running: Arc<ConnectionManager>,
}

impl Door {
    fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| tls.acceptor.clone())
    }
}

/// Opens the door.
pub fn start(settings: Settings, engine: Arc<Engine>, users: Arc<Users>) -> Result<PostgresHandle, PostgresError> {
    if users.is_empty() {
        return Err(PostgresError::WithoutUsers);
    }
    let tls = settings.certificate.as_ref().map(tls::load).transpose()?;
    let listener = listen(&settings)?;
    let address = listener.local_addr().map_err(PostgresError::Start)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("postgres")
        .enable_all()
        .build()
        .map_err(PostgresError::Start)?;
    let door = Door {
        engine,
        users,
        tls,
        places: Arc::new(Semaphore::new(settings.connections_max)),
        connections_max: settings.connections_max,
        running: Arc::new(ConnectionManager::new()),
    };
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, Arc::new(door), stopped)) {
                events::postgres_ended(&error.to_string());
            }
        })
        .map_err(PostgresError::Start)?;
    events::postgres_listening(&address.to_string());
    Ok(PostgresHandle { address, stop, thread })
}

/// Binds before anything is started, so that a refusal is the caller's result and not a line in a log.
fn listen(settings: &Settings) -> Result<TcpListener, PostgresError> {
    let address = settings.address;
    if !address.ip().is_loopback() && settings.certificate.is_none() && !settings.allow_remote {
        return Err(PostgresError::Remote { address });
    }
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|reason| PostgresError::Bind { address, reason })
}

/// Accepts until `stopped`; the connections end with it.
async fn serve(listener: TcpListener, door: Arc<Door>, mut stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Some((stream, place)) = accept(&listener, &room) => {
                open.spawn(conversation::converse(stream, Arc::clone(&door), place));
            }
            // Those that ended are let go of.
            Some(_) = open.join_next() => {}
            // A dropped handle means the same as a call of `stop`.
            _ = &mut stopped => return Ok(()),
        }
    }
}

/// The next connection, once there is room for one that has not signed in.
async fn accept(
    listener: &tokio::net::TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, place)),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
