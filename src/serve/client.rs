//! The other side of `GET /status`, for `maturion status`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::status::Status;

/// How long an instance may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Why there is no status.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error(
        "no instance answers at {address} ({reason}); start one with `maturion run`, or set serve.http to its address"
    )]
    Unreachable { address: SocketAddr, reason: String },
    #[error("{address} refused with {status}: {reason}")]
    Refused { address: SocketAddr, status: u16, reason: String },
    #[error("{address} answered something that is not a status of this version: {reason}")]
    NotAStatus { address: SocketAddr, reason: String },
}

/// Asks the instance that listens on `address` for its status. Blocks for five seconds at most.
pub fn fetch(address: SocketAddr, token: Option<&str>) -> Result<Status, FetchError> {
    let unreachable = |error: ureq::Error| FetchError::Unreachable { address, reason: error.to_string() };
    let config =
        ureq::Agent::config_builder().proxy(None).timeout_global(Some(ANSWER_WAIT)).http_status_as_error(false).build();
    let mut request = ureq::Agent::new_with_config(config).get(format!("http://{}/status", reachable(address)));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().map_err(unreachable)?;
    let body = answer.body_mut().read_to_string().map_err(unreachable)?;
    let not_a_status = |error: serde_json::Error| FetchError::NotAStatus { address, reason: error.to_string() };
    if !answer.status().is_success() {
        let status = answer.status().as_u16();
        return Err(FetchError::Refused { address, status, reason: reason(body) });
    }
    serde_json::from_str(&body).map_err(not_a_status)
}

/// Whoever listens on every address is asked on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        _ => address,
    }
}

/// The sentence in a refusal of ours, or whatever another server said.
pub(super) fn reason(body: String) -> String {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    serde_json::from_str::<Refused>(&body).map_or(body, |refused| refused.error)
}
