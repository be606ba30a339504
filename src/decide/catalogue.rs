//! The catalogue, `actions.toml`: what can be done at all, how far, and how often.
//!
//! A catalogue describes; it allows nothing. What it claims of an action (`low_risk`, `reversible`, …) the floor asks for,
//! and what it may not describe at all, such as a change of access control, is refused when it is read.

use std::time::Duration;

use crate::config::NamedText;
use crate::config::document::{DocumentError, Located, Table, suggestion};
use crate::model::action::{Action, ActionKind, Parameter};
use crate::model::pipeline::{Micros, Scope};

use super::floor;

mod adapter;

/// The longest that an action may settle, prove itself, cool down or last.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most actions an hour that a budget may name; more is no budget.
const BUDGET_MAX: u64 = 10_000;
/// The largest text of a title or of a sentence of the audit, in bytes: each entry of the audit carries one.
const TEXT_BYTES_MAX: usize = 500;

/// What the catalogue says.
#[derive(Clone, Debug)]
pub(super) struct Catalogue {
    /// At most one of each kind.
    pub actions: Vec<Action>,
    pub budget: Budget,
}

/// How many actions may be begun within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub target: u32,
    pub action: u32,
    pub organisation: u32,
    pub overall: u32,
}

impl Catalogue {
    pub(super) fn read(file: &NamedText) -> Result<Catalogue, DocumentError> {
        let mut root = Table::parse(&file.name, &file.text)?;
        root.allow_only(&["budget", "action"])?;
        let budget = budget(root.section("budget")?)?;
        let mut actions: Vec<Action> = vec![];
        for table in root.tables("action")? {
            let origin = table.origin_of("kind").clone();
            let action = action(table)?;
            if actions.iter().any(|other| other.kind == action.kind) {
                return Err(origin.error(format!("`{}` stands here already; remove one of them", action.kind.name())));
            }
            actions.push(action);
        }
        Ok(Catalogue { actions, budget })
    }

    pub(super) fn action(&self, kind: ActionKind) -> Option<&Action> {
        self.actions.iter().find(|action| action.kind == kind)
    }
}

fn budget(mut table: Table) -> Result<Budget, DocumentError> {
    table.allow_only(&["target_per_hour", "action_per_hour", "organisation_per_hour", "overall_per_hour"])?;
    let mut limit = |key: &str| {
        let count = table.count(key)?.ok_or_else(|| table.missing(key))?;
        match u32::try_from(count.value) {
            Ok(limit) if count.value <= BUDGET_MAX => Ok(limit),
            _ => Err(count.origin.error(format!("`{key}` must be from 0 to {BUDGET_MAX}, not {}", count.value))),
        }
    };
    Ok(Budget {
        target: limit("target_per_hour")?,
        action: limit("action_per_hour")?,
        organisation: limit("organisation_per_hour")?,
        overall: limit("overall_per_hour")?,
    })
}

fn action(mut table: Table) -> Result<Action, DocumentError> {
    table.allow_only(&[
        "kind",
        "title",
        "audit",
        "scope",
        "pre_approved",
        "low_risk",
        "reversible",
        "tenant_specific",
        "idempotent",
        "settle",
        "verify_within",
        "cooldown",
        "expires_after",
        "parameter",
        "http",
        "command",
    ])?;
    let kind = kind(&mut table)?;
    let scope = scope(&mut table)?;
    let tenant_specific = flag(&mut table, "tenant_specific")?;
    let parameter = if table.has("parameter") { Some(parameter(table.section("parameter")?)?) } else { None };
    let adapter = adapter::read(&mut table, tenant_specific, parameter.is_some())?;
    Ok(Action {
        kind,
        title: sentence(&mut table, "title")?,
        audit: audit(&mut table)?,
        scope,
        pre_approved: table.boolean("pre_approved")?.is_some_and(|it| it.value),
        low_risk: flag(&mut table, "low_risk")?,
        reversible: flag(&mut table, "reversible")?,
        tenant_specific,
        parameter,
        settle: length(&mut table, "settle")?,
        verify_within: length(&mut table, "verify_within")?,
        cooldown: length(&mut table, "cooldown")?,
        expires_after: if table.has("expires_after") { Some(length(&mut table, "expires_after")?) } else { None },
        idempotent: table.boolean("idempotent")?.is_some_and(|it| it.value),
        adapter,
    })
}

