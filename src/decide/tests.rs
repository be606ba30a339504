use super::*;
use crate::model::action::ValueChange;

mod files;

pub(super) const NOW: Micros = 1_764_756_000_000_000;
pub(super) const SECOND: Micros = 1_000_000;
pub(super) const MINUTE: Micros = 60 * SECOND;

/// What permits everything that a policy can permit.
pub(super) const EVERYTHING: &str = "permit (principal, action, resource);";

pub(super) fn shipped() -> Policy {
    Policy::compile(&PolicyTexts::shipped(), &[]).expect("usable")
}

/// The shipped files, of which one text is replaced in one.
pub(super) fn with(change: impl Fn(&mut PolicyTexts)) -> Result<Policy, String> {
    let mut texts = PolicyTexts::shipped();
    change(&mut texts);
    Policy::compile(&texts, &[]).map_err(|error| error.to_string())
}

pub(super) fn permissive() -> Policy {
    with(|texts| texts.policy.text = EVERYTHING.to_owned()).expect("usable")
}

/// A case in which everything is as it should be.
pub(super) fn calm() -> Circumstances {
    Circumstances {
        now: NOW,
        mode: Mode::Act,
        severity: Severity::High,
        scope: Scope::Trivial,
        window_complete: true,
        baseline_warm: true,
        target_seen: true,
        tenants_affected: 1,
        modules: 10,
        unhealthy_modules: 1,
        ..Circumstances::default()
    }
}

pub(super) fn restart() -> Intent {
    Intent {
        incident_id: "incident".to_owned(),
        action: "function_recycle".to_owned(),
        target: "threat-analysis".to_owned(),
        organisation_id: None,
        attempt: 1,
        change: None,
    }
}

/// From 100 to 150 a minute, and the case in which 100 was read.
pub(super) fn raise(from: f64, to: f64) -> (Intent, Circumstances) {
    let intent = Intent {
        action: "raise_rate_limit".to_owned(),
        target: "threat-analysis".to_owned(),
        organisation_id: Some("org_12345".to_owned()),
        change: Some(ValueChange { parameter: "requests_per_minute".to_owned(), from, to }),
        ..restart()
    };
    (intent, Circumstances { scope: Scope::Configuration, value_before: Some(from), ..calm() })
}

/// The step that refused, and why; none: it is allowed.
pub(super) fn refused(policy: &Policy, intent: &Intent, case: &Circumstances) -> Option<(Step, String)> {
    let decision = policy.decide(intent, case);
    let last = decision.reasons.last().expect("a reason").clone();
    let passed = decision.reasons.len() - usize::from(!last.passed);
    assert!(decision.reasons.iter().take(passed).all(|reason| reason.passed), "only the last may refuse");
    assert_eq!(decision.verdict == Verdict::Refuse, !last.passed);
    (!last.passed).then_some((last.step, last.text))
}

