//! Roles: where the core meets the world.
//!
//! | role | what it does |
//! |---|---|
//! | [`intake`] | input topics to partial states and dead letters |
//! | [`detect`] | partial states to windows and detections |
//! | [`store`] | input topics and results to the tables of the store |
//! | [`remediate`] | detections to decisions, actions and their proof |
//! | `serve` | HTTP: ingestion, SQL and status; PostgreSQL: SQL ([`crate::serve`]) |
//! | [`audit`] | not a role: the audit topic, read to verify it and to go on from its end |
//! | [`observe`] | not a role, but in every process: what the others do, and how this one is, as telemetry |
//!
//! Each worker is one OS thread with one session of the log; several workers and several processes share the work
//! through the log's groups. A worker lives in steps (`join`, `turn`, `finish`) by the time of its [`Clock`], so that one
//! thread can drive many of them in any order. One that loses the log starts anew from what was committed
//! ([`supervision`]). Nothing below `roles` starts a thread or a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use serde::Serialize;
use thiserror::Error;

use crate::evaluate::PipelineSet;
use crate::log::{LogError, Outgoing, Session};
use crate::model::pipeline::Source;
use crate::serve::metrics::Work;
use crate::serve::status::{RoleState, StatusBoard};
use crate::window::partial::{self, KIND, PIPELINE, VERSION};
use crate::window::plan::WindowPlan;

pub mod audit;
pub mod clock;
mod committed;
pub mod detect;
mod doors;
pub mod intake;
pub mod observe;
pub mod remediate;
pub mod runtime;
pub mod store;
pub mod supervision;

pub use clock::{Clock, SystemClock};
pub use doors::Doors;
pub use runtime::Runtime;

/// How long workers may take to end when they are told to: longer than any single request to Kafka. librdkafka was seen not to
/// close a consumer at all after its broker had gone and come several times. Leaving a worker behind loses nothing: whoever
/// goes on begins where it last committed.
const STOP_WAIT: Duration = Duration::from_secs(60);
/// How often a worker that was told to end is looked at.
const STOP_STEP: Duration = Duration::from_millis(10);

