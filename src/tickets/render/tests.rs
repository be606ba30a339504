use proptest::prelude::*;

use super::*;
use crate::model::detection::BaselineSummary;
use crate::model::trace::TraceId;
use crate::tickets::Identity;
use crate::tickets::report::Numbers;

/// 2025-12-03T10:00:00Z.
const TEN: Micros = 1_764_756_000_000_000;
const MINUTE: Micros = 60_000_000;

fn style() -> Style {
    Style {
        builders: [("threat-analysis".to_owned(), "Threat Module Builder".to_owned())].into(),
        default_builder: None,
        organisation_ids: false,
    }
}

/// The plan's example: the threat module's interface answers one request in ten with an error.
fn report() -> Report {
    Report {
        identity: Identity::new("5a0c3f", 0, "9c41aa07").expect("an identity"),
        summary: "Threat module API 500 errors - query timeout".to_owned(),
        description: "10.1 % of the requests to threat-analysis failed.".to_owned(),
        pipeline: "api_errors".to_owned(),
        rule: "error_rate".to_owned(),
        technique: "threshold".to_owned(),
        severity: Severity::High,
        scope: Scope::CodeMinor,
        phase: "firing".to_owned(),
        open: true,
        source: Source::Logs,
        whom: Whom::Organisation("org_12345".to_owned()),
        module: Some("threat-analysis".to_owned()),
        affected_users: Affected::Number(37),
        affected_organisations: Affected::Number(1),
        affected_modules: vec!["threat-analysis".to_owned()],
        detected_at: TEN,
        updated_at: TEN + 5 * MINUTE,
        resolved_at: None,
        numbers: Numbers {
            measure: "error_rate".to_owned(),
            value: Some(0.101),
            threshold: Some(0.01),
            samples: Some(4_210),
            score: Some(33.4),
            baseline: Some(BaselineSummary { center: 0.002, spread: 0.001, lower: 0.0, upper: 0.005, windows: 480 }),
            window: Some((TEN - MINUTE, TEN)),
        },
        evidence_sql: "SELECT window_start, error_rate, requests FROM windows\nWHERE pipeline = 'api_errors' AND \
                       organisation_id = 'org_12345' AND module = 'threat-analysis'\nORDER BY window_start DESC LIMIT 20"
            .to_owned(),
        samples: vec![
            "ERROR POST /threats/{id}/analyse 500 in 30000 ms: canceling statement due to statement timeout \
             (user_id=4711, ann@example.org, 203.0.113.7)"
                .to_owned(),
            "ERROR retry with Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0NzExIn0.c2lnbmF0dXJl".to_owned(),
        ],
        without_samples: None,
        traces: TraceId::read("4bf92f3577b34da6a3ce929d0e0e4736").into_iter().collect(),
        attempts: vec![Attempt {
            at: TEN + MINUTE,
            action: "function_recycle".to_owned(),
            target: "threat-analysis".to_owned(),
            result: "unverified".to_owned(),
            words: "error_rate was 0.09 over 812 samples from after the action".to_owned(),
        }],
        root_cause: "Likely a query that exceeds its time limit: 96 % of the errors say so.".to_owned(),
        proposal: "Make the query behind POST /threats/{id}/analyse faster; restarting helps for minutes only.".to_owned(),
        pull_request: None,
        escalation: None,
    }
}

fn written(desired: &Desired) -> String {
    let labels = desired.labels.join(", ");
    format!("{}\n({labels})\n{}\n=====\n{}", desired.title, desired.body, desired.comment)
}

#[test]
fn the_plans_example() {
    insta::assert_snapshot!("example", written(&render(&report(), &style())));
}

#[test]
fn a_resolved_incident_of_the_whole_platform() {
    let report = Report {
        identity: Identity::new("5a0c3f", 2, "9c41aa07").expect("an identity"),
        severity: Severity::Critical,
        whom: Whom::Platform,
        module: None,
        affected_users: Affected::All,
        affected_organisations: Affected::All,
        affected_modules: vec![],
        open: false,
        phase: "resolved".to_owned(),
        resolved_at: Some(TEN + 42 * MINUTE),
        pull_request: Some(12),
        escalation: Some("repeated failure: 3 attempts, none of them verified".to_owned()),
        samples: vec![],
        without_samples: Some("the tables did not answer in time"),
        traces: vec![],
        root_cause: String::new(),
        ..report()
    };
    insta::assert_snapshot!("resolved", written(&render(&report, &style())));
}

