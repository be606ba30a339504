//! Rows of the logs as lines that may leave. Pure.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::model::trace::TraceId;
use crate::scrub::{scrub, scrub_organisations};

/// Lines of one ticket; an incident keeps them for as long as it is remembered.
const LINES_MAX: usize = 5;
/// Trace ids of one ticket.
const TRACES_MAX: usize = 5;
/// The longest line.
const LINE_BYTES_MAX: usize = 300;
/// So much of a message is read; what lies beyond is neither scrubbed nor shown.
const MESSAGE_CHARACTERS_MAX: usize = 4_096;
/// What stands in place of an organisation, and at the end of what was cut.
const ORGANISATION: &str = "[organisation]";
const CUT: &str = "…";
/// In place of the organisation of a row whose organisation could not be told.
const NOBODY_KNOWS: &str = "unknown";

/// The columns of a line, in the order of [`Row`]'s texts.
const COLUMNS: [&str; 10] = [
    "timestamp",
    "level",
    "event",
    "method",
    "route",
    "status_code",
    "duration_ms",
    "exception_type",
    "organisation_id",
    "trace_id",
];
/// Its place after those.
const MESSAGE: usize = COLUMNS.len();

/// The columns as a statement names them.
pub(super) fn columns() -> String {
    format!("{}, substr(message, 1, {MESSAGE_CHARACTERS_MAX}) AS message", COLUMNS.join(", "))
}

/// One row, every value as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Row(Vec<Option<String>>);

impl Row {
    /// The text of a column; `None` if it is null or empty.
    pub(super) fn text(&self, nth: usize) -> Option<&str> {
        self.0.get(nth)?.as_deref().filter(|text| !text.is_empty())
    }

    fn named(&self, name: &str) -> Option<&str> {
        self.text(COLUMNS.iter().position(|column| *column == name)?)
    }

    /// What happened: two rows that say the same but for numbers are of one kind.
    fn kind(&self) -> String {
        self.said(None).chars().filter(|character| !character.is_ascii_digit()).collect()
    }

    /// The line without its time, and with the duration if it is given.
    fn said(&self, duration: Option<&str>) -> String {
        let heads =
            ["level", "event", "method", "route", "status_code"].into_iter().filter_map(|name| self.named(name));
        let duration = duration.map(|duration| format!("in {duration} ms"));
        let head = heads.map(str::to_owned).chain(duration).collect::<Vec<_>>().join(" ");
        let rest = [self.named("exception_type").map(str::to_owned), self.text(MESSAGE).map(whole_words)];
        let said = std::iter::once(head).filter(|head| !head.is_empty()).chain(rest.into_iter().flatten());
        self.clean(&said.collect::<Vec<_>>().join(": "))
    }

    /// Scrubbed before it is cut: half a token has no known shape.
    fn clean(&self, text: &str) -> String {
        let mut text = scrub_organisations(&scrub(text));
        if let Some(organisation) = self.named("organisation_id").filter(|id| *id != NOBODY_KNOWS) {
            text = text.replace(organisation, ORGANISATION);
        }
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
    }

    fn line(&self) -> String {
        let time = self.named("timestamp").unwrap_or_default();
        cut(&format!("{time} {}", self.said(self.named("duration_ms"))))
    }
}

/// Without the word that the end of what was read goes through.
fn whole_words(message: &str) -> String {
    if message.chars().count() < MESSAGE_CHARACTERS_MAX {
        return message.to_owned();
    }
    message.rsplit_once(char::is_whitespace).map_or(CUT.to_owned(), |(kept, _)| format!("{kept} {CUT}"))
}

fn cut(line: &str) -> String {
    if line.len() <= LINE_BYTES_MAX {
        return line.to_owned();
    }
    let end = line.floor_char_boundary(LINE_BYTES_MAX - CUT.len());
    format!("{}{CUT}", line.get(..end).unwrap_or_default())
}

