//! The doors of a process, opened together: they share what answers SQL, with its limits, and who may ask.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{RolesError, Runtime};
use crate::config::{Config, Sees};
use crate::events;
use crate::model::principal::Principal;
use crate::query::{Engine, Limits, TableSource};
use crate::serve::guard::Token;
use crate::serve::postgres::{self, PostgresError, PostgresHandle};
use crate::serve::users::Users;
use crate::serve::{self, ServeHandle};

/// The open doors of a process.
pub struct Doors {
    http: ServeHandle,
    postgres: Option<PostgresHandle>,
}

impl Doors {
    pub(super) fn open(runtime: &Runtime, config: &Config, source: Option<TableSource>) -> Result<Doors, RolesError> {
        let engine = source.map(|source| Engine::start(source, limits(config))).transpose()?;
        let users = Arc::new(users(config));
        let settings = serve::Settings {
            address: config.serve.http,
            allow_remote: config.serve.allow_remote,
            token: config.serve.token.as_ref().and_then(|token| Token::new(token.reveal())),
            body_bytes_max: config.serve.body_bytes_max,
            logs_topic: runtime.topics.logs(),
            metrics_topic: runtime.topics.metrics(),
            intents_topic: runtime.topics.intents(),
            engine: engine.clone(),
            users: Arc::clone(&users),
        };
        let http = serve::start(settings, runtime.log.appender()?, Arc::clone(&runtime.board))?;
        Ok(Doors { http, postgres: open_postgres(config, engine, users)? })
    }

    /// The address of the HTTP door, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// The address of the PostgreSQL door, if it is open.
    pub fn postgres(&self) -> Option<SocketAddr> {
        self.postgres.as_ref().map(PostgresHandle::address)
    }

    /// Closes them, the connections of PostgreSQL's clients first.
    pub fn stop(self) {
        if let Some(postgres) = self.postgres {
            postgres.stop();
        }
        self.http.stop();
    }
}

/// A configured door to which nobody has a key stays closed, and the log says so: the rest of the process is of use.
fn open_postgres(
    config: &Config,
    engine: Option<Arc<Engine>>,
    users: Arc<Users>,
) -> Result<Option<PostgresHandle>, RolesError> {
    let Some(address) = config.serve.postgres else { return Ok(None) };
    let Some(engine) = engine else {
        events::postgres_closed("this process has no tables: it does not run the role store");
        return Ok(None);
    };
    let certificate = config
        .serve
        .certificate
        .as_ref()
        .map(|files| postgres::Certificate { chain: files.chain.clone(), key: files.key.clone() });
    let settings = postgres::Settings {
        address,
        allow_remote: config.serve.allow_remote,
        certificate,
        connections_max: config.query.connections_max,
    };
    match postgres::start(settings, engine, users) {
        Err(closed @ PostgresError::WithoutUsers) => {
            events::postgres_closed(&closed.to_string());
            Ok(None)
        }
        opened => Ok(Some(opened?)),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        memory_bytes_max: config.query.memory_bytes_max,
        memory_total_bytes_max: config.query.memory_total_bytes_max,
        time_max: config.query.time_max,
        statements_max: config.query.statements_max,
    }
}

fn users(config: &Config) -> Users {
    Users::new(config.users.iter().map(|user| {
        let principal = match &user.sees {
            Sees::Everything => Principal::Operator,
            Sees::Organisation(organisation) => Principal::Organisation(organisation.clone()),
        };
        (user.name.as_str(), principal, user.password.reveal())
    }))
}
