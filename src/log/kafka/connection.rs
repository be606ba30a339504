//! How Maturion's clients of Apache Kafka are configured, and what they heard from the brokers.
//!
//! Every property that exactly-once rests on is set here and cannot be overridden; the rest may be.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{Message, metadata::Metadata};

use super::error;
use crate::events;
use crate::log::LogError;

/// How long the first answer of any broker may take before Kafka counts as unreachable.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(6);
/// How soon a wait for the brokers first looks at what was heard from them; then after twice as long, and so on, because
/// a question that a slow broker answers later than it is asked again would never be answered.
const CONNECT_STEP: Duration = Duration::from_millis(500);
/// How long one request about topics, offsets or groups may take, once Kafka was reached.
pub(super) const REQUEST_WAIT: Duration = Duration::from_secs(30);

/// Consumers. They read committed records only, never commit by themselves, and never guess a position.
const CONSUMER: [(&str, &str); 14] = [
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
    ("isolation.level", "read_committed"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    // A member that died or was stopped, and did not come back, is noticed after this; a take-over cannot be faster, and
    // a restart that is slower moves partitions.
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1000"),
    // The default of 1 s makes throughput saw when a queue was full.
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.wait.max.ms", "100"),
    // Fetched and not yet visited: at most this many KiB per consumer.
    ("queued.max.messages.kbytes", "65536"),
    // New partitions are seen after at most this long.
    ("topic.metadata.refresh.interval.ms", "5000"),
    ("metadata.max.age.ms", "15000"),
    ("allow.auto.create.topics", "false"),
];

/// Producers. A record is written once, or its failure is reported.
const PRODUCER: [(&str, &str); 10] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    // Above the largest record of any of Maturion's topics: the topic decides.
    ("message.max.bytes", "16777216"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
    ("partitioner", "murmur2_random"),
    ("topic.metadata.propagation.max.ms", "3000"),
];

/// An open transaction blocks read_committed readers, so an abandoned one must end soon.
const TRANSACTION_TIMEOUT_MS: &str = "12000";
/// Below the transaction's timeout: a record that cannot be written fails while its transaction can still be aborted.
const TRANSACTION_MESSAGE_TIMEOUT_MS: &str = "10000";
const APPEND_MESSAGE_TIMEOUT_MS: &str = "30000";

/// What the user may not set: exactly-once, or the connection itself, would no longer be what Maturion says it is.
const RESERVED: [&str; 14] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    // A static member that restarts in the middle of a cooperative rebalance leaves partitions that nobody is given.
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partitioner",
    "transactional.id",
];

/// Which brokers, and the user's own librdkafka properties.
#[derive(Clone, Debug, Default)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub brokers: String,
    /// Applied on top of Maturion's own; an unknown one is an error.
    pub properties: BTreeMap<String, String>,
}

/// Builds the configurations of all clients.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) settings: KafkaSettings,
}

impl Connection {
    pub(super) fn new(settings: KafkaSettings) -> Result<Connection, LogError> {
        if let Some(reserved) = settings.properties.keys().find(|key| RESERVED.contains(&key.as_str())) {
            let why = "is set by Maturion, because its guarantees rest on it; remove it from [kafka.properties]";
            return Err(LogError::Setting(format!("`{reserved}` {why}")));
        }
        Ok(Connection { settings })
    }

    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.settings.brokers).set("client.id", "maturion");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.settings.properties {
            config.set(key, value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    pub(super) fn consumer(&self, group: Option<&str>) -> ClientConfig {
        let mut config = self.config(&CONSUMER);
        if let Some(group) = group {
            config.set("group.id", group);
        }
        config
    }

    /// The producer of a transactional id, or of plain appends.
    pub(super) fn producer(&self, transactional_id: Option<&str>) -> ClientConfig {
        let mut config = self.config(&PRODUCER);
        let mut set_default = |key: &str, value: &str| {
            if !self.settings.properties.contains_key(key) {
                config.set(key, value);
            }
        };
        match transactional_id {
            Some(id) => {
                set_default("transactional.id", id);
                set_default("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
                set_default("message.timeout.ms", TRANSACTION_MESSAGE_TIMEOUT_MS);
            }
            None => set_default("message.timeout.ms", APPEND_MESSAGE_TIMEOUT_MS),
        }
        // Acknowledged records need no report: a flush knows when none is left.
        config.set("delivery.report.only.error", "true");
        config
    }

    /// Asks the brokers about a topic, or about themselves; gives up at once if they refuse to authenticate.
    pub(super) fn metadata<C: ConsumerContext + Heard>(
        &self,
        consumer: &BaseConsumer<C>,
        topic: Option<&str>,
        wait: Duration,
    ) -> Result<Metadata, LogError> {
        let deadline = Instant::now() + wait;
        let mut step = CONNECT_STEP;
        loop {
            match consumer.fetch_metadata(topic, step) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    // The reasons arrive as events; serving them hands them to the context.
                    consumer.poll(Duration::ZERO);
                    consumer.poll(Duration::ZERO);
                    let heard = consumer.context().heard();
                    if let Some(reason) = heard.take_refusal() {
                        return Err(LogError::Authentication { brokers: self.settings.brokers.clone(), reason });
                    }
                    if Instant::now() >= deadline {
                        let reason = heard.last().unwrap_or_else(|| error.to_string());
                        return Err(LogError::Unreachable { brokers: self.settings.brokers.clone(), reason });
                    }
                    step = (step * 2).min(deadline.saturating_duration_since(Instant::now())).max(CONNECT_STEP);
                }
            }
        }
    }

    /// The error for a request that failed although Kafka was reached before.
    pub(super) fn failed(&self, what: &str, error: &KafkaError, report: &Report) -> LogError {
        if let Some(reason) = report.take_refusal() {
            return LogError::Authentication { brokers: self.settings.brokers.clone(), reason };
        }
        if error::is_unreachable(error.rdkafka_error_code()) {
            let reason = report.last().unwrap_or_else(|| error.to_string());
            return LogError::Unreachable { brokers: self.settings.brokers.clone(), reason };
        }
        LogError::Failed(format!("Kafka failed to {what}: {error}"))
    }
}

/// The last things a client heard that explain a later failure.
#[derive(Debug, Default)]
pub(super) struct Report {
    last: Mutex<Option<String>>,
    refusal: Mutex<Option<String>>,
    /// The first record that could not be written since this was last taken, and the topic it was for.
    unwritten: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Report {
    pub(super) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn take_unwritten(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn hear(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let slot = if error::is_refusal(code) { &self.refusal } else { &self.last };
        // That all brokers are down says less than why the last one is.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        events::kafka_heard(&error.to_string(), reason);
    }
}

/// A client context that keeps a [`Report`].
pub(super) trait Heard {
    fn heard(&self) -> &Report;
}

/// The context of every client but the members of groups.
#[derive(Debug, Default)]
pub(super) struct PlainContext {
    report: Report,
}

impl Heard for PlainContext {
    fn heard(&self) -> &Report {
        &self.report
    }
}

impl ClientContext for PlainContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.report.hear(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ConsumerContext for PlainContext {}

impl ProducerContext for PlainContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        // Records that an abort threw away did not fail.
        if !matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) {
            let mut unwritten = self.report.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            unwritten.get_or_insert_with(|| (code, message.topic().to_owned()));
        }
    }
}

/// What librdkafka logs of its own is detail: whatever matters comes back as an error.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(target: "librdkafka", ?level, facility, message);
}
