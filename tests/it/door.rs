//! SQL for people and tools, over tables in memory: what is seen, what is refused, what ends at its limit, and what
//! other people's clients make of it.

mod clients;
mod grafana;
mod http;
mod incidents;
mod limits;
mod statements;
mod tables;
mod tenants;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;

use maturion::model::principal::Principal;
use maturion::query::output::Format;
use maturion::query::{Engine, Limits, QueryError, TableSource};
use maturion::serve::postgres::{self, PostgresHandle, Settings};
use maturion::serve::users::Users;

use crate::kafka::skip;

/// The organisations of the tests, in words that stand nowhere else.
pub const ONE: &str = "org-kestrel";
pub const TWO: &str = "org-walrus";

pub fn organisation(name: &str) -> Principal {
    Principal::Organisation(name.to_owned())
}

pub fn engine_with(source: TableSource, limits: Limits) -> Arc<Engine> {
    Engine::start(source, limits).unwrap()
}

pub fn engine() -> Arc<Engine> {
    engine_with(tables::source(), Limits::default())
}

/// The whole answer in a format, as text.
pub fn answer(engine: &Arc<Engine>, who: &Principal, sql: &str, format: Format) -> Result<String, QueryError> {
    let mut rows = engine.run_waiting(who, sql)?;
    let mut output = format.output(&rows.schema()).unwrap();
    let mut bytes = vec![];
    while let Some(batch) = rows.wait() {
        bytes.extend(output.batch(&batch?).unwrap());
    }
    bytes.extend(output.end().unwrap());
    Ok(String::from_utf8(bytes).unwrap())
}

/// The rows as CSV without the line of names.
pub fn csv(engine: &Arc<Engine>, who: &Principal, sql: &str) -> Vec<String> {
    let text = answer(engine, who, sql, Format::Csv).unwrap_or_else(|error| panic!("{sql}: {error}"));
    text.lines().skip(1).map(str::to_owned).collect()
}

pub fn users() -> Arc<Users> {
    Arc::new(Users::new([
        ("ann", organisation(ONE), "ann's password"),
        ("bob", organisation(TWO), "bob's password"),
        ("ops", Principal::Operator, "ops' password"),
    ]))
}

pub fn door_with(engine: Arc<Engine>, change: impl FnOnce(&mut Settings)) -> PostgresHandle {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = Settings { address, allow_remote: false, certificate: None, connections_max: 16 };
    change(&mut settings);
    postgres::start(settings, engine, users()).unwrap()
}

pub fn door() -> PostgresHandle {
    door_with(engine(), |_| {})
}

/// A call of psql as one of the users, or `None` where there is no psql. In CI it must be there.
pub fn psql(door: &PostgresHandle, user: &str, password: &str, arguments: &[&str]) -> Option<Output> {
    let port = door.address().port().to_string();
    let mut command = Command::new("psql");
    command.args(["-X", "-w", "-h", "127.0.0.1", "-p", &port, "-U", user, "-d", "maturion"]).args(arguments);
    command.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "20").env("LC_ALL", "C.UTF-8");
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("psql cannot be run: {error}"));
            None
        }
    }
}

pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
