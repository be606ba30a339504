//! `maturion run`: the roles of this process, until it is told to stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::{Brokers, Config, is_instance_name};
use crate::events;
use crate::roles::Runtime;
use crate::roles::runtime::{OpenError, open_store};
use crate::serve::status::RoleState;

use super::{Failure, signals};

/// How often the roles are asked whether one has ended by itself.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// What this process does; several processes share the work through Kafka's consumer groups
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["intake", "detect", "store", "remediate", "serve"], value_name = "ROLE,…")]
    roles: Vec<Role>,
    /// The name of this process, instead of the configured one: unique, and the same after a restart
    #[arg(long, value_name = "NAME", value_parser = instance_name)]
    instance: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Input topics to partial states
    Intake,
    /// Partial states to windows and detections
    Detect,
    /// Telemetry, windows and detections to the tables of the store
    Store,
    /// Detections to decisions, actions and their proof
    Remediate,
    /// HTTP: ingestion, status and SQL
    Serve,
}

fn instance_name(text: &str) -> Result<String, String> {
    if is_instance_name(text) { Ok(text.to_owned()) } else { Err("1 to 60 of a-z A-Z 0-9 . _ -".to_owned()) }
}

/// Runs until a signal, or until a role fails.
pub(super) fn run(mut config: Config, arguments: RunArguments) -> Result<(), Failure> {
    let has = |role| arguments.roles.contains(&role);
    let (intake, detect, store, serve) = (has(Role::Intake), has(Role::Detect), has(Role::Store), has(Role::Serve));
    let remediate = has(Role::Remediate);
    if config.kafka.brokers == Brokers::Embedded && !(intake && detect && serve) {
        return Err(Failure::Unusable(
            "the embedded log lives in one process, which needs all roles; leave --roles out, or set kafka.brokers"
                .to_owned(),
        ));
    }
    if let Some(instance) = arguments.instance {
        config.instance.name = instance;
    }
    // First, so that a process that is told to stop while it begins also ends in order.
    let stop = signals::stop_requested().map_err(Failure::work)?;
    let runtime = Runtime::open(&config)?;
    let tables = if store { Some(open_store(&config, &runtime.set).map_err(OpenError::from)?) } else { None };
    let workers = [("detect", detect), ("intake", intake), ("store", store), ("remediate", remediate)];
    for (role, _) in workers.into_iter().filter(|(_, is_asked_for)| *is_asked_for) {
        // Said before the door opens: who asks in between must not find a process that is ready without them.
        runtime.board.role(role, RoleState::Starting);
    }
    let source = tables.as_ref().map(|tables| runtime.tables(tables));
    let door = if serve { Some(runtime.serve(&config, source.clone())?) } else { None };
    let mut roles = runtime.start(intake, detect)?;
    if let Some(tables) = &tables {
        runtime.fill(tables, runtime.store_limits(&config), &mut roles)?;
    }
    if remediate {
        runtime.remediate(&config, source, &mut roles)?;
    }
    let observing = runtime.observe(&config, intake || detect)?;
    events::running(&config.instance.name, &runtime.log.describe_self());
    while !stop.load(Ordering::Relaxed) && !roles.has_ended() {
        std::thread::sleep(WATCH_INTERVAL);
    }
    let result = roles.stop();
    observing.stop();
    if let Some(door) = door {
        door.stop();
    }
    Ok(result?)
}
