//! Between Maturion's partitions and librdkafka's lists, and between their records.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::log::{LogError, Outgoing, Partition, Position, Record};

pub(super) fn list_of(partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

pub(super) fn list_at(positions: &[Position]) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for Position { partition, offset } in positions {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))
            .map_err(|error| LogError::Failed(format!("offset {offset} is unusable: {error}")))?;
    }
    Ok(list)
}

/// Shows a message as a record. Headers cost an allocation only if there are any.
pub(super) fn show(message: &BorrowedMessage<'_>, visit: &mut dyn FnMut(&Record<'_>)) {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key, header.value.unwrap_or_default())).collect()
    });
    visit(&Record {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers,
    });
}

pub(super) fn base_record<'a>(record: &Outgoing<'a>) -> BaseRecord<'a, [u8], [u8]> {
    let headers = (!record.headers.is_empty()).then(|| {
        let owned = OwnedHeaders::new_with_capacity(record.headers.len());
        record.headers.iter().fold(owned, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
    });
    BaseRecord {
        topic: record.topic,
        partition: record.partition,
        payload: record.value,
        key: record.key,
        timestamp: record.timestamp_ms,
        headers,
        delivery_opaque: (),
    }
}

/// Where a consumer stands: where it was started, until it has read something.
pub(super) fn positions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    starts: &BTreeMap<Partition, i64>,
) -> Result<Vec<Position>, KafkaError> {
    let list = consumer.position()?;
    let mut read = BTreeMap::new();
    for element in list.elements() {
        if let Offset::Offset(offset) = element.offset() {
            read.insert(Partition { topic: Arc::from(element.topic()), number: element.partition() }, offset);
        }
    }
    let position = |(partition, start): (&Partition, &i64)| Position {
        partition: partition.clone(),
        offset: read.get(partition).copied().unwrap_or(*start),
    };
    Ok(starts.iter().map(position).collect())
}
