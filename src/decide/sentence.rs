//! The sentence of the audit: what was done, in words that a person wrote in the catalogue.

use crate::model::action::{Action, Intent};

/// What a sentence may speak of.
pub(super) const PLACES: [&str; 5] = ["{target}", "{organisation}", "{from}", "{to}", "{reason}"];

/// Megabytes of one gigabyte.
const MEGABYTES_OF_GIGABYTE: f64 = 1_024.0;

/// What was done, and why: `reason` is the cause in a few words, such as `timeout errors`.
pub fn sentence(action: &Action, intent: &Intent, reason: &str) -> String {
    let unit = action.parameter.as_ref().map_or("", |parameter| parameter.unit.as_str());
    let (from, to) = match &intent.change {
        Some(change) => (quantity(change.from, unit), quantity(change.to, unit)),
        None => (String::new(), String::new()),
    };
    let value = |place: &str| match place {
        "{target}" => intent.target.as_str(),
        "{organisation}" => intent.organisation_id.as_deref().unwrap_or("every organisation"),
        "{from}" => &from,
        "{to}" => &to,
        _ => reason,
    };
    filled(&action.audit, value)
}

/// The first text in braces that is not a place.
pub(super) fn unknown_place(template: &str) -> Option<&str> {
    let mut rest = template;
    while let Some((at, _)) = rest.match_indices('{').next() {
        let braces = rest.get(at..).unwrap_or_default();
        let length = braces.find('}').map_or(braces.len(), |end| end + 1);
        let (place, after) = braces.split_at(length);
        if !PLACES.contains(&place) {
            return Some(place);
        }
        rest = after;
    }
    None
}

/// Fills in each place once: what a value brings along is never taken for a place.
fn filled<'a>(template: &str, value: impl Fn(&str) -> &'a str) -> String {
    let (mut sentence, mut rest) = (String::with_capacity(template.len() + 64), template);
    while let Some((at, place)) =
        PLACES.iter().filter_map(|place| Some((rest.find(place)?, *place))).min_by_key(|(at, _)| *at)
    {
        let (before, after) = rest.split_at(at);
        sentence.push_str(before);
        sentence.push_str(value(place));
        rest = after.strip_prefix(place).unwrap_or_default();
    }
    sentence.push_str(rest);
    sentence
}

/// `100/min`, `512MB`, and `1GB` for 1,024 of them.
fn quantity(value: f64, unit: &str) -> String {
    if unit == "MB" && value >= MEGABYTES_OF_GIGABYTE && value % MEGABYTES_OF_GIGABYTE == 0.0 {
        return format!("{}GB", value / MEGABYTES_OF_GIGABYTE);
    }
    format!("{value}{unit}")
}
