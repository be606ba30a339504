//! Hands: what is done in the world, apart from the worker's thread, and told when it has ended.
//!
//! The worker starts a task only after the commit that says so, and never waits for one. A task that is lost with its
//! process is started again by whoever goes on, with the same key.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::act::{ActError, Adapter, Adapters, Order, Snapshot};
use crate::incident::attempt::{Answer, Call, Job};
use crate::model::action::{Action, Intent};

/// Threads that calls wait on. A call that waits takes none of them, so two are enough for all.
const THREADS: usize = 2;

/// Does tasks.
pub trait Hands: Send {
    /// Begins a task, and returns at once.
    fn start(&mut self, task: Task);

    /// What has ended since the last call.
    fn finished(&mut self) -> Vec<Finished>;
}

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Task {
    /// A call of an attempt.
    Call { incident_id: String, action_id: String, action: Action, job: Job },
    /// Reads the present state for a decision; nothing is changed.
    Look { incident_id: String, action: Action, intent: Intent },
}

/// Something that has ended.
#[derive(Clone, Debug)]
pub enum Finished {
    Call { incident_id: String, action_id: String, call: Call, answer: Answer },
    Look { incident_id: String, state: Result<Value, String> },
}

/// Hands that reach the platform through the [adapters](crate::act).
pub struct PlatformHands {
    runtime: Runtime,
    adapters: Arc<Adapters>,
    tell: Sender<Finished>,
    told: Receiver<Finished>,
}

impl PlatformHands {
    pub fn new(adapters: Arc<Adapters>) -> io::Result<PlatformHands> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("act").enable_all().build()?;
        let (tell, told) = channel();
        Ok(PlatformHands { runtime, adapters, tell, told })
    }
}

impl Hands for PlatformHands {
    fn start(&mut self, task: Task) {
        let (adapters, tell) = (Arc::clone(&self.adapters), self.tell.clone());
        self.runtime.spawn(async move {
            // If nobody listens any more, whoever goes on does it again with the same key.
            let _ = tell.send(perform(&adapters, task).await);
        });
    }

    fn finished(&mut self) -> Vec<Finished> {
        self.told.try_iter().collect()
    }
}

/// Does a task to its end.
async fn perform(adapters: &Adapters, task: Task) -> Finished {
    match task {
        Task::Call { incident_id, action_id, action, job } => {
            let call = job.call;
            let answer = match make(adapters, &action, &job).await {
                Ok(state) => Answer::Done(state),
                Err(ActError::Refused(why)) => Answer::Refused(why),
                Err(ActError::NotSent(why)) => Answer::NotSent(why),
                Err(ActError::Unknown(why)) => Answer::Unknown(why),
            };
            Finished::Call { incident_id, action_id, call, answer }
        }
        Task::Look { incident_id, action, intent } => {
            let order = Order { action: &action, intent: &intent, fencing_token: 0 };
            let state = look(adapters, &order).await.map_err(|error| error.to_string());
            Finished::Look { incident_id, state }
        }
    }
}

/// Steps 12 and 13, and taking back: each tells the state that it finds or leaves.
async fn make(adapters: &Adapters, action: &Action, job: &Job) -> Result<Value, ActError> {
    let order = Order { action, intent: &job.intent, fencing_token: job.token };
    let adapter = adapter(adapters, action)?;
    match job.call {
        Call::Snapshot => look(adapters, &order).await,
        Call::Apply => {
            adapter.apply(&order).await?;
            // It was done, whether or not what it left can be read.
            Ok(look(adapters, &order).await.unwrap_or(Value::Null))
        }
        Call::Revert => {
            let before = match &job.before {
                Some(Value::Object(before)) => Snapshot(before.clone()),
                _ => Snapshot::default(),
            };
            adapter.revert(&order, &before).await?;
            look(adapters, &order).await
        }
    }
}

async fn look(adapters: &Adapters, order: &Order<'_>) -> Result<Value, ActError> {
    adapter(adapters, order.action)?.snapshot(order).await.map(|state| Value::Object(state.0))
}

fn adapter<'a>(adapters: &'a Adapters, action: &Action) -> Result<&'a dyn Adapter, ActError> {
    let missing = || adapters.missing(action).unwrap_or_else(|| "nothing carries it out".to_owned());
    adapters.of(action).ok_or_else(|| ActError::NotSent(missing()))
}
