//! Apache Kafka behind the log's interface, through librdkafka.
//!
//! Every call blocks on the caller's thread. Exactly once rests on three things that are kept together here: consumers
//! read committed records only, outputs and offsets are in one transaction with the group's generation, and a
//! rebalance waits for the role. Nothing is ever sought inside a callback, and no position is ever guessed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use crate::log::{Appender, Log, LogError, Partition, Position, Reader, Session, TopicInfo};

mod admin;
mod connection;
mod error;
mod group;
mod lists;
mod producer;
mod reader;
mod session;

pub use connection::KafkaSettings;

use admin::Admin;
use connection::{CONNECT_WAIT, Connection, PlainContext, REQUEST_WAIT};
use producer::KafkaAppender;
use reader::KafkaReader;
use session::KafkaSession;

/// How often a topic that was just created is looked for.
const READY_PAUSE: Duration = Duration::from_millis(20);

/// How often pending transactions are looked at.
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

/// A connection to Apache Kafka.
pub struct KafkaLog {
    connection: Arc<Connection>,
    /// For questions about topics and offsets.
    inquirer: Inquirer,
    /// For the one question that read_committed cannot answer: what is written, committed or not.
    witness: Inquirer,
    admin: Admin,
}

/// A client for questions, one at a time. One that gets no answer is replaced: librdkafka 2.12 forgets all brokers when one
/// tells it that there are none, as a broker does that has just started, and never finds them again
/// (confluentinc/librdkafka#5301).
struct Inquirer {
    config: ClientConfig,
    client: Mutex<BaseConsumer<PlainContext>>,
}

impl Inquirer {
    fn new(config: ClientConfig) -> Result<Inquirer, LogError> {
        let client = Mutex::new(Inquirer::client(&config)?);
        Ok(Inquirer { config, client })
    }

    fn client(config: &ClientConfig) -> Result<BaseConsumer<PlainContext>, LogError> {
        config.create_with_context(PlainContext::default()).map_err(error::creation)
    }

    fn ask<T>(&self, question: impl FnOnce(&BaseConsumer<PlainContext>) -> Result<T, LogError>) -> Result<T, LogError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = question(&client);
        if matches!(answer, Err(LogError::Unreachable { .. } | LogError::Failed(_))) {
            *client = Inquirer::client(&self.config)?;
        }
        answer
    }
}

impl KafkaLog {
    /// Connects, or says within seconds why that is impossible.
    pub fn connect(settings: KafkaSettings) -> Result<KafkaLog, LogError> {
        let connection = Arc::new(Connection::new(settings)?);
        let config = connection.consumer(None);
        let inquirer = Inquirer::new(config.clone())?;
        inquirer.ask(|client| connection.metadata(client, None, CONNECT_WAIT).map(drop))?;
        let admin = Admin::new(&config)?;
        let mut uncommitted = config;
        uncommitted.set("isolation.level", "read_uncommitted");
        let witness = Inquirer::new(uncommitted)?;
        Ok(KafkaLog { connection, inquirer, witness, admin })
    }

    /// True if every partition of a topic has a leader.
    fn is_ready(&self, topic: &TopicInfo) -> Result<bool, LogError> {
        let name = Some(topic.name.as_str());
        let metadata = self.inquirer.ask(|client| self.connection.metadata(client, name, CONNECT_WAIT))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.name);
        let led =
            found.map_or(0, |found| found.partitions().iter().filter(|partition| partition.leader() >= 0).count());
        Ok(led == usize::try_from(topic.partitions).unwrap_or_default())
    }
}

impl Log for KafkaLog {
    fn session(&self, group: &str, topics: &[String], transactional_id: &str) -> Result<Box<dyn Session>, LogError> {
        let connection = Arc::clone(&self.connection);
        Ok(Box::new(KafkaSession::open(connection, group, topics, transactional_id)?))
    }