/// Each change of a case that is allowed makes this step refuse it, with words that contain these.
#[track_caller]
fn refuses(step: Step, words: &str, change: impl Fn(&mut Intent, &mut Circumstances)) {
    for (mut intent, mut case) in [(restart(), calm()), raise(100.0, 150.0)] {
        assert_eq!(refused(&shipped(), &intent, &case), None, "{}", intent.action);
        change(&mut intent, &mut case);
        let (at, text) = refused(&shipped(), &intent, &case).expect("a refusal");
        assert_eq!(at, step, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[track_caller]
fn refuses_raise(step: Step, words: &str, change: impl Fn(&mut Intent, &mut Circumstances)) {
    let (mut intent, mut case) = raise(100.0, 150.0);
    change(&mut intent, &mut case);
    let (at, text) = refused(&shipped(), &intent, &case).expect("a refusal");
    assert_eq!(at, step, "{text}");
    assert!(text.contains(words), "{text}");
}

#[test]
fn what_is_allowed_lists_all_ten_steps() {
    let decision = shipped().decide(&restart(), &calm());
    assert_eq!(decision.verdict, Verdict::Act);
    let steps: Vec<Step> = decision.reasons.iter().map(|reason| reason.step).collect();
    use Step::*;
    assert_eq!(steps, [Gate, Signal, Floor, Permit, Range, Key, Lease, Budget, Breaker, BlastRadius]);
    assert_eq!(decision.policy_hash.len(), 64);
}

#[test]
fn observe_decides_the_same_and_does_nothing() {
    let case = Circumstances { mode: Mode::Observe, ..calm() };
    assert_eq!(shipped().decide(&restart(), &case).verdict, Verdict::Observe);
    let case = Circumstances { mode: Mode::Observe, severity: Severity::Low, ..calm() };
    assert_eq!(shipped().decide(&restart(), &case).verdict, Verdict::Refuse);
}

#[test]
fn when_nothing_is_known_nothing_is_done() {
    let case = Circumstances { mode: Mode::Act, ..Circumstances::default() };
    assert_eq!(permissive().decide(&restart(), &case).verdict, Verdict::Refuse);
}

#[test]
fn a_decision_can_be_repeated_from_what_was_written_down() {
    let (intent, mut case) = raise(100.0, 150.0);
    case.lease = Some(Lease { holder: "other".to_owned(), until: NOW + 5 });
    let json = serde_json::to_string(&(&intent, &case)).expect("JSON");
    let (intent_read, case_read): (Intent, Circumstances) = serde_json::from_str(&json).expect("the same");
    assert_eq!(shipped().decide(&intent, &case), shipped().decide(&intent_read, &case_read));
}

#[test]
fn gate() {
    refuses(Step::Gate, "the kill switch is on", |_, case| case.kill_switch = true);
    refuses(Step::Gate, "silenced by \"deploy of ann\"", |_, case| case.silenced_by = Some("deploy of ann".to_owned()));
}

#[test]
fn signal() {
    refuses(Step::Signal, "flapping", |_, case| case.flapping = true);
    refuses(Step::Signal, "not complete", |_, case| case.window_complete = false);
    refuses(Step::Signal, "baseline", |_, case| case.baseline_warm = false);
}

#[test]
fn floor() {
    for scope in [Scope::CodeMinor, Scope::CodeMajor, Scope::Schema, Scope::Architecture] {
        refuses(Step::Floor, scope.name(), |_, case| case.scope = scope);
    }
    refuses(Step::Floor, "nothing that can be done", |intent, _| intent.action = "delete_data".to_owned());
    refuses(Step::Floor, "nothing that can be done", |intent, _| intent.action = "Function_Recycle".to_owned());
    refuses(Step::Floor, "not one of the known modules", |_, case| case.target_seen = false);
    refuses(Step::Floor, "names `auth`", |intent, _| intent.target = "auth".to_owned());
    refuses(Step::Floor, "a name is made of", |intent, _| intent.target = "../threat-analysis".to_owned());
    refuses(Step::Floor, "the organisation is \"unknown\"", |intent, _| {
        intent.organisation_id = Some("unknown".to_owned());
    });
    refuses_raise(Step::Floor, "none is named", |intent, _| intent.organisation_id = None);
    refuses_raise(Step::Floor, "names `access`", |intent, _| {
        intent.change = Some(ValueChange { parameter: "access_level".to_owned(), from: 100.0, to: 150.0 });
    });
}

#[test]
fn the_floor_asks_what_the_catalogue_claims() {
    let claims = [
        ("low_risk = true", "low_risk = false", "not of low risk"),
        ("reversible = true", "reversible = false", "cannot be taken back"),
        ("pre_approved = true", "pre_approved = false", "nobody approved that in advance"),
        ("scope = \"configuration\"", "scope = \"schema\"", "the scope is schema"),
    ];
    for (claim, other, words) in claims {
        let policy = with(|texts| {
            texts.policy.text = EVERYTHING.to_owned();
            texts.actions.text = texts.actions.text.replace(claim, other);
        });
        let (intent, case) = raise(100.0, 150.0);
        let (step, text) = refused(&policy.expect("usable"), &intent, &case).expect("a refusal");
        assert!(step == Step::Floor && text.contains(words), "{text}");
    }
}

#[test]
fn configuration_of_everyone_is_refused_though_the_catalogue_calls_it_so() {
    let policy = with(|texts| {
        texts.policy.text = EVERYTHING.to_owned();
        texts.actions.text = texts
            .actions
            .text
            .replace("tenant_specific = true", "tenant_specific = false")
            .replace("/organisations/{organisation}", "");
    })
    .expect("usable");
    let (mut intent, case) = raise(100.0, 150.0);
    assert_eq!(refused(&policy, &intent, &case), None);
    let several = Circumstances { tenants_affected: 2, ..case.clone() };
    assert_eq!(refused(&policy, &intent, &several).map(|(step, _)| step), Some(Step::BlastRadius));
    intent.organisation_id = None;
    assert_eq!(refused(&policy, &intent, &case).map(|(step, _)| step), Some(Step::Floor));
}

#[test]
fn a_list_of_targets_is_the_only_one() {
    let policy = Policy::compile(&PolicyTexts::shipped(), &["exports".to_owned(), "pit".to_owned()]).expect("usable");
    let at = |target: &str| refused(&policy, &Intent { target: target.to_owned(), ..restart() }, &calm());
    assert_eq!(at("pit"), None);
    assert_eq!(at("threat-analysis").map(|(step, _)| step), Some(Step::Floor));
    let error = Policy::compile(&PolicyTexts::shipped(), &["auth".to_owned()]).expect_err("to be refused").to_string();
    assert_eq!(
        error,
        "[remediate] `targets`: the target \"auth\" names `auth`: nothing is done there without a person"
    );
}

#[test]
fn permit() {
    let no_policy = "no policy permits";
    refuses(Step::Permit, no_policy, |_, case| case.severity = Severity::Medium);
    refuses(Step::Permit, no_policy, |_, case| case.severity = Severity::Low);
    refuses_raise(Step::Permit, no_policy, |_, case| case.tenants_affected = 2);
    let nothing = with(|texts| texts.policy.text = String::new()).expect("usable");
    assert_eq!(refused(&nothing, &restart(), &calm()).map(|(step, _)| step), Some(Step::Permit));
}

#[test]
fn a_restart_for_everyone_is_a_permission_of_its_own() {
    let everyone = Circumstances { tenants_affected: 400, ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &everyone), None);
    for action in ["cache_clear", "retry_jobs", "clear_queue", "reset_pool", "reauthenticate"] {
        let organisation_id = Some("org_1".to_owned());
        let intent = Intent { action: action.to_owned(), organisation_id, ..restart() };
        assert_eq!(refused(&shipped(), &intent, &calm()), None, "{action}");
        assert_eq!(refused(&shipped(), &intent, &everyone).map(|(step, _)| step), Some(Step::Permit), "{action}");
    }
}

#[test]
fn the_comment_in_the_policy_allows_medium_and_low() {
    let policy = with(|texts| {
        let (strict, wide) = ("[\"critical\", \"high\"]", "[\"critical\", \"high\", \"medium\", \"low\"]");
        assert!(texts.policy.text.contains(&format!("//     {wide}.contains(context.severity)")));
        texts.policy.text = texts.policy.text.replace(&format!("{strict}."), &format!("{wide}."));
    })
    .expect("usable");
    for severity in Severity::ALL {
        assert_eq!(refused(&policy, &restart(), &Circumstances { severity, ..calm() }), None, "{}", severity.name());
        let strict = refused(&shipped(), &restart(), &Circumstances { severity, ..calm() });
        assert_eq!(strict.is_some(), severity < Severity::High, "{}", severity.name());
    }
}

#[test]
fn a_policy_knows_the_counters() {
    let forbid = "\n@id(\"enough\") forbid (principal, action, resource) when { context.actions_on_target >= 2 };";
    let policy = with(|texts| texts.policy.text.push_str(forbid)).expect("usable");
    let case = |target| Circumstances { actions_last_hour: Counts { target, ..Counts::default() }, ..calm() };
    assert_eq!(refused(&policy, &restart(), &case(1)), None);
    assert_eq!(refused(&policy, &restart(), &case(2)), Some((Step::Permit, "forbidden by enough".to_owned())));
}

#[test]
fn a_policy_about_a_group_of_actions_is_asked() {
    let policy = with(|texts| {
        let applies = "appliesTo { principal: Agent, resource: Module, context: Case };";
        let group = format!("action \"anything\";\naction \"function_recycle\" in [\"anything\"] {applies}\naction ");
        texts.schema.text = texts.schema.text.replace("action \"function_recycle\", ", &group);
        texts.policy.text.push_str("\n@id(\"none\") forbid (principal, action in Action::\"anything\", resource);");
    });
    let (intent, case) = raise(100.0, 150.0);
    let policy = policy.expect("usable");
    assert_eq!(refused(&policy, &restart(), &calm()), Some((Step::Permit, "forbidden by none".to_owned())));
    assert_eq!(refused(&policy, &intent, &case), None, "it is not in the group");
}

#[test]
fn a_policy_that_fails_is_a_refusal() {
    // It would forbid, if it did not overflow: Cedar alone would skip it.
    let forbid = "\nforbid (principal, action, resource) when { context.modules * 9223372036854775807 > 0 };";
    let policy = with(|texts| texts.policy.text.push_str(forbid)).expect("usable");
    let (step, text) = refused(&policy, &restart(), &calm()).expect("a refusal");
    assert!(step == Step::Permit && text.starts_with("a policy cannot be evaluated: "), "{text}");
}

#[test]
fn range() {
    let set = |from: f64, to: f64| {
        move |intent: &mut Intent, case: &mut Circumstances| {
            intent.change = Some(ValueChange { parameter: "requests_per_minute".to_owned(), from, to });
            case.value_before = Some(from);
        }
    };
    for (from, to) in [(100.0, 150.0), (150.0, 200.0), (200.0, 150.0), (190.0, 200.0)] {
        let (mut intent, mut case) = raise(100.0, 150.0);
        set(from, to)(&mut intent, &mut case);
        assert_eq!(refused(&shipped(), &intent, &case), None, "{from} to {to}");
    }
    refuses_raise(Step::Range, "not within 100 to 200", set(180.0, 200.1));
    refuses_raise(Step::Range, "not within 100 to 200", set(100.0, 99.0));
    refuses_raise(Step::Range, "larger step than 50", set(100.0, 150.1));
    refuses_raise(Step::Range, "larger ratio than 1.5", set(99.0, 149.0));
    refuses_raise(Step::Range, "already", set(150.0, 150.0));
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, -150.0] {
        refuses_raise(Step::Range, "not a change from one positive number", set(100.0, wrong));
        refuses_raise(Step::Range, "not a change from one positive number", set(wrong, 150.0));
    }
    refuses_raise(Step::Range, "101 was read", |_, case| case.value_before = Some(101.0));
    refuses_raise(Step::Range, "nobody has read it", |_, case| case.value_before = None);
    refuses_raise(Step::Range, "does not say which", |intent, _| intent.change = None);
    refuses_raise(Step::Range, "the action changes requests_per_minute", |intent, _| {
        intent.change = Some(ValueChange { parameter: "memory_mb".to_owned(), from: 100.0, to: 150.0 });
    });
    let restart = Intent { change: raise(100.0, 150.0).0.change, ..restart() };
    let (step, text) = refused(&shipped(), &restart, &calm()).expect("a refusal");
    assert!(step == Step::Range && text.contains("the action changes none"), "{text}");
}

#[test]
fn key() {
    refuses(Step::Key, "no incident", |intent, _| intent.incident_id = String::new());
    refuses(Step::Key, "locked", |_, case| case.locked = true);
    refuses(Step::Key, "locked", |_, case| case.attempts_unverified = 3);
    refuses(Step::Key, "attempt 0, and 0 were made", |intent, _| intent.attempt = 0);
    refuses(Step::Key, "attempt 2, and 0 were made", |intent, _| intent.attempt = 2);
    refuses(Step::Key, "attempt 1, and 1 were made", |_, case| case.attempts = 1);
    refuses(Step::Key, "nobody knows when", |intent, case| (intent.attempt, case.attempts) = (2, 1));
    refuses(Step::Key, "", |intent, case| (intent.attempt, case.attempts) = (u32::MAX, u32::MAX));
}

#[test]
fn attempts_wait_longer_each_time_and_not_all_alike() {
    for (attempt, minutes) in [(2, 1), (3, 4), (4, 16), (9, 16)] {
        let intent = Intent { attempt, ..restart() };
        let wait = not_before(&intent, NOW) - NOW;
        assert!((minutes * MINUTE..=minutes * MINUTE * 5 / 4).contains(&wait), "{attempt}: {wait}");
        let at = |now| {
            let case =
                Circumstances { now, attempts: attempt - 1, last_attempt: Some(NOW), last_on_target: None, ..calm() };
            refused(&shipped(), &intent, &case)
        };
        assert_eq!(at(NOW + wait - 1).map(|(step, _)| step), Some(Step::Key));
        assert_eq!(at(NOW + wait), None);
        let other = Intent { incident_id: "other".to_owned(), ..intent.clone() };
        assert_ne!(not_before(&other, NOW), NOW + wait, "many incidents would try again in one moment");
        assert_eq!(not_before(&intent, NOW), NOW + wait, "the wait is a function of the intent");
    }
    assert_eq!(not_before(&Intent { attempt: 2, ..restart() }, Micros::MAX), Micros::MAX);
}

#[test]
fn lease() {
    let lease = |holder: String, until| Some(Lease { holder, until });
    refuses(Step::Lease, "leased to other for 1 s", |_, case| case.lease = lease("other".to_owned(), NOW + 1));
    refuses(Step::Lease, "leased", |_, case| (case.lease, case.now) = (lease(String::new(), Micros::MAX), Micros::MIN));
    let own = Circumstances { lease: lease(restart().key(), NOW + 1), ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &own), None);
    let over = Circumstances { lease: lease("other".to_owned(), NOW), ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &over), None);
}

