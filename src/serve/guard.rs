//! Who may speak: pure decisions over a request's headers.
//!
//! A browser on the same machine is the danger of a loopback port: any web page may send it requests. A page of another
//! origin is known by its `Origin` header; a page whose host name was pointed at 127.0.0.1 (DNS rebinding) is its own
//! origin, and is known by the `Host` header it still sends.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, Uri, header};
use sha2::{Digest, Sha256};

use super::http::Refusal;

/// A shared secret. It is kept as a hash, so that it can be neither printed nor compared in a time that depends on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// `None` for an empty secret, which would let everyone in.
    pub fn new(secret: &str) -> Option<Token> {
        let secret = secret.trim();
        (!secret.is_empty()).then(|| Token(Sha256::digest(secret.as_bytes()).into()))
    }

    fn is(&self, presented: &str) -> bool {
        let presented = Sha256::digest(presented.as_bytes());
        self.0.iter().zip(presented).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// What a request must show.
#[derive(Debug)]
pub(super) struct Guard {
    local_only: bool,
    token: Option<Token>,
}

impl Guard {
    /// The guard of a door that listens on `address`.
    pub(super) fn new(address: SocketAddr, token: Option<Token>) -> Guard {
        Guard { local_only: address.ip().is_loopback(), token }
    }

    /// Refuses web pages of other origins, on every path.
    pub(super) fn admit_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, header::HOST).unwrap_or_default();
        if self.local_only && !is_loopback(host) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this address is for its own machine: the Host header names another",
            ));
        }
        match headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
            Some(origin) if !is_own_origin(origin, host) => {
                Err(Refusal::new(StatusCode::FORBIDDEN, "web pages of other origins may not speak to this address"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses whoever may not see everything. Without a token only the own machine is trusted: a proxy that lets
    /// producers write does not say that they may read.
    pub(super) fn admit_operator(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.token.is_none() && !self.local_only {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "questions from other machines need a password or a token: configure serve.token_env or a [[user]]",
            ));
        }
        self.admit_bearer(headers)
    }

    /// Refuses requests without the configured token.
    pub(super) fn admit_bearer(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let presented = text(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        match presented {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") && token.is(secret.trim()) => Ok(()),
            _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "send the configured token as `Authorization: Bearer …`")),
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An origin is welcome if its host is this machine, or the very host that the request was sent to.
fn is_own_origin(origin: &str, host: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority().filter(|_| uri.scheme().is_some()) else { return false };
    is_loopback(authority.as_str()) || authority.as_str().eq_ignore_ascii_case(host)
}

/// True for `localhost`, 127.0.0.0/8 and `[::1]`, with or without a port.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn local() -> Guard {
        Guard::new(([127, 0, 0, 1], 8080).into(), None)
    }

    #[test]
    fn the_own_machine_is_known_by_all_its_names() {
        for name in ["localhost", "localhost:80", "LOCALHOST:1", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["", "example.org", "127.0.0.1.example.org", "localhost.example.org:80", "10.0.0.1:80", "[::2]:80"]
        {
            assert!(!is_loopback(name), "{name}");
        }
    }

    #[test]
    fn a_rebound_host_name_is_refused_on_loopback() {
        assert!(local().admit_origin(&headers(&[(header::HOST, "127.0.0.1:8080")])).is_ok());
        assert!(local().admit_origin(&headers(&[(header::HOST, "evil.example:8080")])).is_err());
        assert!(local().admit_origin(&headers(&[])).is_err());
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let from = |origin| headers(&[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]);
        assert!(local().admit_origin(&from("http://localhost:3000")).is_ok());
        for origin in ["https://evil.example", "null", "", "localhost", "http://localhost.evil.example"] {
            assert!(local().admit_origin(&from(origin)).is_err(), "{origin}");
        }
    }

    #[test]
    fn a_remote_door_takes_any_host_but_only_its_own_origin() {
        let guard = Guard::new(([10, 0, 0, 1], 80).into(), None);
        let from = |origin| headers(&[(header::HOST, "maturion.example:80"), (header::ORIGIN, origin)]);
        assert!(guard.admit_origin(&from("http://maturion.example:80")).is_ok());
        assert!(guard.admit_origin(&from("http://other.example:80")).is_err());
    }

    #[test]
    fn only_the_exact_token_opens() {
        let guard = Guard::new(([127, 0, 0, 1], 0).into(), Token::new("secret"));
        let with = |value| guard.admit_bearer(&headers(&[(header::AUTHORIZATION, value)])).is_ok();
        assert!(with("Bearer secret") && with("bearer secret"));
        assert!(!with("Bearer secret2") && !with("Bearer ") && !with("Basic secret") && !with("secret"));
        assert!(guard.admit_bearer(&headers(&[])).is_err());
        assert!(local().admit_bearer(&headers(&[])).is_ok());
    }

    #[test]
    fn without_a_token_only_the_own_machine_may_see_everything() {
        assert!(local().admit_operator(&headers(&[])).is_ok());
        let remote = Guard::new(([10, 0, 0, 1], 80).into(), None);
        assert!(remote.admit_operator(&headers(&[])).is_err());
        assert!(remote.admit_bearer(&headers(&[])).is_ok());
    }

    #[test]
    fn an_empty_token_is_none_and_none_is_printed() {
        assert_eq!(Token::new(" \n"), None);
        assert!(!format!("{:?}", Token::new("secret")).contains("secret"));
    }
}
