//! The ten questions between an intent and its effect, in their order. Each says in words why it is passed, or why not.

use sha2::{Digest, Sha256};

use super::catalogue::Budget;
use super::permission::Permissions;
use super::{Circumstances, EVERYONE, floor as names};
use crate::model::action::{Action, Intent, Mode, Parameter, ValueChange};
use crate::model::pipeline::{Micros, Scope};

const MINUTE: Micros = 60_000_000;

/// Attempts without a proof in one incident, after which only a person goes on. More would repeat what does not help.
pub const ATTEMPTS_MAX: u32 = 3;
/// How long to wait after the first, the second and every further attempt, before the jitter.
const BACKOFF: [Micros; 3] = [MINUTE, 4 * MINUTE, 16 * MINUTE];
/// The jitter adds at most this share of the wait: one part in so many.
const JITTER_PART: Micros = 4;
/// Attempts in a row without a proof that open the breaker of an action on a module.
pub const BREAKER_OPENS_AT: u32 = 2;
/// How long after the last of them one more may be tried. Shorter repeats sooner what did not help.
pub const BREAKER_HALF_OPENS_AFTER: Micros = 30 * MINUTE;
/// Beyond this share of unhealthy modules it is the detector or the platform that is wrong, not the modules.
const UNHEALTHY_PERCENT_MAX: u64 = 40;

/// Why a step is passed, or why it is not.
type Answer = Result<String, String>;

/// 1. Does anybody want anything done at all?
pub(super) fn gate(case: &Circumstances) -> Answer {
    if case.kill_switch {
        return Err("the kill switch is on".to_owned());
    }
    if let Some(silence) = &case.silenced_by {
        return Err(format!("silenced by {}", names::shown(silence)));
    }
    Ok(match case.mode {
        Mode::Act => "the mode is act, and nothing is silenced",
        Mode::Observe => "the mode is observe: it is decided, and not done",
    }
    .to_owned())
}

/// 2. Is what was seen to be believed?
pub(super) fn signal(case: &Circumstances) -> Answer {
    let doubts = [
        (case.flapping, "the signal is flapping"),
        (!case.window_complete, "the window is not complete"),
        (!case.baseline_warm, "the baseline has not learnt enough"),
    ];
    match doubts.into_iter().find(|(doubtful, _)| *doubtful) {
        Some((_, doubt)) => Err(doubt.to_owned()),
        None => Ok("the signal is steady, its window complete, its baseline warm".to_owned()),
    }
}

/// 3. The floor: what no policy permits. The kind is one of a closed list already.
pub(super) fn floor(action: &Action, targets: &[String], intent: &Intent, case: &Circumstances) -> Answer {
    let is_small = |scope: Scope| matches!(scope, Scope::Trivial | Scope::Configuration);
    if !is_small(case.scope) || !is_small(action.scope) {
        let scope = if is_small(case.scope) { action.scope } else { case.scope };
        return Err(format!("the scope is {}: that is for people", scope.name()));
    }
    let scope = stricter_scope(action, case);
    if scope == Scope::Configuration && !action.pre_approved {
        return Err("it changes configuration, and nobody approved that in advance".to_owned());
    }
    if !action.low_risk {
        return Err("it is not of low risk".to_owned());
    }
    if !action.reversible {
        return Err("it cannot be taken back".to_owned());
    }
    names::target_name(&intent.target)?;
    let is_known = if targets.is_empty() { case.target_seen } else { targets.binary_search(&intent.target).is_ok() };
    if !is_known {
        return Err(format!("the target {} is not one of the known modules", names::shown(&intent.target)));
    }
    if let Some(change) = &intent.change {
        names::parameter_name(&change.parameter)?;
    }
    match &intent.organisation_id {
        Some(organisation) => names::organisation(organisation)?,
        None if action.tenant_specific => return Err("it concerns one organisation, and none is named".to_owned()),
        None if scope == Scope::Configuration => {
            return Err("it changes configuration for more than one organisation".to_owned());
        }
        None => {}
    }
    Ok(format!("{}, of low risk, reversible, on a known module", scope.name()))
}

/// A change counts as configuration if either the rule or the catalogue says so.
fn stricter_scope(action: &Action, case: &Circumstances) -> Scope {
    if action.scope == Scope::Configuration { action.scope } else { case.scope }
}

/// 4. Does the policy permit it?
pub(super) fn permit(permissions: &Permissions, action: &Action, intent: &Intent, case: &Circumstances) -> Answer {
    permissions.ask(action.kind, stricter_scope(action, case), intent, case)
}

/// 5. Is the number within what was approved, and does it start from what is there?
pub(super) fn range(parameter: Option<&Parameter>, change: Option<&ValueChange>, case: &Circumstances) -> Answer {
    let (parameter, change) = match (parameter, change) {
        (None, None) => return Ok("it changes no number".to_owned()),
        (None, Some(_)) => return Err("it names a number, and the action changes none".to_owned()),
        (Some(parameter), None) => return Err(format!("it does not say which {}", parameter.name)),
        (Some(parameter), Some(change)) => (parameter, change),
    };
    let ValueChange { parameter: name, from, to } = change;
    if *name != parameter.name {
        return Err(format!("it changes {}, and the action changes {}", names::shown(name), parameter.name));
    }
    let is_number = |value: f64| value.is_finite() && value > 0.0;
    if !is_number(*from) || !is_number(*to) {
        return Err(format!("{from} to {to} is not a change from one positive number to another"));
    }
    if case.value_before != Some(*from) {
        let read = case.value_before.map_or("nobody has read it".to_owned(), |value| format!("{value} was read"));
        return Err(format!("it starts from {from}, and {read}"));
    }
    let (step, ratio) = ((to - from).abs(), (to / from).max(from / to));
    let Parameter { min, max, step_max, ratio_max, unit, .. } = parameter;
    if !(*min..=*max).contains(to) {
        return Err(format!("{to}{unit} is not within {min} to {max}"));
    }
    if step == 0.0 {
        return Err(format!("it is {to}{unit} already"));
    }
    if step > *step_max {
        return Err(format!("{from} to {to}{unit} is a larger step than {step_max}"));
    }
    if ratio > *ratio_max {
        return Err(format!("{from} to {to}{unit} is a larger ratio than {ratio_max}"));
    }
    Ok(format!("{from} to {to}{unit} is within {min} to {max}"))
}

