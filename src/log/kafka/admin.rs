//! Topics on Apache Kafka: creating, describing and trimming them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::connection::REQUEST_WAIT;
use crate::log::{LogError, TopicInfo};

/// The broker's own default: what suits a cluster is set there.
const BROKER_DEFAULT: i32 = -1;

/// Every request has a client of its own: requests are rare, and a client may forget its brokers (see
/// [`super::Inquirer`]).
pub(super) struct Admin {
    config: rdkafka::ClientConfig,
}

impl Admin {
    pub(super) fn new(config: &rdkafka::ClientConfig) -> Result<Admin, LogError> {
        let admin = Admin { config: config.clone() };
        admin.client().map(|_| admin)
    }

    fn client(&self) -> Result<AdminClient<DefaultClientContext>, LogError> {
        self.config.create().map_err(super::error::creation)
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(REQUEST_WAIT)).operation_timeout(Some(REQUEST_WAIT))
    }

    pub(super) fn create(&self, topic: &TopicInfo) -> Result<(), LogError> {
        let mut new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(BROKER_DEFAULT));
        for (key, value) in &topic.config {
            new = new.set(key, value);
        }
        let results = wait(self.client()?.create_topics([&new], &Admin::options()))
            .map_err(|error| failed(&format!("create topic `{}`", topic.name), &error))?;
        results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| not_created(topic, code)))
    }

    /// The configuration of topics that exist, in their order.
    pub(super) fn fill_config(&self, topics: &mut [TopicInfo]) -> Result<(), LogError> {
        if topics.is_empty() {
            return Ok(());
        }
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
        let results = wait(self.client()?.describe_configs(&resources, &Admin::options()))
            .map_err(|error| failed("describe topics", &error))?;
        for (topic, result) in topics.iter_mut().zip(results) {
            let resource = result
                .map_err(|code| LogError::Failed(format!("Kafka failed to describe topic `{}`: {code}", topic.name)))?;
            let entries = resource.entries.into_iter();
            topic.config = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
        }
        Ok(())
    }

    pub(super) fn delete_records(&self, before: &TopicPartitionList) -> Result<(), LogError> {
        let results = wait(self.client()?.delete_records(before, &Admin::options()))
            .map_err(|error| failed("delete records", &error))?;
        results
            .elements()
            .iter()
            .try_for_each(|element| element.error().map_err(|error| failed("delete records", &error)))
    }
}

fn failed(what: &str, error: &KafkaError) -> LogError {
    LogError::Failed(format!("Kafka failed to {what}: {error}"))
}

fn not_created(topic: &TopicInfo, code: RDKafkaErrorCode) -> LogError {
    match code {
        RDKafkaErrorCode::TopicAlreadyExists => LogError::Failed(format!("topic `{}` exists already", topic.name)),
        other => LogError::Failed(format!("Kafka failed to create topic `{}`: {other}", topic.name)),
    }
}

/// Waits for an answer on this thread. The admin client has a thread of its own that wakes it, and its requests end
/// after [`REQUEST_WAIT`] in any case.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
