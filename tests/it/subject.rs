//! A log under test, and a session with the bookkeeping of a role.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::kafka::{KafkaLog, KafkaSettings};
use maturion::log::{Log, LogError, Outgoing, Partition, Position, Rebalance, Record, Session, TopicInfo};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::kafka::{Kafka, unique_prefix};

/// After this a test has failed; nothing is asserted about how long it takes before.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const STEP: Duration = Duration::from_millis(50);

/// Adds partitions to a topic until it has so many.
pub type Grow = Box<dyn Fn(&str, i32)>;

/// The log under test.
pub struct Subject {
    pub log: Box<dyn Log>,
    pub grow: Grow,
    pub prefix: String,
}

impl Subject {
    pub fn embedded() -> Subject {
        let log = EmbeddedLog::new(EmbeddedSettings::default());
        let grown = log.clone();
        let grow = Box::new(move |topic: &str, partitions| grown.grow(topic, partitions).unwrap());
        Subject { log: Box::new(log), grow, prefix: unique_prefix() }
    }

    pub fn kafka(kafka: &'static Kafka) -> Subject {
        let grow = Box::new(|topic: &str, partitions| grow_on_kafka(kafka, topic, partitions));
        Subject { log: Box::new(connect(&kafka.brokers, &[]).unwrap()), grow, prefix: unique_prefix() }
    }

    pub fn create(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
        let name = format!("{}{name}", self.prefix);
        let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        self.log.create(&TopicInfo { name: name.clone(), partitions, config }).unwrap();
        name
    }

    pub fn append(&self, topic: &str, number: i32, values: &[&str]) {
        let appender = self.log.appender().unwrap();
        for value in values {
            appender.append(outgoing(topic, number, value)).unwrap();
        }
        appender.flush(PATIENCE).unwrap();
    }

    pub fn member(&self, group: &str, topic: &str, id: &str) -> Member {
        let (group, id) = (format!("{}{group}", self.prefix), format!("{}{id}", self.prefix));
        let session = self.log.session(&group, &[topic.to_owned()], &id).unwrap();
        Member { session, next: BTreeMap::new(), seen: Vec::new() }
    }

    /// The committed values of one partition, read from its start to its end.
    pub fn values(&self, topic: &str, number: i32) -> Vec<String> {
        let partition = partition(topic, number);
        let (earliest, end) = self.log.bounds(std::slice::from_ref(&partition)).unwrap()[0];
        let mut reader = self.log.reader(&[Position { partition, offset: earliest }]).unwrap();
        let mut values = Vec::new();
        eventually("the reader reaches the end", || {
            reader.poll(STEP, 100, &mut |record| values.push(text(record.value))).unwrap();
            reader.positions().unwrap()[0].offset >= end
        });
        values
    }
}

/// A session with the bookkeeping of a role: it starts at committed offsets and commits what it read before it gives up.
pub struct Member {
    pub session: Box<dyn Session>,
    pub next: BTreeMap<Partition, i64>,
    pub seen: Vec<String>,
}

impl Member {
    /// One poll, and the answer to what it reported.
    pub fn step(&mut self) {
        let (next, seen) = (&mut self.next, &mut self.seen);
        let mut note = |record: &Record<'_>| {
            let known = next.insert(partition(record.topic, record.partition), record.offset + 1);
            assert!(known.is_some(), "a record of a partition that is not assigned");
            seen.push(text(record.value));
        };
        let change = self.session.poll(STEP, 100, &mut note).unwrap();
        match change {
            Some(Rebalance::Assigned(partitions)) => {
                let committed = self.session.committed(&partitions).unwrap();
                let starts = partitions.into_iter().zip(committed);
                let starts: Vec<Position> =
                    starts.map(|(partition, offset)| Position { partition, offset: offset.unwrap_or(0) }).collect();
                self.session.assign(&starts).unwrap();
                self.next.extend(starts.into_iter().map(|start| (start.partition, start.offset)));
            }
            Some(Rebalance::Revoked(partitions)) => {
                self.commit();
                self.session.release(&partitions).unwrap();
                self.next.retain(|partition, _| !partitions.contains(partition));
            }
            Some(Rebalance::Lost(partitions)) => panic!("lost {partitions:?}"),
            None => {}
        }
    }

    pub fn steps_until(&mut self, what: &str, mut done: impl FnMut(&Member) -> bool) {
        eventually(what, || {
            self.step();
            done(self)
        });
    }

    pub fn take(&mut self, partitions: usize) {
        self.steps_until("partitions are assigned", |member| member.next.len() == partitions);
    }

    pub fn see(&mut self, values: &[&str]) {
        self.steps_until("the values arrive", |member| member.seen.len() >= values.len());
        assert_eq!(self.seen, values);
    }

    pub fn positions(&self) -> Vec<Position> {
        self.next.iter().map(|(partition, offset)| Position { partition: partition.clone(), offset: *offset }).collect()
    }

    pub fn commit(&mut self) {
        self.session.commit(&self.positions()).unwrap();
    }

    pub fn send(&mut self, topic: &str, value: &str) {
        self.session.send(outgoing(topic, 0, value)).unwrap();
    }
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen that {what}");
    }
}

pub fn partition(topic: &str, number: i32) -> Partition {
    Partition { topic: topic.into(), number }
}

pub fn outgoing<'a>(topic: &'a str, number: i32, value: &'a str) -> Outgoing<'a> {
    Outgoing { topic, partition: Some(number), value: Some(value.as_bytes()), ..Outgoing::default() }
}

fn text(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "tombstone".to_owned(), |value| String::from_utf8(value.to_vec()).unwrap())
}

pub fn connect(brokers: &str, properties: &[(&str, &str)]) -> Result<KafkaLog, LogError> {
    let properties = properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    KafkaLog::connect(KafkaSettings { brokers: brokers.to_owned(), properties })
}

fn grow_on_kafka(kafka: &Kafka, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    let grown = NewPartitions::new(topic, partitions as usize);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runtime.block_on(admin.create_partitions([&grown], &AdminOptions::new())).unwrap();
    assert!(result.iter().all(Result::is_ok), "{result:?}");
}
