//! What a case expects: `[[expect.detection]]`, `[[expect.window]]`.

use super::{ExpectedDetection, ExpectedWindow, Moment, Span};
use crate::config::document::{DocumentError, Located, Table, suggestion};
use crate::decode::timestamp;
use crate::model::pipeline::{Micros, Pipeline, RuleName, SERIES_LIMIT, Severity};

/// How far a measure may be off unless the case says otherwise: sums in another order.
const TOLERANCE: f64 = 1e-9;

/// Everything under `[expect]`.
pub(super) fn read(
    mut table: Table,
    pipelines: &[Pipeline],
) -> Result<(Vec<ExpectedDetection>, Vec<ExpectedWindow>), DocumentError> {
    table.allow_only(&["detections", "detection", "window"])?;
    let count = table.count("detections")?;
    let detections = table.tables("detection")?.into_iter().map(|one| detection(one, pipelines));
    let detections = detections.collect::<Result<Vec<_>, _>>()?;
    let windows = table.tables("window")?.into_iter().map(|one| window(one, pipelines));
    let windows = windows.collect::<Result<Vec<_>, _>>()?;
    match count {
        Some(count) if count.value != detections.len() as u64 => {
            let listed = detections.len();
            let reason = format!("`detections` is {}, but {listed} [[expect.detection]] follow", count.value);
            Err(count.origin.error(reason))
        }
        None if detections.is_empty() && windows.is_empty() => {
            Err(table.origin.error("expects nothing; say `[expect] detections = 0` if nothing may fire"))
        }
        _ => Ok((detections, windows)),
    }
}

fn detection(mut table: Table, pipelines: &[Pipeline]) -> Result<ExpectedDetection, DocumentError> {
    table.allow_only(&[
        "rule",
        "severity",
        "series",
        "opened_at",
        "opened_between",
        "resolved",
        "resolved_at",
        "resolved_between",
    ])?;
    let line = table.origin.to_string();
    let rule = table.text("rule")?.ok_or_else(|| table.missing("rule"))?;
    let rule = rule_name(&rule, pipelines)?;
    let severity = table.text("severity")?.map(|text| severity(&text)).transpose()?;
    let series = labels(&mut table)?;
    let (opened, resolved) = (span(&mut table, "opened")?, span(&mut table, "resolved")?);
    let is_resolved = table.boolean("resolved")?;
    match (&is_resolved, resolved) {
        (Some(written), Some(_)) if !written.value => {
            Err(written.origin.error("`resolved` is false, but there is a time at which it resolves"))
        }
        _ => {
            let is_resolved = is_resolved.map(|written| written.value).or(resolved.map(|_| true));
            Ok(ExpectedDetection { line, rule, severity, series, opened, is_resolved, resolved })
        }
    }
}

fn window(mut table: Table, pipelines: &[Pipeline]) -> Result<ExpectedWindow, DocumentError> {
    table.allow_only(&["pipeline", "window_start", "series", "measures", "tolerance"])?;
    let line = table.origin.to_string();
    let pipeline = table.text("pipeline")?.ok_or_else(|| table.missing("pipeline"))?;
    let known = pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>();
    if !known.contains(&pipeline.value.as_str()) {
        let hint = suggestion(&pipeline.value, &known);
        return Err(pipeline.origin.error(format!("there is no pipeline `{}`; {hint}", pipeline.value)));
    }
    let start = table.text("window_start")?.ok_or_else(|| table.missing("window_start"))?;
    let start = moment(&start.value).ok_or_else(|| no_moment("window_start", &start))?;
    let series = labels(&mut table)?;
    let tolerance = match table.number("tolerance")? {
        Some(tolerance) if tolerance.value < 0.0 => {
            return Err(tolerance.origin.error("`tolerance` must not be negative"));
        }
        Some(tolerance) => tolerance.value,
        None => TOLERANCE,
    };
    let number = |(name, text): (String, Located<String>)| match text.value.parse::<f64>() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(text.origin.error(format!("`{name}` must be a number, not \"{}\"", text.value))),
    };
    let measures = table.section("measures")?.dotted()?.into_iter().map(number).collect::<Result<Vec<_>, _>>()?;
    Ok(ExpectedWindow { line, pipeline: pipeline.value, start, series, measures, tolerance })
}

fn rule_name(text: &Located<String>, pipelines: &[Pipeline]) -> Result<RuleName, DocumentError> {
    let names = pipelines.iter().flat_map(|pipeline| {
        let rules = pipeline.rules.iter().map(|rule| rule.name.as_str()).chain([SERIES_LIMIT]);
        rules.map(|rule| format!("{}.{rule}", pipeline.name))
    });
    let names = names.collect::<Vec<_>>();
    match text.value.split_once('.').filter(|_| names.contains(&text.value)) {
        Some((pipeline, rule)) => Ok(RuleName { pipeline: pipeline.to_owned(), rule: rule.to_owned() }),
        None => {
            let known = names.iter().map(String::as_str).collect::<Vec<_>>();
            let hint = suggestion(&text.value, &known);
            Err(text.origin.error(format!("there is no rule `{}`; {hint}", text.value)))
        }
    }
}

fn severity(text: &Located<String>) -> Result<Severity, DocumentError> {
    match text.value.as_str() {
        "low" => Ok(Severity::Low),
        "medium" => Ok(Severity::Medium),
        "high" => Ok(Severity::High),
        "critical" => Ok(Severity::Critical),
        other => {
            let reason = format!("`severity` must be \"critical\", \"high\", \"medium\" or \"low\", not \"{other}\"");
            Err(text.origin.error(reason))
        }
    }
}

fn labels(table: &mut Table) -> Result<Vec<(String, String)>, DocumentError> {
    Ok(table.section("series")?.dotted()?.into_iter().map(|(name, text)| (name, text.value)).collect())
}

/// `KEY_at` or `KEY_between`.
fn span(table: &mut Table, key: &str) -> Result<Option<Span>, DocumentError> {
    let (at_key, between_key) = (format!("{key}_at"), format!("{key}_between"));
    if let Some(at) = table.text(&at_key)? {
        let at = moment(&at.value).ok_or_else(|| no_moment(&at_key, &at))?;
        return Ok(Some(Span { from: at, to: at }));
    }
    let Some(between) = table.texts(&between_key)? else { return Ok(None) };
    match between.value.iter().map(|text| moment(text)).collect::<Option<Vec<_>>>().as_deref() {
        Some([from, to]) => Ok(Some(Span { from: *from, to: *to })),
        _ => {
            let reason = format!("`{between_key}` must be two times, such as [\"10m\", \"12m\"]");
            Err(between.origin.error(reason))
        }
    }
}

fn no_moment(key: &str, text: &Located<String>) -> DocumentError {
    let hint = "\"12m\" after the first record, or a time as 2025-12-03T10:12:00Z";
    text.origin.error(format!("`{key}` must be {hint}, not \"{}\"", text.value))
}

/// A length of time after the first record, or a time.
pub(super) fn moment(text: &str) -> Option<Moment> {
    match humantime::parse_duration(text.trim()) {
        Ok(after) => Some(Moment::After(Micros::try_from(after.as_micros()).ok()?)),
        Err(_) => timestamp::from_text(text).ok().map(Moment::At),
    }
}
