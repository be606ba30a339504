//! Where generated records go: a log, or a running instance over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{GenerateError, GenerateOptions};
use crate::config::{Brokers, Config};
use crate::log::topics::Topics;
use crate::log::{Appender, Log, LogError, Outgoing};
use crate::roles::runtime;
use crate::simulate::Kind;

/// How long the log may take to acknowledge the last records.
const FLUSH_WAIT: Duration = Duration::from_secs(60);
/// A request is sent when it holds this much, far below what an instance accepts.
const BODY_BYTES: usize = 512 << 10;
/// A request is sent when its first record has waited this long.
const BODY_WAIT: Duration = Duration::from_millis(500);
/// How long an instance may take to answer a request.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How often a request is sent again that was refused because the instance was busy.
const TRIES_MAX: u32 = 10;

/// Takes records in their order.
pub trait Destination {
    /// Hands over one record. It may be kept back for a moment to be sent with others.
    fn send(&mut self, kind: Kind, key: Option<&[u8]>, value: &[u8]) -> Result<(), GenerateError>;

    /// Waits until every record is acknowledged.
    fn finish(&mut self) -> Result<(), GenerateError>;
}

/// Opens what the options name, or else what the configuration names.
pub(super) fn open(options: &GenerateOptions, config: &Config) -> Result<Box<dyn Destination>, GenerateError> {
    if let Some(url) = &options.to {
        let token = config.serve.token.as_ref().map(|token| token.reveal().to_owned());
        return Ok(Box::new(HttpDestination::new(url, token)?));
    }
    let mut config = config.clone();
    if let Some(brokers) = &options.brokers {
        config.kafka.brokers = Brokers::Kafka(brokers.clone());
    }
    if config.kafka.brokers == Brokers::Embedded {
        return Err(GenerateError::NoDestination);
    }
    let (log, topics) = (runtime::connect(&config)?, Topics::new(&config.kafka.topic_prefix));
    if let Some(missing) = missing(log.as_ref(), &topics)? {
        return Err(LogError::UnknownTopic { topic: missing }.into());
    }
    Ok(Box::new(LogDestination::new(log.appender()?, &topics)))
}

/// An input topic that is not there: a broker might create it on its own terms.
fn missing(log: &dyn Log, topics: &Topics) -> Result<Option<String>, LogError> {
    let inputs = [topics.logs(), topics.metrics()];
    let found = log.describe(&inputs)?;
    Ok(inputs.into_iter().find(|input| found.iter().all(|topic| topic.name != *input)))
}

/// A log: Kafka, or the embedded one of this process.
pub struct LogDestination {
    appender: Arc<dyn Appender>,
    logs: String,
    metrics: String,
}

impl LogDestination {
    pub fn new(appender: Arc<dyn Appender>, topics: &Topics) -> Self {
        Self { appender, logs: topics.logs(), metrics: topics.metrics() }
    }
}

impl Destination for LogDestination {
    fn send(&mut self, kind: Kind, key: Option<&[u8]>, value: &[u8]) -> Result<(), GenerateError> {
        let topic = match kind {
            Kind::Logs => &self.logs,
            Kind::Metrics => &self.metrics,
        };
        // No timestamp: Kafka's own says when the record was sent, so that replayed old records are not expired at once.
        Ok(self.appender.append(Outgoing { topic, key, value: Some(value), ..Outgoing::default() })?)
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        Ok(self.appender.flush(FLUSH_WAIT)?)
    }
}

/// `POST /ingest/json` of a running instance.
pub struct HttpDestination {
    agent: ureq::Agent,
    token: Option<String>,
    logs: Body,
    metrics: Body,
}

/// The records of one topic that wait for their request.
struct Body {
    url: String,
    lines: Vec<u8>,
    since: Option<Instant>,
}

impl HttpDestination {
    /// Sends to the instance at `url`, as `http://host:port`.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, GenerateError> {
        if !url.starts_with("http://") {
            return Err(GenerateError::Unusable(format!("--to {url}: an address starts with http://")));
        }
        let base = url.trim_end_matches('/');
        let body =
            |topic: &str| Body { url: format!("{base}/ingest/json?topic={topic}"), lines: Vec::new(), since: None };
        let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).http_status_as_error(false).build();
        let agent = ureq::Agent::new_with_config(agent);
        Ok(Self { agent, token, logs: body("logs"), metrics: body("metrics") })
    }
}

impl Destination for HttpDestination {
    fn send(&mut self, kind: Kind, _key: Option<&[u8]>, value: &[u8]) -> Result<(), GenerateError> {
        let body = match kind {
            Kind::Logs => &mut self.logs,
            Kind::Metrics => &mut self.metrics,
        };
        body.lines.extend_from_slice(value);
        body.lines.push(b'\n');
        let since = *body.since.get_or_insert_with(Instant::now);
        if body.lines.len() >= BODY_BYTES || since.elapsed() >= BODY_WAIT {
            body.post(&self.agent, self.token.as_deref())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        self.logs.post(&self.agent, self.token.as_deref())?;
        self.metrics.post(&self.agent, self.token.as_deref())
    }
}

impl Body {
    /// Sends what waits. A busy instance is asked again, after the second that it asks for.
    fn post(&mut self, agent: &ureq::Agent, token: Option<&str>) -> Result<(), GenerateError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match self.try_post(agent, token)? {
                None => break,
                Some(reason) if tries == TRIES_MAX => return Err(self.refused(reason)),
                Some(_) => {
                    tries += 1;
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
        self.lines.clear();
        self.since = None;
        Ok(())
    }

    /// The reason, if the instance is busy.
    fn try_post(&self, agent: &ureq::Agent, token: Option<&str>) -> Result<Option<String>, GenerateError> {
        let mut request = agent.post(&self.url).header("content-type", "application/x-ndjson");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send(&self.lines[..]).map_err(|error| self.refused(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(None);
        }
        let reason = format!("{status}: {}", answer.body_mut().read_to_string().unwrap_or_default());
        if status.as_u16() == 503 { Ok(Some(reason)) } else { Err(self.refused(reason)) }
    }

    fn refused(&self, reason: String) -> GenerateError {
        GenerateError::Http { url: self.url.clone(), reason }
    }
}
