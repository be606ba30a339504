//! 100,000 intents that want what they may not, under a policy that permits everything. None that is prohibited is allowed.
//!
//! Each begins as one that is allowed and is then spoiled in up to three ways. A naive oracle judges it: it knows lists of
//! the few harmless names and two ranges of numbers, and shares no code with the product. All three must agree: what was not
//! spoiled is done, what was spoiled is prohibited, what is prohibited is refused.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::tests::{NOW, calm, permissive, restart};
use super::*;
use crate::model::action::ValueChange;

mod mutants;

const INTENTS: usize = 100_000;
const MODULES: [&str; 5] = ["threat-analysis", "risk-matrix", "pit", "exports", "v2.reports"];
const ORGANISATIONS: [&str; 3] = ["org_1", "org_12345", "5f0c1c3e-9c1b-4f57"];

/// What a friendly name may hide.
const PROHIBITED_KINDS: [&str; 24] = [
    "push_code",
    "hotfix",
    "apply_patch",
    "update_dependency",
    "edit_config_file",
    "delete_data",
    "tidy_up_records",
    "run_migration",
    "alter_table",
    "add_column",
    "disable_auth",
    "temporary_open_access",
    "disable_encryption",
    "grant_role",
    "bypass_checks",
    "move_module",
    "change_contract",
    "function_recycle; drop table users",
    "restart",
    "function_recycle_and_migrate",
    "FUNCTION_RECYCLE",
    "function-recycle",
    "",
    "ſunction_recycle",
];
const PROHIBITED_TARGETS: [&str; 30] = [
    "auth",
    "Auth",
    "user-auth",
    "userAuth",
    "authentication",
    "authorisation-service",
    "oauth2-proxy",
    "access-control",
    "tenant_data",
    "tenantData",
    "data",
    "database",
    "schema",
    "schema-registry",
    "db.migrations",
    "encryption",
    "tls",
    "kms",
    "secrets",
    "credentials-store",
    "role-manager",
    "policies",
    "dependencies",
    "integration-contracts",
    "governance",
    "audit.records",
    "backups",
    "a-u-t-h",
    "x.key",
    "permission_service",
];
const MALFORMED: [&str; 26] = [
    "../../etc/passwd",
    "..",
    ".",
    "",
    "pit/../auth",
    "pit%2f..%2fauth",
    "%2e%2e",
    "pit\\..\\auth",
    "pit?x=1",
    "pit#x",
    "pit&x",
    "pit pit",
    " pit",
    "pit\n",
    "pit\0",
    "-rf",
    "--help",
    "$(id)",
    "`id`",
    "{target}",
    "*",
    "pit,exports",
    "pit;exports",
    "http://evil.example",
    "pit..exports",
    "@pit",
];
const NO_ORGANISATION: [&str; 14] = [
    "unknown",
    "UNKNOWN",
    "Unknown",
    "null",
    "none",
    "all",
    "any",
    "undefined",
    "*",
    "org_1,org_2",
    "org_1|org_2",
    "org_%",
    "",
    "org_1/../org_2",
];
const PROHIBITED_PARAMETERS: [&str; 8] = [
    "auth_enabled",
    "accessLevel",
    "schema_version",
    "encryption",
    "role",
    "data_retention",
    "requests_per_minutе",
    "limit",
];

/// The oracle: allowed only if nothing at all is known against it.
fn prohibited(intent: &Intent, case: &Circumstances) -> Option<&'static str> {
    let for_one = ["cache_clear", "retry_jobs", "clear_queue", "reauthenticate"];
    let configuration = ["scale_resources", "raise_rate_limit", "enable_fallback"];
    let (action, tenants) = (intent.action.as_str(), case.tenants_affected);
    let is_configuration = configuration.contains(&action);
    if !is_configuration && !for_one.contains(&action) && !["function_recycle", "reset_pool"].contains(&action) {
        return Some("kind");
    }
    if !["Trivial", "Configuration"].contains(&format!("{:?}", case.scope).as_str()) {
        return Some("scope");
    }
    if !MODULES.contains(&intent.target.as_str()) {
        return Some("target");
    }
    match intent.organisation_id.as_deref() {
        Some(organisation) if !ORGANISATIONS.contains(&organisation) => return Some("organisation"),
        None if is_configuration || for_one.contains(&action) => return Some("no organisation"),
        _ => {}
    }
    if tenants < 1 || (tenants > 1 && (is_configuration || for_one.contains(&action))) {
        return Some("tenants");
    }
    let (name, min, max, step, ratio) = match action {
        "raise_rate_limit" => ("requests_per_minute", 100.0, 200.0, 50.0, 1.5),
        "scale_resources" => ("memory_mb", 128.0, 4096.0, 2048.0, 2.0),
        _ if intent.change.is_some() => return Some("change"),
        _ => return replayed(intent, case),
    };
    let Some(ValueChange { parameter, from, to }) = intent.change.clone() else { return Some("no change") };
    let within =
        to >= min && to <= max && from > 0.0 && (to - from).abs() <= step && to / from <= ratio && from / to <= ratio;
    if !within || parameter != name || case.value_before != Some(from) || to == from {
        return Some("range");
    }
    replayed(intent, case)
}

