//! Programs from the operator's list.
//!
//! A program gets its arguments as a list, an empty environment but for `MATURION_IDEMPOTENCY_KEY` and
//! `MATURION_FENCING_TOKEN`, an empty standard input and the folder `/`. Code 0 is done. Any other end is unknown: it may have
//! done a part. What it says on standard error is not read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::process::{Started, run};
use super::template::{self, Values};
use super::{ANSWER_BYTES_MAX, ActError, Adapter, Order, Snapshot};
use crate::model::action::{Action, AdapterSpec, CommandSpec};

/// The programs by their names.
pub(super) struct Command(BTreeMap<String, PathBuf>);

impl Command {
    pub(super) fn new(programs: BTreeMap<String, PathBuf>) -> Command {
        Command(programs)
    }

    fn of<'a>(&self, action: &'a Action) -> Result<(&PathBuf, &'a CommandSpec), ActError> {
        let AdapterSpec::Command(spec) = &action.adapter else {
            return Err(ActError::NotSent(format!("{} is not a command", action.kind.name())));
        };
        match self.0.get(&spec.command) {
            Some(program) => Ok((program, spec)),
            None => Err(ActError::NotSent(format!("there is no [[command]] `{}`", spec.command))),
        }
    }

    async fn run(
        &self,
        order: &Order<'_>,
        arguments: &[String],
        values: &Values<'_>,
        key: String,
    ) -> Result<Option<Vec<u8>>, ActError> {
        let (program, spec) = self.of(order.action)?;
        let started = Started {
            program: program.clone(),
            arguments: arguments.iter().map(|text| template::argument(text, values)).collect::<Result<_, _>>()?,
            environment: [
                ("MATURION_IDEMPOTENCY_KEY".to_owned(), key),
                ("MATURION_FENCING_TOKEN".to_owned(), order.fencing_token.to_string()),
            ],
            timeout: Duration::from_micros(spec.timeout.max(0) as u64),
        };
        match tokio::task::spawn_blocking(move || run(&started)).await {
            Ok(output) => output,
            Err(error) => Err(ActError::Unknown(error.to_string())),
        }
    }
}

#[async_trait]
impl Adapter for Command {
    fn supports(&self, action: &Action) -> bool {
        self.of(action).is_ok()
    }

    async fn snapshot(&self, order: &Order<'_>) -> Result<Snapshot, ActError> {
        let (_, spec) = self.of(order.action)?;
        let Some(arguments) = &spec.snapshot else { return Ok(Snapshot::default()) };
        let key = format!("{}-snapshot", order.intent.key());
        match self.run(order, arguments, &Values::of(order.intent), key).await? {
            Some(output) => Snapshot::from_json(&output),
            None => Err(ActError::Refused(format!("the output goes on, or has more than {ANSWER_BYTES_MAX} bytes"))),
        }
    }

    async fn apply(&self, order: &Order<'_>) -> Result<(), ActError> {
        let (_, spec) = self.of(order.action)?;
        self.run(order, &spec.apply, &Values::of(order.intent), order.intent.key()).await.map(drop)
    }

    async fn revert(&self, order: &Order<'_>, before: &Snapshot) -> Result<(), ActError> {
        let (_, spec) = self.of(order.action)?;
        let Some(arguments) = &spec.revert else {
            return Err(ActError::NotSent(format!("{} has nothing to take back", order.action.kind.name())));
        };
        let key = format!("{}-revert", order.intent.key());
        self.run(order, arguments, &Values::before(order.intent, before), key).await.map(drop)
    }
}
