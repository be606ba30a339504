//! The life of incidents, told step by step.

use serde_json::json;

use super::attempt::{Answer, Call, Stage};
use super::book::outputs::{FactKind, NewsKind};
use super::book::{Command, CommandError};
use super::claim::ClaimError;
use super::proof::ClosedWindow;
use super::{EscalationReason, Phase};
use crate::model::action::Mode;
use crate::model::pipeline::{Scope, Severity};
use crate::model::silence::Silence;
use crate::model::time::format_time;

mod evidence;
mod story;

use story::{MINUTE, OPENED, RESOLVED, Story, T0, UPDATED};

#[test]
fn an_outage_is_acted_upon_once_verified_and_resolved() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    assert_eq!(story.incident().phase, Phase::Acting);
    assert_eq!(story.facts(), [FactKind::Intent]);
    story.act();
    assert_eq!(story.incident().phase, Phase::Settling);
    // Until the effect had time, nothing counts, good or bad.
    story.pass(MINUTE / 2);
    story.window(0.1);
    story.pass(MINUTE / 2);
    for _ in 0..2 {
        story.pass(MINUTE);
        assert_ne!(story.incident().phase, Phase::Verified);
        story.window(0.0);
    }
    assert_eq!(story.incident().phase, Phase::Verified);
    assert_eq!(story.incident().severity, Severity::Medium);
    story.say(RESOLVED, "high", 0.0, true);
    assert_eq!(story.incident().phase, Phase::Recovering);
    story.pass(10 * MINUTE);
    assert_eq!(story.incident().phase, Phase::Resolved);
    assert_eq!(story.incident().attempts.len(), 1);
    let outputs = story.book.take_outputs();
    assert_eq!(outputs.news.last().unwrap().kind, NewsKind::Resolved);
    // Seven days later it is forgotten.
    story.pass(7 * 24 * 60 * MINUTE);
    assert_eq!(story.of("errors", None), None);
    assert_eq!(story.book.take_outputs().forgotten.len(), 1);
}

/// A peer repaired a fault and then acted three more times on old data.
#[test]
fn the_fix_worked_but_the_window_still_holds_the_outage() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    story.act();
    let applied = story.incident().attempts[0].applied_at.unwrap();
    // Windows that began before the effect had time come in for long, all of them bad.
    for minute in 1..6 {
        story.pass(MINUTE);
        let row = json!({
            "pipeline": "errors", "module": "threat-analysis", "window_start": format_time(applied - minute * MINUTE),
            "window_end": format_time(story.now), "error_rate": 0.09, "requests": 4000,
        });
        let window = ClosedWindow::read(row.to_string().as_bytes(), true).unwrap();
        story.book.window(&window, story.now);
        story.say(UPDATED, "high", 0.09, true);
        if minute >= 2 {
            story.window(0.0);
        }
    }
    assert_eq!(story.incident().attempts.len(), 1);
    assert_eq!(story.incident().attempts[0].stage, Stage::Verified);
    story.pass(30 * MINUTE);
    assert_eq!(story.incident().attempts.len(), 1, "old data led to another action");
}

#[test]
fn three_attempts_without_a_proof_escalate_and_lock() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    for attempt in 1..=3 {
        // The breaker and the pauses between attempts let some time go by.
        for _ in 0..120 {
            if story.incident().attempts.len() == attempt {
                break;
            }
            story.pass(MINUTE);
            story.window(0.1);
        }
        assert_eq!(story.incident().attempts.len(), attempt);
        story.act();
        while story.incident().is_busy() {
            story.pass(MINUTE);
            story.window(0.1);
        }
        assert_eq!(story.incident().attempts[attempt - 1].stage, Stage::RolledBack);
    }
    let incident = story.incident();
    assert!(incident.is_locked);
    assert_eq!(incident.severity, Severity::Critical);
    assert_eq!(incident.escalated.as_ref().unwrap().reason, EscalationReason::RepeatedFailure);
    for _ in 0..300 {
        story.pass(MINUTE);
        story.window(0.1);
    }
    assert_eq!(story.incident().attempts.len(), 3, "it acts although it is locked");
    let id = story.incident().incident_id.clone();
    story.book.command(Command::Unlock { incident_id: id, by: "johan".to_owned() }, story.now).unwrap();
    story.tick();
    let keys = story.incident().attempts.iter().map(|attempt| &attempt.action_id);
    let keys: std::collections::BTreeSet<_> = keys.collect();
    assert_eq!(story.incident().attempts.len(), 4);
    assert_eq!(keys.len(), 4, "a new attempt needs a new key");
}

