//! `maturion status` as text: pure, one column per fact, readable in 120 characters.
//!
//! Series and reasons hold what producers wrote, so no control character reaches the terminal.

use std::fmt::Write;

use super::status::{OpenIncident, PartitionStatus, PipelineStatus, Status};
use crate::model::detection::format_time;
use crate::model::pipeline::{Micros, Severity};

/// The whole status. Sections without content are left out.
pub fn render(status: &Status) -> String {
    let mut text = format!("maturion {}: {}\nlog: {}\n", status.version, status.health, status.log);
    for problem in &status.problems {
        // Writing to a string cannot fail; the results are dropped for that reason, here and below.
        let _ = writeln!(text, "  ! {problem}");
    }
    table(&mut text, &["STAGE", "TOPIC", "PARTITION", "POSITION", "END", "LAG", "WATERMARK"], &partition_rows(status));
    table(&mut text, &["PIPELINE", "OPEN WINDOWS", "OPEN DETECTIONS", "LATE ROWS"], &pipeline_rows(status));
    table(&mut text, &["DEAD LETTERS", "RECORDS"], &dead_letter_rows(status));
    table(&mut text, &["OPEN INCIDENT", "SEVERITY", "SINCE", "RULE", "SERIES"], &incident_rows(status));
    text
}

fn partition_rows(status: &Status) -> Vec<Vec<String>> {
    let row = |partition: &PartitionStatus| {
        vec![
            partition.stage.to_string(),
            partition.topic.clone(),
            partition.partition.to_string(),
            partition.position.to_string(),
            partition.end_offset.to_string(),
            partition.lag.to_string(),
            time(partition.watermark_us),
        ]
    };
    status.partitions.iter().map(row).collect()
}

fn pipeline_rows(status: &Status) -> Vec<Vec<String>> {
    let row = |pipeline: &PipelineStatus| {
        vec![
            pipeline.pipeline.clone(),
            pipeline.open_windows.to_string(),
            pipeline.open_detections.to_string(),
            pipeline.late_rows.to_string(),
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
            incident.incident_id.clone(),
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

fn time(time: Option<Micros>) -> String {
    time.map_or_else(|| "-".to_owned(), format_time)
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
    use super::super::status::{PipelineReport, Progress, RoleState, StatusBoard};
    use super::*;

    fn progress(position: i64, end_offset: i64, watermark: Option<Micros>) -> Progress {
        Progress { position, end_offset, watermark }
    }

    #[test]
    fn a_working_instance_reads_well() {
        let board = StatusBoard::new("embedded (in process, not for production)");
        board.role("intake", RoleState::Running);
        board.role("detect", RoleState::Failed("another instance took over".into()));
        let noon = 1_780_315_200_000_000;
        board.intake("telemetry.logs", 0, progress(1200, 1234, Some(noon + 1_500_000)));
        board.intake("telemetry.logs", 1, progress(0, 0, None));
        let report = PipelineReport { pipeline: "api_errors", late_rows: 3, open_windows: 12, open_detections: 1 };
        board.detect("maturion.partials", 0, progress(88, 88, Some(noon)), &[report]);
        board.dead_letters("not a JSON object", 2);
        board.open(0, vec![incident(noon)]);
        let mut status = board.snapshot();
        status.version = "0.0.0".to_owned();
        assert_eq!(render(&status), include_str!("table/working.txt"));
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
    fn a_tenant_cannot_speak_to_the_terminal() {
        let board = StatusBoard::new("");
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
