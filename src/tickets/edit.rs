//! One number of a configuration file in TOML, changed where it stands: not a byte besides. Pure.

use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// Two numbers that differ by less than this share are the same number, written in two ways.
const SAME: f64 = 1e-9;

/// A number that should be another.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberChange {
    /// The file in the repository.
    pub path: String,
    /// The names on the way to the number: `["limits", "exports", "requests_per_minute"]`.
    pub key: Vec<String>,
    pub from: f64,
    pub to: f64,
}

/// Why a text cannot be changed so.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EditError {
    #[error("it is not TOML")]
    NotToml,
    #[error("it has no number `{0}`")]
    NoNumber(String),
    #[error("`{key}` is {found} there, and the change was verified from {from}")]
    OtherNumber { key: String, found: String, from: String },
    #[error("`{0}` is a whole number there, and the new one is none")]
    NotWhole(String),
}

impl NumberChange {
    /// The change in a few words, without the file.
    pub fn words(&self) -> String {
        format!("{} from {} to {}", self.key.join("."), self.from, self.to)
    }

    /// The text with the new number; as it is if that stands there already.
    pub fn apply(&self, text: &str) -> Result<String, EditError> {
        let root = DeTable::parse(text).map_err(|_| EditError::NotToml)?;
        let no_number = || EditError::NoNumber(self.key.join("."));
        let (name, tables) = self.key.split_last().ok_or_else(no_number)?;
        let mut table = root.get_ref();
        for part in tables {
            table = match table.get(part.as_str()).map(|value| value.get_ref()) {
                Some(DeValue::Table(child)) => child,
                _ => return Err(no_number()),
            };
        }
        let value = table.get(name.as_str()).ok_or_else(no_number)?;
        let (found, new) = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => (number.as_str(), whole(self.to)),
            DeValue::Float(number) => (number.as_str(), Some(format!("{:?}", self.to))),
            _ => return Err(no_number()),
        };
        let is = |wanted: f64| {
            found.parse::<f64>().is_ok_and(|found| (found - wanted).abs() <= SAME * wanted.abs().max(1.0))
        };
        if is(self.to) {
            return Ok(text.to_owned());
        }
        if !is(self.from) {
            let (found, from) = (found.to_owned(), self.from.to_string());
            return Err(EditError::OtherNumber { key: self.key.join("."), found, from });
        }
        let new = new.ok_or_else(|| EditError::NotWhole(self.key.join(".")))?;
        let span = value.span();
        let (before, after) = (text.get(..span.start), text.get(span.end..));
        let (before, after) = before.zip(after).ok_or_else(no_number)?;
        Ok(format!("{before}{new}{after}"))
    }
}

/// A whole number as TOML writes it.
fn whole(number: f64) -> Option<String> {
    // Beyond this a float has no units any more.
    let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
    is_whole.then(|| format!("{number:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# limits\n[exports]\nrequests_per_minute = 100 # per organisation\nburst = 1_000\n\
                        [threat-analysis]\r\nrequests_per_minute = 100\nshare = 0.5\nname = \"100\"\n\
                        [\"a.b\"]\nlimits = { soft = 100, hard = 0x64 }\n";

    fn change(key: &[&str], from: f64, to: f64) -> NumberChange {
        NumberChange { path: String::new(), key: key.iter().map(|part| (*part).to_owned()).collect(), from, to }
    }

    #[test]
    fn one_number_is_changed_and_not_a_byte_besides() {
        let cases: [(&[&str], f64, f64, &str, &str); 4] = [
            (
                &["threat-analysis", "requests_per_minute"],
                100.0,
                150.0,
                "\r\nrequests_per_minute = 100",
                "\r\nrequests_per_minute = 150",
            ),
            (&["exports", "burst"], 1_000.0, 1_500.0, "1_000", "1500"),
            (&["threat-analysis", "share"], 0.5, 0.75, "0.5", "0.75"),
            (&["a.b", "limits", "soft"], 100.0, 150.0, "soft = 100", "soft = 150"),
        ];
        for (key, from, to, before, after) in cases {
            assert_eq!(change(key, from, to).apply(TEXT), Ok(TEXT.replacen(before, after, 1)), "{key:?}");
        }
    }

    #[test]
    fn what_is_so_already_stays() {
        assert_eq!(change(&["exports", "burst"], 500.0, 1_000.0).apply(TEXT).as_deref(), Ok(TEXT));
    }

    #[test]
    fn another_number_no_number_and_no_toml_are_refused() {
        let refused = |key: &[&str], from, to| change(key, from, to).apply(TEXT).expect_err("a refusal").to_string();
        let limit = ["exports", "requests_per_minute"];
        assert_eq!(
            refused(&limit, 120.0, 180.0),
            "`exports.requests_per_minute` is 100 there, and the change was verified from 120"
        );
        assert_eq!(
            refused(&limit, 100.0, 150.5),
            "`exports.requests_per_minute` is a whole number there, and the new one is none"
        );
        let none: [&[&str]; 6] = [
            &["exports"],
            &["exports", "x"],
            &["threat-analysis", "name"],
            &["a", "b"],
            &["a.b", "limits", "hard"],
            &[],
        ];
        for key in none {
            assert_eq!(refused(key, 100.0, 150.0), format!("it has no number `{}`", key.join(".")));
        }
        assert_eq!(change(&limit, 100.0, 150.0).apply("a = = 1"), Err(EditError::NotToml));
    }
}
