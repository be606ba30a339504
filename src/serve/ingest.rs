//! `POST /ingest/json`: a body becomes records on a topic, each element's bytes unchanged.
//!
//! The whole body is checked before its first record is written, so a refusal of the body writes nothing. Elements are
//! not checked beyond being JSON: what is not a valid record ends in the dead letters like any other producer's.
//! An answer of 200 means that the log has every record. After a 503 some may have been written: sending again can
//! repeat them, like any producer that retries.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Settings;
use super::http::{Door, Refusal};
use super::split::{SplitError, split};
use crate::log::{Appender, LogError, Outgoing};

/// Most records in one body.
pub const RECORDS_MAX: usize = 100_000;
/// Largest record. Kafka's own limit, with its framing, is 1,048,588 bytes unless configured otherwise.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// Bodies held at once, each of them twice if it is compressed; further requests wait for ten seconds.
pub const INGESTIONS_MAX: usize = 4;

/// How long a request waits for one of the [`INGESTIONS_MAX`] places.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How long a client may take to send its body.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// How long the log may take to acknowledge a body's records.
const FLUSH_WAIT: Duration = Duration::from_secs(30);

/// Which input a body is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Input {
    #[default]
    Logs,
    Metrics,
}

/// The query string.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    #[serde(default)]
    topic: Input,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Accepted {
    accepted: usize,
}

/// The way to the log.
pub struct Ingestion {
    logs_topic: Arc<str>,
    metrics_topic: Arc<str>,
    body_bytes_max: usize,
    turns: Semaphore,
    writer: Arc<Writer>,
}

impl Ingestion {
    pub fn new(settings: &Settings, appender: Arc<dyn Appender>) -> Ingestion {
        Ingestion {
            logs_topic: settings.logs_topic.as_str().into(),
            metrics_topic: settings.metrics_topic.as_str().into(),
            body_bytes_max: settings.body_bytes_max,
            turns: Semaphore::new(INGESTIONS_MAX),
            writer: Arc::new(Writer(Mutex::new(appender))),
        }
    }

    /// Writes one record that is not ingested, and waits until the log has it.
    pub(super) fn send(&self, record: Outgoing<'_>) -> Result<(), Refusal> {
        let appender = self.writer.0.lock().unwrap_or_else(PoisonError::into_inner);
        appender.append(record)?;
        Ok(appender.flush(FLUSH_WAIT)?)
    }

    fn topic(&self, input: Input) -> Arc<str> {
        Arc::clone(match input {
            Input::Logs => &self.logs_topic,
            Input::Metrics => &self.metrics_topic,
        })
    }
}

/// One body at a time from its first record to its acknowledgement: a flush reports the first failure to whoever asks
/// first, so two bodies in flight could each be told the other's result.
struct Writer(Mutex<Arc<dyn Appender>>);

impl Writer {
    fn write(&self, topic: &str, body: &[u8]) -> Result<usize, Refusal> {
        let records = split(body, RECORDS_MAX, RECORD_BYTES_MAX)?;
        // The appender behind the lock keeps no state of ours that a panic could have left half done.
        let appender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in &records {
            appender.append(Outgoing { topic, value: Some(record.get().as_bytes()), ..Outgoing::default() })?;
        }
        appender.flush(FLUSH_WAIT)?;
        Ok(records.len())
    }
}

/// Answers `POST /ingest/json`.
pub async fn handle(
    State(door): State<Arc<Door>>,
    target: Result<Query<Target>, QueryRejection>,
    request: Request,
) -> Result<Json<Accepted>, Refusal> {
    let Query(target) = target.map_err(|rejection| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("{}; use topic=logs or topic=metrics", rejection.body_text()))
    })?;
    ask_for_json(request.headers())?;
    let encoding = Encoding::of(request.headers())?;
    let Ok(_turn) = timeout(TURN_WAIT, door.ingestion.turns.acquire()).await else {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many ingestions at once; send again later"));
    };
    let max = door.ingestion.body_bytes_max;
    let body = receive(request, max).await?;
    let topic = door.ingestion.topic(target.topic);
    let writer = Arc::clone(&door.ingestion.writer);
    let written = tokio::task::spawn_blocking(move || match encoding {
        Encoding::Identity => writer.write(&topic, &body),
        Encoding::Gzip => writer.write(&topic, &unpack(&body, max)?),
    });
    match written.await {
        Ok(written) => Ok(Json(Accepted { accepted: written? })),
        Err(_) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the ingestion ended unexpectedly")),
    }
}

/// The body as it was sent. One that declares to be too large is refused before the client has sent it.
async fn receive(request: Request, max: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max} bytes; send it in parts"))
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > max as u64) {
        return Err(too_large());
    }
    match timeout(BODY_WAIT, Bytes::from_request(request, &())).await {
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 30 seconds")),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(rejection)) => Err(Refusal::new(rejection.status(), rejection.body_text())),
        Ok(Ok(body)) => Ok(body),
    }
}

/// A JSON content type is something that a web page cannot send across origins without asking first.
fn ask_for_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(()),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send Content-Type: application/json or application/x-ndjson",
        )),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Encoding, Refusal> {
        let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        match (encodings.next().map(|value| value.as_bytes().to_ascii_lowercase()).as_deref(), encodings.next()) {
            (None | Some(b"identity"), None) => Ok(Encoding::Identity),
            (Some(b"gzip" | b"x-gzip"), None) => Ok(Encoding::Gzip),
            _ => Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the only Content-Encoding understood is gzip")),
        }
    }
}

fn unpack(packed: &[u8], max: usize) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    match MultiGzDecoder::new(packed).take(max as u64 + 1).read_to_end(&mut body) {
        Ok(length) if length > max => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {max} bytes after decompression; send it in parts"),
        )),
        Ok(_) => Ok(body),
        Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not valid gzip: {error}"))),
    }
}

impl From<SplitError> for Refusal {
    fn from(error: SplitError) -> Refusal {
        let status = match error {
            SplitError::Empty | SplitError::Malformed(_) => StatusCode::BAD_REQUEST,
            SplitError::TooManyRecords { .. } | SplitError::RecordTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Refusal::new(status, error.to_string())
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}