#[test]
fn budget() {
    let spent =
        |change: fn(&mut Counts)| move |_: &mut Intent, case: &mut Circumstances| change(&mut case.actions_last_hour);
    refuses(Step::Budget, "4 of 4 actions of an hour on the target", spent(|counts| counts.target = 4));
    refuses(Step::Budget, "12 of 12 actions of an hour of the kind", spent(|counts| counts.action = 12));
    refuses(Step::Budget, "8 of 8 actions of an hour for the organisation", spent(|counts| counts.organisation = 8));
    refuses(Step::Budget, "24 of 24 actions of an hour overall", spent(|counts| counts.overall = 24));
    refuses(Step::Budget, "cools down for 1 s", |intent, case| {
        let cooldown = if intent.change.is_some() { 30 } else { 5 };
        case.last_on_target = Some(NOW - cooldown * MINUTE + 1);
    });
    let cool = Circumstances { last_on_target: Some(NOW - 5 * MINUTE), ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &cool), None);
}

#[test]
fn breaker() {
    refuses(Step::Breaker, "2 in a row", |_, case| {
        (case.unverified_in_a_row, case.last_unverified) = (2, Some(NOW - BREAKER_HALF_OPENS_AFTER + 1));
    });
    refuses(Step::Breaker, "2 in a row", |_, case| case.unverified_in_a_row = 2);
    let once = Circumstances { unverified_in_a_row: 1, last_unverified: Some(NOW), ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &once), None);
    let last_unverified = Some(NOW - BREAKER_HALF_OPENS_AFTER);
    let half_open = Circumstances { unverified_in_a_row: 2, last_unverified, ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &half_open), None);
}

