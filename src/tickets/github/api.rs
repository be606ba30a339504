//! One request to GitHub's interface, through octocrab: signing in, limits, and what the answers mean.
//!
//! octocrab signs the requests and knows GitHub Apps. What an answer means is decided here, because the limits stand in headers. A
//! request has one deadline, an answer one size; nothing is sent while GitHub asks to wait.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use octocrab::Octocrab;
use octocrab::models::{AppId, InstallationId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::config;
use crate::config::github::SignIn;
use crate::model::pipeline::Micros;
use crate::scrub::scrub;

use super::TicketError;

/// A list of a hundred issues of the largest size is smaller. More costs memory when GitHub misbehaves.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Pages of a list that are read; with a hundred issues each. More costs calls.
const PAGES_MAX: usize = 100;
/// What is shown of what GitHub says.
const MESSAGE_BYTES_MAX: usize = 300;
/// The first wait after an answer that failed; doubled each time.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// What GitHub asks for if it limits without saying for how long.
const LIMITED: Duration = Duration::from_secs(60);
/// No answer can silence the tickets for longer.
const LIMITED_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Patch,
    Put,
}

/// An answer that is no failure of the way: it succeeded, or the thing is not there, or not so.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Bytes,
    /// The query of the next page.
    next: Option<String>,
}

pub(super) struct Api {
    client: Octocrab,
    /// An app that has yet to find its installation.
    installation: Option<Option<u64>>,
    repository: String,
    timeout: Duration,
    /// The time of the present call.
    now: Micros,
    /// Nothing is sent before.
    paused_until: Micros,
    /// In a row.
    failures: u32,
}