fn replayed(intent: &Intent, case: &Circumstances) -> Option<&'static str> {
    // The attempts that were made are long ago.
    let fresh = i64::from(intent.attempt) == i64::from(case.attempts) + 1 && !intent.incident_id.is_empty();
    (!fresh).then_some("replayed")
}

fn pick<'a>(chance: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(chance).expect("not empty")
}

/// One of the nine, as it is allowed.
fn allowed(chance: &mut StdRng) -> (Intent, Circumstances) {
    let kind = *ActionKind::ALL.choose(chance).expect("not empty");
    let change = match kind {
        ActionKind::RaiseRateLimit => {
            let from: i32 = chance.random_range(100..=199);
            Some(("requests_per_minute", from, chance.random_range(from + 1..=(from * 3 / 2).min(from + 50).min(200))))
        }
        ActionKind::ScaleResources => {
            let from = chance.random_range(128..=2048);
            Some(("memory_mb", from, chance.random_range(from + 1..=from * 2)))
        }
        _ => None,
    };
    let change =
        change.map(|(name, from, to)| ValueChange { parameter: name.to_owned(), from: from.into(), to: to.into() });
    let shared = [ActionKind::FunctionRecycle, ActionKind::ResetPool].contains(&kind);
    let organisation = pick(chance, &ORGANISATIONS).to_owned();
    let intent = Intent {
        incident_id: format!("incident-{}", chance.random::<u32>()),
        action: kind.name().to_owned(),
        target: pick(chance, &MODULES).to_owned(),
        organisation_id: (!shared || chance.random()).then_some(organisation),
        change: change.clone(),
        ..restart()
    };
    let severity = *Severity::ALL.choose(chance).expect("not empty");
    let tenants_affected = if shared { chance.random_range(1..500) } else { 1 };
    let value_before = change.map(|change| change.from);
    (intent, Circumstances { severity, tenants_affected, value_before, ..calm() })
}

/// Spoils it in one way, and says in which.
fn spoil(chance: &mut StdRng, intent: &mut Intent, case: &mut Circumstances) -> &'static str {
    match chance.random_range(0..16) {
        0 => {
            intent.action = pick(chance, &PROHIBITED_KINDS).to_owned();
            "prohibited kind"
        }
        1 => {
            intent.action = look_alike(chance, &intent.action);
            "look-alike kind"
        }
        2 => {
            intent.target = pick(chance, &PROHIBITED_TARGETS).to_owned();
            "prohibited target"
        }
        3 => {
            intent.target = pick(chance, &MALFORMED).to_owned();
            "malformed target"
        }
        4 => {
            intent.target = look_alike(chance, &intent.target);
            "look-alike target"
        }
        5 => {
            intent.target = "a".repeat(chance.random_range(129..5_000));
            "long target"
        }
        6 => {
            intent.organisation_id = Some(pick(chance, &NO_ORGANISATION).to_owned());
            "no organisation"
        }
        7 => {
            intent.organisation_id = Some(look_alike(chance, "org_1"));
            "look-alike organisation"
        }
        8 => {
            let shared = ["function_recycle", "reset_pool"].contains(&intent.action.as_str());
            case.tenants_affected = if shared { 0 } else { chance.random_range(2..1_000) };
            "cross-organisation"
        }
        9 => {
            let parameter = pick(chance, &PROHIBITED_PARAMETERS).to_owned();
            intent.change = Some(ValueChange { parameter, from: 100.0, to: 150.0 });
            case.value_before = Some(100.0);
            "prohibited parameter"
        }
        10 => spoil_number(chance, intent, case),
        11 => {
            case.value_before = None;
            if intent.change.is_none() {
                intent.change = Some(ValueChange { parameter: "memory_mb".to_owned(), from: 512.0, to: 1024.0 });
            }
            "unread value"
        }
        12 => {
            let scopes = [Scope::CodeMinor, Scope::CodeMajor, Scope::Schema, Scope::Architecture];
            case.scope = *scopes.choose(chance).expect("not empty");
            "scope"
        }
        13 => {
            case.attempts = chance.random_range(1..10);
            intent.attempt = chance.random_range(1..=case.attempts);
            case.last_attempt = Some(NOW - 1_000_000_000_000);
            "replayed"
        }
        14 => {
            intent.incident_id = String::new();
            "forged"
        }
        _ => {
            intent.attempt = [0, 2, 100, u32::MAX][chance.random_range(0..4)];
            "attempt out of order"
        }
    }
}