#[test]
fn blast_radius() {
    refuses(Step::BlastRadius, "5 of 10 modules", |_, case| case.unhealthy_modules = 5);
    refuses(Step::BlastRadius, "0 of 0 modules", |_, case| (case.modules, case.unhealthy_modules) = (0, 0));
    let just = Circumstances { unhealthy_modules: 4, ..calm() };
    assert_eq!(refused(&shipped(), &restart(), &just), None);
    let nobody_knows = Circumstances { tenants_affected: 0, ..calm() };
    let (step, text) = refused(&shipped(), &restart(), &nobody_knows).expect("a refusal");
    assert!(step == Step::BlastRadius && text.contains("nobody knows"), "{text}");
    let (intent, case) = raise(100.0, 150.0);
    let several = Circumstances { tenants_affected: 2, ..case };
    assert_eq!(refused(&permissive(), &intent, &several).map(|(step, _)| step), Some(Step::BlastRadius));
}

#[test]
fn the_hash_names_all_that_was_compiled() {
    let hash = |change: fn(&mut PolicyTexts)| with(change).expect("usable").hash().to_owned();
    let shipped = hash(|_| {});
    assert_eq!(shipped, hash(|_| {}));
    assert_ne!(shipped, hash(|texts| texts.actions.text.push('\n')));
    assert_ne!(shipped, hash(|texts| texts.policy.text.push('\n')));
    assert_ne!(shipped, hash(|texts| texts.schema.text.push('\n')));
    let targets = Policy::compile(&PolicyTexts::shipped(), &["pit".to_owned()]).expect("usable");
    assert_ne!(shipped, targets.hash());
}

#[test]
fn the_catalogue_offers_the_nine() {
    let policy = shipped();
    assert_eq!(policy.actions().len(), ActionKind::ALL.len());
    assert!(ActionKind::ALL.iter().all(|kind| policy.action(kind.name()).is_some_and(|action| action.kind == *kind)));
}
