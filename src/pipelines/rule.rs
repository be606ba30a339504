//! One `[[rule]]` of a pipeline's file.

use std::time::Duration;

use crate::config::document::{DocumentError, Located, Origin, Table, suggestion};
use crate::model::pipeline::{Evaluate, Remedy, Rule, RuleName, SERIES_LIMIT, Scope, Technique};

use super::file::{check_name, column, micros, required};
use super::levels::levels;

const DEFAULT_CLEAR_FOR: Duration = Duration::from_secs(5 * 60);
/// 80 % of the trigger, so that a measure at the limit does not open and resolve in turns.
const DEFAULT_RECOVERY: f64 = 0.8;
/// An hour of one-minute windows.
const DEFAULT_WARMUP_WINDOWS: u64 = 60;

/// Names in files and what they mean.
pub(super) type Names<T> = [(&'static str, T)];

const SCOPES: &Names<Scope> = &[
    ("trivial", Scope::Trivial),
    ("configuration", Scope::Configuration),
    ("code_minor", Scope::CodeMinor),
    ("code_major", Scope::CodeMajor),
    ("schema", Scope::Schema),
    ("architecture", Scope::Architecture),
];
const EVALUATES: &Names<Evaluate> = &[("on_close", Evaluate::OnClose), ("continuous", Evaluate::Continuous)];
const TECHNIQUES: &Names<Technique> = &[
    ("threshold", Technique::Threshold),
    ("ratio", Technique::Ratio),
    ("zscore", Technique::Zscore { robust: true }),
    ("new_fingerprint", Technique::NewFingerprint),
];

const KEYS: [&str; 21] = [
    "name",
    "technique",
    "measure",
    "above",
    "below",
    "levels",
    "severity",
    "samples",
    "min_samples",
    "rate",
    "for",
    "clear_for",
    "recovery",
    "direction",
    "min_effect",
    "warmup_windows",
    "robust",
    "evaluate",
    "scope",
    "remedy",
    "inhibits",
];

/// Where the parts of a rule are written that other rules and pipelines can contradict.
pub(super) struct Origins {
    pub name: Origin,
    pub inhibits: Origin,
}

/// Reads one rule of `pipeline`, whose statement gives `columns`.
pub(super) fn read(mut table: Table, pipeline: &str, columns: &[&str]) -> Result<(Rule, Origins), DocumentError> {
    table.allow_only(&KEYS)?;
    let name = required(&mut table, "name")?;
    check_name(&name)?;
    if name.value == SERIES_LIMIT {
        return Err(name.origin.error(format!("`name` may not be \"{SERIES_LIMIT}\", a rule that every pipeline has")));
    }
    let technique = technique(&mut table)?;
    check_keys_fit(&table, technique)?;
    let measure = required(&mut table, "measure")?;
    let measure = column(&measure.value, "measure", &measure.origin, columns)?;
    let (samples, min_samples, rate) = evidence(&mut table, columns)?;
    let (levels, direction) = levels(&mut table, technique)?;
    let (inhibits, inhibits_origin) = inhibits(&mut table, pipeline)?;
    let rule = Rule {
        name: name.value,
        technique,
        measure,
        levels,
        direction,
        samples,
        min_samples,
        rate,
        clear_for: micros(table.duration("clear_for")?, "clear_for", DEFAULT_CLEAR_FOR)?,
        recovery: recovery(&mut table)?,
        min_effect: not_negative(&mut table, "min_effect")?,
        evaluate: named(&mut table, "evaluate", EVALUATES)?.unwrap_or(Evaluate::OnClose),
        warmup_windows: table.count("warmup_windows")?.map_or(DEFAULT_WARMUP_WINDOWS, |count| count.value),
        scope: named(&mut table, "scope", SCOPES)?.unwrap_or(Scope::Trivial),
        remedy: remedy(&mut table)?,
        inhibits,
    };
    Ok((rule, Origins { name: name.origin, inhibits: inhibits_origin }))
}

/// Takes one of a few words.
pub(super) fn named<T: Copy>(table: &mut Table, key: &str, names: &Names<T>) -> Result<Option<T>, DocumentError> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    match names.iter().find(|(name, _)| *name == text.value) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let hint = suggestion(&text.value, &known);
            Err(text.origin.error(format!("unknown {key} \"{}\"; {hint}", text.value)))
        }
    }
}

