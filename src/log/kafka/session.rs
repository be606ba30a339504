//! A member of a consumer group with its transactional producer: one role's way through Apache Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::connection::{CONNECT_WAIT, Connection, Heard, REQUEST_WAIT};
use super::error;
use super::group::{self, GroupContext};
use super::lists::{self, list_at, list_of};
use super::producer::Transactions;
use crate::events;
use crate::log::{LogError, Outgoing, Partition, Position, Rebalance, Record, Session};

/// After so long without a record or a rebalance the brokers are asked for a sign of life. A client of librdkafka 2.12 that
/// was once told of no broker at all (by a broker that had just started, or was too slow for its controller) forgets all it
/// knew and is silent for ever, without an error (confluentinc/librdkafka#5301); only a new client finds them again.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a rewind waits for a partition that is only just starting to be read.
const SEEK_WAIT: Duration = Duration::from_secs(10);
const SEEK_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct KafkaSession {
    connection: Arc<Connection>,
    consumer: BaseConsumer<GroupContext>,
    transactions: Transactions,
    topics: Vec<String>,
    /// Where each partition was last told to start.
    starts: BTreeMap<Partition, i64>,
    /// The change that was reported and not answered; librdkafka delivers nothing until it is.
    unanswered: Option<Rebalance>,
    /// When something last came from a broker.
    heard: Instant,
}

impl KafkaSession {
    pub(super) fn open(
        connection: Arc<Connection>,
        group: &str,
        topics: &[String],
        transactional_id: &str,
    ) -> Result<KafkaSession, LogError> {
        let config = connection.consumer(Some(group));
        let consumer: BaseConsumer<GroupContext> =
            config.create_with_context(GroupContext::default()).map_err(error::creation)?;
        check_topics(&connection, &consumer, topics)?;
        let transactions = Transactions::open(&connection, transactional_id)?;
        let session = KafkaSession {
            connection,
            consumer,
            transactions,
            topics: topics.to_vec(),
            starts: BTreeMap::new(),
            unanswered: None,
            heard: Instant::now(),
        };
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        session.consumer.subscribe(&names).map_err(|error| session.failed("subscribe", &error))?;
        Ok(session)
    }

    fn failed(&self, what: &str, error: &KafkaError) -> LogError {
        self.connection.failed(what, error, self.consumer.context().heard())
    }

    /// What an error event of the consumer means: most pass, and librdkafka goes on by itself.
    fn judge(&mut self, cause: &KafkaError) -> Result<(), LogError> {
        let code = cause.rdkafka_error_code();
        if error::is_refusal(code) {
            return Err(self.failed("read", cause));
        }
        match code {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Err(self.lost_offset(cause))
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                check_topics(&self.connection, &self.consumer, &self.topics)
            }
            _ if error::passes(code) => Ok(()),
            _ => Err(self.failed("read", cause)),
        }
    }

    /// Fails if nothing was heard for long, and nobody answers a question.
    fn check_silence(&mut self) -> Result<(), LogError> {
        if self.heard.elapsed() > SILENCE_MAX {
            check_topics(&self.connection, &self.consumer, &self.topics)?;
            self.heard = Instant::now();
        }
        Ok(())
    }

    fn lost_offset(&self, cause: &KafkaError) -> LogError {
        let positions = match lists::positions(&self.consumer, &self.starts) {
            Ok(positions) => positions,
            Err(error) => return self.failed("tell its positions", &error),
        };
        super::first_lost(&self.consumer, &positions).unwrap_or_else(|| self.failed("read", cause))
    }

    /// Answers whatever is open and leaves the group.
    fn leave(&mut self) {
        if let Err(error) = self.transactions.abort() {
            events::transaction_left_open(&error.to_string());
        }
        self.consumer.context().close();
        // A member that owes an answer cannot end, and dropping it would wait for ever.
        // An error may have come together with a rebalance, which then was not reported.
        let owed = self.unanswered.take().or_else(|| self.consumer.context().take_change());
        let answered = match owed {
            Some(Rebalance::Assigned(partitions)) => group::take(&self.consumer, &list_of(&partitions)),
            Some(Rebalance::Revoked(partitions) | Rebalance::Lost(partitions)) => {
                group::give_up(&self.consumer, &list_of(&partitions))
            }
            None => Ok(()),
        };
        if let Err(error) = answered {
            events::rebalance_unanswered(&error.to_string());
        }
    }
}

