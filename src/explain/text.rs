//! A detection in words.

use serde_json::Value;

use super::rows::{Message, Messages, Window};
use crate::model::detection::format_time;

/// The text, section by section.
pub(super) fn tell(messages: &Messages, windows: &[Window]) -> String {
    let mut text = head(messages);
    text.push_str("\nwhat was said\n");
    text.push_str(&table(&said(messages)));
    if !windows.is_empty() {
        text.push_str(&format!("\nwindows of {}\n", messages.pipeline));
        text.push_str(&table(&measured(messages, windows)));
    }
    text.push_str("\nthe rows behind it\n");
    text.extend(messages.evidence_sql.lines().map(|line| format!("  {line}\n")));
    text
}

fn head(messages: &Messages) -> String {
    let Messages { pipeline, rule, technique, measure, .. } = messages;
    let labels = messages.series.iter().map(|(name, value)| format!("{name}={}", label(value)));
    let mut text = format!("detection  {}\n", messages.detection_id);
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<9}  {value}\n"));
    line("rule", format!("{pipeline}.{rule}, {technique} on {measure}"));
    line("series", labels.collect::<Vec<_>>().join(", "));
    if let Some(first) = messages.messages.first() {
        line("opened", format!("{}, {}", format_time(first.window_end), reason(first, measure)));
    }
    if let Some(last) = messages.messages.last() {
        line("now", now(last));
        if let Some(baseline) = &last.baseline {
            let (lower, upper) = (number(baseline.lower), number(baseline.upper));
            let (center, spread) = (number(baseline.center), number(baseline.spread));
            let learnt = format!(
                "{center} ± {spread}, normal from {lower} to {upper}, learnt from {} windows",
                baseline.windows
            );
            line("baseline", learnt);
        }
    }
    if let Some(remedy) = &messages.remedy {
        let part = |name: &str| remedy.get(name).map(label).unwrap_or("-".to_owned());
        line("remedy", format!("{} of {}", part("action"), part("target")));
    }
    line("incident", messages.incident_id.clone());
    text
}

/// Why the first message was said.
fn reason(first: &Message, measure: &str) -> String {
    let mut text = match (first.value, first.threshold) {
        (Some(value), Some(threshold)) => format!("{measure} was {} against {}", number(value), number(threshold)),
        (Some(value), None) => format!("{measure} was {}", number(value)),
        _ => format!("{measure} was not known"),
    };
    text.extend(first.samples.map(|samples| format!(" in {} samples", number(samples))));
    text.extend(first.score.map(|score| format!(", score {}", number(score))));
    text
}

fn now(last: &Message) -> String {
    match last.change.as_str() {
        "resolved" => format!("resolved at {}", format_time(last.window_end)),
        _ => format!("{}, since the last word at {}", last.severity, format_time(last.window_end)),
    }
}

/// A row for each message.
fn said(messages: &Messages) -> Vec<Vec<String>> {
    let head = ["time", "change", "severity", messages.measure.as_str(), "limit", "samples", "score"];
    let row = |message: &Message| {
        let cells = [message.value, message.threshold, message.samples, message.score].map(cell);
        let first = [format_time(message.window_end), message.change.clone(), message.severity.clone()];
        first.into_iter().chain(cells).collect()
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(messages.messages.iter().map(row)).collect()
}

/// A row for each window, with what was said about it.
fn measured(messages: &Messages, windows: &[Window]) -> Vec<Vec<String>> {
    let head = vec!["window_start".to_owned(), messages.measure.clone(), String::new()];
    let row = |window: &Window| {
        let said = messages.messages.iter().filter(|message| message.window_start == window.start);
        let said = said.map(|message| format!("{} {}", message.change, message.severity)).collect::<Vec<_>>();
        vec![format_time(window.start), cell(window.value), said.join(", ")]
    };
    std::iter::once(head).chain(windows.iter().map(row)).collect()
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths = (0..columns).map(|column| width(column).unwrap_or(0)).collect::<Vec<_>>();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn cell(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), number)
}

/// A number with six significant digits at most.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (5 - value.abs().log10().floor() as i64).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