#[test]
fn without_data_after_the_action_there_is_no_proof_and_no_second_action() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    story.act();
    story.pass(120 * MINUTE);
    story.pass(120 * MINUTE);
    assert_eq!(story.incident().attempts[0].stage, Stage::RolledBack);
    assert_eq!(story.incident().attempts.len(), 1);
}

#[test]
fn an_open_window_is_believed_only_once_a_closed_one_says_the_same() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, false);
    story.pass(MINUTE);
    assert_eq!(story.incident().attempts.len(), 0);
    story.window(0.1);
    assert_eq!(story.incident().attempts.len(), 1);
}

#[test]
fn a_detection_from_the_past_needs_a_window_of_today() {
    let mut story = Story::new(Mode::Act);
    story.now -= 3 * 60 * MINUTE;
    let body = story.body("high", 0.1, true).to_string();
    story.now += 3 * 60 * MINUTE;
    story.book.hear(OPENED, body.as_bytes(), story.now).unwrap();
    story.tick();
    assert_eq!(story.incident().attempts.len(), 0);
    story.pass(MINUTE);
    story.window(0.1);
    assert_eq!(story.incident().attempts.len(), 1);
}

#[test]
fn in_observe_mode_it_is_decided_and_not_done() {
    let mut story = Story::new(Mode::Observe);
    story.say(OPENED, "high", 0.1, true);
    assert_eq!(story.calls(), []);
    assert_eq!(story.facts(), [FactKind::Decision]);
    story.pass(5 * MINUTE);
    assert_eq!(story.facts(), [], "the same is said once");
}

#[test]
fn what_is_not_severe_enough_is_for_people() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "medium", 0.005, true);
    assert_eq!(story.calls(), []);
    let outputs = story.book.take_outputs();
    assert!(outputs.facts[0].reasons.last().unwrap().contains("permit"), "{:?}", outputs.facts[0].reasons);
    story.say(UPDATED, "high", 0.1, true);
    assert_eq!(story.calls(), [Call::Snapshot]);
}

#[test]
fn what_was_said_before_changes_nothing() {
    let mut story = Story::new(Mode::Act);
    let body = story.body("high", 0.1, true).to_string();
    for _ in 0..3 {
        story.book.hear(OPENED, body.as_bytes(), story.now).unwrap();
        story.tick();
    }
    assert_eq!(story.book.incidents().count(), 1);
    assert_eq!(story.incident().attempts.len(), 1);
    assert_eq!(story.incident().flips.len(), 1);
}

#[test]
fn flapping_is_held_open_and_not_acted_upon() {
    let mut story = Story::new(Mode::Observe);
    for _ in 0..2 {
        story.say(OPENED, "high", 0.1, true);
        story.pass(2 * MINUTE);
        story.say(RESOLVED, "high", 0.0, true);
        story.pass(2 * MINUTE);
    }
    story.book.take_outputs();
    story.say(OPENED, "high", 0.1, true);
    let outputs = story.book.take_outputs();
    assert!(outputs.facts.last().unwrap().reasons.last().unwrap().contains("flapping"), "{:?}", outputs.facts);
    story.say(RESOLVED, "high", 0.0, true);
    story.pass(12 * MINUTE);
    assert_eq!(story.incident().phase, Phase::Recovering, "it must be quiet for twenty windows");
    story.pass(10 * MINUTE);
    assert_eq!(story.incident().phase, Phase::Resolved);
}

