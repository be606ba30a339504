//! What the demo prints: text from values, nothing else.
//!
//! Plain lines are the default; colour and wrapping are for a terminal. `screen` never writes.

use std::time::Duration;

use super::scorecard::{Case, Scorecard};
use super::sighting::{Body, Sighting};
use crate::model::detection::format_time;
use crate::model::pipeline::{Micros, Severity};

/// Narrower than this nothing is readable, so wrapping stops there.
const WIDTH_MIN: usize = 40;
/// Where the text of a line starts: after the time here, the time there and the tag.
const INDENT: usize = 30;

/// How to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    pub colour: bool,
    /// Columns of the terminal; `None`: lines are not wrapped.
    pub width: Option<usize>,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Injected,
    Over,
    Detected(Severity),
    Unexplained(Severity),
    Worse(Severity),
    Resolved,
    /// Something was refused, or is for people.
    Decided,
    Acting,
    Verified,
    Escalated,
}

impl Tag {
    fn word(self) -> &'static str {
        match self {
            Tag::Injected => "INJECTED",
            Tag::Over => "over",
            Tag::Detected(_) => "DETECTED",
            Tag::Unexplained(_) => "FALSE?",
            Tag::Worse(_) => "WORSE",
            Tag::Resolved => "resolved",
            Tag::Decided => "decided",
            Tag::Acting => "ACTING",
            Tag::Verified => "VERIFIED",
            Tag::Escalated => "CALLED",
        }
    }

    /// An ANSI colour: yellow for what is done to the platform, red and magenta for what is found, green for good news.
    fn colour(self) -> &'static str {
        match self {
            Tag::Injected => "33",
            Tag::Over => "2",
            Tag::Detected(Severity::Critical) | Tag::Worse(Severity::Critical) => "1;31",
            Tag::Detected(_) | Tag::Worse(_) => "31",
            Tag::Unexplained(_) => "35",
            Tag::Resolved | Tag::Verified => "32",
            Tag::Decided => "2",
            Tag::Acting => "36",
            Tag::Escalated => "1;31",
        }
    }
}

impl Style {
    /// A name and what there is to say about it.
    pub fn fact(self, name: &str, text: &str) -> String {
        self.hang(&format!("{:<10}", name), 10, text, "1")
    }

    /// A line of the live part: time since the start, event time of day, tag, text.
    pub fn line(self, at: Duration, clock: Micros, tag: Tag, text: &str) -> String {
        let head = format!("{:>7.1} s  {}  {:<9}", at.as_secs_f64(), time_of_day(clock), tag.word());
        self.hang(&head, INDENT, text, tag.colour())
    }

    /// Everything at the end: each incident with the rules that found it, the topic, an example of a message.
    pub fn summary(self, card: &Scorecard, speed: f64) -> String {
        let mut text = String::from("\n");
        for case in card.cases.iter().filter(|case| case.injected.is_some()) {
            text += &self.case(case, speed);
        }
        let (opened, updated, resolved) = (card.opened, card.updated, card.resolved);
        let counts = format!("{opened} opened, {updated} updated, {resolved} resolved on the remediation topic");
        text += &self.fact("messages", &counts);
        let unexplained = match card.unexplained.as_slice() {
            [] if card.opened == 0 => "nothing was detected".to_owned(),
            [] => "every detection belongs to an incident that was injected".to_owned(),
            rules => format!("detections that belong to no incident: {} ({})", rules.len(), rules.join(", ")),
        };
        text += &self.fact("accuracy", &unexplained);
        text
    }

    /// One message of the topic with its headers.
    pub fn message(self, topic: &str, sighting: &Sighting) -> String {
        let mut text = format!("\n{}\n", self.paint(&format!("The first detection, as it is on {topic}:"), "1"));
        for (name, value) in &sighting.headers {
            text += &self.hang(&format!("  {name}: "), 6, value, "2");
        }
        for (name, value) in sighting.fields() {
            text += &self.hang(&format!("  {name}: "), 6, &value, "2");
        }
        text
    }

    fn case(self, case: &Case, speed: f64) -> String {
        let mut text = self.hang(&format!("{:<18}", case.incident.name), 18, case.incident.story, "1");
        for found in &case.found {
            let tag = Tag::Detected(found.severity);
            let after = delay(found.after, speed);
            text += &self.hang(
                "  detected  ",
                12,
                &format!("{:<9} {:<40} {after}", name(found.severity), found.rule),
                tag.colour(),
            );
        }
        for rule in case.missed() {
            text += &self.hang("  missed    ", 12, rule, "1;31");
        }
        text
    }

    /// A head, and a text that continues below itself; the head in colour.
    fn hang(self, head: &str, indent: usize, text: &str, colour: &str) -> String {
        let width = self.width.map_or(usize::MAX, |width| width.max(WIDTH_MIN));
        let indent = indent.min(width / 3);
        let mut line = String::new();
        let mut column = head.chars().count();
        for (number, paragraph) in text.split('\n').enumerate() {
            let mut is_new = number > 0;
            for word in paragraph.split(' ') {
                let length = word.chars().count();
                if is_new || (column + length > width && column > indent) {
                    line.truncate(line.trim_end().len());
                    line += "\n";
                    line.extend(std::iter::repeat_n(' ', indent));
                    column = indent;
                    is_new = false;
                }
                line += word;
                line += " ";
                column += length + 1;
            }
        }
        format!("{}{}\n", self.paint(head, colour), line.trim_end())
    }

    fn paint(self, text: &str, colour: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What a detection says, in one line.
pub fn describe(body: &Body) -> String {
    let rank = |name: &str| ["organisation_id", "module"].iter().position(|first| *first == name).unwrap_or(2);
    let mut labels: Vec<_> = body.series.iter().collect();
    labels.sort_by_key(|(name, _)| rank(name));
    let labels: Vec<String> = labels.into_iter().filter_map(|(_, value)| label(value)).collect();
    let place = if labels.is_empty() { "everything".to_owned() } else { labels.join(" / ") };
    let value = body.value.map_or("no value".to_owned(), |value| quantity(&body.measure, value));
    let limit = body.threshold.map(|limit| format!(", limit {}", quantity(&body.measure, limit))).unwrap_or_default();
    let samples = body.samples.map(|samples| format!(", {samples} samples")).unwrap_or_default();
    let (pipeline, rule, measure) = (&body.pipeline, &body.rule, &body.measure);
    format!("{} {pipeline}.{rule} at {place}: {measure} {value}{limit}{samples}", name(body.severity))
}

fn label(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A delay here and what it is on the platform.
pub fn delay(after: Duration, speed: f64) -> String {
    let here = after.as_secs_f64();
    let there = (here * speed).round() as u64;
    format!("after {here:.1} s ({} min {:02} s of the platform)", there / 60, there % 60)
}

/// A value in the unit that its measure's name tells.
fn quantity(measure: &str, value: f64) -> String {
    let is_duration = ["p50", "p95", "p99", "_ms"].iter().any(|end| measure.ends_with(end));
    if measure.ends_with("rate") {
        format!("{:.2} %", value * 100.0)
    } else if measure.ends_with("percent") {
        format!("{value:.1} %")
    } else if is_duration {
        format!("{:.2} s", value / 1_000.0)
    } else {
        format!("{value:.0}")
    }
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// `10:31:07`, UTC.
pub fn time_of_day(time: Micros) -> String {
    let whole_seconds = format_time(time.div_euclid(1_000_000) * 1_000_000);
    whole_seconds.get(11..19).unwrap_or("--:--:--").to_owned()
}

#[cfg(test)]
mod tests;
