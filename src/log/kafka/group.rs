//! What the group coordinator says to a member. librdkafka lets the application answer later, so a rebalance is only
//! noted in the callback; the session answers it when the role has done its part.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;

use super::connection::{Heard, Report, log_line};
use crate::events;
use crate::log::{Partition, Rebalance};

/// The context of a group's member.
#[derive(Debug, Default)]
pub(super) struct GroupContext {
    report: Report,
    changes: Mutex<VecDeque<Rebalance>>,
    is_closing: AtomicBool,
}

impl GroupContext {
    /// The next change that was not reported yet.
    pub(super) fn take_change(&self) -> Option<Rebalance> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From now on every rebalance is answered at once: nobody will.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }
}

impl Heard for GroupContext {
    fn heard(&self) -> &Report {
        &self.report
    }
}

impl ClientContext for GroupContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.report.hear(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assignment = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Acquire) {
            let answered = if is_assignment { take(consumer, list) } else { give_up(consumer, list) };
            if let Err(error) = answered {
                events::rebalance_unanswered(&error.to_string());
            }
            return;
        }
        let partitions = partitions_of(list);
        let change = if is_assignment {
            Rebalance::Assigned(partitions)
        } else if consumer.assignment_lost() {
            Rebalance::Lost(partitions)
        } else {
            Rebalance::Revoked(partitions)
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

/// Answers an assignment, with the positions in the list.
pub(super) fn take<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager => consumer.assign(list),
        _ => consumer.incremental_assign(list),
    }
}

/// Answers a revocation.
pub(super) fn give_up<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager => consumer.unassign(),
        _ => consumer.incremental_unassign(list),
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    let partition = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| Partition {
        topic: Arc::from(element.topic()),
        number: element.partition(),
    };
    elements.iter().map(partition).collect()
}
