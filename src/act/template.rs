//! Filling in the places of a template, encoded for where they stand.
//!
//! In a path a value is one segment or less, never a way out of it. In a body it is put into JSON that was parsed before, so
//! it cannot end the text it stands in. An argument is one argument, whatever is in it.

use serde_json::Value;

use super::{ActError, Snapshot};
use crate::model::action::Intent;
use crate::model::template::{Piece, Place, pieces};

/// Beyond this a whole number is written as a fraction: a float holds no larger ones exactly.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What the places of one call stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    intent: &'a Intent,
    before: Option<&'a Snapshot>,
}

impl<'a> Values<'a> {
    /// For doing it.
    pub(super) fn of(intent: &'a Intent) -> Values<'a> {
        Values { intent, before: None }
    }

    /// For taking it back.
    pub(super) fn before(intent: &'a Intent, before: &'a Snapshot) -> Values<'a> {
        Values { intent, before: Some(before) }
    }

    fn text(&self, place: Place) -> Result<String, ActError> {
        let absent = || ActError::NotSent(format!("there is nothing to fill {{{}}} with", place.name()));
        match place {
            Place::Target => Ok(self.intent.target.clone()),
            Place::Organisation => self.intent.organisation_id.clone().ok_or_else(absent),
            Place::Parameter => self.intent.change.as_ref().map(|change| change.parameter.clone()).ok_or_else(absent),
            Place::Value => self.number().map(|value| value.to_string()).ok_or_else(absent),
            Place::Before => self.state().map(|state| state.to_string()).ok_or_else(absent),
        }
    }

    /// The new value, or the one before.
    fn number(&self) -> Option<Value> {
        let change = self.intent.change.as_ref()?;
        let value = match self.before {
            None => change.to,
            Some(before) => before.number(&change.parameter)?,
        };
        let whole = value.fract() == 0.0 && value.abs() < WHOLE_MAX;
        if whole { Some(Value::from(value as i64)) } else { serde_json::Number::from_f64(value).map(Value::Number) }
    }

    fn state(&self) -> Option<Value> {
        self.before.map(|before| Value::Object(before.0.clone()))
    }
}

/// A path, each value percent-encoded.
pub(super) fn path(template: &str, values: &Values<'_>) -> Result<String, ActError> {
    fill(template, |place| {
        let text = values.text(place)?;
        // A browser's rules for URLs take `..` and its encodings for "one up".
        if text.bytes().all(|byte| byte == b'.') {
            return Err(ActError::NotSent(format!("{{{}}} cannot be part of a path", place.name())));
        }
        Ok(percent_encoded(&text))
    })
}

/// A body, each value within JSON.
pub(super) fn body(template: &str, values: &Values<'_>) -> Result<Vec<u8>, ActError> {
    let unsent = |error: serde_json::Error| ActError::NotSent(error.to_string());
    let json = filled(serde_json::from_str(template).map_err(unsent)?, values)?;
    serde_json::to_vec(&json).map_err(unsent)
}

/// An argument of a command line.
pub(super) fn argument(template: &str, values: &Values<'_>) -> Result<String, ActError> {
    let begins_with_place = matches!(parsed(template)?.first(), Some(Piece::Place(_)));
    let argument = fill(template, |place| values.text(place))?;
    if begins_with_place && argument.starts_with('-') {
        return Err(ActError::NotSent("a value would be taken for an option".to_owned()));
    }
    Ok(argument)
}

fn filled(json: Value, values: &Values<'_>) -> Result<Value, ActError> {
    Ok(match json {
        Value::String(text) => match parsed(&text)?.as_slice() {
            [Piece::Place(Place::Value)] => values.number().ok_or_else(|| nothing(Place::Value))?,
            [Piece::Place(Place::Before)] => values.state().ok_or_else(|| nothing(Place::Before))?,
            _ => Value::String(fill(&text, |place| values.text(place))?),
        },
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| filled(item, values)).collect::<Result<_, _>>()?)
        }
        Value::Object(entries) => {
            let entry = |(key, value)| Ok((key, filled(value, values)?));
            Value::Object(entries.into_iter().map(entry).collect::<Result<_, ActError>>()?)
        }
        other => other,
    })
}

