//! Hands: what is done in the world, apart from the worker's thread, and told when it has ended.
//!
//! The worker starts a task only after the commit that says so, and never waits for one. A task that is lost with its
//! process is started again by whoever goes on, with the same key.

use serde_json::Value;

use crate::incident::attempt::{Answer, Call, Job};
use crate::model::action::{Action, Intent};

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
