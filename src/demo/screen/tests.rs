use super::super::scorecard::{News, Scorecard};
use super::*;
use crate::log::Record;
use crate::simulate::{MINUTE, SECOND, script};

/// 2025-12-03T12:00:00Z
const START: Micros = 1_764_763_200 * SECOND;

/// A message about the threat module, `minutes` after the start.
fn sighting(kind: &str, id: &str, rule: (&str, &str), module: &str, severity: &str, minutes: i64) -> Sighting {
    let (pipeline, rule) = rule;
    let (from, to) = (START + (minutes - 1) * MINUTE, START + minutes * MINUTE);
    let body = serde_json::json!({
        "detection_id": id, "pipeline": pipeline, "rule": rule, "organisation_id": null, "module": module,
        "series": {"organisation_id": null, "module": module}, "window_start": format_time(from),
        "window_end": format_time(to), "complete": true, "measure": "error_rate", "value": 0.1012, "samples": 4210,
        "threshold": 0.01, "severity": severity
    });
    let (kind, value) = (format!("maturion.detection.{kind}.v1"), body.to_string());
    let headers = vec![("ce_id", b"1".as_slice()), ("ce_type", kind.as_bytes())];
    let record = Record {
        topic: "maturion.remediation",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: None,
        value: Some(value.as_bytes()),
        headers,
    };
    Sighting::read(&record).unwrap()
}

const MODULE_ERRORS: (&str, &str) = ("module_api_errors", "error_rate");

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn played() -> Scorecard {
    let mut card = Scorecard::new(&script(START));
    card.inject(0, seconds(10.0));
    card.inject(1, seconds(14.0));
    let exception = ("module_exceptions", "unhandled_exception");
    card.note(&sighting("opened", "a", exception, "threat-analysis", "critical", 1), seconds(10.6));
    card.note(&sighting("opened", "b", MODULE_ERRORS, "threat-analysis", "high", 2), seconds(11.4));
    card.note(&sighting("opened", "c", ("api_latency", "slow"), "auth", "medium", 2), seconds(11.5));
    card.note(&sighting("resolved", "b", MODULE_ERRORS, "threat-analysis", "high", 15), seconds(25.0));
    card
}

#[test]
fn a_detection_belongs_to_the_incident_of_its_place_and_time() {
    let mut card = Scorecard::new(&script(START));
    let early = sighting("opened", "a", MODULE_ERRORS, "threat-analysis", "high", 2);
    assert_eq!(card.note(&early, seconds(1.0)), News::Detected(None, None));
    card.inject(0, seconds(10.0));
    assert_eq!(card.note(&early, seconds(12.0)), News::Detected(Some(0), Some(seconds(2.0))));
    let elsewhere = sighting("opened", "b", MODULE_ERRORS, "auth", "high", 2);
    assert_eq!(card.note(&elsewhere, seconds(12.0)), News::Detected(None, None));
    let long_after = sighting("opened", "c", MODULE_ERRORS, "threat-analysis", "high", 30);
    assert_eq!(card.note(&long_after, seconds(12.0)), News::Detected(None, None));
}

#[test]
fn only_a_rising_severity_is_news_among_updates() {
    let mut card = played();
    let update = |severity| sighting("updated", "a", MODULE_ERRORS, "threat-analysis", severity, 3);
    assert_eq!(card.note(&update("critical"), seconds(12.0)), News::Nothing);
    let mut card = Scorecard::new(&[]);
    card.note(&sighting("opened", "a", MODULE_ERRORS, "auth", "medium", 3), seconds(1.0));
    assert_eq!(card.note(&update("high"), seconds(12.0)), News::Worse);
    assert_eq!(card.note(&update("high"), seconds(12.0)), News::Nothing);
}

#[test]
fn a_rule_that_should_have_fired_is_missed() {
    let card = played();
    assert_eq!(card.cases[0].missed().count(), 0);
    assert_eq!(card.cases[1].missed().count(), 1);
    assert!(!card.is_complete());
}

#[test]
fn the_summary_tells_each_incident() {
    insta::assert_snapshot!("summary", Style::default().summary(&played(), 60.0));
}

#[test]
fn the_first_message_is_shown_as_it_is_on_the_topic() {
    let card = played();
    insta::assert_snapshot!("message", Style::default().message("maturion.remediation", card.first.as_ref().unwrap()));
}

#[test]
fn lines_tell_what_when_and_how_bad() {
    let style = Style::default();
    let body = sighting("opened", "b", MODULE_ERRORS, "threat-analysis", "high", 2).body;
    let tag = Tag::Detected(body.severity);
    let text = [
        style.fact("log", "embedded (in process, not for production)"),
        style.line(
            seconds(2.04),
            START,
            Tag::Injected,
            "threat_errors: the threat module answers 500 to 10 % of requests",
        ),
        style.line(
            seconds(3.4),
            START + 90 * SECOND,
            tag,
            &format!("{}, {}", describe(&body), delay(seconds(1.4), 60.0)),
        ),
        style.line(seconds(133.0), START + 15 * MINUTE, Tag::Resolved, &describe(&body)),
    ];
    insta::assert_snapshot!("lines", text.concat());
}

#[test]
fn a_small_terminal_gets_short_lines_and_colour() {
    let style = Style { colour: true, width: Some(64) };
    let body = sighting("opened", "b", MODULE_ERRORS, "threat-analysis", "high", 2).body;
    let text = style.line(seconds(3.4), START, Tag::Detected(body.severity), &describe(&body));
    insta::assert_snapshot!("small_terminal", text.replace('\x1b', "ESC"));
    let plain = Style { colour: false, width: Some(64) }.line(seconds(3.4), START, Tag::Resolved, &describe(&body));
    assert!(plain.lines().all(|line| line.chars().count() <= 64), "{plain}");
}

#[test]
fn values_are_told_in_their_units() {
    let told = |measure, value| quantity(measure, value);
    assert_eq!(told("error_rate", 0.1012), "10.12 %");
    assert_eq!(told("memory_percent", 95.24), "95.2 %");
    assert_eq!(told("shared_p95", 10_400.0), "10.40 s");
    assert_eq!(told("occurrences", 3.0), "3");
}
