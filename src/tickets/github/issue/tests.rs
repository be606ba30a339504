use serde_json::json;

use super::*;

const NOW: Micros = 1_764_756_000_000_000;

fn issue(state: &str, labels: &[&str], closed_at: Option<&str>) -> Issue {
    let labels: Vec<_> = labels.iter().map(|name| json!({ "name": name })).collect();
    serde_json::from_value(json!({
        "number": 7, "title": "a", "body": "<!-- m -->\r\nb\r\n", "state": state, "labels": labels, "closed_at": closed_at,
    }))
    .expect("an issue")
}

fn desired(open: bool) -> Desired {
    Desired {
        title: "a".to_owned(),
        body: "<!-- m -->\nb\n".to_owned(),
        comment: String::new(),
        labels: vec!["maturion".to_owned(), "severity:high".to_owned()],
        open,
    }
}

fn done(issue: &Issue, open: bool) -> Done {
    decide(issue, &desired(open), NOW).done
}

#[test]
fn an_issue_that_is_as_it_should_be_is_left_alone() {
    let decision = decide(&issue("open", &["maturion", "severity:high", "mine"], None), &desired(true), NOW);
    assert_eq!(decision, Decision { patch: Patch::default(), done: Done::Unchanged });
}

#[test]
fn labels_of_others_are_kept_and_a_former_severity_is_not() {
    let issue = issue("open", &["mine", "maturion", "severity:low"], None);
    let decision = decide(&issue, &desired(true), NOW);
    let labels = decision.patch.labels.unwrap_or_default();
    assert_eq!((labels.join(" "), decision.done), ("maturion severity:high mine".to_owned(), Done::Updated));
}

#[test]
fn closed_is_opened_within_seven_days_unless_nobody_wants_to_fix_it() {
    let ours = ["maturion", "severity:high"];
    assert_eq!(done(&issue("closed", &ours, Some("2025-11-26T10:00:00Z")), true), Done::Reopened);
    assert_eq!(done(&issue("closed", &ours, Some("2025-11-26T09:59:59Z")), true), Done::LeftClosed);
    let wontfix = issue("closed", &["maturion", "severity:high", "Wontfix"], Some("2025-12-03T09:00:00Z"));
    assert_eq!(decide(&wontfix, &desired(true), NOW), Decision { patch: Patch::default(), done: Done::LeftClosed });
}

#[test]
fn open_is_closed_unless_somebody_wants_it_open() {
    assert_eq!(done(&issue("open", &["maturion", "severity:high"], None), false), Done::Closed);
    assert_eq!(done(&issue("open", &["maturion", "severity:high", "no-auto-close"], None), false), Done::KeptOpen);
    assert_eq!(done(&issue("closed", &["maturion", "severity:high"], None), false), Done::Unchanged);
}

#[test]
fn the_marker_counts_in_the_first_line_only() {
    let mut issue = issue("open", &[], None);
    assert!(issue.has_marker("<!-- m -->"));
    issue.body = Some("quoted\n<!-- m -->\n".to_owned());
    assert!(!issue.has_marker("<!-- m -->"));
    issue.body = None;
    assert!(!issue.has_marker("<!-- m -->"));
}

#[test]
fn an_issue_whose_body_was_written_over_is_known_by_its_number_and_label() {
    let identity = Identity::new("5a0c", 1, "9c41").expect("an identity");
    let mut issue = issue("open", &["maturion:9c41"], None);
    issue.body = Some("mine".to_owned());
    assert!(issue.is_of(&identity));
    issue.body = Some("<!-- maturion incident=5a0c epoch=0 -->".to_owned());
    assert!(!issue.is_of(&identity), "another epoch has the same label");
}
