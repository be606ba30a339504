//! Sending one delivery through its contact's channel, and judging the answer.
//!
//! No redirect is followed, no proxy is used, no answer is read. Nothing is tried again here: [`SendError::wait`] says when the caller
//! should. Addresses, keys and what servers say are never part of an error.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use ring::hmac;
use serde_json::Value;
use thiserror::Error;

use crate::config::notify::{Channel, Contact, Notify};

use super::mail::Postman;
use super::{Delivery, payload};

/// Attempts at one delivery: with the waits between them most of a day.
pub const ATTEMPTS_MAX: u32 = 100;
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(900);
/// No answer can silence a channel for longer.
const ASKED_MAX: Duration = Duration::from_secs(3_600);

/// Why a delivery did not arrive, as far as anyone knows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    #[error("the notice is sent again later ({reason})")]
    Later { wait: Option<Duration>, reason: String },
    #[error("the notice was refused ({reason}): check the address and the keys of the [[contact]]")]
    Refused { reason: String },
    #[error("there is no [[contact]] \"{0}\" any more")]
    NoContact(String),
    #[error("the channel cannot be set up ({0})")]
    Setup(String),
}

impl SendError {
    /// How long to wait after so many attempts; `None` if there should be no further one.
    pub fn wait(&self, attempts: u32) -> Option<Duration> {
        match self {
            SendError::Later { wait, .. } if attempts < ATTEMPTS_MAX => {
                let grown = BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(12)).min(BACKOFF_MAX);
                Some(wait.map_or(grown, |asked| asked.clamp(BACKOFF, ASKED_MAX)))
            }
            _ => None,
        }
    }
}

/// The channels of all contacts.
pub struct Sender {
    client: Client,
    channels: BTreeMap<String, Channel>,
    postmen: BTreeMap<String, Postman>,
}

impl Sender {
    pub fn new(config: &Notify) -> Result<Sender, SendError> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .user_agent(concat!("maturion/", env!("CARGO_PKG_VERSION")));
        let client = client.build().map_err(|error| SendError::Setup(error.without_url().to_string()))?;
        let postman = |contact: &Contact| match &contact.channel {
            Channel::Mail(mail) => {
                Some(Postman::new(mail, config.timeout).map(|postman| (contact.name.clone(), postman)))
            }
            _ => None,
        };
        Ok(Sender {
            client,
            channels: config.contacts.iter().map(|contact| (contact.name.clone(), contact.channel.clone())).collect(),
            postmen: config.contacts.iter().filter_map(postman).collect::<Result<_, _>>()?,
        })
    }

    /// Sends once.
    pub async fn send(&self, delivery: &Delivery) -> Result<(), SendError> {
        let unknown = || SendError::NoContact(delivery.contact.clone());
        let channel = self.channels.get(&delivery.contact).ok_or_else(unknown)?;
        match channel {
            Channel::Webhook { url, signing_key } => {
                let key = signing_key.as_ref().map(|key| key.reveal().as_bytes());
                self.post(url.reveal(), delivery, &payload::webhook(delivery), key).await
            }
            Channel::Slack { url } => self.post(url.reveal(), delivery, &payload::slack(delivery), None).await,
            Channel::Alertmanager { url } => {
                self.post(url.reveal(), delivery, &payload::alertmanager(delivery), None).await
            }
            Channel::PagerDuty { routing_key, event_url } => {
                let event = payload::pagerduty(delivery, routing_key.reveal());
                self.post(event_url.as_str(), delivery, &event, None).await
            }
            Channel::Mail(_) => self.postmen.get(&delivery.contact).ok_or_else(unknown)?.send(delivery).await,
        }
    }

    async fn post(&self, url: &str, delivery: &Delivery, body: &Value, key: Option<&[u8]>) -> Result<(), SendError> {
        let body = body.to_string();
        let mut request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        request = request.header("idempotency-key", &delivery.id);
        if let Some(key) = key {
            request = request.header("x-maturion-signature", signature(key, body.as_bytes()));
        }
        match request.body(body).send().await {
            Ok(answer) => judge(answer.status(), answer.headers()),
            Err(error) if error.is_builder() => {
                Err(SendError::Refused { reason: "its address cannot be used".to_owned() })
            }
            Err(error) => {
                let reason = if error.is_timeout() { "no answer in time" } else { "no connection" };
                Err(SendError::Later { wait: None, reason: reason.to_owned() })
            }
        }
    }
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), SendError> {
    let reason = format!("the answer was {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500.. => {
            let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(SendError::Later { wait: asked.map(Duration::from_secs), reason })
        }
        _ => Err(SendError::Refused { reason }),
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
fn signature(key: &[u8], body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn waits_grow_and_end() {
        let later = |wait| SendError::Later { wait, reason: String::new() };
        let waits = [1, 2, 3, 11, 99].map(|attempts| later(None).wait(attempts).map(|wait| wait.as_secs()));
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(900), Some(900)]);
        assert_eq!(later(None).wait(ATTEMPTS_MAX), None);
        assert_eq!(later(Some(Duration::from_secs(90_000))).wait(1), Some(ASKED_MAX));
        assert_eq!(SendError::Refused { reason: String::new() }.wait(1), None);
    }
}
