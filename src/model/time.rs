//! Times as people and other programs read them: RFC 3339 in UTC, in JSON and in words.

use chrono::{DateTime, SecondsFormat};

use super::pipeline::Micros;

/// RFC 3339 in UTC, with as many digits of a second as needed.
pub fn format_time(time: Micros) -> String {
    match DateTime::from_timestamp_micros(time) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => time.to_string(),
    }
}

/// Reads RFC 3339.
pub fn read_time(text: &str) -> Result<Micros, chrono::ParseError> {
    DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros())
}

/// For `#[serde(with = "…")]`: a time as RFC 3339.
pub mod rfc3339 {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::{Micros, format_time, read_time};

    pub fn serialize<S: Serializer>(time: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_time(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        read_time(&Cow::<str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// For `#[serde(with = "…")]`: a time as RFC 3339, or null.
pub mod rfc3339_or_null {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::{Micros, format_time, read_time};

    pub fn serialize<S: Serializer>(time: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_some(&format_time(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| read_time(&text).map_err(de::Error::custom)).transpose()
    }
}
