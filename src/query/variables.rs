//! `:'name'` in a statement: psql's way to put a value in as a text constant.
//!
//! The same file then works in psql (`\set incident 0f1e…`, or `psql -v incident=…`) and with `maturion sql -f`. Only the
//! quoted form is known: it cannot become anything but a text, whatever the value holds.

use thiserror::Error;

/// A statement whose variables cannot all be given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the statement needs a value for :'{name}'; give it with --set {name}=…")]
pub struct NotSet {
    pub name: String,
}

/// Puts the values in. What stands in quotes or in a comment is left alone.
pub fn fill(sql: &str, values: &[(String, String)]) -> Result<String, NotSet> {
    let mut filled = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(character) = rest.chars().next() {
        if let Some(name) = variable(rest) {
            let value = values.iter().find(|(known, _)| known == name);
            let (_, value) = value.ok_or_else(|| NotSet { name: name.to_owned() })?;
            filled.push_str(&format!("'{}'", value.replace('\'', "''")));
            rest = &rest[name.len() + 3..];
        } else {
            let length = verbatim(rest).unwrap_or(character.len_utf8());
            filled.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    Ok(filled)
}

/// The name of the variable that `text` begins with.
fn variable(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix(":'")?.split_once('\'')?;
    let is_name =
        !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    is_name.then_some(name)
}

/// How long the text in quotes or the comment is that `text` begins with.
fn verbatim(text: &str) -> Option<usize> {
    let to = |start: &str, end: &str| {
        let inside = text.strip_prefix(start)?;
        Some(inside.find(end).map_or(text.len(), |at| start.len() + at + end.len()))
    };
    // A doubled quote inside of quotes is the end of one such text and the start of the next, which comes to the same.
    to("'", "'").or_else(|| to("\"", "\"")).or_else(|| to("--", "\n")).or_else(|| to("/*", "*/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(sql: &str) -> String {
        let values = [("id".to_owned(), "o'x".to_owned())];
        fill(sql, &values).unwrap()
    }

    #[test]
    fn a_value_becomes_a_text_and_nothing_else() {
        assert_eq!(filled("SELECT f(:'id', INTERVAL '1 minute')"), "SELECT f('o''x', INTERVAL '1 minute')");
        assert_eq!(filled(":'id':'id'"), "'o''x''o''x'");
    }

    #[test]
    fn quotes_and_comments_are_left_alone() {
        for sql in [
            "SELECT ':''id'''",
            "SELECT 'a :'",
            "SELECT \":'id'\"",
            "-- :'id'\nSELECT 1",
            "/* :'id' */ SELECT 1",
            "SELECT a::text, ':'",
            "SELECT 'it''s', 1 -- end",
            "/* open :'id'",
            "é :' '",
        ] {
            assert_eq!(filled(sql), sql);
        }
    }

    #[test]
    fn a_value_that_is_not_given_is_named() {
        let error = fill("SELECT :'other'", &[]).unwrap_err();
        assert_eq!(error.to_string(), "the statement needs a value for :'other'; give it with --set other=…");
    }
}
