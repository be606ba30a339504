//! Why a record cannot become a row.

use super::json::SyntaxError;
use crate::model::pipeline::Micros;

/// The reason for a dead letter. Its text is a header of that message: words, with at most 40 characters of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("empty value")]
    Empty,
    #[error("{bytes} bytes, more than the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 { at: usize },
    #[error("not a JSON object")]
    NotAnObject,
    #[error("not JSON: {0}")]
    Syntax(#[from] SyntaxError),
    #[error("`{field}` occurs twice")]
    Duplicate { field: String },
    #[error("`{field}` must be {expected}, found {found}")]
    WrongType { field: String, expected: &'static str, found: &'static str },
    #[error("`{field}` must be a whole number, found {number}")]
    NotWhole { field: String, number: String },
    #[error("`{field}` is out of range: {number}")]
    OutOfRange { field: String, number: String },
    #[error("`{field}` is no known level: {value}")]
    UnknownLevel { field: String, value: String },
    #[error("`{field}` cannot be read: {value}")]
    UnreadableTime { field: String, value: String },
    #[error("`{field}` is not between 1970 and 2199: {value}")]
    AbsurdTime { field: String, value: String },
    #[error("no `timestamp`, and the record has no Kafka timestamp either")]
    NoTime,
    #[error("`timestamp` is {} ahead of the record's Kafka timestamp (limit {})", words(*.ahead), words(*.limit))]
    Ahead { ahead: Micros, limit: Micros },
}

impl Rejection {
    /// The kind of reason, for counting: it holds nothing of the record.
    pub fn kind(&self) -> &'static str {
        match self {
            Rejection::Empty => "empty",
            Rejection::TooLarge { .. } => "too_large",
            Rejection::NotUtf8 { .. } => "not_utf8",
            Rejection::NotAnObject => "not_an_object",
            Rejection::Syntax(_) => "not_json",
            Rejection::Duplicate { .. } => "duplicate_field",
            Rejection::WrongType { .. } => "wrong_type",
            Rejection::NotWhole { .. } => "not_whole",
            Rejection::OutOfRange { .. } => "out_of_range",
            Rejection::UnknownLevel { .. } => "unknown_level",
            Rejection::UnreadableTime { .. } => "unreadable_time",
            Rejection::AbsurdTime { .. } => "absurd_time",
            Rejection::NoTime => "no_time",
            Rejection::Ahead { .. } => "ahead",
        }
    }
}

/// Input quoted in a reason: control characters escaped, and cut after 40 characters.
pub fn excerpt(input: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    match input.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{:?}…", input.get(..end).unwrap_or_default()),
        None => format!("{input:?}"),
    }
}

/// A number quoted in a reason, cut like text.
pub fn excerpt_number(number: &str) -> String {
    excerpt(number).replace('"', "")
}

/// A length of time in its two largest units.
fn words(length: Micros) -> String {
    const UNITS: [(Micros, &str); 4] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s")];
    let Some(first) = UNITS.iter().position(|(unit, _)| length >= *unit) else {
        return format!("{} ms", length / 1000);
    };
    let mut rest = length;
    let mut parts = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        if rest >= *unit {
            parts.push(format!("{} {name}", rest / unit));
        }
        rest %= unit;
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_in_its_two_largest_units() {
        assert_eq!(words(7_380_000_000), "2 h 3 min");
        assert_eq!(words(300_000_000), "5 min");
        assert_eq!(words(86_405_000_000), "1 d");
        assert_eq!(words(1_999), "1 ms");
    }

    #[test]
    fn quoted_input_is_cut_and_escaped() {
        assert_eq!(excerpt("a\nb"), r#""a\nb""#);
        assert_eq!(excerpt(&"ü".repeat(41)), format!("\"{}\"…", "ü".repeat(40)));
    }
}
