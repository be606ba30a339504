//! Calls to the platform's control interface.
//!
//! Every call goes to the host of its `[[control]]`, over a connection of its own, and brings `Idempotency-Key`,
//! `Maturion-Fencing-Token` and the token. 2xx is done. 4xx is refused, but for 408 and 409, which may mean that it is under
//! way. Everything that comes after the request has begun to leave, and is neither, is unknown.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use super::address::Guarded;
use super::template::{self, Values};
use super::{ANSWER_BYTES_MAX, ActError, Adapter, Order, Snapshot};
use crate::config::{Control, Secret};
use crate::model::action::{Action, AdapterSpec, HttpCall, HttpSpec};

/// How long a connection may take, within the time of the whole call. While it is not there, nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const FENCING_TOKEN: HeaderName = HeaderName::from_static("maturion-fencing-token");

/// The controls by their names.
pub(super) struct Http(BTreeMap<String, Reached>);

/// A control and how it is called.
struct Reached {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl Http {
    pub(super) fn new(controls: &[Control]) -> Result<Http, ActError> {
        controls
            .iter()
            .map(|control| Ok((control.name.clone(), Reached::new(control)?)))
            .collect::<Result<_, _>>()
            .map(Http)
    }

    fn of<'a>(&self, action: &'a Action) -> Result<(&Reached, &'a HttpSpec), ActError> {
        let AdapterSpec::Http(spec) = &action.adapter else {
            return Err(ActError::NotSent(format!("{} is not called over HTTP", action.kind.name())));
        };
        match self.0.get(&spec.control) {
            Some(control) => Ok((control, spec)),
            None => Err(ActError::NotSent(format!("there is no [[control]] `{}`", spec.control))),
        }
    }
}

#[async_trait]
impl Adapter for Http {
    fn supports(&self, action: &Action) -> bool {
        self.of(action).is_ok()
    }

    async fn snapshot(&self, order: &Order<'_>) -> Result<Snapshot, ActError> {
        let (control, spec) = self.of(order.action)?;
        let Some(call) = &spec.snapshot else { return Ok(Snapshot::default()) };
        let key = format!("{}-snapshot", order.intent.key());
        let answer = control.call(call, &Values::of(order.intent), &key, order.fencing_token, timeout(spec)).await?;
        Snapshot::from_json(&whole(answer).await?)
    }

    async fn apply(&self, order: &Order<'_>) -> Result<(), ActError> {
        let (control, spec) = self.of(order.action)?;
        let (values, key) = (Values::of(order.intent), order.intent.key());
        control.call(&spec.apply, &values, &key, order.fencing_token, timeout(spec)).await.map(drop)
    }

    async fn revert(&self, order: &Order<'_>, before: &Snapshot) -> Result<(), ActError> {
        let (control, spec) = self.of(order.action)?;
        let Some(call) = &spec.revert else {
            return Err(ActError::NotSent(format!("{} has nothing to take back", order.action.kind.name())));
        };
        let (values, key) = (Values::before(order.intent, before), format!("{}-revert", order.intent.key()));
        control.call(call, &values, &key, order.fencing_token, timeout(spec)).await.map(drop)
    }
}

fn timeout(spec: &HttpSpec) -> Duration {
    Duration::from_micros(spec.timeout.max(0) as u64)
}

impl Reached {
    fn new(control: &Control) -> Result<Reached, ActError> {
        let unusable = |reason: String| ActError::NotSent(format!("the control `{}`: {reason}", control.name));
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            // A connection that is used again may die while the call leaves, and nobody would know.
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(Guarded { internal: control.internal }))
            .build()
            .map_err(|error| unusable(said(&error)))?;
        let bearer = |token: &Secret| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
                .map_err(|_| unusable("its token has characters that no header may have".to_owned()))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let authorization = control.token.as_ref().map(bearer).transpose()?;
        Ok(Reached { client, url: control.url.clone(), authorization })
    }

    /// Sends one call. The answer's status is one of success.
    async fn call(
        &self,
        call: &HttpCall,
        values: &Values<'_>,
        key: &str,
        fencing_token: u64,
        timeout: Duration,
    ) -> Result<Response, ActError> {
        let unsent = |reason: &str| ActError::NotSent(reason.to_owned());
        let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| unsent("it names no method"))?;
        let url = self.url(&template::path(&call.path, values)?)?;
        let key = HeaderValue::from_str(key).map_err(|_| unsent("its key cannot be a header"))?;
        let mut request = self.client.request(method, url).timeout(timeout).header(IDEMPOTENCY_KEY, key);
        request = request.header(FENCING_TOKEN, HeaderValue::from(fencing_token));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = &call.body {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(template::body(body, values)?);
        }
        let answer = request.send().await.map_err(|error| unanswered(&error))?;
        judged(answer)
    }

    /// The control's URL with this path after its own, and still the same host.
    fn url(&self, path: &str) -> Result<Url, ActError> {
        let text = format!("{}{path}", self.url.as_str().trim_end_matches('/'));
        match Url::parse(&text) {
            Ok(url) if url.origin() == self.url.origin() && url.username().is_empty() => Ok(url),
            _ => Err(ActError::NotSent("its path does not make a URL of the control".to_owned())),
        }
    }
}

fn judged(answer: Response) -> Result<Response, ActError> {
    let status = answer.status();
    let text = format!("the answer was {status}");
    match status {
        status if status.is_success() => Ok(answer),
        status if status.is_redirection() => Err(ActError::Refused(format!("{text}, and no redirect is followed"))),
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => Err(ActError::Unknown(text)),
        status if status.is_client_error() => Err(ActError::Refused(text)),
        _ => Err(ActError::Unknown(text)),
    }
}

/// Without a connection nothing was sent; with one, who knows.
fn unanswered(error: &reqwest::Error) -> ActError {
    if error.is_connect() || error.is_builder() {
        ActError::NotSent(said(error))
    } else if error.is_timeout() {
        ActError::Unknown("no answer in time".to_owned())
    } else {
        ActError::Unknown(said(error))
    }
}

/// The innermost cause: the others name the URL, which may hold what is nobody's business.
fn said(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The whole answer, if it is not too long.
async fn whole(mut answer: Response) -> Result<Vec<u8>, ActError> {
    let mut bytes = vec![];
    while let Some(chunk) = answer.chunk().await.map_err(|error| unanswered(&error))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ActError::Refused(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