/// Takes a text that must be there.
fn required(table: &mut Table, key: &str) -> Result<Located<String>, DocumentError> {
    table.text(key)?.ok_or_else(|| table.missing(key))
}

fn kind(table: &mut Table) -> Result<ActionKind, DocumentError> {
    let text = required(table, "kind")?;
    ActionKind::from_name(&text.value).ok_or_else(|| {
        let hint = suggestion(&text.value, &ActionKind::ALL.map(ActionKind::name));
        text.origin.error(format!("unknown kind \"{}\"; {hint}", text.value))
    })
}

fn scope(table: &mut Table) -> Result<Scope, DocumentError> {
    let text = required(table, "scope")?;
    Scope::from_name(&text.value).ok_or_else(|| {
        let hint = suggestion(&text.value, &Scope::ALL.map(Scope::name));
        text.origin.error(format!("unknown scope \"{}\"; {hint}", text.value))
    })
}

fn flag(table: &mut Table, key: &str) -> Result<bool, DocumentError> {
    table.boolean(key)?.map(|flag| flag.value).ok_or_else(|| table.missing(key))
}

fn sentence(table: &mut Table, key: &str) -> Result<String, DocumentError> {
    let text = required(table, key)?;
    if text.value.trim().is_empty() || text.value.len() > TEXT_BYTES_MAX || text.value.contains(char::is_control) {
        return Err(text.origin.error(format!("`{key}` must be one line of 1 to {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text.value)
}

fn audit(table: &mut Table) -> Result<String, DocumentError> {
    let origin = table.origin_of("audit").clone();
    let text = sentence(table, "audit")?;
    match super::sentence::unknown_place(&text) {
        Some(place) => Err(origin
            .error(format!("`audit` has an unknown place {place}; known are {}", super::sentence::PLACES.join(", ")))),
        None => Ok(text),
    }
}

/// A length of time that is not zero.
fn length(table: &mut Table, key: &str) -> Result<Micros, DocumentError> {
    let length = table.duration(key)?.ok_or_else(|| table.missing(key))?;
    if length.value.is_zero() || length.value > LONGEST {
        return Err(length.origin.error(format!("`{key}` must be more than 0s and 30 days at most")));
    }
    Ok(length.value.as_micros() as Micros)
}

fn parameter(mut table: Table) -> Result<Parameter, DocumentError> {
    table.allow_only(&["name", "unit", "factor", "min", "max", "step_max", "ratio_max"])?;
    let name = required(&mut table, "name")?;
    floor::parameter_name(&name.value).map_err(|reason| name.origin.error(reason))?;
    let unit = required(&mut table, "unit")?.value;
    let origin = table.origin.clone();
    let mut number = |key: &str| table.number(key)?.map(|number| number.value).ok_or_else(|| table.missing(key));
    let parameter = Parameter {
        name: name.value,
        unit,
        factor: number("factor")?,
        min: number("min")?,
        max: number("max")?,
        step_max: number("step_max")?,
        ratio_max: number("ratio_max")?,
    };
    let sensible = parameter.factor > 0.0
        && parameter.min > 0.0
        && parameter.min < parameter.max
        && parameter.step_max > 0.0
        && parameter.ratio_max > 1.0;
    if sensible {
        Ok(parameter)
    } else {
        Err(origin
            .error("[parameter] needs 0 < `min` < `max`, and `factor` and `step_max` above 0, and `ratio_max` above 1"))
    }
}
