//! Floors with a hole: the generator is worth something only if it finds each of them.

use super::*;

/// What a mutant does not see: it looks away from it before the true policy decides.
type Blindness = fn(&mut Intent, &mut Circumstances);

/// Floors with a hole. Each lets one thing pass that is prohibited, and nothing else.
const MUTANTS: [(&str, Blindness); 10] = [
    ("one prohibited kind counts as a restart", |intent, _| instead(&mut intent.action, "hotfix", "function_recycle")),
    ("kinds are read without regard to case", |intent, _| {
        if intent.action == "FUNCTION_RECYCLE" {
            intent.action.make_ascii_lowercase();
        }
    }),
    ("one protected target counts as a module", |intent, _| instead(&mut intent.target, "userAuth", "pit")),
    ("marks that nobody sees are left out", |intent, _| {
        intent.target.retain(|letter| !"\u{200b}\u{feff}\u{00ad}".contains(letter));
    }),
    ("an unknown organisation counts as one", |intent, _| {
        if intent.organisation_id.as_deref() == Some("unknown") {
            intent.organisation_id = Some("org_1".to_owned());
        }
    }),
    ("many organisations count as one", |_, case| case.tenants_affected = case.tenants_affected.min(1)),
    ("a value that nobody read counts as read", |intent, case| {
        if let (None, Some(change)) = (case.value_before, &intent.change) {
            case.value_before = Some(change.from);
        }
    }),
    ("what is no number above zero counts as half as much again", |intent, _| {
        let is_number = |to: f64| to.is_finite() && to > 0.0;
        if let Some(change) = intent.change.as_mut().filter(|change| !is_number(change.to)) {
            change.to = change.from * 1.5;
        }
    }),
    ("a change of the schema counts as trivial", |_, case| {
        if case.scope == Scope::Schema {
            case.scope = Scope::Trivial;
        }
    }),
    ("an attempt that was made counts as the next one", |intent, case| {
        intent.attempt = intent.attempt.max(case.attempts.saturating_add(1));
    }),
];
/// A hole that so many intents do not find is not found.
const MUTANT_INTENTS: usize = 20_000;

fn instead(text: &mut String, one: &str, other: &str) {
    if text == one {
        other.clone_into(text);
    }
}

/// The hunt is worth something only if it sees what it is for.
#[test]
fn every_hole_in_the_floor_is_found() {
    let (seed, policy) = (seed(), permissive());
    for (hole, look_away) in MUTANTS {
        let decide = |_: usize, intent: &Intent, case: &Circumstances| {
            let (mut intent, mut case) = (intent.clone(), case.clone());
            look_away(&mut intent, &mut case);
            policy.decide(&intent, &case)
        };
        let found = hunt(seed, MUTANT_INTENTS, decide);
        let Err((number, told)) = found else { panic!("{hole}: not found among {MUTANT_INTENTS} intents") };
        assert!(told.starts_with("prohibited, and allowed"), "{hole}: {told}");
        println!("{hole}: found by intent {number}");
    }
}
