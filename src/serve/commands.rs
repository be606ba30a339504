//! What people tell the agent over HTTP: that they are on it, that attempts may begin anew, that something is to be silent.
//!
//! A command is checked here as far as it can be, and written to `maturion.intents`; an answer of 202 means that the log has it.
//! Whoever acts reads it in its turn and writes into the audit what came of it. Only whoever has the token may command.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::http::{Door, Refusal};
use crate::incident::book::{COMMAND, Command, KIND, PERSON_BYTES_MAX, is_person};
use crate::log::Outgoing;
use crate::model::silence::Silence;

/// The largest body of a command, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Ids of incidents are so many hexadecimal digits.
const ID_DIGITS: usize = 32;

/// Who commands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    by: String,
}

/// A body that was read, or why not.
type Body<T> = Result<Json<T>, JsonRejection>;

/// `POST /api/v1/incidents/{id}/acknowledge`
pub async fn acknowledge(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    body: Body<Person>,
) -> Result<StatusCode, Refusal> {
    let (incident_id, by) = (incident(id)?, person(body)?);
    send(&door, Command::Acknowledge { incident_id, by }).await
}

/// `POST /api/v1/incidents/{id}/unlock`
pub async fn unlock(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    body: Body<Person>,
) -> Result<StatusCode, Refusal> {
    let (incident_id, by) = (incident(id)?, person(body)?);
    send(&door, Command::Unlock { incident_id, by }).await
}

/// `POST /api/v1/silences`
pub async fn silence(State(door): State<Arc<Door>>, body: Body<Silence>) -> Result<StatusCode, Refusal> {
    let silence = read(body)?;
    silence.check(chrono::Utc::now().timestamp_micros()).map_err(|error| unusable(error.to_string()))?;
    let by = silence.owner.clone();
    send(&door, Command::Silence { silence, by }).await
}

/// `POST /api/v1/silences/{id}/end`
pub async fn end_silence(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    body: Body<Person>,
) -> Result<StatusCode, Refusal> {
    let by = person(body)?;
    send(&door, Command::EndSilence { id, by }).await
}

fn read<T>(body: Body<T>) -> Result<T, Refusal> {
    body.map(|Json(value)| value).map_err(|rejection| unusable(rejection.body_text()))
}

fn person(body: Body<Person>) -> Result<String, Refusal> {
    let by = read(body)?.by;
    if !is_person(&by) {
        return Err(unusable(format!("`by` must name who commands, in at most {PERSON_BYTES_MAX} bytes")));
    }
    Ok(by)
}

fn incident(id: String) -> Result<String, Refusal> {
    if id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(id)
    } else {
        Err(unusable(format!("an incident's id has {ID_DIGITS} hexadecimal digits")))
    }
}

fn unusable(reason: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}

/// Writes a command, and waits until the log has it.
async fn send(door: &Arc<Door>, command: Command) -> Result<StatusCode, Refusal> {
    let door = Arc::clone(door);
    let written = tokio::task::spawn_blocking(move || {
        let value = serde_json::to_vec(&command).map_err(|error| unusable(error.to_string()))?;
        let headers = [(KIND, COMMAND)];
        let (topic, partition) = (door.intents_topic.as_ref(), Some(0));
        door.ingestion.send(Outgoing {
            topic,
            partition,
            value: Some(&value),
            headers: &headers,
            ..Outgoing::default()
        })
    });
    match written.await {
        Ok(written) => written.map(|()| StatusCode::ACCEPTED),
        Err(_) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the command was not written, by a defect")),
    }
}
