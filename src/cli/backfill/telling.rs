//! The results of a backfill in words.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::backfill::{Comparison, Episode, Report, RuleDifference};
use crate::cli::Failure;
use crate::cli::output::counted;
use crate::evaluate::PipelineSet;
use crate::model::detection::{format_time, label_text};
use crate::model::pipeline::{Micros, Severity};
use crate::model::series::Series;

/// An episode in a line.
pub(super) fn line(episode: &Episode) -> String {
    let Episode { rule, measure, .. } = episode;
    let lasted = match episode.resolved {
        Some(resolved) => format!("for {}", length(resolved.saturating_sub(episode.opened))),
        None => "open in the end".to_owned(),
    };
    let value = match (episode.value, episode.threshold) {
        (Some(value), Some(threshold)) => format!("{measure} {} against {}", number(value), number(threshold)),
        (Some(value), None) => format!("{measure} {}", number(value)),
        _ => measure.clone(),
    };
    let severity = severity(episode.severity);
    let (opened, labels) = (format_time(episode.opened), labels(&episode.series));
    format!("{opened} {severity:<8} {}.{}{labels}: {value}, {lasted}\n", rule.pipeline, rule.rule)
}

/// What was read and what would have fired.
pub(super) fn summary(report: &Report, sets: &[Arc<PipelineSet>], windows: u64, fired: u64) -> String {
    let pipelines: usize = sets.iter().take(1).map(|set| set.pipelines().len()).sum();
    let span = match report.span {
        Some((first, last)) => format!(" from {} to {}", format_time(first), format_time(last)),
        None => String::new(),
    };
    let (fired, windows) = (counted(fired, "detection"), counted(windows, "row"));
    let (pipelines, records) = (counted(pipelines as u64, "pipeline"), counted(report.rows, "record"));
    format!("{fired} in {windows} of windows of {pipelines}, over {records}{span}\n")
}

/// What the versions do differently, rule by rule.
pub(super) fn comparison(comparison: Comparison) -> String {
    let untold = comparison.untold();
    let mut text = String::new();
    for RuleDifference { rule, before, now, gone, new } in comparison.differences() {
        let change = if gone.is_empty() && new.is_empty() { ", the same" } else { "" };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}.{}: {before} fired, now {now}{change}", rule.pipeline, rule.rule);
        gone.iter().for_each(|episode| text.push_str(&format!("  gone {}", line(episode))));
        new.iter().for_each(|episode| text.push_str(&format!("  new  {}", line(episode))));
    }
    if text.is_empty() {
        text.push_str("nothing fired, and nothing does now\n");
    }
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more that differ and are not listed");
    }
    text
}

/// What a user should know beside the results: one sentence each.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for (kind, (count, first)) in &report.rejected {
        notes.push(format!("{} cannot be read ({kind}), the first: {first}", counted(*count, "record")));
    }
    if report.outside > 0 {
        notes.push(format!("{} outside the range left out", counted(report.outside, "record")));
    }
    for pipeline in report.sets.iter().flat_map(|set| &set.pipelines) {
        let name = &pipeline.pipeline;
        if pipeline.late_rows > 0 {
            let late = counted(pipeline.late_rows, "row");
            notes.push(format!("{late} came too late for their windows of `{name}`; a larger --disorder waits longer"));
        }
        if pipeline.closed_early > 0 {
            let early = counted(pipeline.closed_early, "window");
            notes.push(format!("{early} of `{name}` closed early, because more were open than its limits allow"));
        }
    }
    notes
}

/// Why the results are not all that was asked for, if they are not.
pub(super) fn failure(report: &Report) -> Option<Failure> {
    let rejected: u64 = report.rejected.values().map(|(count, _)| count).sum();
    if report.is_interrupted {
        return Some(Failure::work(format!("interrupted after {}", counted(report.rows, "record"))));
    }
    let is_nothing = report.rows == 0 && report.outside == 0;
    is_nothing.then(|| Failure::work(format!("the input has no record that can be read ({rejected} cannot)")))
}

fn labels(series: &Series) -> String {
    let label = |(name, _): &(String, _)| format!(" {name}={}", label_text(series, name).unwrap_or("-".to_owned()));
    series.0.iter().map(label).collect()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

fn length(micros: Micros) -> String {
    let micros = u64::try_from(micros).unwrap_or(0);
    humantime::format_duration(Duration::from_micros(micros)).to_string()
}

/// Four significant digits, without a tail of zeros.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (3 - value.abs().log10().floor() as i64).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [(0.0, "0"), (0.101, "0.101"), (1234.5678, "1235"), (0.000123456, "0.0001235"), (5.0, "5")]
        {
            assert_eq!(number(value), text);
        }
    }
}
