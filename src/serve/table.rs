//! `maturion status` as text: pure, one column per fact, readable in 80 characters where names are short.
//!
//! Series and reasons hold what producers wrote, so no control character reaches the terminal.

use std::fmt::Write;

use super::status::{OpenIncident, PartitionStatus, PipelineStatus, Remediation, Status};
use crate::model::detection::format_time;
use crate::model::pipeline::{Micros, Severity};

/// As much of an incident's id as tells it from others on one screen; the JSON has all of it.
const ID_CHARACTERS: usize = 8;
const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;

/// The whole status. Sections without content are left out.
pub fn render(status: &Status) -> String {
    let Status { version, instance, health, log, .. } = status;
    let of = if instance.is_empty() { String::new() } else { format!(" {instance}") };
    let mut text = format!("maturion {version}{of}: {health}\nlog: {log}\n");
    for problem in &status.problems {
        // Writing to a string cannot fail; the results are dropped for that reason, here and below.
        let _ = writeln!(text, "  ! {problem}");
    }
    if let Some(remediation) = &status.remediation {
        let _ = writeln!(text, "{}", remediation_line(remediation));
    }
    let head = ["STAGE", "PARTITION", "OWNER", "AGE", "LAG", "WATERMARK", "OLDEST"];
    table(&mut text, &head, &partition_rows(status));
    let head = ["PIPELINE", "OPEN", "OLDEST", "CLOSED THROUGH", "LATE", "FOREIGN", "FIRING"];
    table(&mut text, &head, &pipeline_rows(status));
    table(&mut text, &["DEAD LETTERS", "RECORDS"], &dead_letter_rows(status));
    table(&mut text, &["INCIDENT", "SEVERITY", "SINCE", "RULE", "SERIES"], &incident_rows(status));
    text
}

/// What is done about incidents: `remediation: act; open incidents: 2 firing, 1 verified`.
fn remediation_line(remediation: &Remediation) -> String {
    let Remediation { mode, is_stopped, phases } = remediation;
    let stopped = if *is_stopped { ", stopped (kill switch)" } else { "" };
    let open = phases.iter().filter(|(phase, _)| *phase != "resolved");
    let open = open.map(|(phase, count)| format!("{count} {}", phase.replace('_', " "))).collect::<Vec<_>>();
    let open = if open.is_empty() { "none".to_owned() } else { open.join(", ") };
    format!("remediation: {mode}{stopped}; open incidents: {open}")
}

fn partition_rows(status: &Status) -> Vec<Vec<String>> {
    let row = |partition: &PartitionStatus| {
        vec![
            partition.stage.to_string(),
            format!("{}-{}", partition.topic, partition.partition),
            partition.owner.clone(),
            age(partition.age_ms),
            partition.lag.to_string(),
            time(partition.watermark_us),
            beside(partition.oldest_open_us, partition.watermark_us),
        ]
    };
    status.partitions.iter().map(row).collect()
}

fn pipeline_rows(status: &Status) -> Vec<Vec<String>> {
    let row = |pipeline: &PipelineStatus| {
        vec![
            pipeline.pipeline.clone(),
            pipeline.open_windows.to_string(),
            beside(pipeline.oldest_open_us, pipeline.closed_through_us),
            time(pipeline.closed_through_us),
            pipeline.late_rows.to_string(),
            pipeline.foreign_messages.to_string(),
            pipeline.open_detections.to_string(),
        ]
    };
    status.pipelines.iter().map(row).collect()
}

fn dead_letter_rows(status: &Status) -> Vec<Vec<String>> {
    status.dead_letters.iter().map(|(reason, count)| vec![reason.clone(), count.to_string()]).collect()
}

fn incident_rows(status: &Status) -> Vec<Vec<String>> {
    let row = |incident: &OpenIncident| {
        vec![
            incident.incident_id.chars().take(ID_CHARACTERS).collect(),
            severity(incident.severity).to_owned(),
            time(Some(incident.since_us)),
            format!("{}.{}", incident.pipeline, incident.rule),
            incident.series.clone(),
        ]
    };
    status.open_incidents.iter().map(row).collect()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// To the second: more does not fit.
fn time(time: Option<Micros>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format_time(time.div_euclid(SECOND) * SECOND))
}

/// The time of day alone if another time in the same row is of the same day.
fn beside(one: Option<Micros>, other: Option<Micros>) -> String {
    let text = time(one);
    match (one, other) {
        (Some(one), Some(other)) if one.div_euclid(DAY) == other.div_euclid(DAY) => {
            text.split_once('T').map_or(text.clone(), |(_, time)| time.trim_end_matches('Z').to_owned())
        }
        _ => text,
    }
}

