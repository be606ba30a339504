//! Hands: what is done in the world, apart from the worker's thread, and told when it has ended.
//!
//! The worker starts a task only after the commit that says so, and never waits for one. A task that is lost with its
//! process is started again by whoever goes on, with the same key.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

use crate::act::{ActError, Adapter, Adapters, Order, Snapshot};
use crate::config;
use crate::incident::attempt::{Answer, Call, Job};
use crate::incident::witness::Witness;
use crate::model::action::{Action, Intent};
use crate::model::pipeline::Micros;
use crate::notify::Delivery;
use crate::notify::send::{SendError, Sender as Channels};
use crate::roles::remediate::witness::{Logs, Question, Tables};
use crate::roles::{Clock, SystemClock};
use crate::tickets::edit::NumberChange;
use crate::tickets::github::{GitHub, Outcome, Proposed, TicketError};
use crate::tickets::proposal::Proposal;
use crate::tickets::{Desired, Identity};

/// Threads that calls wait on. A call that waits takes none of them, so two are enough for all.
const THREADS: usize = 2;

/// Why there are no hands.
#[derive(Debug, Error)]
pub enum HandsError {
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Tickets(#[from] TicketError),
}

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
    /// Looks up what the logs say about an incident.
    Witness { incident_id: String, question: Question },
    /// Makes a ticket as it should be. `written` is the hash of that.
    Ticket { incident_id: String, identity: Identity, known: Option<u64>, desired: Desired, written: String },
    /// Proposes a change of a file.
    Propose { incident_id: String, action_id: String, draft: Proposal, change: NumberChange },
    /// Sends a notice.
    Deliver { delivery: Delivery },
}

/// Something that has ended.
#[derive(Clone, Debug)]
pub enum Finished {
    Call { incident_id: String, action_id: String, call: Call, answer: Answer },
    Look { incident_id: String, state: Result<Value, String> },
    Witness { incident_id: String, witness: Witness },
    Ticket { incident_id: String, written: String, outcome: Result<Outcome, TicketError> },
    Propose { incident_id: String, action_id: String, change: NumberChange, outcome: Result<Proposed, TicketError> },
    Deliver { delivery_id: String, sent: Result<(), SendError> },
}

/// What the hands reach.
#[derive(Clone)]
pub struct Reach {
    /// The platform.
    pub adapters: Arc<Adapters>,
    /// Where tickets go.
    pub github: Option<config::GitHub>,
    /// The tables that lines of logs are looked for in; without them tickets have none.
    pub logs: Option<Tables>,
    /// The channels of those who are called.
    pub sender: Option<Arc<Channels>>,
}

/// Hands that reach the platform through the [adapters](crate::act), GitHub and people.
pub struct PlatformHands {
    runtime: Runtime,
    adapters: Arc<Adapters>,
    logs: Arc<Logs>,
    /// One thing at a time: the client remembers what it is not sure of.
    github: Option<Arc<Mutex<GitHub>>>,
    sender: Option<Arc<Channels>>,
    tell: Sender<Finished>,
    told: Receiver<Finished>,
}

impl PlatformHands {
    /// Starts threads; nothing is called yet.
    pub fn new(reach: &Reach) -> Result<PlatformHands, HandsError> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("act").enable_all().build()?;
        let github = {
            let _within = runtime.enter();
            reach.github.as_ref().map(|config| GitHub::new(config, wall())).transpose()?
        };
        let (adapters, sender) = (Arc::clone(&reach.adapters), reach.sender.clone());
        let (logs, github) = (Logs::new(reach.logs.clone()), github.map(|one| Arc::new(Mutex::new(one))));
        let (tell, told) = channel();
        Ok(PlatformHands { runtime, adapters, logs, github, sender, tell, told })
    }
}

impl Hands for PlatformHands {
    fn start(&mut self, task: Task) {
        let (adapters, tell) = (Arc::clone(&self.adapters), self.tell.clone());
        let (github, sender, logs) = (self.github.clone(), self.sender.clone(), Arc::clone(&self.logs));
        self.runtime.spawn(async move {
            let finished = match task {
                Task::Call { .. } | Task::Look { .. } => perform(&adapters, task).await,
                Task::Witness { incident_id, question } => {
                    let witness = logs.ask(&incident_id, question).await;
                    Some(Finished::Witness { incident_id, witness })
                }
                Task::Ticket { incident_id, identity, known, desired, written } => {
                    let outcome = write(github, &identity, known, &desired).await;
                    Some(Finished::Ticket { incident_id, written, outcome })
                }
                Task::Propose { incident_id, action_id, draft, change } => {
                    let outcome = propose(github, &draft, &change).await;
                    Some(Finished::Propose { incident_id, action_id, change, outcome })
                }
                Task::Deliver { delivery } => deliver(sender, delivery).await,
            };
            // If nobody listens any more, whoever goes on does it again with the same key.
            if let Some(finished) = finished {
                let _ = tell.send(finished);
            }
        });
    }

    fn finished(&mut self) -> Vec<Finished> {
        self.told.try_iter().collect()
    }
}

/// Makes a ticket as it should be.
async fn write(
    github: Option<Arc<Mutex<GitHub>>>,
    identity: &Identity,
    known: Option<u64>,
    desired: &Desired,
) -> Result<Outcome, TicketError> {
    match github {
        Some(github) => {
            let mut github = github.lock().await;
            github.reconcile(identity, known, desired, wall()).await
        }
        None => Err(without_repository()),
    }
}

/// Makes the draft of a change as it should be.
async fn propose(
    github: Option<Arc<Mutex<GitHub>>>,
    draft: &Proposal,
    change: &NumberChange,
) -> Result<Proposed, TicketError> {
    match github {
        Some(github) => github.lock().await.propose_number(draft, change, wall()).await,
        None => Err(without_repository()),
    }
}

fn without_repository() -> TicketError {
    TicketError::Setup("no repository is configured".to_owned())
}

async fn deliver(sender: Option<Arc<Channels>>, delivery: Delivery) -> Option<Finished> {
    let sent = match sender {
        Some(sender) => sender.send(&delivery).await,
        None => Err(SendError::NoContact(delivery.contact.clone())),
    };
    Some(Finished::Deliver { delivery_id: delivery.id, sent })
}

/// GitHub's time, which is not the one that a story is told in.
fn wall() -> Micros {
    SystemClock::default().wall()
}

/// Does what reaches the platform.
async fn perform(adapters: &Adapters, task: Task) -> Option<Finished> {
    match task {
        Task::Call { incident_id, action_id, action, job } => {
            let call = job.call;
            let answer = match make(adapters, &action, &job).await {
                Ok(state) => Answer::Done(state),
                Err(ActError::Refused(why)) => Answer::Refused(why),
                Err(ActError::NotSent(why)) => Answer::NotSent(why),
                Err(ActError::Unknown(why)) => Answer::Unknown(why),
            };
            Some(Finished::Call { incident_id, action_id, call, answer })
        }
        Task::Look { incident_id, action, intent } => {
            let order = Order { action: &action, intent: &intent, fencing_token: 0 };
            let state = look(adapters, &order).await.map_err(|error| error.to_string());
            Some(Finished::Look { incident_id, state })
        }
        Task::Witness { .. } | Task::Ticket { .. } | Task::Propose { .. } | Task::Deliver { .. } => None,
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
