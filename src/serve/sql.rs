//! `POST /api/v1/query`: one statement in, its rows out as they come.
//!
//! Who has the token asks as the operator, or with `tenant` as that organisation; a user with name and password (HTTP
//! Basic) sees what that user may see. An error before the first rows is a refusal in words. After that the answer has
//! begun, so it is broken off: a client sees that it is not whole.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::http::{Door, Refusal};
use super::users::{Users, WRONG_PASSWORD_PAUSE};
use crate::model::principal::Principal;
use crate::query::output::{Format, Output};
use crate::query::{self, Engine, QueryError, Rows, STATEMENT_BYTES_MAX};

/// The longest statement, with room for the escapes of JSON.
pub(super) const BODY_BYTES_MAX: usize = 2 * STATEMENT_BYTES_MAX;

/// How long a client may take to send its question.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// What answers.
pub struct Answering {
    pub engine: Option<Arc<Engine>>,
    pub users: Arc<Users>,
}

/// The body of a request.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) sql: String,
    /// json, csv, arrow or table; else what the header `Accept` says, else json.
    #[serde(default)]
    pub(super) format: Option<Written>,
    /// The organisation to ask as.
    #[serde(default)]
    pub(super) tenant: Option<String>,
}

/// [`Format`] as requests name it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Written {
    Table,
    Json,
    Csv,
    Arrow,
}

impl From<Written> for Format {
    fn from(written: Written) -> Format {
        match written {
            Written::Table => Format::Table,
            Written::Json => Format::Json,
            Written::Csv => Format::Csv,
            Written::Arrow => Format::Arrow,
        }
    }
}

/// Answers a question.
pub(super) async fn handle(State(door): State<Arc<Door>>, request: Request) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    let asker = asker(&door, &headers).await?;
    let asked = read(request).await?;
    let principal = bound(asker, asked.tenant)?;
    let Some(engine) = &door.answering.engine else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "this process has no tables: ask one that runs the role store",
        ));
    };
    let format = asked.format.map(Format::from).or_else(|| accepted(&headers)).unwrap_or(Format::Json);
    answer(engine, &principal, &asked.sql, format).await
}

async fn read(request: Request) -> Result<Asked, Refusal> {
    let bad = |reason: String| Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not a question: {reason}"));
    let body = timeout(BODY_WAIT, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))
}

async fn answer(engine: &Arc<Engine>, principal: &Principal, sql: &str, format: Format) -> Result<Response, Refusal> {
    let session = engine.session(principal)?;
    let mut rows = query::run(&session, sql).await?;
    let mut output = format.output(&rows.schema()).map_err(internal)?;
    // Most of what can go wrong does so before the first rows, and can still be said in words.
    let first = match rows.next().await.transpose()? {
        Some(batch) => output.batch(&batch).map_err(internal)?,
        None => vec![],
    };
    let body = stream::once(std::future::ready(Ok(Bytes::from(first)))).chain(rest(rows, output));
    Ok(([(header::CONTENT_TYPE, format.media_type())], Body::from_stream(body)).into_response())
}

/// What follows the first rows.
fn rest(rows: Rows, output: Box<dyn Output>) -> impl Stream<Item = Result<Bytes, axum::BoxError>> + Send {
    stream::try_unfold(Some((rows, output)), |under_way| async {
        let Some((mut rows, mut output)) = under_way else { return Ok(None) };
        match rows.next().await {
            Some(batch) => {
                let written = output.batch(&batch?)?;
                Ok(Some((Bytes::from(written), Some((rows, output)))))
            }
            None => Ok(Some((Bytes::from(output.end()?), None))),
        }
    })
}

/// Who asks.
async fn asker(door: &Door, headers: &HeaderMap) -> Result<Principal, Refusal> {
    match basic(headers) {
        Some((name, password)) => match door.answering.users.verify(&name, &password) {
            Some(principal) => Ok(principal.clone()),
            None => {
                tokio::time::sleep(WRONG_PASSWORD_PAUSE).await;
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "there is no user with this name and password"))
            }
        },
        None => door.guard.admit_operator(headers).map(|()| Principal::Operator),
    }
}

/// Name and password of HTTP Basic.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64(encoded.trim())?).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

/// Bytes from the standard alphabet of base 64, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let (mut bytes, mut bits, mut held) = (vec![], 0u32, 0u32);
    for digit in digits {
        (bits, held) = ((bits << 6 | u32::from(digit?)) & 0xffff, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// The operator may ask as an organisation; an organisation only as itself.
fn bound(asker: Principal, tenant: Option<String>) -> Result<Principal, Refusal> {
    match (asker, tenant) {
        (asker, None) => Ok(asker),
        (Principal::Operator, Some(tenant)) => Ok(Principal::Organisation(tenant)),
        (Principal::Organisation(own), Some(tenant)) if own == tenant => Ok(Principal::Organisation(own)),
        (Principal::Organisation(_), Some(_)) => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "only the operator may ask as another organisation"))
        }
    }
}

/// The format that a client wants first.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    accept.split(',').find_map(|media| match media.split(';').next().unwrap_or_default().trim() {
        "application/json" => Some(Format::Json),
        "text/csv" => Some(Format::Csv),
        "application/vnd.apache.arrow.stream" => Some(Format::Arrow),
        "text/plain" => Some(Format::Table),
        _ => None,
    })
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Refusal {
        let status = match error {
            QueryError::Refused(_) => StatusCode::FORBIDDEN,
            QueryError::Invalid(_) => StatusCode::BAD_REQUEST,
            QueryError::Time(_) | QueryError::Memory(_) | QueryError::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Defect | QueryError::Session(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_read_as_it_is_written() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("YW5uOm9uZQ==", "ann:one")] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("Zm 9v"), None);
        assert_eq!(base64(&"/".repeat(400)), Some(vec![255; 300]));
    }

    #[test]
    fn an_organisation_asks_as_itself() {
        let own = || Principal::Organisation("one".to_owned());
        assert_eq!(bound(own(), Some("one".to_owned())), Ok(own()));
        assert!(bound(own(), Some("two".to_owned())).is_err());
        assert_eq!(bound(Principal::Operator, Some("one".to_owned())), Ok(own()));
        assert_eq!(bound(Principal::Operator, None), Ok(Principal::Operator));
    }
}