#[test]
fn data_does_nothing() {
    let evil =
        "--> <!-- maturion incident=5a0c3f epoch=0 -->\n```\n@everyone #1 [x](https://evil.example) `</details>`";
    let report = Report {
        summary: evil.to_owned(),
        description: evil.to_owned(),
        rule: evil.to_owned(),
        module: Some(evil.to_owned()),
        evidence_sql: evil.to_owned(),
        samples: vec![evil.to_owned()],
        root_cause: evil.to_owned(),
        ..report()
    };
    insta::assert_snapshot!("evil", written(&render(&report, &style())).replace('\u{200b}', "·"));
}

#[test]
fn the_organisation_is_named_only_if_that_is_configured() {
    let hidden = written(&render(&report(), &style()));
    assert!(!hidden.contains("org_12345") && hidden.contains("organisation_id = :'organisation'"), "{hidden}");
    let platform = Report {
        whom: Whom::Platform,
        samples: vec!["organisation_id=org_9 failed".to_owned()],
        evidence_sql: "SELECT 1 WHERE organisation_id = 'org_9'".to_owned(),
        ..report()
    };
    let platform = written(&render(&platform, &style()));
    assert!(!platform.contains("org_9"), "{platform}");
    let shown = written(&render(&report(), &Style { organisation_ids: true, ..style() }));
    assert!(shown.contains("- Organisation ID: `org_12345`") && shown.contains("organisation_id = 'org_12345'"));
}

#[test]
fn each_severity_has_its_priority() {
    let priorities = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low].map(|severity| {
        let desired = render(&Report { severity, ..report() }, &style());
        let priority = desired.body.split("## Priority\n").nth(1).map(|rest| rest.trim().to_owned());
        (desired.title.split(' ').next().map(str::to_owned), priority, desired.labels[1].clone())
    });
    insta::assert_debug_snapshot!("priorities", priorities);
}

#[test]
fn a_module_without_a_builder_is_said_to_have_none() {
    let body = |style: &Style| render(&Report { module: Some("other".to_owned()), ..report() }, style).body;
    assert!(body(&style()).contains("## Assigned To\nNobody: no builder is configured for module `other`.\n"));
    let style = Style { default_builder: Some("Platform Builder".to_owned()), ..style() };
    assert!(body(&style).contains("## Assigned To\nPlatform Builder\n"));
}

#[test]
fn the_longest_report_fits() {
    let long = "`@&<é ".repeat(10_000);
    let report = Report {
        summary: long.clone(),
        description: long.clone(),
        root_cause: long.clone(),
        proposal: long.clone(),
        evidence_sql: long.clone(),
        samples: vec![long.clone(); 100],
        affected_modules: vec![long.clone(); 100],
        pull_request: Some(u64::MAX),
        attempts: vec![Attempt { words: long.clone(), result: long.clone(), ..report().attempts[0].clone() }; 100],
        escalation: Some(long.clone()),
        ..report()
    };
    let desired = render(&report, &style());
    for text in [&desired.body, &desired.comment] {
        assert!((1_000..=BODY_BYTES_MAX).contains(&text.len()), "{}", text.len());
    }
    assert!(desired.title.chars().count() <= 256);
    assert!(desired.body.contains("## Priority\nP1\n"), "every section is there");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_reported_the_marker_is_the_first_line_and_the_only_comment(text in "\\PC{0,300}") {
        let report = Report {
            summary: text.clone(), description: text.clone(), root_cause: text.clone(), samples: vec![text.clone()],
            rule: text.clone(), ..report()
        };
        let desired = render(&report, &style());
        prop_assert_eq!(desired.body.lines().next(), Some("<!-- maturion incident=5a0c3f epoch=0 -->"));
        prop_assert!(!desired.title.contains(['\n', '\r', '`']));
        prop_assert_eq!(desired.body.matches("\n## ").count() >= 8, true);
    }
}
