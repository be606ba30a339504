//! Reading partitions of Apache Kafka without a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::connection::{Connection, Heard, PlainContext};
use super::error;
use super::lists::{self, list_at};
use crate::log::{LogError, Partition, Position, Reader, Record};

/// librdkafka wants a group's name even of those who never join one.
const NO_GROUP: &str = "maturion-readers";

pub(super) struct KafkaReader {
    connection: Arc<Connection>,
    consumer: BaseConsumer<PlainContext>,
    starts: BTreeMap<Partition, i64>,
}

impl KafkaReader {
    pub(super) fn open(connection: Arc<Connection>, positions: &[Position]) -> Result<KafkaReader, LogError> {
        let config = connection.consumer(Some(NO_GROUP));
        let consumer: BaseConsumer<PlainContext> =
            config.create_with_context(PlainContext::default()).map_err(error::creation)?;
        if let Some(lost) = super::first_lost(&consumer, positions) {
            return Err(lost);
        }
        let starts = positions.iter().map(|position| (position.partition.clone(), position.offset)).collect();
        let reader = KafkaReader { connection, consumer, starts };
        let assigned = reader.consumer.assign(&list_at(positions)?);
        assigned.map_err(|error| reader.connection.failed("read", &error, reader.consumer.context().heard()))?;
        Ok(reader)
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, wait: Duration, max: usize, visit: &mut dyn FnMut(&Record<'_>)) -> Result<usize, LogError> {
        let mut wait = wait;
        let mut visited = 0;
        while visited < max {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => lists::show(&message, visit),
                Some(Err(cause)) => {
                    let code = cause.rdkafka_error_code();
                    if code == Some(RDKafkaErrorCode::AutoOffsetReset) {
                        let positions = self.positions()?;
                        if let Some(lost) = super::first_lost(&self.consumer, &positions) {
                            return Err(lost);
                        }
                    }
                    if !error::passes(code) {
                        return Err(self.connection.failed("read", &cause, self.consumer.context().heard()));
                    }
                    break;
                }
                None => break,
            }
            visited += 1;
            wait = Duration::ZERO;
        }
        Ok(visited)
    }

    fn positions(&mut self) -> Result<Vec<Position>, LogError> {
        lists::positions(&self.consumer, &self.starts)
            .map_err(|error| self.connection.failed("tell its positions", &error, self.consumer.context().heard()))
    }
}
