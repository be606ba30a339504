//! What came against what was expected, in words.

use serde_json::{Map, Value};

use super::{Case, ExpectedDetection, ExpectedWindow, Moment, Said, Span};
use crate::backfill::Episode;
use crate::decode::timestamp;
use crate::model::detection::{format_time, label_text};
use crate::model::pipeline::{Micros, Severity};
use crate::model::series::Series;

/// Windows that are shown when none of them is the one expected.
const SHOWN_MAX: usize = 3;

/// Everything that is not as the case expects; each entry may have several lines.
pub(super) fn judge(case: &Case, said: &Said) -> Vec<String> {
    let is_judged = |pipeline: &String| case.pipelines.is_empty() || case.pipelines.contains(pipeline);
    let mut unexpected = said.episodes.iter().filter(|it| is_judged(&it.rule.pipeline)).collect::<Vec<_>>();
    let mut failures = Vec::new();
    for expected in &case.detections {
        let found = unexpected.iter().position(|episode| expected.wrong(episode, said.start).is_empty());
        match found {
            Some(found) => drop(unexpected.remove(found)),
            None => failures.push(missing(expected, &mut unexpected, said.start)),
        }
    }
    failures.extend(unexpected.into_iter().map(|episode| format!("not expected: {}", told(episode, said.start))));
    failures.extend(case.windows.iter().filter_map(|expected| missing_window(expected, said)));
    failures
}

/// An expected detection that did not come; the nearest one that did is taken for it.
fn missing(expected: &ExpectedDetection, unexpected: &mut Vec<&Episode>, start: Micros) -> String {
    let text = format!("{}: expected {}", expected.line, expected.told(start));
    let is_near = |episode: &&Episode| episode.rule == expected.rule && expected.covers(&episode.series);
    match unexpected.iter().position(is_near) {
        Some(near) => {
            let near = unexpected.remove(near);
            let wrong = expected.wrong(near, start).join(", ");
            format!("{text}\n  found {}\n  wrong: {wrong}", told(near, start))
        }
        None => format!("{text}\n  nothing of that rule and series fired"),
    }
}

impl ExpectedDetection {
    /// What is wrong with an episode; empty if it is the one.
    fn wrong(&self, episode: &Episode, start: Micros) -> Vec<&'static str> {
        let is_within = |span: Option<Span>, time: Option<Micros>| match (span, time) {
            (Some(span), Some(time)) => (span.from.of(start)..=span.to.of(start)).contains(&time),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let checks = [
            ("the rule", self.rule == episode.rule),
            ("the series", self.covers(&episode.series)),
            ("the severity", self.severity.is_none_or(|severity| severity == episode.severity)),
            ("when it opened", is_within(self.opened, Some(episode.opened))),
            ("whether it resolved", self.is_resolved.is_none_or(|is| is == episode.resolved.is_some())),
            ("when it resolved", is_within(self.resolved, episode.resolved)),
        ];
        checks.into_iter().filter(|(_, is_right)| !is_right).map(|(what, _)| what).collect()
    }

    fn covers(&self, series: &Series) -> bool {
        self.series.iter().all(|(name, text)| label_text(series, name).as_ref() == Some(text))
    }

    fn told(&self, start: Micros) -> String {
        let mut text = format!("{}.{}", self.rule.pipeline, self.rule.rule);
        if let Some(severity) = self.severity {
            text.push_str(&format!(", {}", word(severity)));
        }
        text.push_str(&labels(self.series.iter().map(|(name, text)| (name.as_str(), text.clone()))));
        let span = |what: &str, span: Span| {
            let (from, to) = (span.from.of(start), span.to.of(start));
            if from == to {
                format!(", {what} at {}", when(from, start))
            } else {
                format!(", {what} between {} and {}", when(from, start), when(to, start))
            }
        };
        text.extend(self.opened.map(|opened| span("opened", opened)));
        match (self.resolved, self.is_resolved) {
            (Some(resolved), _) => text.push_str(&span("resolved", resolved)),
            (None, Some(true)) => text.push_str(", resolved"),
            (None, Some(false)) => text.push_str(", open in the end"),
            (None, None) => {}
        }
        text
    }
}

impl Moment {
    fn of(self, start: Micros) -> Micros {
        match self {
            Moment::At(time) => time,
            Moment::After(after) => start.saturating_add(after),
        }
    }
}

fn told(episode: &Episode, start: Micros) -> String {
    let Episode { rule, series, severity, opened, resolved, measure, value, .. } = episode;
    let names = series.0.iter().map(|(name, _)| (name.as_str(), label_text(series, name).unwrap_or_default()));
    let value = value.map_or(String::new(), |value| format!(" with {measure} {value}"));
    let ended = resolved.map_or(", open in the end".to_owned(), |at| format!(", resolved at {}", when(at, start)));
    let opened = when(*opened, start);
    format!("{}.{}, {}{}, opened at {opened}{value}{ended}", rule.pipeline, rule.rule, word(*severity), labels(names))
}

fn labels<'a>(labels: impl Iterator<Item = (&'a str, String)>) -> String {
    labels.map(|(name, text)| format!(", {name}={text}")).collect()
}

/// A time, and how long after the first record it is.
fn when(time: Micros, start: Micros) -> String {
    let after = u64::try_from(time.saturating_sub(start)).unwrap_or(0);
    let after = std::time::Duration::from_micros(after - after % 1_000);
    format!("{} ({})", format_time(time), humantime::format_duration(after))
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// What is wrong with the windows, if the expected one is not among them.
fn missing_window(expected: &ExpectedWindow, said: &Said) -> Option<String> {
    let start = expected.start.of(said.start);
    let of_series = |window: &&Map<String, Value>| {
        let text = |name: &str| window.get(name).map(plain);
        let is_of = expected.series.iter().all(|(name, label)| text(name).as_ref() == Some(label));
        is_of && window.get("pipeline").and_then(Value::as_str) == Some(expected.pipeline.as_str())
    };
    let begins = |window: &&Map<String, Value>| {
        let text = window.get("window_start").and_then(Value::as_str).unwrap_or_default();
        timestamp::from_text(text).is_ok_and(|time| time == start)
    };
    let candidates = said.windows.iter().filter(of_series).collect::<Vec<_>>();
    let at_the_time = candidates.iter().copied().filter(begins).collect::<Vec<_>>();
    let wrong = |window: &Map<String, Value>| expected.measures.iter().filter(|it| !expected.has(window, it)).count();
    if at_the_time.iter().any(|window| wrong(window) == 0) {
        return None;
    }
    let labels = labels(expected.series.iter().map(|(name, text)| (name.as_str(), text.clone())));
    let measures = expected.measures.iter().map(|(name, value)| format!(", {name} {value}")).collect::<String>();
    let mut text = format!(
        "{}: expected a window of {}{labels} at {}{measures}",
        expected.line,
        expected.pipeline,
        when(start, said.start)
    );
    let shown = if at_the_time.is_empty() { &candidates } else { &at_the_time };
    for window in shown.iter().take(SHOWN_MAX) {
        text.push_str(&format!("\n  found {}", Value::Object((*window).clone())));
    }
    if shown.is_empty() {
        text.push_str("\n  no window of that pipeline and series closed");
    }
    Some(text)
}

impl ExpectedWindow {
    /// True if a measure is what it should be, within the tolerance.
    fn has(&self, window: &Map<String, Value>, (name, expected): &(String, f64)) -> bool {
        let found = window.get(name).and_then(Value::as_f64);
        found.is_some_and(|found| (found - expected).abs() <= self.tolerance * expected.abs().max(1.0))
    }
}

/// A label as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