fn technique(table: &mut Table) -> Result<Technique, DocumentError> {
    let technique = named(table, "technique", TECHNIQUES)?.ok_or_else(|| table.missing("technique"))?;
    let origin = table.origin_of("robust").clone();
    match (technique, table.boolean("robust")?) {
        (Technique::Zscore { .. }, Some(robust)) => Ok(Technique::Zscore { robust: robust.value }),
        (other, Some(_)) => Err(origin.error(format!("`robust` means nothing to {}; remove it", other.name()))),
        (technique, None) => Ok(technique),
    }
}

/// A key that the technique ignores is a misunderstanding, not a decoration.
fn check_keys_fit(table: &Table, technique: Technique) -> Result<(), DocumentError> {
    let ignored: &[&str] = match technique {
        Technique::NewFingerprint => &["above", "below", "levels", "rate", "recovery", "direction", "min_effect"],
        Technique::Threshold => &["direction", "min_effect", "warmup_windows"],
        Technique::Ratio | Technique::Zscore { .. } => &["rate"],
    };
    match ignored.iter().find(|key| table.has(key)) {
        Some(key) => {
            Err(table.origin_of(key).error(format!("`{key}` means nothing to {}; remove it", technique.name())))
        }
        None => Ok(()),
    }
}

/// What counts as evidence: the column, how much of it a row needs, and whether the measure is a share of it.
fn evidence(table: &mut Table, columns: &[&str]) -> Result<(Option<String>, u64, bool), DocumentError> {
    let samples = match table.text("samples")? {
        Some(samples) => Some(column(&samples.value, "samples", &samples.origin, columns)?),
        None => None,
    };
    let (min_samples, rate) = (table.count("min_samples")?, table.boolean("rate")?);
    if samples.is_none() {
        let needing = [min_samples.as_ref().map(|it| &it.origin), rate.as_ref().map(|it| &it.origin)];
        if let Some(origin) = needing.into_iter().flatten().next() {
            return Err(origin.error("`min_samples` and `rate` need `samples`, the column that counts the evidence"));
        }
    }
    let least = u64::from(samples.is_some());
    Ok((samples, min_samples.map_or(least, |count| count.value), rate.is_some_and(|rate| rate.value)))
}

fn recovery(table: &mut Table) -> Result<f64, DocumentError> {
    match table.number("recovery")? {
        Some(share) if !(share.value > 0.0 && share.value <= 1.0) => {
            Err(share.origin.error(format!("`recovery` must be above 0 and at most 1, not {}", share.value)))
        }
        Some(share) => Ok(share.value),
        None => Ok(DEFAULT_RECOVERY),
    }
}

fn not_negative(table: &mut Table, key: &str) -> Result<f64, DocumentError> {
    match table.number(key)? {
        Some(number) if number.value < 0.0 => {
            Err(number.origin.error(format!("`{key}` may not be negative, as {} is", number.value)))
        }
        number => Ok(number.map_or(0.0, |number| number.value)),
    }
}

fn remedy(table: &mut Table) -> Result<Option<Remedy>, DocumentError> {
    let Some(action) = table.text("remedy")? else { return Ok(None) };
    check_name(&action)?;
    Ok(Some(Remedy { action: action.value }))
}

fn inhibits(table: &mut Table, pipeline: &str) -> Result<(Vec<RuleName>, Origin), DocumentError> {
    let origin = table.origin_of("inhibits").clone();
    let names: Option<Located<Vec<String>>> = table.texts("inhibits")?;
    let full = |name: String| match name.split_once('.') {
        Some((pipeline, rule)) => RuleName { pipeline: pipeline.to_owned(), rule: rule.to_owned() },
        None => RuleName { pipeline: pipeline.to_owned(), rule: name },
    };
    Ok((names.map_or(vec![], |names| names.value.into_iter().map(full).collect()), origin))
}
