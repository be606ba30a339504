//! The plan's deadlines, one test per row: from the onset to the remediation topic, through the shipped pipelines.
//!
//! Time is simulated in steps of a quarter of a second, which is also how often stage one commits by default; the
//! moment a detection is out is the step that wrote it.

use maturion::model::detection::{Change, Detection};
use maturion::model::pipeline::{Micros, Severity};
use serde_json::json;

use crate::flow::shipped;
use crate::straight::Straight;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
/// 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000_000_000;
const STEP: Micros = SECOND / 4;
/// Healthy traffic before the onset.
const CALM: Micros = 3 * MINUTE;

/// What goes wrong at the onset.
#[derive(Clone, Copy)]
enum Fault {
    UnhandledException,
    /// This share of requests fails, in a thousand.
    Errors(u64),
    /// Every request takes this long.
    Latency(f64),
}

/// The requests of one step: eight of each of six organisations, and of a large one so many that a single one of the
/// others is less than a twentieth of the module. `ill` says how they end.
fn requests(step: u64, now: Micros, ill: &dyn Fn(&str) -> Option<Fault>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for (organisation, count) in
        [("org_1", 8), ("org_2", 8), ("org_3", 8), ("org_4", 8), ("org_5", 8), ("org_6", 8), ("org_large", 140)]
    {
        for nth in 0..count {
            let number = step * count + nth;
            let time = now - STEP + nth as i64 * (STEP / count as i64);
            let (mut status, mut duration_ms, mut end) = (200, 80.0 + (number % 40) as f64, String::new());
            match ill(organisation) {
                Some(Fault::Errors(share)) if number % 1_000 < share => status = 500,
                Some(Fault::Latency(milliseconds)) => duration_ms = milliseconds,
                Some(Fault::UnhandledException) if nth == 0 => {
                    end = r#","level":"ERROR","exception_type":"QueryTimeout","handled":false"#.to_owned();
                }
                _ => {}
            }
            let record = format!(
                r#"{{"timestamp":{time},"organisation_id":"{organisation}","module":"threat-analysis","source":"edge","event":"http_request","route":"/threats","method":"GET","status_code":{status},"duration_ms":{duration_ms}{end}}}"#
            );
            records.push(record.into_bytes());
        }
    }
    records
}

/// The first detection of at least this severity, and how long after the onset it was out.
fn first(
    fault: Fault,
    is_wide: bool,
    severity: Severity,
    phase: Micros,
    within: Micros,
) -> Option<(Micros, Detection)> {
    let mut straight = Straight::new(shipped());
    let onset = START + CALM + phase;
    let end = onset + within + MINUTE;
    let mut step = 0;
    let mut now = START;
    while now < end {
        now += STEP;
        step += 1;
        let is_on = now > onset;
        let ill = |organisation: &str| (is_on && (is_wide || organisation == "org_1")).then_some(fault);
        let out = straight.step(now, &requests(step, now, &ill), &[]);
        for detection in out.detections {
            assert!(is_on, "nothing may fire while all is well: {detection:?}");
            if detection.change != Change::Resolved && detection.severity >= severity {
                return Some((now - onset, detection));
            }
        }
    }
    None
}

/// One detection in time for a whole module, and for one organisation among healthy ones; the onset at every quarter
/// of a window.
fn check(fault: Fault, severity: Severity, within: Micros) {
    for is_wide in [true, false] {
        for quarter in if is_wide { vec![0, 1, 2, 3] } else { vec![0, 2] } {
            let found = first(fault, is_wide, severity, quarter * MINUTE / 4 + SECOND, within);
            let (after, detection) = found.unwrap_or_else(|| panic!("nothing within the deadline, wide: {is_wide}"));
            assert!(after <= within, "{} s after the onset, wide: {is_wide}: {detection:?}", after / SECOND);
            // An exception that nobody has seen is the module's, whoever meets it first.
            let is_of_module = is_wide || matches!(fault, Fault::UnhandledException);
            let organisation = detection.organisation_id.as_deref();
            assert_eq!(organisation, (!is_of_module).then_some("org_1"), "{detection:?}");
        }
    }
}

/// "Immediate" for what can be seen in a window that is still open: commits, and for one organisation the second that
/// the wider verdict is waited for.
const AT_ONCE: Micros = 2 * SECOND;

#[test]
fn an_unhandled_exception_is_critical_at_once() {
    check(Fault::UnhandledException, Severity::Critical, AT_ONCE);
}

#[test]
fn an_error_rate_over_one_percent_is_high_within_five_minutes() {
    check(Fault::Errors(30), Severity::High, 5 * MINUTE);
}

#[test]
fn an_error_rate_over_a_tenth_of_a_percent_is_medium_within_fifteen_minutes() {
    check(Fault::Errors(6), Severity::Medium, 15 * MINUTE);
}

#[test]
fn a_p95_over_five_seconds_is_critical_at_once() {
    // The percentile itself needs a window's worth of slow requests to pass the limit: 5 % of those already in it.
    check(Fault::Latency(6_000.0), Severity::Critical, 10 * SECOND);
}

#[test]
fn a_p95_over_two_seconds_is_high_within_ten_minutes() {
    check(Fault::Latency(2_500.0), Severity::High, 10 * MINUTE);
}

#[test]
fn a_p95_over_one_second_is_medium_within_thirty_minutes() {
    check(Fault::Latency(1_200.0), Severity::Medium, 30 * MINUTE);
}

#[test]
fn isolated_errors_are_on_the_windows_and_alert_nobody() {
    let mut straight = Straight::new(shipped());
    let mut windows = Vec::new();
    for step in 1..=(5 * MINUTE / STEP) as u64 {
        let now = START + step as i64 * STEP;
        let mut records = requests(step, now, &|_| None);
        if step == 100 {
            let error = json!({ "timestamp": now, "organisation_id": "org_1", "module": "exports", "level": "ERROR", "event": "export" });
            records.push(serde_json::to_vec(&error).expect("JSON"));
        }
        let out = straight.step(now, &records, &[]);
        assert!(out.detections.is_empty(), "{:?}", out.detections);
        windows.extend(out.windows);
    }
    let isolated = windows.iter().filter(|line| line.contains("\"pipeline\":\"isolated_errors\"")).collect::<Vec<_>>();
    assert_eq!(isolated.len(), 1, "{isolated:?}");
    assert!(isolated[0].contains("\"errors\":1"), "{isolated:?}");
}
