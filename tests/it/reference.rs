//! Names that users build upon, in `docs/reference.md` and in the code: the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use maturion::events;
use maturion::serve::metrics::Work;
use maturion::serve::status::{PipelineReport, Progress, Remediation, RoleState, StatusBoard};

/// The cells of every row of the table below a heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md")).unwrap();
    let section = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}")).1;
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// `a`, `b` as a and b.
fn names(cell: &str) -> Vec<String> {
    cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_event_is_documented_as_it_is() {
    let documented: Vec<(String, String, Vec<String>)> =
        table("### Log events").iter().map(|row| (names(&row[0]).remove(0), row[1].clone(), names(&row[2]))).collect();
    let logged: Vec<(String, String, Vec<String>)> = events::ALL
        .iter()
        .map(|event| {
            let fields = event.fields.iter().map(|field| (*field).to_owned()).collect();
            (event.name.to_owned(), event.level.to_owned(), fields)
        })
        .collect();
    assert_eq!(documented, logged);
}

/// A board on which everything was said.
fn board() -> StatusBoard {
    let board = StatusBoard::new("a test's log").of("a");
    let progress = Progress { position: 1, end_offset: 2, watermark: Some(3) };
    board.role("intake", RoleState::Running);
    board.intake("telemetry.logs", 0, progress);
    let report = PipelineReport {
        pipeline: "errors",
        oldest_open: Some(1),
        closed_through: Some(1),
        watermark: Some(1),
        ..PipelineReport::default()
    };
    board.detect("maturion.partials", 0, progress, &[report]);
    board.metrics().stored("logs", 1, Duration::from_secs(1));
    let work = Work {
        read: [("telemetry.logs".to_owned(), 7)].into(),
        decoded: [("telemetry.logs".to_owned(), 5)].into(),
        dead_letters: [("empty", 2)].into(),
        partial_messages: 1,
        partial_bytes: 100,
        detections: [(("errors".to_owned(), "rate".to_owned(), "opened"), 1)].into(),
    };
    board.committed("intake", Duration::from_millis(3), &work);
    board.metrics().aborted("detect");
    board.metrics().restored(Duration::from_millis(3));
    board.metrics().restarted("intake");
    board.metrics().audited(&["intent", "intent"]);
    let phases = [("firing".to_owned(), 3)].into();
    board.remediation(Some(Remediation { mode: "act".to_owned(), is_stopped: false, phases }));
    board
}

/// Each family that is served: its type and its labels.
fn served(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        families.insert(format!("{name}{suffix}"), (kind.to_owned(), BTreeSet::new()));
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let family = parts.filter(|family| families.contains_key(*family)).unwrap_or(name);
        let (_, labels) = families.get_mut(family).unwrap_or_else(|| panic!("{line}"));
        let written = if line.contains('{') { rest.rsplit_once('}').unwrap().0 } else { "" };
        let written = written.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        labels.extend(written.filter(|label| label != "le"));
    }
    families
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let text = board().exposition();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let documented: BTreeMap<String, (String, BTreeSet<String>)> = table("### Metrics")
        .iter()
        .map(|row| (names(&row[0]).remove(0), (row[1].clone(), names(&row[2]).into_iter().collect())))
        .collect();
    assert_eq!(documented, served(&text));
    assert!(served(&text).keys().all(|name| name.starts_with("maturion_")), "{text}");
}

#[test]
fn the_metrics_hold_what_was_committed() {
    let board = board();
    board.committed("intake", Duration::from_secs(3), &Work { partial_bytes: 11, ..Work::default() });
    let text = board.exposition();
    for line in [
        "maturion_records_read_total{topic=\"telemetry.logs\"} 7",
        "maturion_rows_decoded_total{topic=\"telemetry.logs\"} 5",
        "maturion_dead_letters_total{reason=\"empty\"} 2",
        "maturion_partial_bytes_total{role=\"intake\"} 111",
        "maturion_transactions_total{role=\"intake\",outcome=\"committed\"} 2",
        "maturion_transactions_total{role=\"detect\",outcome=\"aborted\"} 1",
        "maturion_transaction_duration_seconds_bucket{le=\"0.005\",role=\"intake\"} 1",
        "maturion_detections_total{pipeline=\"errors\",rule=\"rate\",change=\"opened\"} 1",
        "maturion_lag_records{stage=\"intake\",topic=\"telemetry.logs\",partition=\"0\"} 1.0",
        "maturion_role_state{role=\"intake\",state=\"running\"} 1.0",
        "maturion_role_state{role=\"intake\",state=\"failed\"} 0.0",
        "maturion_audit_entries_total{kind=\"intent\"} 2",
        "maturion_incidents{phase=\"firing\"} 3.0",
        "maturion_worker_restarts_total{role=\"intake\"} 1",
    ] {
        assert!(text.lines().any(|served| served == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_process_speaks_of_the_partitions_it_owns() {
    let (board, other) = (board(), StatusBoard::new("").of("b"));
    other.intake("telemetry.logs", 1, Progress::default());
    board.heard(other.bulletin());
    assert_eq!(board.snapshot().partitions.len(), 3);
    assert!(!board.exposition().contains("partition=\"1\""), "a sum over processes would count it twice");
    board.released(maturion::serve::status::Stage::Intake, "telemetry.logs", 0);
    assert!(!board.exposition().contains("stage=\"intake\""), "what is given up is not told of for ever");
}