#[test]
fn what_comes_back_within_a_week_is_the_same_incident_and_after_it_another() {
    let mut story = Story::new(Mode::Observe);
    story.say(OPENED, "high", 0.1, true);
    let first = story.incident().incident_id.clone();
    story.pass(MINUTE);
    story.say(RESOLVED, "high", 0.0, true);
    story.pass(24 * 60 * MINUTE);
    assert_eq!(story.incident().phase, Phase::Resolved);
    (story.onset, story.updates) = (story.now, 0);
    story.say(OPENED, "high", 0.1, true);
    assert_eq!((story.incident().incident_id.clone(), story.incident().epoch), (first.clone(), 1));
    assert_eq!(story.incident().phase, Phase::Firing);
    story.pass(MINUTE);
    story.say(RESOLVED, "high", 0.0, true);
    story.pass(11 * MINUTE);
    story.pass(8 * 24 * 60 * MINUTE);
    (story.onset, story.updates) = (story.now, 0);
    story.say(OPENED, "high", 0.1, true);
    assert_ne!(story.incident().incident_id, first);
}

#[test]
fn silences_and_the_kill_switch_stop_actions_until_they_end() {
    let mut story = Story::new(Mode::Act);
    let silence = Silence {
        id: "s1".to_owned(),
        labels: [("module".to_owned(), "threat-analysis".to_owned())].into(),
        owner: "johan".to_owned(),
        reason: "database upgrade".to_owned(),
        from: T0,
        until: T0 + 10 * MINUTE,
    };
    story.book.command(Command::Silence { silence, by: "johan".to_owned() }, story.now).unwrap();
    story.say(OPENED, "high", 0.1, true);
    assert_eq!(story.calls(), []);
    story.book.set_kill_switch(true);
    story.pass(12 * MINUTE);
    assert_eq!(story.calls(), []);
    story.book.set_kill_switch(false);
    story.pass(2 * MINUTE);
    assert_eq!(story.calls(), [Call::Snapshot]);
}

#[test]
fn nobody_responds_so_people_are_called() {
    let mut story = Story::new(Mode::Observe);
    story.say(OPENED, "high", 0.1, true);
    story.pass(16 * MINUTE);
    assert_eq!(story.incident().escalated.as_ref().unwrap().reason, EscalationReason::Unanswered);
    let mut acknowledged = Story::new(Mode::Observe);
    acknowledged.say(OPENED, "high", 0.1, true);
    let command = Command::Acknowledge { incident_id: acknowledged.id(), by: "mia".to_owned() };
    acknowledged.book.command(command, acknowledged.now).unwrap();
    acknowledged.pass(16 * MINUTE);
    assert_eq!(acknowledged.incident().escalated, None);
}

#[test]
fn a_restart_at_any_step_ends_the_same() {
    let run = |crash_at: usize| {
        let mut story = Story::new(Mode::Act);
        let mut step = 0;
        let mut maybe_crash = |story: &mut Story| {
            step += 1;
            if step == crash_at {
                let written = story.book.incidents().map(|one| serde_json::to_string(one).unwrap()).collect::<Vec<_>>();
                let mut anew = Story::new(Mode::Act);
                written.iter().for_each(|one| anew.book.restore(serde_json::from_str(one).unwrap()));
                story.book = anew.book;
                story.tick();
            }
        };
        story.say(OPENED, "high", 0.1, true);
        maybe_crash(&mut story);
        story.answer(Call::Snapshot, Answer::Done(json!({"instances": 3})));
        maybe_crash(&mut story);
        story.answer(Call::Apply, Answer::Unknown("no answer".to_owned()));
        maybe_crash(&mut story);
        for _ in 0..4 {
            story.pass(MINUTE);
            story.window(0.0);
            maybe_crash(&mut story);
        }
        story.say(RESOLVED, "high", 0.0, true);
        maybe_crash(&mut story);
        story.pass(11 * MINUTE);
        let mut ended = serde_json::to_value(story.incident()).unwrap();
        // Counts transactions, of which this story has none.
        ended["revision"] = json!(null);
        ended
    };
    let whole = run(0);
    assert_eq!(whole["phase"], "resolved");
    for crash_at in 1..=8 {
        assert_eq!(run(crash_at), whole, "restart at step {crash_at}");
    }
}

