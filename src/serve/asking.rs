//! The other side of `POST /api/v1/query`, for `maturion sql`.

use std::io::{self, BufReader, Read};
use std::net::SocketAddr;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use thiserror::Error;

use super::client::{reachable, reason};
use super::sql::{Asked, Written};

/// How long an instance may take to take the connection. How long it may take to answer is its own limit.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    #[error(
        "no instance answers at {address} ({reason}); start one with `maturion run`, or set serve.http to its address"
    )]
    Unreachable { address: SocketAddr, reason: String },
    /// What the instance says.
    #[error("{0}")]
    Refused(String),
    #[error("the answer broke off ({0}); what came before is not all of it")]
    Broken(ArrowError),
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    pub sql: String,
    /// The organisation to ask as; else the operator.
    pub tenant: Option<String>,
}

/// The rows of an answer, as they come.
pub struct Answer(StreamReader<BufReader<Whole>>);

impl Answer {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}

impl Iterator for Answer {
    type Item = Result<RecordBatch, AskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|batch| batch.map_err(AskError::Broken))
    }
}

/// A body that was cut off. Arrow takes an early end for the end, so it must look like something else.
struct Whole(Box<dyn Read>);

impl Read for Whole {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::ConnectionAborted, error),
            _ => error,
        })
    }
}

/// Asks the instance that listens on `address`.
pub fn ask(address: SocketAddr, token: Option<&str>, question: Question) -> Result<Answer, AskError> {
    let unreachable = |error: String| AskError::Unreachable { address, reason: error };
    let config = ureq::Agent::config_builder().proxy(None).timeout_connect(Some(CONNECT_WAIT));
    let agent = ureq::Agent::new_with_config(config.http_status_as_error(false).build());
    let mut request = agent.post(format!("http://{}/api/v1/query", reachable(address)));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let asked = Asked { sql: question.sql, format: Some(Written::Arrow), tenant: question.tenant };
    let body = serde_json::to_vec(&asked).map_err(|error| unreachable(error.to_string()))?;
    let answer = request.content_type("application/json").send(&body[..]);
    let mut answer = answer.map_err(|error| unreachable(error.to_string()))?;
    if !answer.status().is_success() {
        let said = answer.body_mut().read_to_string().map_err(|error| unreachable(error.to_string()))?;
        return Err(AskError::Refused(reason(said)));
    }
    let rows = Whole(Box::new(answer.into_body().into_reader()));
    StreamReader::try_new(BufReader::new(rows), None).map(Answer).map_err(AskError::Broken)
}
