//! A log whose sessions keep no promise: outputs are written by a plain producer, offsets committed apart from them.
//!
//! It shows what exactly-once costs. Everything else is Maturion's own Kafka log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use maturion::log::{
    Appender, Log, LogError, Outgoing, Partition, Position, Reader, Rebalance, Record, Session, TopicInfo,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

pub struct LooseLog {
    log: Arc<dyn Log>,
    brokers: String,
}

impl LooseLog {
    pub fn new(log: Arc<dyn Log>, brokers: &str) -> LooseLog {
        LooseLog { log, brokers: brokers.to_owned() }
    }
}

impl Log for LooseLog {
    fn session(&self, group: &str, topics: &[String], _: &str) -> Result<Box<dyn Session>, LogError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "65536")
            .create()
            .expect("a consumer");
        let counts = self.log.describe(topics)?;
        let all = counts.iter().flat_map(|info| {
            let topic: Arc<str> = info.name.as_str().into();
            (0..info.partitions).map(move |number| Partition { topic: Arc::clone(&topic), number })
        });
        let news = Some(all.collect());
        Ok(Box::new(LooseSession { consumer, appender: self.log.appender()?, assigned: BTreeSet::new(), news }))
    }

    fn reader(&self, positions: &[Position]) -> Result<Box<dyn Reader>, LogError> {
        self.log.reader(positions)
    }

    fn appender(&self) -> Result<Arc<dyn Appender>, LogError> {
        self.log.appender()
    }

    fn bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.log.bounds(partitions)
    }

    fn settled_bounds(&self, partitions: &[Partition]) -> Result<Vec<(i64, i64)>, LogError> {
        self.log.settled_bounds(partitions)
    }

    fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, LogError> {
        self.log.describe(topics)
    }

    fn create(&self, topic: &TopicInfo) -> Result<(), LogError> {
        self.log.create(topic)
    }

    fn trim(&self, before: &[Position]) -> Result<(), LogError> {
        self.log.trim(before)
    }

    fn describe_self(&self) -> String {
        "kafka without transactions".to_owned()
    }
}

/// The only member of its group: it is given everything at once.
struct LooseSession {
    consumer: BaseConsumer,
    appender: Arc<dyn Appender>,
    assigned: BTreeSet<Partition>,
    news: Option<Vec<Partition>>,
}

fn list(positions: &[Position]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for Position { partition, offset } in positions {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset)).expect("an offset");
    }
    list
}

impl Session for LooseSession {
    fn poll(
        &mut self,
        wait: Duration,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<Rebalance>, LogError> {
        if let Some(partitions) = self.news.take() {
            return Ok(Some(Rebalance::Assigned(partitions)));
        }
        let mut wait = wait;
        for _ in 0..max {
            let Some(message) = self.consumer.poll(wait) else { break };
            let message = message.expect("a message");
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            visit(&Record {
                topic: message.topic(),
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis(),
                key: message.key(),
                value: message.payload(),
                headers: headers.map(|header| (header.key, header.value.unwrap_or_default())).collect(),
            });
            wait = Duration::ZERO;
        }
        Ok(None)
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), LogError> {
        self.consumer.assign(&list(positions)).expect("assigned");
        self.assigned = positions.iter().map(|position| position.partition.clone()).collect();
        Ok(())
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        let list = self.consumer.position().expect("positions");
        let known = self.assigned.iter().filter_map(|partition| {
            let element = list.find_partition(&partition.topic, partition.number)?;
            let Offset::Offset(offset) = element.offset() else { return None };
            Some(Position { partition: partition.clone(), offset })
        });
        Ok(known.collect())
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<Option<i64>>, LogError> {
        Ok(vec![None; partitions.len()])
    }

    fn send(&mut self, record: Outgoing<'_>) -> Result<(), LogError> {
        self.appender.append(record)
    }

    fn commit(&mut self, offsets: &[Position]) -> Result<(), LogError> {
        self.appender.flush(Duration::from_secs(60))?;
        self.consumer.commit(&list(offsets), CommitMode::Async).expect("committed");
        Ok(())
    }

    fn release(&mut self, _: &[Partition]) -> Result<(), LogError> {
        unreachable!("nothing is taken from the only member")
    }

    fn rewind(&mut self, _: &[Position]) -> Result<(), LogError> {
        unreachable!("nothing is aborted")
    }

    fn pause(&mut self, _: &[Partition]) -> Result<(), LogError> {
        unreachable!("nothing is paused")
    }

    fn resume(&mut self, _: &[Partition]) -> Result<(), LogError> {
        unreachable!("nothing is paused")
    }

    fn abort(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn close(self: Box<Self>) {}
}