    fn reader(&self, positions: &[Position]) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(KafkaReader::open(Arc::clone(&self.connection), positions)?))
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        Ok(Arc::new(KafkaAppender::open(&self.connection)?))
    }

    fn bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.inquirer.ask(|client| partitions.iter().map(|partition| bounds(client, partition)).collect())
    }

    fn settled_bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        let written: Vec<(i64, i64)> =
            self.witness.ask(|client| partitions.iter().map(|partition| bounds(client, partition)).collect())?;
        let deadline = Instant::now() + REQUEST_WAIT;
        loop {
            let stable = self.bounds(partitions)?;
            if stable.iter().zip(&written).all(|((_, stable), (_, written))| stable >= written) {
                return Ok(stable);
            }
            if Instant::now() >= deadline {
                let why = "a transaction stays open in the state topics; another instance with the same topics hangs";
                return Err(LogError::Failed(why.to_owned()));
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
    }

    fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, LogError> {
        let mut found = Vec::new();
        for name in topics {
            let metadata = self.inquirer.ask(|client| self.connection.metadata(client, Some(name), CONNECT_WAIT))?;
            match partitions_in(&metadata, name) {
                Ok(partitions) => {
                    found.push(TopicInfo { name: name.clone(), partitions, config: Default::default() });
                }
                Err(LogError::UnknownTopic { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        self.admin.fill_config(&mut found)?;
        Ok(found)
    }

    fn create(&self, topic: &TopicInfo) -> Result<(), LogError> {
        self.admin.create(topic)?;
        // Brokers learn of a topic one after the other; whoever asks next must not be told that it does not exist.
        let deadline = Instant::now() + REQUEST_WAIT;
        while !self.is_ready(topic)? {
            if Instant::now() >= deadline {
                let why = format!("topic `{}` was created, but its brokers are not ready", topic.name);
                return Err(LogError::Failed(why));
            }
            std::thread::sleep(READY_PAUSE);
        }
        Ok(())
    }

    fn trim(&self, before: &[Position]) -> Result<(), LogError> {
        self.admin.delete_records(&lists::list_at(before)?)
    }

    fn describe_self(&self) -> String {
        format!("kafka at {}", self.connection.settings.brokers)
    }
}

/// Earliest kept offset and last stable one: the inquirer reads committed records only, and so asks for that.
fn bounds<C: ConsumerContext>(inquirer: &BaseConsumer<C>, partition: &Partition) -> Result<(i64, i64), LogError> {
    let Partition { topic, number } = partition;
    inquirer.fetch_watermarks(topic, *number, REQUEST_WAIT).map_err(|cause| match cause.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            LogError::UnknownTopic { topic: topic.to_string() }
        }
        // librdkafka says the same of a topic that it knows, and one that it does not.
        Some(RDKafkaErrorCode::UnknownPartition) => missing(inquirer, partition),
        _ => LogError::Failed(format!("Kafka failed to tell the bounds of {topic}-{number}: {cause}")),
    })
}

/// Whether a partition or its whole topic is missing.
fn missing<C: ConsumerContext>(inquirer: &BaseConsumer<C>, partition: &Partition) -> LogError {
    let Partition { topic, number } = partition;
    let metadata = inquirer.fetch_metadata(Some(topic), CONNECT_WAIT);
    match metadata.map(|metadata| partitions_in(&metadata, topic)) {
        Ok(Err(unknown)) => unknown,
        _ => LogError::Failed(format!("topic `{topic}` has no partition {number}")),
    }
}

/// The first of these positions that is no longer kept, or the error that kept this from being known.
fn first_lost<C: ConsumerContext>(consumer: &BaseConsumer<C>, positions: &[Position]) -> Option<LogError> {
    positions.iter().find_map(|Position { partition, offset }| match bounds(consumer, partition) {
        Ok((earliest, _)) if *offset < earliest => Some(LogError::OffsetLost {
            topic: partition.topic.to_string(),
            partition: partition.number,
            offset: *offset,
            earliest,
        }),
        Ok(_) => None,
        Err(error) => Some(error),
    })
}

/// How many partitions a topic has.
fn partitions_in(metadata: &Metadata, topic: &str) -> Result<i32, LogError> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let unknown = || LogError::UnknownTopic { topic: topic.to_owned() };
    let found = found.ok_or_else(unknown)?;
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(found.partitions().len() as i32),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Err(unknown()),
        Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(found.partitions().len() as i32),
        Some(other) => Err(LogError::Failed(format!("topic `{topic}` cannot be used: {other}"))),
    }
}