fn nothing(place: Place) -> ActError {
    ActError::NotSent(format!("there is nothing to fill {{{}}} with", place.name()))
}

fn parsed(template: &str) -> Result<Vec<Piece<'_>>, ActError> {
    pieces(template).map_err(ActError::NotSent)
}

fn fill(template: &str, value: impl Fn(Place) -> Result<String, ActError>) -> Result<String, ActError> {
    let mut text = String::with_capacity(template.len() + 32);
    for piece in parsed(template)? {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Place(place) => text.push_str(&value(place)?),
        }
    }
    Ok(text)
}

/// RFC 3986: all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::action::ValueChange;

    fn intent(target: &str) -> Intent {
        Intent {
            incident_id: "i".to_owned(),
            action: "raise_rate_limit".to_owned(),
            target: target.to_owned(),
            organisation_id: Some("org_1".to_owned()),
            attempt: 1,
            change: Some(ValueChange { parameter: "limit".to_owned(), from: 100.0, to: 150.0 }),
        }
    }

    #[test]
    fn a_value_never_leaves_its_segment_of_a_path() {
        let filled = |target: &str| path("/a/{target}/b", &Values::of(&intent(target)));
        assert_eq!(filled("threat-analysis").as_deref(), Ok("/a/threat-analysis/b"));
        assert_eq!(filled("../../admin?x#y").as_deref(), Ok("/a/..%2F..%2Fadmin%3Fx%23y/b"));
        assert_eq!(filled("%2e%2e").as_deref(), Ok("/a/%252e%252e/b"));
        assert_eq!(filled("é\r\n").as_deref(), Ok("/a/%C3%A9%0D%0A/b"));
        for dots in ["", ".", ".."] {
            assert!(matches!(filled(dots), Err(ActError::NotSent(_))), "{dots}");
        }
    }

    #[test]
    fn a_value_never_ends_the_text_it_stands_in() {
        let template = r#"{"module": "m {target}", "limit": "{value}", "of": ["{organisation}", 1]}"#;
        let target = "\",\"role\":\"admin\",\"x\":\"{value}";
        let sent = body(template, &Values::of(&intent(target))).expect("a body");
        let sent: Value = serde_json::from_slice(&sent).expect("JSON");
        assert_eq!(sent, serde_json::json!({ "module": format!("m {target}"), "limit": 150, "of": ["org_1", 1] }));
    }

    #[test]
    fn what_is_taken_back_is_the_state_before() {
        let state = serde_json::json!({ "limit": 99.5, "burst": { "of": 3 } });
        let Value::Object(state) = state else { unreachable!() };
        let (intent, before) = (intent("m"), Snapshot(state));
        let values = Values::before(&intent, &before);
        assert_eq!(body(r#"{"limit": "{value}"}"#, &values).expect("a body"), br#"{"limit":99.5}"#);
        assert_eq!(body(r#""{before}""#, &values).expect("a body"), br#"{"limit":99.5,"burst":{"of":3}}"#);
        assert!(body(r#""{before}""#, &Values::of(&intent)).is_err());
    }

    #[test]
    fn a_value_is_never_an_option() {
        let target = intent("--delete");
        assert!(matches!(argument("{target}", &Values::of(&target)), Err(ActError::NotSent(_))));
        assert_eq!(argument("--module={target}", &Values::of(&target)).as_deref(), Ok("--module=--delete"));
        let shell = intent("a; rm -rf / $(id)");
        assert_eq!(argument("{target}", &Values::of(&shell)).as_deref(), Ok("a; rm -rf / $(id)"));
    }
}