fn check_topics(
    connection: &Connection,
    consumer: &BaseConsumer<GroupContext>,
    topics: &[String],
) -> Result<(), LogError> {
    topics.iter().try_for_each(|topic| {
        let metadata = connection.metadata(consumer, Some(topic), CONNECT_WAIT)?;
        super::partitions_in(&metadata, topic).map(drop)
    })
}

impl Session for KafkaSession {
    fn poll(
        &mut self,
        wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError> {
        let mut wait = wait;
        let mut visited = 0;
        while visited < max {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => lists::show(&message, visit),
                Some(Err(cause)) => {
                    self.judge(&cause)?;
                    break;
                }
                None => break,
            }
            visited += 1;
            wait = Duration::ZERO;
        }
        let change = self.consumer.context().take_change();
        if change.is_some() {
            self.unanswered.clone_from(&change);
        }
        if visited > 0 || change.is_some() {
            self.heard = Instant::now();
        }
        self.check_silence()?;
        Ok(change)
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let list = list_at(positions)?;
        group::take(&self.consumer, &list).map_err(|error| self.failed("assign partitions", &error))?;
        self.unanswered = None;
        self.starts.extend(positions.iter().map(|position| (position.partition.clone(), position.offset)));
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        group::give_up(&self.consumer, &list_of(partitions))
            .map_err(|error| self.failed("give up partitions", &error))?;
        self.unanswered = None;
        self.starts.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    fn rewind(&mut self, positions: &[Position]) -> Result<(), LogError> {
        // librdkafka takes a list of nothing for a mistake.
        if positions.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + SEEK_WAIT;
        loop {
            let sought = self.consumer.seek_partitions(list_at(positions)?, SEEK_WAIT);
            let sought = sought.map_err(|error| self.failed("rewind", &error))?;
            let Some(error) = sought.elements().iter().find_map(|element| element.error().err()) else { break };
            // A partition cannot be moved before its reading has begun, which takes a moment after it was assigned.
            if Instant::now() >= deadline {
                return Err(self.failed("rewind", &error));
            }
            std::thread::sleep(SEEK_PAUSE);
        }
        self.starts.extend(positions.iter().map(|position| (position.partition.clone(), position.offset)));
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.consumer.pause(&list_of(partitions)).map_err(|error| self.failed("pause", &error))
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.consumer.resume(&list_of(partitions)).map_err(|error| self.failed("resume", &error))
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        lists::positions(&self.consumer, &self.starts).map_err(|error| self.failed("tell its positions", &error))
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<Option<i64>>, LogError> {
        // read_committed makes librdkafka ask for stable offsets, and wait while a transaction is pending.
        let list = self.consumer.committed_offsets(list_of(partitions), REQUEST_WAIT);
        let list = list.map_err(|error| self.failed("tell committed offsets", &error))?;
        let committed = |partition: &Partition| {
            let element = list.find_partition(&partition.topic, partition.number)?;
            match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }
        };
        Ok(partitions.iter().map(committed).collect())
    }

    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError> {
        self.transactions.send(&record)
    }

    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError> {
        let list = list_at(offsets)?;
        let Some(metadata) = self.consumer.group_metadata() else {
            return Err(LogError::Failed("the consumer has no group".to_owned()));
        };
        self.transactions.commit(&list, &metadata)
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.transactions.abort()
    }

    fn close(self: Box<Self>) {}
}

/// However a session ends, what it had open is undone.
impl Drop for KafkaSession {
    fn drop(&mut self) {
        self.leave();
    }
}
