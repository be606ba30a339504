//! The plan's tables, row by row: what is decided about each row, against what the plan says, and the whole as text in
//! `tests/golden/decide`. `INSTA_UPDATE=always` rewrites the text; the expectations stand here.

use std::fmt::Write;

use super::tests::{calm, permissive, raise, restart, shipped};
use super::*;
use crate::model::action::ValueChange;

/// Compares with `tests/golden/decide/NAME.snap`.
macro_rules! golden {
    ($name:literal, $text:expr) => {
        insta::with_settings!(
            { snapshot_path => "../../tests/golden/decide", prepend_module_to_snapshot => false, omit_expression => true },
            { insta::assert_snapshot!($name, $text) }
        )
    };
}

fn verdict(decision: &Decision) -> String {
    let last = decision.reasons.last().expect("a reason");
    match decision.verdict {
        Verdict::Act => "act".to_owned(),
        Verdict::Observe => "observe".to_owned(),
        Verdict::Refuse => format!("refused at {:?}: {}", last.step, last.text),
    }
}

/// §2: every severity with every scope. Trivial is a restart, everything else a change of a rate limit.
#[test]
fn severity_and_scope() {
    let mut text = String::new();
    for (name, policy, allowed) in [
        ("the shipped policy: critical and high", shipped(), Severity::High),
        ("a policy that permits everything: the floor is left", permissive(), Severity::Low),
    ] {
        writeln!(text, "{name}").unwrap();
        for severity in Severity::ALL.into_iter().rev() {
            for scope in Scope::ALL {
                let (intent, case) = if scope == Scope::Trivial { (restart(), calm()) } else { raise(100.0, 150.0) };
                let decision = policy.decide(&intent, &Circumstances { severity, scope, ..case });
                let may = severity >= allowed && matches!(scope, Scope::Trivial | Scope::Configuration);
                assert_eq!(decision.verdict == Verdict::Act, may, "{} {}", severity.name(), scope.name());
                writeln!(text, "  {:8} {:13} | {}", severity.name(), scope.name(), verdict(&decision)).unwrap();
            }
        }
    }
    golden!("severity_and_scope", text);
}

fn intent(action: &str, target: &str, organisation: Option<&str>, change: Option<(&str, f64, f64)>) -> Intent {
    Intent {
        action: action.to_owned(),
        target: target.to_owned(),
        organisation_id: organisation.map(str::to_owned),
        change: change.map(|(parameter, from, to)| ValueChange { parameter: parameter.to_owned(), from, to }),
        ..restart()
    }
}

fn case(intent: &Intent) -> Circumstances {
    Circumstances { value_before: intent.change.as_ref().map(|change| change.from), ..calm() }
}

/// §3: the examples that are allowed, each with its sentence in the audit.
#[test]
fn allowed_examples() {
    let (policy, mut text) = (shipped(), String::new());
    let org = Some("org_12345");
    let rate = Some(("requests_per_minute", 100.0, 150.0));
    let examples = [
        ("Service Restart", intent("function_recycle", "threat-analysis", None, None), "timeout errors"),
        ("Cache Clear", intent("cache_clear", "risk-matrix", org, None), "stale data"),
        (
            "Resource Scaling",
            intent("scale_resources", "threat-analysis", org, Some(("memory_mb", 512.0, 1024.0))),
            "high usage",
        ),
        ("Rate Limit Adjustment", intent("raise_rate_limit", "threat-analysis", org, rate), "legitimate traffic"),
        ("Temporary Workaround", intent("enable_fallback", "external-api", org, None), "503 errors"),
    ];
    let sentences = [
        "Auto-restarted edge function 'threat-analysis' due to timeout errors",
        "Cleared cache for 'risk-matrix' due to stale data",
        "Increased edge function memory from 512MB to 1GB due to high usage",
        "Increased API rate limit from 100/min to 150/min for org_12345",
        "Enabled fallback mode for external-api due to 503 errors",
    ];
    for ((name, intent, reason), expected) in examples.into_iter().zip(sentences) {
        let decision = policy.decide(&intent, &case(&intent));
        assert_eq!(decision.verdict, Verdict::Act, "{name}: {}", verdict(&decision));
        let said = sentence(policy.action(&intent.action).expect("in the catalogue"), &intent, reason);
        assert_eq!(said, expected);
        writeln!(text, "{name}: {}\n  audit: {said}", verdict(&decision)).unwrap();
        for reason in decision.reasons {
            writeln!(text, "  {:12} {}", format!("{:?}", reason.step), reason.text).unwrap();
        }
    }
    golden!("allowed_examples", text);
}

