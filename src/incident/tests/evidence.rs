//! What the rest of the platform says about an incident: other organisations, the source of its telemetry, other actions.

use super::story::{MINUTE, OPENED, RESOLVED, Story, UPDATED, closed_window};
use crate::incident::book::outputs::{FactKind, NewsKind};
use crate::incident::{Incident, Phase};
use crate::model::action::Mode;
use crate::model::pipeline::{AGENT_MODULE, Severity};

fn organisation(number: usize) -> String {
    format!("org_{number}")
}

/// So many organisations are known, and so many of them have the same at once.
fn spread(known: usize, affected: usize) -> Story {
    let mut story = Story::new(Mode::Observe);
    for number in 0..known {
        story.window_of("tenant_errors", "threat-analysis", Some(&organisation(number)), 0.0);
    }
    (0..affected).for_each(|number| story.say_of(&organisation(number), OPENED, "medium"));
    story
}

fn severity_of(story: &Story, number: usize) -> Severity {
    story.of("tenant_errors", Some(&organisation(number))).unwrap().severity
}

#[test]
fn what_half_of_the_organisations_have_is_worse_than_the_rule_says() {
    let mut story = spread(6, 3);
    assert_eq!((severity_of(&story, 0), severity_of(&story, 2)), (Severity::Medium, Severity::High));
    assert_eq!(story.of("tenant_errors", Some("org_2")).unwrap().rule_severity, Severity::Medium);
    // The first hears of it with its next message, and has to be answered as soon as what is high.
    story.say_of("org_0", UPDATED, "medium");
    let first = story.of("tenant_errors", Some("org_0")).unwrap();
    assert_eq!((first.severity, first.respond_by), (Severity::High, Some(story.now + 15 * MINUTE)));
    let news = story.book.take_outputs().news;
    assert_eq!(news.last().unwrap().kind, NewsKind::Changed);
}

#[test]
fn what_fewer_have_is_as_the_rule_says() {
    assert_eq!(severity_of(&spread(7, 3), 2), Severity::Medium, "three of seven are fewer than half");
    assert_eq!(severity_of(&spread(2, 2), 1), Severity::Medium, "two organisations are no sign of the platform");
}

#[test]
fn what_others_had_and_have_no_more_does_not_count() {
    let mut story = spread(6, 2);
    story.say_of("org_0", RESOLVED, "medium");
    story.say_of("org_2", OPENED, "medium");
    assert_eq!(severity_of(&story, 2), Severity::Medium);
}

fn silence(story: &Story) -> Option<&Incident> {
    story.of("sources", None)
}

#[test]
fn a_silent_source_is_one_incident_and_nothing_is_done_until_it_is_back() {
    let mut story = Story::new(Mode::Act);
    story.window(0.0);
    story.pass(10 * MINUTE);
    assert_eq!(silence(&story), None, "ten minutes are not longer than ten minutes");
    (0..3).for_each(|_| story.pass(MINUTE));
    let deadman = silence(&story).unwrap();
    assert_eq!((deadman.severity, deadman.phase, deadman.update), (Severity::High, Phase::Firing, 0));
    assert_eq!(story.book.take_outputs().news.len(), 1);
    // What would be acted upon is not: nobody would see whether it helped.
    story.say(OPENED, "high", 0.1, true);
    assert_eq!(story.calls(), []);
    let facts = story.book.take_outputs().facts;
    assert!(facts[0].reasons[0].contains("the deadman: no window of logs has closed since"), "{:?}", facts[0].reasons);
    // It is back: the incident of the silence recovers, and the other one is acted upon.
    story.window(0.1);
    assert_eq!(silence(&story).unwrap().phase, Phase::Recovering);
    story.pass(MINUTE);
    assert_eq!(story.incident().phase, Phase::Acting);
    // It stayed: a minute later there is no other incident of it, and later it is over.
    for _ in 0..12 {
        story.window(0.0);
        story.pass(MINUTE);
    }
    assert_eq!(silence(&story).unwrap().phase, Phase::Resolved);
}

#[test]
fn what_the_agent_says_of_itself_and_windows_of_the_past_are_no_sign_of_life() {
    let mut story = Story::new(Mode::Act);
    story.window(0.0);
    for _ in 0..12 {
        story.pass(MINUTE);
        story.window_of("errors", AGENT_MODULE, None, 0.0);
    }
    assert!(silence(&story).is_some_and(|incident| incident.is_firing));
    // A replay of what is long over neither ends a silence nor begins one.
    let mut replay = Story::new(Mode::Act);
    let past = replay.now - 60 * MINUTE;
    replay.book.window(&closed_window("errors", "threat-analysis", None, past, 0.0), replay.now);
    replay.pass(30 * MINUTE);
    assert_eq!(silence(&replay), None);
}

#[test]
fn a_restart_neither_forgets_a_silence_nor_ends_it() {
    let mut story = Story::new(Mode::Act);
    story.window(0.0);
    let last = story.now;
    story.pass(11 * MINUTE);
    let written = serde_json::to_string(silence(&story).unwrap()).unwrap();
    let mut anew = Story::new(Mode::Act);
    anew.now = story.now;
    anew.book.restore(serde_json::from_str(&written).unwrap());
    // The newest windows are read again.
    anew.book.window(&closed_window("errors", "threat-analysis", None, last, 0.0), anew.now);
    anew.pass(MINUTE);
    assert!(silence(&anew).unwrap().is_firing);
    anew.window(0.0);
    assert!(!silence(&anew).unwrap().is_firing);
}

/// The lease lapsed for a moment between settling and proving, at the deadline of the first. And: `leased for 172 s` and `leased for 112 s` are one reason.
#[test]
fn a_lease_lasts_from_stage_to_stage_and_its_seconds_are_audited_once() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    story.act();
    story.say_of("org_1", OPENED, "high");
    let refused = story.book.take_outputs().facts.pop().unwrap();
    assert_eq!(refused.kind, FactKind::Decision);
    assert!(refused.reasons.last().unwrap().contains("leased to"), "{:?}", refused.reasons);
    story.pass(MINUTE / 2);
    story.pass(MINUTE);
    let of_decisions = story.facts().into_iter().filter(|kind| *kind == FactKind::Decision);
    assert_eq!(of_decisions.count(), 0);
}
