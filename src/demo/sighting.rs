//! A message of the remediation topic, as a consumer in any language reads it: headers and JSON.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::log::Record;
use crate::model::detection::Change;
use crate::model::pipeline::{Micros, Severity};
use crate::model::time::rfc3339;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    pub change: Change,
    /// CloudEvents headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The body as it was written.
    pub text: String,
    pub body: Body,
}

/// The fields of a body that the demo shows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Body {
    pub detection_id: String,
    pub pipeline: String,
    pub rule: String,
    pub organisation_id: Option<String>,
    pub module: Option<String>,
    pub series: serde_json::Map<String, serde_json::Value>,
    #[serde(with = "rfc3339")]
    pub window_start: Micros,
    #[serde(with = "rfc3339")]
    pub window_end: Micros,
    pub measure: String,
    pub value: Option<f64>,
    pub samples: Option<u64>,
    pub threshold: Option<f64>,
    pub severity: Severity,
}

impl Sighting {
    /// Reads a message, or says what is not as the contract has it.
    pub fn read(record: &Record<'_>) -> Result<Self, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let kind = headers.iter().find(|(name, _)| name == "ce_type").map(|(_, value)| value.as_str());
        let changes = [Change::Opened, Change::Updated, Change::Resolved];
        let change = changes.into_iter().find(|change| Some(change.event_type()) == kind);
        let change = change.ok_or_else(|| format!("unknown ce_type {kind:?}"))?;
        let value = record.value.unwrap_or_default();
        let body = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        Ok(Self { change, headers, text: text(value), body })
    }

    /// The body's fields in their order: text as it reads, everything else as JSON.
    pub fn fields(&self) -> Vec<(String, String)> {
        let Ok(Ordered(fields)) = serde_json::from_str(&self.text) else { return Vec::new() };
        let text = |value: &RawValue| serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
        fields.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// `pipeline.rule`.
    pub fn rule(&self) -> String {
        format!("{}.{}", self.body.pipeline, self.body.rule)
    }
}

/// An object whose fields keep their order.
struct Ordered(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Ordered;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