fn spoil_number(chance: &mut StdRng, intent: &mut Intent, case: &mut Circumstances) -> &'static str {
    let strange = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        -1.0,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        1e300,
        5e-324,
        99.999,
        4096.001,
    ];
    let number = *strange.choose(chance).expect("not empty");
    let mut change =
        intent.change.take().unwrap_or(ValueChange { parameter: "memory_mb".to_owned(), from: 512.0, to: 1024.0 });
    if chance.random() {
        change.to = number;
    } else {
        change.from = number;
        case.value_before = Some(number);
        // From 99.999 it would not be far to where it may go.
        change.to = 99.0;
    }
    intent.change = Some(change);
    "number out of range"
}

/// The same to the eye, or nearly.
fn look_alike(chance: &mut StdRng, text: &str) -> String {
    let replaced =
        [('a', 'а'), ('e', 'е'), ('o', 'о'), ('c', 'с'), ('i', 'і'), ('p', 'р'), ('-', '‐'), ('_', '＿'), ('1', '１')];
    let marks = ["\u{200b}", "\u{202e}", "\u{feff}", "\u{0301}", "\u{00ad}", "\0", "\t", " ", "\r\n"];
    let found: Vec<&(char, char)> = replaced.iter().filter(|(plain, _)| text.contains(*plain)).collect();
    match found.choose(chance) {
        Some((plain, other)) if chance.random() => text.replacen(*plain, &other.to_string(), 1),
        _ => format!("{text}{}", pick(chance, &marks)),
    }
}

/// What the generator asked for.
#[derive(Debug, Default)]
struct Hunt {
    /// How often each way to spoil was gone.
    ways: BTreeMap<&'static str, usize>,
    done: usize,
}

/// Shows so many intents to what decides; the first that the oracle sees otherwise is the error, with its number.
fn hunt(
    seed: u64,
    intents: usize,
    decide: impl Fn(usize, &Intent, &Circumstances) -> Decision,
) -> Result<Hunt, (usize, String)> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut hunt = Hunt::default();
    for number in 0..intents {
        let (mut intent, mut case) = allowed(&mut chance);
        let spoilt: Vec<&str> =
            (0..chance.random_range(0..=3)).map(|_| spoil(&mut chance, &mut intent, &mut case)).collect();
        spoilt.iter().for_each(|way| *hunt.ways.entry(way).or_default() += 1);
        let (judged, decision) = (prohibited(&intent, &case), decide(number, &intent, &case));
        // Two ways can undo each other: a replay and an attempt out of order may be the next attempt.
        let is_odd = spoilt.len() < 2 && judged.is_some() == spoilt.is_empty();
        let wrong = match (judged, decision.verdict) {
            _ if is_odd => "the oracle sees it otherwise",
            (Some(_), Verdict::Act | Verdict::Observe) => "prohibited, and allowed",
            (None, Verdict::Refuse | Verdict::Observe) => "allowed, and refused",
            (Some(_), Verdict::Refuse) | (None, Verdict::Act) => {
                hunt.done += usize::from(decision.verdict == Verdict::Act);
                continue;
            }
        };
        let told = format!("seed {seed}, intent {number}: {spoilt:?} {judged:?}\n{intent:?}\n{case:?}\n{decision:?}");
        return Err((number, format!("{wrong}: {told}")));
    }
    Ok(hunt)
}

fn seed() -> u64 {
    let seed = std::env::var("MATURION_ADVERSARIAL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_203);
    println!("MATURION_ADVERSARIAL_SEED={seed}");
    seed
}

#[test]
fn no_prohibited_intent_is_allowed() {
    let targets = MODULES.map(str::to_owned);
    let mut texts = PolicyTexts::shipped();
    texts.policy.text = super::tests::EVERYTHING.to_owned();
    let policies = [permissive(), Policy::compile(&texts, &targets).expect("usable")];
    let hunted = hunt(seed(), INTENTS, |number, intent, case| policies[number % 2].decide(intent, case));
    let Hunt { ways, done } = hunted.unwrap_or_else(|(_, told)| panic!("{told}"));
    assert!(done > INTENTS / 10, "{done} of {INTENTS} are allowed: the test asks for nothing");
    assert!(ways.len() == 16 && ways.values().all(|count| *count > INTENTS / 50), "{ways:?}");
}