/// §3: the examples that are prohibited, by their own names and by friendly ones, under a policy that permits everything.
#[test]
fn prohibited_examples() {
    let mut text = String::new();
    let org = Some("org_1");
    let examples = [
        ("Code Changes", intent("push_code", "threat-analysis", None, None), Scope::CodeMinor),
        ("Code Changes, as a restart", intent("function_recycle", "threat-analysis", None, None), Scope::CodeMinor),
        ("Database Schema Changes", intent("alter_table", "threat-analysis", None, None), Scope::Schema),
        ("Database Schema Changes, as a restart", intent("function_recycle", "pit", None, None), Scope::Schema),
        (
            "Database Schema Changes, as a limit",
            intent("raise_rate_limit", "pit", org, Some(("schema_version", 100.0, 150.0))),
            Scope::Configuration,
        ),
        (
            "Cross-Org Configuration",
            intent("raise_rate_limit", "pit", None, Some(("requests_per_minute", 100.0, 150.0))),
            Scope::Configuration,
        ),
        (
            "Cross-Org Configuration, as a list",
            intent("raise_rate_limit", "pit", Some("org_1,org_2"), Some(("requests_per_minute", 100.0, 150.0))),
            Scope::Configuration,
        ),
        ("Bypass Security", intent("disable_authentication", "auth", None, None), Scope::Configuration),
        ("Bypass Security, as a fallback", intent("enable_fallback", "auth", org, None), Scope::Configuration),
        (
            "Bypass Security, as a fallback elsewhere",
            intent("enable_fallback", "encryption", org, None),
            Scope::Trivial,
        ),
        ("Delete Data", intent("delete_data", "pit", org, None), Scope::Trivial),
        ("Delete Data, as a queue", intent("clear_queue", "tenant-data", org, None), Scope::Trivial),
    ];
    for (name, intent, scope) in examples {
        for policy in [shipped(), permissive()] {
            let decision = policy.decide(&intent, &Circumstances { scope, ..case(&intent) });
            assert_eq!(decision.verdict, Verdict::Refuse, "{name}");
        }
        let decision = permissive().decide(&intent, &Circumstances { scope, ..case(&intent) });
        writeln!(text, "{name} | {}", verdict(&decision)).unwrap();
    }
    golden!("prohibited_examples", text);
}

/// §8: every row. Two rows that the plan allows have no kind of their own: nothing offers them, so a person does them.
#[test]
fn allowed_scope() {
    let mut text = String::new();
    let org = Some("org_1");
    let memory = Some(("memory_mb", 512.0, 1024.0));
    let rate = Some(("requests_per_minute", 100.0, 150.0));
    let timeout = Some(("timeout_seconds", 10.0, 20.0));
    let allowed = [
        ("Restart services", intent("function_recycle", "exports", None, None), true),
        ("Clear caches", intent("cache_clear", "exports", org, None), true),
        ("Increase/decrease auto-scaling limits", intent("scale_resources", "exports", org, memory), true),
        ("Trigger garbage collection (no kind)", intent("collect_garbage", "exports", None, None), false),
        ("Adjust timeouts (no kind)", intent("adjust_timeout", "exports", org, timeout), false),
        ("Increase memory/CPU allocation", intent("scale_resources", "exports", org, memory), true),
        ("Enable/disable feature flags", intent("enable_fallback", "exports", org, None), true),
        ("Adjust rate limits temporarily", intent("raise_rate_limit", "exports", org, rate), true),
        ("Retry failed jobs", intent("retry_jobs", "exports", org, None), true),
        ("Clear stuck queues", intent("clear_queue", "exports", org, None), true),
        ("Reset connection pools", intent("reset_pool", "exports", org, None), true),
        ("Re-authenticate API integrations", intent("reauthenticate", "integrations", org, None), true),
    ];
    writeln!(text, "allowed, under the shipped policy").unwrap();
    for (name, intent, offered) in allowed {
        let decision = shipped().decide(&intent, &case(&intent));
        assert_eq!(decision.verdict == Verdict::Act, offered, "{name}: {}", verdict(&decision));
        writeln!(text, "  {name} | {}", verdict(&decision)).unwrap();
    }
    let limit = |parameter| Some((parameter, 100.0, 150.0));
    let prohibited = [
        ("Any code changes", intent("patch_code", "exports", None, None)),
        ("Dependency updates", intent("raise_rate_limit", "exports", org, limit("dependency_version"))),
        ("Configuration file changes", intent("write_file", "exports", None, None)),
        ("Delete any tenant data", intent("clear_queue", "tenant_data", org, None)),
        ("Modify database records", intent("retry_jobs", "database-records", org, None)),
        ("Run data migrations", intent("retry_jobs", "migrations", org, None)),
        ("Disable authentication or authorization", intent("enable_fallback", "authentication", org, None)),
        ("Change access control policies", intent("raise_rate_limit", "exports", org, limit("access_policy"))),
        ("Bypass security checks", intent("bypass_checks", "exports", None, None)),
        ("Change module boundaries", intent("move_boundary", "exports", None, None)),
        ("Modify integration contracts", intent("enable_fallback", "integration-contracts", org, None)),
        ("Add/remove cross-module dependencies", intent("cache_clear", "module-dependencies", org, None)),
    ];
    writeln!(text, "prohibited, under a policy that permits everything").unwrap();
    for (name, intent) in prohibited {
        let decision = permissive().decide(&intent, &case(&intent));
        assert_eq!(decision.verdict, Verdict::Refuse, "{name}");
        assert_eq!(decision.reasons.last().map(|reason| reason.step), Some(Step::Floor), "{name}");
        writeln!(text, "  {name} | {}", verdict(&decision)).unwrap();
    }
    golden!("allowed_scope", text);
}