/// 6. Is this the next attempt, once, and not too soon?
pub(super) fn key(intent: &Intent, case: &Circumstances) -> Answer {
    if intent.incident_id.is_empty() {
        return Err("it belongs to no incident".to_owned());
    }
    if case.locked || case.attempts_unverified >= ATTEMPTS_MAX {
        return Err("it is locked until a person clears it".to_owned());
    }
    if Some(intent.attempt) != case.attempts.checked_add(1) {
        return Err(format!("it is attempt {}, and {} were made", intent.attempt, case.attempts));
    }
    if case.attempts == 0 {
        return Ok("the first attempt".to_owned());
    }
    let Some(last) = case.last_attempt else {
        return Err("nobody knows when the last attempt was".to_owned());
    };
    let wait = not_before(intent, last).saturating_sub(case.now);
    if wait > 0 {
        return Err(format!("too soon after the last attempt: {} s to wait", seconds(wait)));
    }
    Ok(format!("attempt {}, long enough after the last", intent.attempt))
}

/// When an attempt after the first may begin, given when the last one did: 1, 4, then 16 minutes later, and up to a quarter of
/// that, which depends on the intent, so that many incidents of one moment do not try again in one moment.
pub fn not_before(intent: &Intent, last_attempt: Micros) -> Micros {
    let made = intent.attempt.saturating_sub(1).clamp(1, BACKOFF.len() as u32);
    let wait = BACKOFF.get(made as usize - 1).copied().unwrap_or(MINUTE);
    let hash: [u8; 32] = Sha256::digest(intent.key().as_bytes()).into();
    let chance = hash.iter().take(4).fold(0, |number: Micros, byte| (number << 8) | Micros::from(*byte));
    let jitter = (wait / JITTER_PART * chance) >> 32;
    last_attempt.saturating_add(wait).saturating_add(jitter)
}

/// 7. Does somebody else work on the target?
pub(super) fn lease(intent: &Intent, case: &Circumstances) -> Answer {
    match &case.lease {
        Some(lease) if lease.until > case.now && lease.holder != intent.key() => Err(format!(
            "the target is leased to {} for {} s",
            lease.holder,
            seconds(lease.until.saturating_sub(case.now))
        )),
        _ => Ok("nobody else works on the target".to_owned()),
    }
}

/// 8. Was enough done within the hour, or the same just now?
pub(super) fn budget(budget: &Budget, action: &Action, case: &Circumstances) -> Answer {
    let done = &case.actions_last_hour;
    let budgets = [
        (done.target, budget.target, "on the target"),
        (done.action, budget.action, "of the kind"),
        (done.organisation, budget.organisation, "for the organisation"),
        (done.overall, budget.overall, "overall"),
    ];
    if let Some((done, limit, what)) = budgets.into_iter().find(|(done, limit, _)| done >= limit) {
        return Err(format!("{done} of {limit} actions of an hour {what} are spent"));
    }
    let rest = case.last_on_target.map_or(0, |last| last.saturating_add(action.cooldown).saturating_sub(case.now));
    if rest > 0 {
        return Err(format!("the target cools down for {} s", seconds(rest)));
    }
    Ok("within the budgets of the hour, and cooled down".to_owned())
}

/// 9. Has it helped here, or not yet failed too often?
pub(super) fn breaker(case: &Circumstances) -> Answer {
    let failed = case.unverified_in_a_row;
    if failed < BREAKER_OPENS_AT {
        return Ok("the breaker is closed".to_owned());
    }
    let half_open = case.last_unverified.map(|last| last.saturating_add(BREAKER_HALF_OPENS_AFTER));
    match half_open {
        Some(at) if at <= case.now => Ok(format!("the breaker is half open after {failed} without a proof: one try")),
        _ => Err(format!("the breaker is open: {failed} in a row without a proof that it helped")),
    }
}

/// 10. Does it touch no more than it should, and is the platform well enough to be touched?
pub(super) fn blast_radius(action: &Action, case: &Circumstances) -> Answer {
    let Circumstances { tenants_affected: tenants, unhealthy_modules: unhealthy, modules, .. } = *case;
    let is_for_one = action.tenant_specific || stricter_scope(action, case) == Scope::Configuration;
    if tenants == 0 {
        return Err("nobody knows how many organisations it touches".to_owned());
    }
    let touched = if tenants == EVERYONE { "all".to_owned() } else { tenants.to_string() };
    if is_for_one && tenants > 1 {
        return Err(format!("it is for one organisation and would touch {touched}"));
    }
    if modules == 0 || u64::from(unhealthy) * 100 > u64::from(modules) * UNHEALTHY_PERCENT_MAX {
        return Err(format!("{unhealthy} of {modules} modules are unhealthy: it is not the modules that are wrong"));
    }
    Ok(format!("organisations that it touches: {touched}; unhealthy modules: {unhealthy} of {modules}"))
}

/// Rounded up, so that nobody comes a moment too early.
fn seconds(micros: Micros) -> Micros {
    micros.div_euclid(1_000_000) + Micros::from(micros.rem_euclid(1_000_000) > 0)
}
