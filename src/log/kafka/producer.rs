//! The transactional producer of a session, and the plain one behind an appender.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};

use super::connection::{Connection, Heard, PlainContext};
use super::error::{self, Verdict};
use super::lists::base_record;
use crate::log::{Appender, LogError, Outgoing};

/// How long a new transactional producer waits for its predecessor's transaction to be aborted.
const INIT_WAIT: Duration = Duration::from_secs(30);
/// How long a record waits for room in the send queue, before the brokers count as unreachable.
const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// How long to wait before trying again when the send queue is full or a transaction's call can be repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How long one call of a transaction may take, repeated while Kafka says so. It is longer than the transaction's timeout,
/// by which librdkafka bounds a commit, but not an abort, which waits for ever for a broker that is gone. Beyond it the
/// session ends, and a new one finds out what became of the transaction.
const CALL_WAIT: Duration = Duration::from_secs(30);
/// Waits for acknowledgement in steps, because librdkafka's own wait sleeps for 100 ms at a time.
const FLUSH_STEP: Duration = Duration::from_millis(1);

type Plain = ThreadedProducer<PlainContext>;

/// Queues a record; waits while the queue is full. [`RDKafkaErrorCode::QueueFull`] means that it stayed full.
fn enqueue(producer: &Plain, record: &Outgoing<'_>) -> Result<(), RDKafkaErrorCode> {
    let mut full_since = None;
    let mut unsent = base_record(record);
    loop {
        let Err((cause, returned)) = producer.send(unsent) else { return Ok(()) };
        let code = cause.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let is_patient = full_since.get_or_insert_with(Instant::now).elapsed() < QUEUE_WAIT;
        if code != RDKafkaErrorCode::QueueFull || !is_patient {
            return Err(code);
        }
        std::thread::sleep(RETRY_PAUSE);
        unsent = returned;
    }
}

/// Waits until nothing is unacknowledged; false if that took longer than `wait`.
fn flush(producer: &Plain, wait: Duration) -> bool {
    let deadline = Instant::now() + wait;
    while producer.flush(FLUSH_STEP).is_err() {
        if Instant::now() >= deadline {
            return false;
        }
    }
    true
}

/// A producer whose records become visible together, with input offsets, or never.
pub(super) struct Transactions {
    producer: Plain,
    transactional_id: String,
    is_open: bool,
}

impl Transactions {
    /// Fences the predecessor of the same name and aborts what it left open.
    pub(super) fn open(connection: &Connection, transactional_id: &str) -> Result<Transactions, LogError> {
        let config = connection.producer(Some(transactional_id));
        let producer: Plain = config.create_with_context(PlainContext::default()).map_err(error::creation)?;
        let transactions = Transactions { producer, transactional_id: transactional_id.to_owned(), is_open: false };
        transactions.producer.init_transactions(INIT_WAIT).map_err(|cause| match &cause {
            KafkaError::Transaction(reason) if reason.is_fatal() => transactions.final_error(&cause),
            _ => connection.failed("open a transactional producer", &cause, transactions.producer.context().heard()),
        })?;
        Ok(transactions)
    }

    fn final_error(&self, cause: &KafkaError) -> LogError {
        match error::judge(cause, &self.transactional_id) {
            Verdict::Final(error) => error,
            Verdict::Retry(reason) => LogError::Failed(reason),
        }
    }

    /// Repeats a call while Kafka says that it may be repeated.
    fn retried(&self, call: impl Fn(&Plain) -> Result<(), KafkaError>) -> Result<(), LogError> {
        let deadline = Instant::now() + CALL_WAIT;
        loop {
            let Err(cause) = call(&self.producer) else { return Ok(()) };
            let last = match error::judge(&cause, &self.transactional_id) {
                Verdict::Retry(reason) => reason,
                Verdict::Final(error) => return Err(error),
            };
            if Instant::now() >= deadline {
                let why = format!("Kafka did not finish a transaction of `{}`: {last}", self.transactional_id);
                return Err(LogError::Failed(why));
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    fn begin(&mut self) -> Result<(), LogError> {
        if !self.is_open {
            self.retried(|producer| producer.begin_transaction())?;
            self.is_open = true;
        }
        Ok(())
    }

    pub(super) fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        self.begin()?;
        enqueue(&self.producer, record).map_err(|code| match code {
            // The producer refuses records once something made the transaction, or itself, unusable.
            RDKafkaErrorCode::State => LogError::Abort("an earlier record could not be written".to_owned()),
            RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced => match self.producer.begin_transaction() {
                Err(cause) => self.final_error(&cause),
                Ok(()) => LogError::Abort(code.to_string()),
            },
            _ => error::unwritten(code, record.topic),
        })
    }

    /// Commits what was sent with these offsets. Nothing sent and no offsets: nothing happens.
    pub(super) fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), LogError> {
        if offsets.count() > 0 {
            self.begin()?;
        }
        if !self.is_open {
            return Ok(());
        }
        let committed = self.try_commit(offsets, group);
        // A topic that does not exist is not cured by trying the transaction again.
        if let (Err(LogError::Abort(_)), Some((code, topic))) =
            (&committed, self.producer.context().heard().take_unwritten())
            && let unwritten @ LogError::UnknownTopic { .. } = error::unwritten(code, &topic)
        {
            return Err(unwritten);
        }
        self.is_open = committed.is_err();
        committed
    }

    fn try_commit(&self, offsets: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<(), LogError> {
        // Records that cannot be written fail by their own timeout, which is below the transaction's.
        while !flush(&self.producer, QUEUE_WAIT) {}
        if offsets.count() > 0 {
            self.retried(|producer| producer.send_offsets_to_transaction(offsets, group, CALL_WAIT))?;
        }
        self.retried(|producer| producer.commit_transaction(CALL_WAIT))
    }

    pub(super) fn abort(&mut self) -> Result<(), LogError> {
        if !self.is_open {
            return Ok(());
        }
        // A session whose abort fails is over; trying once more while it closes would only keep its end waiting.
        self.is_open = false;
        self.retried(|producer| producer.abort_transaction(CALL_WAIT))?;
        self.producer.context().heard().take_unwritten();
        Ok(())
    }
}

/// Writes without transactions.
pub(super) struct KafkaAppender {
    producer: Plain,
}

impl KafkaAppender {
    pub(super) fn open(connection: &Connection) -> Result<KafkaAppender, LogError> {
        let config = connection.producer(None);
        Ok(KafkaAppender { producer: config.create_with_context(PlainContext::default()).map_err(error::creation)? })
    }
}

impl Appender for KafkaAppender {
    fn append(&self, record: Outgoing<'_>) -> Result<(), LogError> {
        enqueue(&self.producer, &record).map_err(|code| error::unwritten(code, record.topic))
    }

    fn flush(&self, wait: Duration) -> Result<(), LogError> {
        let is_flushed = flush(&self.producer, wait);
        if let Some((code, topic)) = self.producer.context().heard().take_unwritten() {
            return Err(error::unwritten(code, &topic));
        }
        if is_flushed {
            return Ok(());
        }
        Err(LogError::Failed(format!("Kafka did not acknowledge all records within {} ms", wait.as_millis())))
    }
}
