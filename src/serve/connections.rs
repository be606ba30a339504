//! A bounded number of connections, each of which must say what it wants: the next one waits in the kernel's queue.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

/// Connections held at once. Each costs a file descriptor and some kilobytes.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send the head of a request, and a connection may stay without one.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// Answers with `app` until `stopped`; then accepts nothing more and lets the requests under way finish.
pub async fn serve(listener: TcpListener, app: Router, mut stopped: oneshot::Receiver<()>) {
    let mut listener = Bounded::new(listener);
    let (going_on, stopping) = watch::channel(());
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            (connection, _) = listener.accept() => {
                open.spawn(converse(connection, app.clone(), stopping.clone()));
            }
            // Those that ended are let go of.
            Some(_) = open.join_next() => {}
            // A dropped handle means the same as a call of `stop`.
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    drop(going_on);
    while open.join_next().await.is_some() {}
}

/// One connection. What a client does wrong concerns it alone.
async fn converse(connection: Connection, app: Router, mut stopping: watch::Receiver<()>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
    let mut talk = pin!(builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(app)));
    tokio::select! {
        _ = talk.as_mut() => {}
        _ = stopping.changed() => {
            talk.as_mut().graceful_shutdown();
            let _ = talk.await;
        }
    }
}

/// Accepts only while fewer than [`CONNECTIONS_MAX`] connections are open.
struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Bounded {
    fn new(listener: TcpListener) -> Bounded {
        Bounded { listener, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Connection, Self::Addr) {
        // The semaphore is never closed, so there is always a permit to wait for.
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its place back when it is dropped.
struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