#[test]
fn a_forged_message_gains_nothing() {
    let story = Story::new(Mode::Act);
    let with = |key: &str, value: serde_json::Value| {
        let mut body = story.body("high", 0.1, true);
        body[key] = value;
        let rules = story.book.rules();
        rules.hear(OPENED, body.to_string().as_bytes(), story.now).map(|claim| claim.name.rule)
    };
    assert_eq!(with("value", json!(0.1)).unwrap(), "error_rate");
    type Expected = fn(&ClaimError) -> bool;
    let refused: [(&str, serde_json::Value, Expected); 10] = [
        ("rule", json!("anything"), |error| matches!(error, ClaimError::UnknownRule { .. })),
        ("pipeline", json!("other"), |error| matches!(error, ClaimError::UnknownRule { .. })),
        ("module", json!("auth"), |error| matches!(error, ClaimError::OtherSeries(_))),
        ("organisation_id", json!("org_1"), |error| matches!(error, ClaimError::OtherSeries(_))),
        ("series", json!({"module": "threat-analysis", "more": 1}), |error| {
            matches!(error, ClaimError::OtherSeries(_))
        }),
        ("severity", json!("critical"), |error| matches!(error, ClaimError::OtherSeverity(_))),
        ("value", json!(0.0001), |error| *error == ClaimError::NoBreach),
        ("samples", json!(3), |error| *error == ClaimError::NoBreach),
        ("incident_id", json!("../../etc/passwd"), |error| matches!(error, ClaimError::Malformed(_))),
        ("window_end", json!("2999-01-01T00:00:00Z"), |error| *error == ClaimError::OtherTime),
    ];
    for (key, value, is_expected) in refused {
        let error = with(key, value.clone()).unwrap_err();
        assert!(is_expected(&error), "{key} = {value}: {error}");
    }
}

#[test]
fn remedy_and_scope_come_from_the_rule_and_never_from_the_message() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    let incident = story.incident();
    assert_eq!(incident.scope, Scope::Trivial);
    assert_eq!(incident.attempts[0].intent.action, "function_recycle");
    assert_eq!(incident.attempts[0].intent.target, "threat-analysis");
}

/// A limit that a message named was believed: with a high one nothing is bad any more, and the action has helped.
#[test]
fn a_message_does_not_move_the_limit_that_a_proof_is_judged_by() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    story.act();
    let mut body = story.body("high", 0.1, true);
    body["threshold"] = json!(1e9);
    story.book.hear(UPDATED, body.to_string().as_bytes(), story.now).unwrap();
    for _ in 0..4 {
        story.pass(MINUTE);
        story.window(0.1);
    }
    assert_eq!(story.incident().attempts[0].proof.good_windows, 0);
    assert_ne!(story.incident().phase, Phase::Verified);
}

/// A message about another module that brought the id of an incident took its place: lock, attempts and all were gone.
#[test]
fn a_message_does_not_take_the_id_of_another_incident() {
    let mut story = Story::new(Mode::Act);
    story.say(OPENED, "high", 0.1, true);
    let before = story.incident().clone();
    story.book.take_outputs();
    let mut body = story.body("high", 0.1, true);
    (body["module"], body["series"]) = (json!("exports"), json!({ "module": "exports" }));
    story.book.hear(OPENED, body.to_string().as_bytes(), story.now).unwrap();
    assert_eq!(story.book.incidents().collect::<Vec<_>>(), [&before]);
    assert_eq!(story.facts(), [FactKind::Refused]);
}

#[test]
fn a_command_about_no_incident_is_refused() {
    let mut story = Story::new(Mode::Act);
    let unlock = Command::Unlock { incident_id: story.id(), by: "johan".to_owned() };
    assert_eq!(story.book.command(unlock, story.now), Err(CommandError::UnknownIncident));
    let signed = |by: &str| Command::EndSilence { id: "s".to_owned(), by: by.to_owned() }.is_signed();
    assert_eq!(["mia", "", " ", "mi\0a", &"m".repeat(201)].map(signed), [true, false, false, false, false]);
}