/// The rows of a batch.
pub(super) fn rows(batch: &RecordBatch) -> Result<Vec<Row>, ArrowError> {
    let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let row = |place: usize| {
        let text = |column: &arrow::array::ArrayRef| {
            let column = column.as_string::<i32>();
            column.is_valid(place).then(|| column.value(place).to_owned())
        };
        Row(columns.iter().map(text).collect())
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// The first line of each kind, and the first traces, of rows in the order of what they are worth.
pub(super) fn choose(rows: &[Row]) -> (Vec<String>, Vec<TraceId>) {
    let mut kinds = BTreeSet::new();
    let lines = rows.iter().filter(|row| kinds.insert(row.kind())).take(LINES_MAX).map(Row::line).collect();
    let mut seen = BTreeSet::new();
    let traces = rows.iter().filter_map(|row| TraceId::read(row.named("trace_id")?));
    let traces = traces.filter(|trace| seen.insert(trace.clone())).take(TRACES_MAX).collect();
    (lines, traces)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of these columns; the others are null.
    fn row(values: &[(&str, &str)]) -> Row {
        let names = COLUMNS.into_iter().chain(["message"]);
        let value = |name: &str| values.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        Row(names.map(value).collect())
    }

    fn message(text: &str) -> Row {
        row(&[("timestamp", "2025-12-03T10:00:00Z"), ("organisation_id", "acme"), ("message", text)])
    }

    #[test]
    fn a_line_says_what_happened_and_to_whom_it_did_not() {
        let row = row(&[
            ("timestamp", "2025-12-03T10:00:00Z"),
            ("level", "ERROR"),
            ("event", "http_request"),
            ("method", "POST"),
            ("route", "/threats/acme/analyse"),
            ("status_code", "500"),
            ("duration_ms", "30000.0"),
            ("exception_type", "QueryCanceled"),
            ("organisation_id", "acme"),
            ("message", "statement timeout of ann@acme.example at 203.0.113.7\nfor acme"),
        ]);
        assert_eq!(
            row.line(),
            "2025-12-03T10:00:00Z ERROR http_request POST /threats/[organisation]/analyse 500 in 30000.0 ms: \
             QueryCanceled: statement timeout of [email] at [ip] for [organisation]"
        );
    }

    #[test]
    fn lines_are_of_different_kinds_and_bounded() {
        let rows: Vec<Row> = (0..40)
            .map(|number| {
                message(&format!("job {number} of kind {} failed", "abcdefgh".get(number % 8..).unwrap_or("")))
            })
            .collect();
        let (lines, traces) = choose(&rows);
        assert_eq!((lines.len(), traces.len()), (LINES_MAX, 0));
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
        let (same, _) = choose(&(0..9).map(|number| message(&format!("job {number} failed"))).collect::<Vec<_>>());
        assert_eq!(same, ["2025-12-03T10:00:00Z job 0 failed"]);
        assert!(cut(&"é".repeat(LINE_BYTES_MAX)).len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn a_token_that_the_end_of_what_is_read_goes_through_is_left_out() {
        let token = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        for kept in 1..token.len() {
            let filling = "x ".repeat(MESSAGE_CHARACTERS_MAX / 2);
            let read = format!("{}{}", &filling[..MESSAGE_CHARACTERS_MAX - kept - kept % 2], token);
            let read: String = read.chars().take(MESSAGE_CHARACTERS_MAX).collect();
            assert!(!message(&read).said(None).contains("gh"), "{kept}");
        }
        assert_eq!(whole_words(&"x".repeat(MESSAGE_CHARACTERS_MAX)), CUT);
    }

    #[test]
    fn traces_are_ids_and_each_is_named_once() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let rows = [row(&[("trace_id", id)]), row(&[("trace_id", "ann@example.org")]), row(&[("trace_id", id)])];
        assert_eq!(choose(&rows).1, [TraceId::read(id).expect("an id")]);
    }
}
