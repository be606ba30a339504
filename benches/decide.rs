//! Decisions per second on one core. Run: `cargo bench --bench decide`.

#![allow(clippy::expect_used, reason = "a benchmark may fail loudly")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maturion::config::PolicyTexts;
use maturion::decide::{Circumstances, Policy, Verdict};
use maturion::model::action::{Intent, Mode, ValueChange};
use maturion::model::pipeline::{Scope, Severity};

/// Different intents, so that no cache of one flatters the number.
const INTENTS: usize = 1_000;

fn intent(number: usize) -> Intent {
    Intent {
        incident_id: format!("incident-{number}"),
        action: "raise_rate_limit".to_owned(),
        target: format!("module-{}", number % 40),
        organisation_id: Some(format!("org_{}", number % 12)),
        attempt: 2,
        change: Some(ValueChange { parameter: "requests_per_minute".to_owned(), from: 100.0, to: 150.0 }),
    }
}

/// A case in which every step is passed, an earlier attempt included.
fn allowed() -> Circumstances {
    Circumstances {
        now: 1_764_756_000_000_000,
        mode: Mode::Act,
        severity: Severity::High,
        scope: Scope::Configuration,
        window_complete: true,
        baseline_warm: true,
        target_seen: true,
        tenants_affected: 1,
        value_before: Some(100.0),
        attempts: 1,
        attempts_unverified: 1,
        unverified_in_a_row: 1,
        last_attempt: Some(0),
        last_unverified: Some(0),
        modules: 40,
        unhealthy_modules: 1,
        ..Circumstances::default()
    }
}

fn decide(criterion: &mut Criterion) {
    let policy = Policy::compile(&PolicyTexts::shipped(), &[]).expect("the shipped policy");
    let intents: Vec<Intent> = (0..INTENTS).map(intent).collect();
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(INTENTS as u64));
    let cases = [
        ("allowed, all ten steps", allowed(), Verdict::Act),
        ("refused by the policy", Circumstances { severity: Severity::Low, ..allowed() }, Verdict::Refuse),
    ];
    for (name, case, expected) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for intent in &intents {
                    assert_eq!(black_box(policy.decide(intent, &case)).verdict, expected);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
