//! The other side of `GET /status`, for `maturion status`.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::Status;

/// How long an instance may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Why there is no status.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error(
        "no instance answers at {address} ({reason}); start one with `maturion run`, or set serve.http to its address"
    )]
    Unreachable { address: String, reason: String },
    #[error("{address} refused with {status}: {reason}")]
    Refused { address: String, status: u16, reason: String },
    #[error("{address} answered something that is not a status of this version: {reason}")]
    NotAStatus { address: String, reason: String },
}

/// Asks the instance at `address` (`host:port`) for its status. Blocks for five seconds at most.
pub fn fetch(address: &str, token: Option<&str>) -> Result<Status, FetchError> {
    let unreachable =
        |error: ureq::Error| FetchError::Unreachable { address: address.to_owned(), reason: error.to_string() };
    let config =
        ureq::Agent::config_builder().proxy(None).timeout_global(Some(ANSWER_WAIT)).http_status_as_error(false).build();
    let mut request = ureq::Agent::new_with_config(config).get(format!("http://{address}/status"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().map_err(unreachable)?;
    let body = answer.body_mut().read_to_string().map_err(unreachable)?;
    let not_a_status =
        |error: serde_json::Error| FetchError::NotAStatus { address: address.to_owned(), reason: error.to_string() };
    if !answer.status().is_success() {
        let status = answer.status().as_u16();
        return Err(FetchError::Refused { address: address.to_owned(), status, reason: reason(body) });
    }
    serde_json::from_str(&body).map_err(not_a_status)
}

/// The sentence in a refusal of ours, or whatever another server said.
fn reason(body: String) -> String {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    serde_json::from_str::<Refused>(&body).map_or(body, |refused| refused.error)
}