/// Why the roles cannot start, or stopped.
#[derive(Debug, Error)]
pub enum RolesError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("intake stopped: {0}")]
    Intake(#[from] intake::IntakeError),
    #[error("detect stopped: {0}")]
    Detect(#[from] detect::DetectRoleError),
    #[error("store stopped: {0}")]
    Store(#[from] store::StoreRoleError),
    #[error("remediate stopped: {0}")]
    Remediate(#[from] remediate::RemediateError),
    #[error(transparent)]
    Policy(#[from] crate::decide::PolicyError),
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Act(#[from] crate::act::ActError),
    #[error(transparent)]
    Notify(#[from] crate::notify::send::SendError),
    #[error(transparent)]
    Hands(#[from] remediate::hands::HandsError),
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    #[error(transparent)]
    Postgres(#[from] crate::serve::postgres::PostgresError),
    #[error(transparent)]
    Query(#[from] crate::query::QueryError),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("a worker ended by a defect; its last words are in the log")]
    Panicked,
    #[error("{0} did not end within {wait} s; what it had committed is safe", wait = STOP_WAIT.as_secs())]
    Stuck(&'static str),
}

impl RolesError {
    /// True if the same work may succeed later; see [`LogError::passes`].
    pub fn passes(&self) -> bool {
        match self {
            RolesError::Store(store::StoreRoleError::Store(error)) => error.passes(),
            _ => self.of_the_log().is_some_and(LogError::passes),
        }
    }

    /// True if the log gave the worker's name away; see [`LogError::Fenced`].
    pub fn is_fence(&self) -> bool {
        matches!(self.of_the_log(), Some(LogError::Fenced { .. }))
    }

    fn of_the_log(&self) -> Option<&LogError> {
        match self {
            RolesError::Log(error)
            | RolesError::Intake(intake::IntakeError::Log(error))
            | RolesError::Detect(detect::DetectRoleError::Log(error))
            | RolesError::Remediate(remediate::RemediateError::Log(error))
            | RolesError::Store(store::StoreRoleError::Log(error)) => Some(error),
            _ => None,
        }
    }
}

/// Workers that run until they are stopped.
#[derive(Default)]
pub struct RunningRoles {
    stop: Arc<AtomicBool>,
    workers: Vec<(&'static str, JoinHandle<Result<(), RolesError>>)>,
}

impl RunningRoles {
    /// Starts a worker. `work` makes one, from nothing, each time that it is called.
    fn spawn(
        &mut self,
        role: &'static str,
        board: &Arc<StatusBoard>,
        work: impl Fn(&AtomicBool) -> Result<(), RolesError> + Send + 'static,
    ) -> Result<(), RolesError> {
        board.role(role, RoleState::Starting);
        let (stop, board) = (Arc::clone(&self.stop), Arc::clone(board));
        let body = move || supervision::supervise(role, &board, &stop, supervision::RESTART_PAUSE, work);
        let worker = std::thread::Builder::new().name(role.to_owned()).spawn(body).map_err(RolesError::Thread)?;
        self.workers.push((role, worker));
        Ok(())
    }

    /// True once a worker has ended, which without [`RunningRoles::stop`] it does only on an error that no retry cures.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().any(|(_, worker)| worker.is_finished())
    }

    /// Lets every worker commit what it has and end its session; the first error any of them had.
    pub fn stop(self) -> Result<(), RolesError> {
        self.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + STOP_WAIT;
        let end = |(role, worker): (&'static str, JoinHandle<Result<(), RolesError>>)| {
            while !worker.is_finished() {
                if Instant::now() >= deadline {
                    return Err(RolesError::Stuck(role));
                }
                std::thread::sleep(STOP_STEP);
            }
            worker.join().unwrap_or(Err(RolesError::Panicked))
        };
        let results = self.workers.into_iter().map(end);
        results.collect::<Vec<_>>().into_iter().collect()
    }
}

/// A message could not be sent.
#[derive(Debug, Error)]
pub enum SendError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Encode(#[from] DataFusionError),
}

/// Sends partial states, each row to the partition of its series.
fn send_partial(
    session: &mut dyn Session,
    topic: &str,
    plan: &WindowPlan,
    states: &RecordBatch,
    partitions: i32,
    work: &mut Work,
) -> Result<(), SendError> {
    let headers =
        [(KIND, b"partial".as_slice()), (PIPELINE, plan.pipeline.as_bytes()), (VERSION, plan.version.as_bytes())];
    for (partition, part) in partial::route(plan, states, partitions)? {
        for value in partial::encode(&part)? {
            let (key, value) = (Some(plan.pipeline.as_bytes()), Some(value.as_slice()));
            let partition = Some(partition);
            work.partial_messages += 1;
            work.partial_bytes += value.map_or(0, <[u8]>::len) as u64;
            session.send(Outgoing { topic, partition, key, value, headers: &headers, timestamp_ms: None })?;
        }
    }
    Ok(())
}

/// Explains to every partition of the partials what those of these pipelines mean.
fn send_definitions(
    session: &mut dyn Session,
    topic: &str,
    set: &PipelineSet,
    is_meant: impl Fn(&Source) -> bool,
    partitions: i32,
) -> Result<(), LogError> {
    let meant = set.pipelines().iter().enumerate().filter(|(_, compiled)| is_meant(&compiled.pipeline.source));
    for (place, _) in meant {
        send_control(session, topic, "definition", &set.definition(place), partitions)?;
    }
    Ok(())
}

/// Sends a message of a kind that concerns every series to every partition of the partials.
fn send_control<T: Serialize>(
    session: &mut dyn Session,
    topic: &str,
    kind: &str,
    message: &T,
    partitions: i32,
) -> Result<(), LogError> {
    let value =
        serde_json::to_vec(message).map_err(|error| LogError::Failed(format!("a message of kind {kind}: {error}")))?;
    let headers = [(KIND, kind.as_bytes())];
    for partition in 0..partitions {
        let (partition, value) = (Some(partition), Some(value.as_slice()));
        session.send(Outgoing { topic, partition, key: None, value, headers: &headers, timestamp_ms: None })?;
    }
    Ok(())
}
