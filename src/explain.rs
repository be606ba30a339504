//! Explain: why a detection fired, from the rows of the tables `detections` and `windows`.
//!
//! ```text
//!  detection id ─▶ rows of `detections` ─▶ Messages ─▶ rows of `windows` around them ─▶ Explanation ─▶ text, SVG
//! ```
//!
//! The caller asks the tables; here rows become words and a picture. `explain` never reads a table, a file or a clock, and
//! what it says is only what the rows say: rules that were changed since do not matter.

use arrow::array::RecordBatch;
use thiserror::Error;

use crate::model::detection::format_time;
use crate::model::pipeline::Micros;

mod chart;
mod rows;
mod text;

pub use rows::{Message, Messages, Window};

/// Windows that are shown before the first window of a detection and after its last one.
pub const WINDOWS_AROUND: i64 = 20;
/// Windows of one explanation; of more, the last ones are shown.
pub const WINDOWS_MAX: usize = 500;

/// Why a detection cannot be explained.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ExplainError {
    #[error("\"{0}\" is no detection id; it has 32 digits and letters from a to f")]
    NotAnId(String),
    #[error("there is no detection `{0}` in the table `detections`, or it is not yours to see")]
    Unknown(String),
    #[error("the rows of a table cannot be understood: {0}")]
    Rows(String),
    #[error("the chart cannot be drawn: {0}")]
    Chart(String),
}

/// A detection with the windows around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    messages: Messages,
    windows: Vec<Window>,
}

/// The statement that gives the messages about a detection.
pub fn detection_sql(detection_id: &str) -> Result<String, ExplainError> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if detection_id.len() != 32 || !detection_id.bytes().all(is_digit) {
        return Err(ExplainError::NotAnId(detection_id.to_owned()));
    }
    Ok(format!("SELECT * FROM detections WHERE detection_id = '{detection_id}' ORDER BY time, kafka_offset"))
}

impl Messages {
    /// The statement that gives the windows around the detection, of its pipeline and its organisation and module.
    pub fn windows_sql(&self) -> String {
        let (from, to) = self.around();
        let mut sql = format!(
            "SELECT window_start, \"row\" FROM windows WHERE pipeline = {} AND complete \
             AND window_start BETWEEN TIMESTAMP '{}' AND TIMESTAMP '{}'",
            literal(&self.pipeline),
            format_time(from),
            format_time(to)
        );
        for (name, value) in [("organisation_id", &self.organisation_id), ("module", &self.module)] {
            // A series without the label says nothing about it.
            if self.series.contains_key(name) {
                let condition = value.as_deref().map_or("IS NULL".to_owned(), |text| format!("= {}", literal(text)));
                sql.push_str(&format!(" AND {name} {condition}"));
            }
        }
        sql.push_str(" ORDER BY window_start");
        sql
    }

    /// From the first to the last window that is shown.
    fn around(&self) -> (Micros, Micros) {
        let starts = || self.messages.iter().map(|message| message.window_start);
        let length = self.messages.first().map_or(0, |message| message.window_end - message.window_start);
        let margin = length.saturating_mul(WINDOWS_AROUND);
        let (first, last) = (starts().min().unwrap_or(0), starts().max().unwrap_or(0));
        (first.saturating_sub(margin), last.saturating_add(margin))
    }
}

impl Explanation {
    /// Of these messages and the rows that [`Messages::windows_sql`] gave; rows of other series are left out.
    pub fn new(messages: Messages, windows: &[RecordBatch]) -> Result<Self, ExplainError> {
        let mut windows = rows::windows(windows, &messages)?;
        windows.sort_by_key(|window| window.start);
        let windows = windows.split_off(windows.len().saturating_sub(WINDOWS_MAX));
        Ok(Self { messages, windows })
    }

    /// What happened and why, for a person at a terminal.
    pub fn text(&self) -> String {
        text::tell(&self.messages, &self.windows)
    }

    /// The measure over time with its limit, its normal band and the moments at which something was said.
    pub fn svg(&self) -> Result<String, ExplainError> {
        chart::draw(&self.messages, &self.windows).map_err(ExplainError::Chart)
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