impl Api {
    pub(super) fn new(config: &config::GitHub) -> Result<Api, TicketError> {
        let setup = |error: octocrab::Error| TicketError::Setup(first_line(&error.to_string()));
        let builder = Octocrab::builder().base_uri(config.api_url.as_str()).map_err(setup)?;
        let (builder, installation) = match &config.sign_in {
            SignIn::Token(token) => (builder.personal_token(token.reveal().to_owned()), None),
            SignIn::App { id, key, installation } => {
                let key = octocrab::auth::AppAuth {
                    app_id: AppId(*id),
                    key: octocrab::auth::EncodingKey::from_rsa_pem(key.reveal().as_bytes())
                        .map_err(|_| TicketError::Setup("the app's key is no RSA key in PEM".to_owned()))?,
                };
                (builder.app(key.app_id, key.key), Some(*installation))
            }
        };
        Ok(Api {
            client: builder.build().map_err(setup)?,
            installation,
            repository: config.repository.clone(),
            timeout: config.timeout,
            now: 0,
            paused_until: Micros::MIN,
            failures: 0,
        })
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Before the calls of one moment: refuses while GitHub has to be left alone.
    pub(super) fn begin(&mut self, now: Micros) -> Result<(), TicketError> {
        self.now = now;
        match u64::try_from(self.paused_until.saturating_sub(now)) {
            Ok(micros) if micros > 0 => Err(TicketError::Later {
                wait: Duration::from_micros(micros),
                reason: "GitHub asked for it".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Sends one request about the repository; `path` is below it, and empty for itself.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, TicketError> {
        self.sign_in().await?;
        let separator = if path.is_empty() { "" } else { "/" };
        let route = format!("/repos/{}{separator}{path}", self.repository);
        self.send(method, &route, body).await
    }

    /// A call that has to succeed.
    pub(super) async fn expect(&mut self, method: Method, path: &str, body: &Value) -> Result<Answer, TicketError> {
        let answer = self.call(method, path, Some(body)).await?;
        self.successful(answer)
    }

    /// The answer, if it says that all is well.
    pub(super) fn successful(&self, answer: Answer) -> Result<Answer, TicketError> {
        let repository = || self.repository.clone();
        match answer.status {
            200..=299 => Ok(answer),
            301 | 302 | 307 | 308 => Err(TicketError::Moved { repository: repository() }),
            404 => Err(TicketError::NoRepository { repository: repository() }),
            410 => Err(TicketError::IssuesDisabled { repository: repository() }),
            409 => Err(TicketError::Unreachable { wait: BACKOFF, reason: message(&answer.body) }),
            status => Err(TicketError::Refused { status, message: message(&answer.body) }),
        }
    }

    pub(super) fn decode<T: DeserializeOwned>(&mut self, answer: Answer) -> Result<T, TicketError> {
        let answer = self.successful(answer)?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.failed(&format!("not the JSON that was expected: {error}")))
    }

    /// All pages of a list.
    pub(super) async fn pages<T: DeserializeOwned>(&mut self, path: &str, query: &str) -> Result<Vec<T>, TicketError> {
        self.pages_until(path, query, |_| false).await
    }

    /// The pages of a list until `enough`.
    pub(super) async fn pages_until<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &str,
        enough: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, TicketError> {
        let mut items = vec![];
        let mut query = if query.is_empty() { "per_page=100".to_owned() } else { format!("{query}&per_page=100") };
        for _ in 0..PAGES_MAX {
            let answer = self.call(Method::Get, &format!("{path}?{query}"), None).await?;
            let next = answer.next.clone();
            items.extend(self.decode::<Vec<T>>(answer)?);
            match next {
                Some(next) if !enough(&items) => query = next,
                _ => return Ok(items),
            }
        }
        Err(TicketError::Refused { status: 200, message: format!("{path} has more than {PAGES_MAX} pages") })
    }

    /// Makes a client of an app one of its installation in the repository.
    async fn sign_in(&mut self) -> Result<(), TicketError> {
        let Some(known) = self.installation else { return Ok(()) };
        let id = match known {
            Some(id) => id,
            None => {
                let route = format!("/repos/{}/installation", self.repository);
                let answer = self.send(Method::Get, &route, None).await?;
                self.decode::<Installation>(answer)?.id
            }
        };
        let client = self.client.installation(InstallationId(id));
        self.client = client.map_err(|error| TicketError::Setup(first_line(&error.to_string())))?;
        self.installation = None;
        Ok(())
    }

    async fn send(&mut self, method: Method, route: &str, body: Option<&Value>) -> Result<Answer, TicketError> {
        // Never a clone: octocrab keeps an app's token in the client itself.
        let client = &self.client;
        let exchange = async {
            let response = match method {
                Method::Get => client._get(route).await,
                Method::Post => client._post(route, body).await,
                Method::Patch => client._patch(route, body).await,
                Method::Put => client._put(route, body).await,
            };
            let (parts, body) = response.map_err(Failure::of)?.into_parts();
            let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await;
            let body = body.map_err(|error| Failure::Way(format!("the answer was cut off: {error}")))?;
            Ok((parts.status, parts.headers, body))
        };
        match timeout(self.timeout, exchange).await {
            Err(_) => {
                let limit = humantime::format_duration(self.timeout).to_string();
                Err(self.failed(&format!("no answer within {limit}")))
            }
            Ok(Err(Failure::Way(reason))) => Err(self.failed(&reason)),
            Ok(Err(Failure::Said(status, headers, said))) => self.judge(status, &headers, said.into()),
            Ok(Ok((status, headers, body))) => self.judge(status, &headers, body),
        }
    }

    fn judge(&mut self, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Result<Answer, TicketError> {
        match status.as_u16() {
            401 => Err(TicketError::Unauthorised),
            403 | 429 => Err(self.limited(status, headers, &body)),
            408 | 425 | 500.. => Err(self.failed(&format!("{}: {}", status.as_u16(), message(&body)))),
            status => {
                self.failures = 0;
                if header(headers, "x-ratelimit-remaining") == Some(0) {
                    self.pause(self.until_reset(headers));
                }
                Ok(Answer { status, body, next: next_query(headers) })
            }
        }
    }

    /// A limit, primary or secondary, or a refusal.
    fn limited(&mut self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> TicketError {
        let said = message(body);
        let lower = said.to_lowercase();
        let wait = if let Some(seconds) = header(headers, "retry-after") {
            Duration::from_secs(seconds)
        } else if header(headers, "x-ratelimit-remaining") == Some(0) {
            self.until_reset(headers)
        } else if status == StatusCode::TOO_MANY_REQUESTS || lower.contains("rate limit") || lower.contains("abuse") {
            self.failures = self.failures.saturating_add(1);
            LIMITED.saturating_mul(1 << self.failures.saturating_sub(1).min(6))
        } else {
            return TicketError::Forbidden { repository: self.repository.clone(), message: said };
        };
        let wait = wait.clamp(Duration::from_secs(1), LIMITED_MAX);
        self.pause(wait);
        TicketError::Later { wait, reason: said }
    }

    fn until_reset(&self, headers: &HeaderMap) -> Duration {
        let reset =
            header(headers, "x-ratelimit-reset").map_or(self.now, |second| second.saturating_mul(1_000_000) as Micros);
        Duration::from_micros(u64::try_from(reset.saturating_sub(self.now)).unwrap_or_default()).min(LIMITED_MAX)
    }

    /// A failure of the way: nothing further is sent for a while, longer each time.
    fn failed(&mut self, reason: &str) -> TicketError {
        let wait = BACKOFF.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.pause(wait);
        TicketError::Unreachable { wait, reason: shortened(reason) }
    }

    fn pause(&mut self, wait: Duration) {
        let micros = Micros::try_from(wait.as_micros()).unwrap_or(Micros::MAX);
        self.paused_until = self.paused_until.max(self.now.saturating_add(micros));
    }
}

#[derive(serde::Deserialize)]
struct Installation {
    id: u64,
}

/// Why octocrab has no answer.
enum Failure {
    Way(String),
    /// GitHub did answer, to a request for an app's token.
    Said(StatusCode, HeaderMap, String),
}

impl Failure {
    fn of(error: octocrab::Error) -> Failure {
        match error {
            octocrab::Error::GitHub { source, .. } => {
                let said = serde_json::json!({ "message": source.message }).to_string();
                Failure::Said(source.status_code, source.headers.unwrap_or_default(), said)
            }
            error => {
                let innermost =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
                Failure::Way(
                    innermost.map_or_else(|| "no connection".to_owned(), |error| first_line(&error.to_string())),
                )
            }
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The query of the page that a `Link` header calls next. Only the query: where to ask is never taken from an answer.
fn next_query(headers: &HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = next.split_once('<')?.1.split_once('>')?.0;
    let query = address.split_once('?')?.1;
    let usual = |character: char| character.is_ascii_alphanumeric() || "-_.~%=&+:".contains(character);
    query.chars().all(usual).then(|| query.to_owned())
}

/// What GitHub says of an error.
fn message(body: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let text = said.as_ref().and_then(|said| {
        let details = said.get("errors").filter(|errors| !errors.is_null()).map(Value::to_string).unwrap_or_default();
        Some(format!("{} {details}", said.get("message")?.as_str()?).trim().to_owned())
    });
    shortened(&text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()))
}

fn shortened(text: &str) -> String {
    let text = scrub(&first_line(text));
    text.get(..text.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or_default().to_owned()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_the_next_page_is_taken() {
        let headers =
            |link: &str| HeaderMap::from_iter([("link".parse().expect("a name"), link.parse().expect("a value"))]);
        let link = "<https://api.github.com/repositories/7/issues?labels=a%3Ab&page=1>; rel=\"prev\", \
                    <https://evil.example/repositories/7/issues?labels=a%3Ab&page=3>; rel=\"next\"";
        assert_eq!(next_query(&headers(link)).as_deref(), Some("labels=a%3Ab&page=3"));
        assert_eq!(next_query(&headers("<https://x/?page=2 HTTP/1.1>; rel=\"next\"")), None);
        assert_eq!(next_query(&headers("<https://x/?page=2>; rel=\"last\"")), None);
    }

    #[test]
    fn what_github_says_is_one_short_line() {
        assert_eq!(
            message(br#"{"message":"Validation Failed","errors":[{"code":"custom"}]}"#),
            "Validation Failed [{\"code\":\"custom\"}]"
        );
        assert_eq!(message("<html>\nlong".as_bytes()), "<html>");
        assert!(message("x ".repeat(10_000).as_bytes()).len() <= MESSAGE_BYTES_MAX);
    }
}
