//! Temporary changes: whoever runs when their time is over takes them back, whoever made them.

use serde_json::{Value, json};

use super::limited::Limited;
use super::plane::{Manner, Plane};
use super::platform::MINUTE;

const ORGANISATION: &str = "org_12345";
const OTHER: &str = "org_2";
const WINDOWS_BEFORE: usize = 5_000;
/// Turns in which a revert is begun, asked for and answered.
const TURNS_OF_A_REVERT: usize = 8;

/// Until the limit was raised and that helped.
fn raised(organisations: &[(&str, i64)]) -> (Limited, tokio::runtime::Runtime) {
    let (plane, runtime) = Plane::start(Manner::Helpful);
    let mut limited = Limited::new(plane, organisations);
    (0..2).for_each(|_| limited.minute());
    limited.detect(ORGANISATION, "opened");
    limited.until(ORGANISATION, 50, "verified", |incident| incident["phase"] == "verified");
    assert_eq!(limited.limits_set(), [150]);
    (limited, runtime)
}

fn is_reverted(incident: &Value) -> bool {
    incident["attempts"][0]["stage"] == "reverted"
}

#[test]
fn a_temporary_change_is_taken_back_though_nobody_ran_when_its_time_was_over() {
    let (mut limited, _runtime) = raised(&[(ORGANISATION, 150)]);
    limited.needs(ORGANISATION, 100);
    limited.die();
    limited.platform.pass(3 * 60 * MINUTE);
    assert_eq!(limited.limit(ORGANISATION), 150);
    let incident = limited.until(ORGANISATION, 50, "taken back", is_reverted);

    assert_eq!(limited.limits_set(), [150, 100]);
    let attempt = &incident["attempts"][0];
    let (before, action_id) = (json!({ "requests_per_minute": 100 }), attempt["action_id"].as_str().unwrap());
    assert_eq!((&attempt["before"], &attempt["after"]), (&before, &before));
    assert_eq!(limited.platform.plane.changes(), [action_id.to_owned(), format!("{action_id}-revert")]);
    let reverted = limited.entries("reverted");
    assert_eq!(reverted.len(), 1);
    assert_eq!((&reverted[0]["action_id"], &reverted[0]["after"]), (&json!(action_id), &before));
    assert_eq!((limited.entries("intent").len(), limited.entries("verified").len()), (1, 1));
    assert_eq!(limited.entries("rolled_back").len(), 0);

    (0..10).for_each(|_| limited.minute());
    assert_eq!(limited.limits_set(), [150, 100]);
}

/// The process that takes it back dies, too, after any of its turns.
#[test]
fn a_temporary_change_is_taken_back_once_whoever_dies_meanwhile() {
    for turns in 0..TURNS_OF_A_REVERT {
        let (mut limited, _runtime) = raised(&[(ORGANISATION, 150)]);
        limited.die();
        limited.platform.pass(3 * 60 * MINUTE);
        limited.turn(turns);
        limited.die();
        limited.until(ORGANISATION, 50, "taken back", is_reverted);
        assert_eq!(limited.limits_set(), [150, 100], "after {turns} turns");
        assert_eq!(limited.entries("reverted").len(), 1, "after {turns} turns");
    }
}

/// At its start an agent gave up what had not been proven in time, before it had read the proof.
#[test]
fn a_proof_that_came_while_nobody_ran_counts() {
    let (plane, _runtime) = Plane::start(Manner::Helpful);
    let mut limited = Limited::new(plane, &[(ORGANISATION, 150)]);
    // More than is read at once.
    (0..WINDOWS_BEFORE).for_each(|_| limited.window(ORGANISATION, "exports", 0.0));
    (0..2).for_each(|_| limited.minute());
    limited.detect(ORGANISATION, "opened");
    limited.until(ORGANISATION, 50, "proving", |incident| incident["attempts"][0]["stage"] == "proving");
    limited.die();
    (0..30).for_each(|_| limited.minute_without_agent());
    limited.until(ORGANISATION, 50, "verified", |incident| incident["phase"] == "verified");
    assert_eq!((limited.limits_set(), limited.entries("unverified").len()), (vec![150], 0));
}

/// The second one found the number that the first had left, and would have left that for ever.
#[test]
fn a_second_temporary_change_waits_until_the_first_was_taken_back() {
    let (mut limited, _runtime) = raised(&[(ORGANISATION, 150)]);
    limited.detect(ORGANISATION, "resolved");
    (0..32).for_each(|_| limited.minute());
    // More requests: now 150 a minute are too few, and 200 would do. The cooldown is over, the first change is not.
    limited.needs(ORGANISATION, 200);
    (0..2).for_each(|_| limited.minute());
    limited.detect(ORGANISATION, "opened");
    (0..10).for_each(|_| limited.minute());
    assert_eq!(limited.limits_set(), [150]);
    (0..300).for_each(|_| limited.minute());
    assert_eq!(limited.limit(ORGANISATION), 100, "{:?}", limited.limits_set());
    assert_eq!(limited.limits_set()[..2], [150, 100]);
}

/// A control plane that remembers tokens took the revert for the word of a process from before the other attempt.
#[test]
fn a_change_is_taken_back_though_a_later_one_was_made_on_the_module() {
    let (mut limited, _runtime) = raised(&[(ORGANISATION, 150), (OTHER, 150)]);
    limited.detect(ORGANISATION, "resolved");
    (0..31).for_each(|_| limited.minute());
    limited.detect(OTHER, "opened");
    limited.until(OTHER, 20, "verified", |incident| incident["phase"] == "verified");
    assert_eq!((limited.limit(ORGANISATION), limited.limit(OTHER)), (150, 150));
    limited.until(ORGANISATION, 60, "taken back", is_reverted);
    assert_eq!((limited.limit(ORGANISATION), limited.limit(OTHER)), (100, 150));
    limited.until(OTHER, 60, "taken back", is_reverted);
    assert_eq!(limited.limits_set(), [150, 150, 100, 100]);
    let tokens = limited.platform.plane.tokens();
    assert!(tokens.is_sorted(), "{tokens:?}");
}
