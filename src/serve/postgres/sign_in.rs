//! Signing in: SCRAM-SHA-256, bound to the certificate where there is one. Until it is done a connection has no session.

use std::fmt;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::sasl::scram::ScramAuth;
use datafusion_postgres::pgwire::api::auth::sasl::{SASLState, SCRAM_SHA_256_METHOD, SCRAM_SHA_256_PLUS_METHOD};
use datafusion_postgres::pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler, finish_authentication,
    protocol_negotiation, save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ConnectionGuard, ConnectionHandle, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::{Authentication, PasswordMessageFamily, Startup};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::{Door, failure};
use crate::serve::users::Users;

/// Where one connection is with signing in.
pub(super) struct SignIn {
    door: Arc<Door>,
    scram: ScramAuth,
    state: Mutex<SASLState>,
    signed_in: std::sync::Mutex<Option<SignedIn>>,
}

/// What a connection has once it has signed in.
pub(super) struct SignedIn {
    /// Told when somebody wants its statement to be cancelled.
    pub(super) cancel: Arc<ConnectionHandle>,
    _registered: ConnectionGuard,
    _place: OwnedSemaphorePermit,
}

impl SignIn {
    pub(super) fn new(door: &Arc<Door>) -> SignIn {
        let mut scram = ScramAuth::new(Arc::new(Passwords(Arc::clone(&door.users))));
        if let Some(tls) = &door.tls {
            // A certificate of a kind to which nothing can be bound (Ed25519) leaves the password unbound, as PostgreSQL
            // leaves it; the connection is encrypted all the same.
            let _ = scram.configure_certificate(&tls.chain);
        }
        let (state, signed_in) = (Mutex::new(SASLState::Initial), std::sync::Mutex::default());
        SignIn { door: Arc::clone(door), scram, state, signed_in }
    }

    /// Taken once, after signing in succeeded.
    pub(super) fn take(&self) -> Option<SignedIn> {
        self.signed_in.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn begin<C>(&self, client: &mut C, startup: &Startup) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        if self.door.tls.is_some() && !client.is_secure() && !client.socket_addr().ip().is_loopback() {
            return Err(failure::fatal(
                "28000",
                "this address speaks TLS only: connect with sslmode=require or better",
            ));
        }
        protocol_negotiation(client, startup).await?;
        save_startup_parameters_to_metadata(client, startup);
        client.set_state(PgWireConnectionState::AuthenticationInProgress);
        let mut mechanisms = vec![SCRAM_SHA_256_METHOD.to_owned()];
        if client.is_secure() && self.scram.supports_channel_binding() {
            mechanisms.insert(0, SCRAM_SHA_256_PLUS_METHOD.to_owned());
        }
        client.send(PgWireBackendMessage::Authentication(Authentication::SASL(mechanisms))).await?;
        Ok(())
    }

    async fn go_on<C>(&self, client: &mut C, message: PasswordMessageFamily) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        let mut state = self.state.lock().await;
        let message = if matches!(*state, SASLState::Initial) {
            let first = message.into_sasl_initial_response()?;
            if ![SCRAM_SHA_256_METHOD, SCRAM_SHA_256_PLUS_METHOD].contains(&first.auth_method.as_str()) {
                return Err(PgWireError::UnsupportedSASLAuthMethod(first.auth_method));
            }
            *state = SASLState::ScramClientFirstReceived;
            PasswordMessageFamily::SASLInitialResponse(first)
        } else {
            PasswordMessageFamily::SASLResponse(message.into_sasl_response()?)
        };
        let (answer, next) = self.scram.process_scram_message(client, message, &state).await?;
        client.send(PgWireBackendMessage::Authentication(answer)).await?;
        *state = next;
        if matches!(*state, SASLState::Finished) { self.welcome(client).await } else { Ok(()) }
    }

    /// The password was right.
    async fn welcome<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        let place = Arc::clone(&self.door.places).try_acquire_owned().map_err(|_| {
            let most = self.door.connections_max;
            failure::fatal("53300", format!("{most} connections are open, which is query.connections_max; close some"))
        })?;
        let (process, key) = RandomPidSecretKeyGenerator::default().generate(client);
        client.set_pid_and_secret_key(process, key.clone());
        let (cancel, registered) = self.door.running.register(process, key);
        *self.signed_in.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(SignedIn { cancel, _registered: registered, _place: place });
        finish_authentication(client, &parameters()).await
    }
}

/// What a client is told about the server.
fn parameters() -> DefaultServerParameterProvider {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.is_superuser = false;
    parameters.default_transaction_read_only = true;
    parameters.time_zone = "UTC".to_owned();
    parameters
}

#[async_trait]
impl StartupHandler for SignIn {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => self.begin(client, &startup).await,
            PgWireFrontendMessage::PasswordMessageFamily(message) => self.go_on(client, message).await,
            _ => Err(failure::fatal("28000", "sign in first")),
        }
    }
}

/// The user that a client says it is.
pub(super) fn user_of(client: &impl ClientInfo) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

struct Passwords(Arc<Users>);

impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passwords")
    }
}

#[async_trait]
impl AuthSource for Passwords {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let salted = self.0.salted(login.user().unwrap_or_default());
        Ok(Password::new(Some(salted.salt), salted.password))
    }
}
