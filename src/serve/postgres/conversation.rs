//! One connection, from its first byte to its last.
//!
//! Whoever has not signed in only reaches [`SignIn`]: the session and what answers are made afterwards, and any error
//! before that ends the connection. What a client does wrong concerns it alone.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::{ClientInfo, NoopHandler, PgWireConnectionState};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::pgwire::tokio::server::{negotiate_tls, process_error, process_message};
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::answers::Answers;
use super::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_WAIT, HANG_UP_STEP, IDLE_WAIT, MESSAGE_BYTES_MAX, READ_WAIT};
use super::parameters::Prepared;
use super::sign_in::{SignIn, SignedIn, user_of};
use super::{Door, failure};
use crate::events;
use crate::query::{CATALOG, Session};
use crate::serve::users::WRONG_PASSWORD_PAUSE;

/// Talks until either side has enough. `handshake` is given back once the client has signed in.
pub(super) async fn converse(stream: TcpStream, door: Arc<Door>, handshake: OwnedSemaphorePermit) {
    let Ok((stream, twin)) = twins(stream) else { return };
    let begun = async {
        let mut socket = negotiate_tls::<Prepared>(stream, door.acceptor()).await.ok()??;
        let signed_in = sign_in(&mut socket, &door, |socket| socket.read_buffer().len()).await?;
        Some((socket, signed_in))
    };
    let Ok(Some((mut socket, signed_in))) = timeout(HANDSHAKE_WAIT, begun).await else { return };
    drop(handshake);
    let session = match session(&door, &user_of(&socket)) {
        Ok(session) => session,
        Err(error) => return farewell(&mut socket, error).await,
    };
    let wait = session.time_max() + READ_WAIT;
    let answers = Arc::new(Answers::new(session, Arc::clone(&signed_in.cancel)));
    // Signing in is over: nothing reaches this again, but the protocol's loop has a place for it.
    let startup = Arc::new(SignIn::new(&door));
    let none = Arc::new(NoopHandler);
    loop {
        let next = next_message(&mut socket, MESSAGE_BYTES_MAX, |socket| socket.read_buffer().len());
        let message = match timeout(IDLE_WAIT, next).await {
            Ok(Some(Ok(PgWireFrontendMessage::Terminate(_)))) | Ok(None) | Err(_) => return,
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return farewell(&mut socket, error).await,
        };
        let is_extended = message.is_extended_query();
        let answered = process_message(
            message,
            &mut socket,
            Arc::clone(&startup),
            Arc::clone(&answers),
            Arc::clone(&answers),
            Arc::clone(&none),
            Arc::clone(&none),
        );
        let answered = tokio::select! {
            answered = timeout(wait, answered) => answered,
            () = hung_up(&twin) => return,
        };
        // A client that does not read what it asked for is not waited for any longer than this.
        let Ok(answered) = answered else { return };
        if let Err(error) = answered {
            let told = timeout(READ_WAIT, process_error(&mut socket, error, is_extended)).await;
            if !matches!(told, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// The connection twice: to talk, and to see whether anybody is still there while a statement runs.
fn twins(stream: TcpStream) -> std::io::Result<(TcpStream, TcpStream)> {
    let stream = stream.into_std()?;
    let twin = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, TcpStream::from_std(twin)?))
}

/// Ends when the client has closed the connection. One that has sent something more is taken to be there.
async fn hung_up(twin: &TcpStream) {
    let mut byte = [0];
    loop {
        sleep(HANG_UP_STEP).await;
        if let Some(Ok(0) | Err(_)) = twin.peek(&mut byte).now_or_never() {
            return;
        }
    }
}

/// A session of the user, with the catalog that PostgreSQL's clients look into.
fn session(door: &Door, user: &str) -> PgWireResult<Session> {
    let principal = door.users.principal(user).ok_or_else(|| PgWireError::InvalidPassword(user.to_owned()))?;
    let session = door.engine.session(principal).map_err(failure::of_query)?;
    setup_pg_catalog(session.context(), CATALOG, EmptyContextProvider)
        .map_err(|error| failure::fatal("XX000", error.to_string()))?;
    Ok(session)
}

/// Signs the client in, or tells it why not.
async fn sign_in<C>(socket: &mut C, door: &Arc<Door>, buffered: impl Fn(&C) -> usize) -> Option<SignedIn>
where
    C: ClientInfo
        + Stream<Item = PgWireResult<PgWireFrontendMessage>>
        + Sink<PgWireBackendMessage, Error = std::io::Error>
        + Unpin
        + Send
        + Sync,
{
    let sign_in = SignIn::new(door);
    loop {
        let handled = match next_message(socket, HANDSHAKE_BYTES_MAX, &buffered).await? {
            Ok(PgWireFrontendMessage::CancelRequest(request)) => {
                door.running.cancel(request.pid, &request.secret_key).await;
                return None;
            }
            Ok(PgWireFrontendMessage::Terminate(_)) => return None,
            Ok(message) => sign_in.on_startup(socket, message).await,
            Err(error) => Err(error),
        };
        if let Err(error) = handled {
            refuse(socket, error).await;
            return None;
        }
        if matches!(socket.state(), PgWireConnectionState::ReadyForQuery) {
            return sign_in.take();
        }
    }
}

/// Tells a client that it may not come in, and the log that it tried.
async fn refuse<C>(socket: &mut C, error: PgWireError)
where
    C: ClientInfo + Sink<PgWireBackendMessage, Error = std::io::Error> + Unpin,
{
    let (user, from) = (user_of(socket), socket.socket_addr().to_string());
    let error = match error {
        PgWireError::InvalidPassword(_) => {
            sleep(WRONG_PASSWORD_PAUSE).await;
            failure::fatal("28P01", format!("there is no user \"{user}\" with this password"))
        }
        error => error,
    };
    let info = ErrorInfo::from(error);
    events::sign_in_refused(&user, &from, &info.message);
    farewell(socket, PgWireError::UserError(Box::new(info))).await;
}

/// The last thing a client hears.
async fn farewell<C>(socket: &mut C, error: PgWireError)
where
    C: Sink<PgWireBackendMessage, Error = std::io::Error> + Unpin,
{
    let mut info = ErrorInfo::from(error);
    "FATAL".clone_into(&mut info.severity);
    // There is nobody left to tell if this fails.
    let _ = socket.send(PgWireBackendMessage::ErrorResponse(info.into())).await;
    let _ = socket.close().await;
}

/// The next message, unless it is longer than `max` bytes. `buffered` is how much of it has come.
async fn next_message<C>(
    socket: &mut C,
    max: usize,
    buffered: impl Fn(&C) -> usize,
) -> Option<PgWireResult<PgWireFrontendMessage>>
where
    C: Stream<Item = PgWireResult<PgWireFrontendMessage>> + Unpin,
{
    poll_fn(|context| match socket.poll_next_unpin(context) {
        Poll::Pending if buffered(socket) > max => {
            Poll::Ready(Some(Err(PgWireError::MessageTooLarge(max, buffered(socket)))))
        }
        polled => polled,
    })
    .await
}