/// In the largest unit that is not zero.
fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns as wide as their widest cell, two spaces between; nothing where there are no rows.
fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(title.chars().count())
    };
    let widths: Vec<usize> = head.iter().enumerate().map(|(column, title)| width(column, title)).collect();
    text.push('\n');
    line(text, &widths, head.iter().copied());
    for row in rows {
        line(text, &widths, row.iter().map(String::as_str));
    }
}

fn line<'a>(text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let start = text.len();
    for (cell, width) in cells.zip(widths) {
        let cell = cell.replace(char::is_control, "\u{fffd}");
        let _ = write!(text, "{cell:width$}  ");
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::metrics::Work;
    use super::super::status::{Bulletin, PipelineReport, Progress, RoleState, StatusBoard};
    use super::*;

    fn progress(position: i64, end_offset: i64, watermark: Option<Micros>) -> Progress {
        Progress { position, end_offset, watermark }
    }

    #[test]
    fn a_working_instance_reads_well_in_80_columns() {
        let board = StatusBoard::new("kafka at localhost:9092").of("west-1");
        board.role("intake", RoleState::Running);
        board.role("detect", RoleState::Failed("another instance took over".into()));
        let noon = 1_780_315_200_000_000;
        board.intake("telemetry.logs", 0, progress(1200, 1234, Some(noon + 1_500_000)));
        board.intake("telemetry.logs", 1, progress(0, 0, None));
        let report = PipelineReport {
            closed_early: 0,
            open_series: 30,
            watched_series: 40,
            versions: 1,
            pipeline: "module_api_latency",
            late_rows: 3,
            foreign_messages: 2,
            open_windows: 12,
            oldest_open: Some(noon - 60_000_000),
            closed_through: Some(noon),
            watermark: Some(noon),
            open_detections: 1,
        };
        board.detect("maturion.partials", 0, progress(88, 88, Some(noon)), &[report]);
        board.open(0, vec![incident(noon)]);
        let phases = [("firing".to_owned(), 2), ("rolled_back".to_owned(), 1), ("resolved".to_owned(), 7)].into();
        let other = StatusBoard::new("").of("east-2");
        other.detect("maturion.partials", 1, progress(70, 88, Some(noon - 90_000_000)), &[report]);
        let dead_letters = [("not_an_object", 2)].into();
        other.remediation(Some(Remediation { mode: "act".to_owned(), is_stopped: true, phases }));
        other.committed("intake", Duration::ZERO, &Work { dead_letters, ..Work::default() });
        let bulletin = other.bulletin();
        let wall_us = bulletin.wall_us - 61_000_000;
        board.heard(Bulletin { wall_us, ..bulletin });
        let mut status = board.snapshot();
        status.version = "0.0.0".to_owned();
        let text = render(&status);
        assert_eq!(text, include_str!("table/working.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    fn incident(since_us: Micros) -> OpenIncident {
        OpenIncident {
            incident_id: "0f".repeat(16),
            pipeline: "api_errors".to_owned(),
            rule: "error_rate".to_owned(),
            series: "org_1 threat".to_owned(),
            severity: Severity::High,
            since_us,
        }
    }

    #[test]
    fn an_age_is_told_in_one_unit() {
        let ages = [999, 119_999, 120_000, 7_199_000, 7_200_000, 200_000_000].map(age);
        assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "2d"]);
    }

    #[test]
    fn a_day_is_told_where_it_differs() {
        let noon = 1_780_315_200_000_000;
        assert_eq!(beside(Some(noon), Some(noon + 60 * SECOND)), "12:00:00");
        assert_eq!(beside(Some(noon), Some(noon + DAY)), "2026-06-01T12:00:00Z");
        assert_eq!(beside(None, Some(noon)), "-");
    }

    #[test]
    fn a_tenant_cannot_speak_to_the_terminal() {
        let board = StatusBoard::new("");
        board.detect("maturion.partials", 0, progress(0, 0, None), &[]);
        board.open(0, vec![OpenIncident { series: "\u{1b}[2J\nrow".to_owned(), ..incident(0) }]);
        let text = render(&board.snapshot());
        assert!(text.ends_with("\u{fffd}[2J\u{fffd}row\n"), "{text}");
    }

    #[test]
    fn an_idle_instance_has_no_empty_tables() {
        let mut status = StatusBoard::new("kafka at localhost:9092").snapshot();
        status.version = "0.0.0".to_owned();
        assert_eq!(
            render(&status),
            "maturion 0.0.0: starting\nlog: kafka at localhost:9092\n  ! no role has started yet\n"
        );
    }
}
