//! `maturion topics`: creates the topics that are missing and checks the others.

use clap::Args;

use crate::config::{Brokers, Config};
use crate::log::topics::Topics;
use crate::roles::runtime;

use super::{Failure, output};

#[derive(Debug, Args)]
pub(super) struct TopicsArguments {
    /// Creates nothing
    #[arg(long)]
    check: bool,
}

/// Topics that exist are never changed: what is wrong with them is said, with what to do.
pub(super) fn topics(config: &Config, arguments: &TopicsArguments) -> Result<(), Failure> {
    if config.kafka.brokers == Brokers::Embedded {
        return Err(Failure::Unusable(
            "kafka.brokers is \"embedded\", whose topics are made when it starts; set it to the host:port of Kafka"
                .to_owned(),
        ));
    }
    let set = runtime::compile(config)?;
    let log = runtime::connect(config)?;
    let (topics, partitions) = (Topics::new(&config.kafka.topic_prefix), runtime::partitions(config));
    if !arguments.check {
        for name in topics.ensure(log.as_ref(), partitions)? {
            output::print(&format!("created {name}\n"))?;
        }
    }
    let faults = topics.check(log.as_ref(), partitions, runtime::longest_window_ms(&set))?;
    if faults.is_empty() {
        output::print(&format!("{} topics: ok\n", topics.specification(partitions).len()))
    } else {
        Err(Failure::Work(faults))
    }
}
