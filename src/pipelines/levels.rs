//! The levels of one rule: severities, limits and how long each must be broken.

use std::time::Duration;

use crate::config::document::{DocumentError, Origin, Table};
use crate::model::pipeline::{Direction, Level, Micros, Severity, Technique};

use super::file::micros;
use super::rule::{Names, named};

const SEVERITIES: &Names<Severity> =
    &[("critical", Severity::Critical), ("high", Severity::High), ("medium", Severity::Medium), ("low", Severity::Low)];
const DIRECTIONS: &Names<Direction> =
    &[("above", Direction::Above), ("below", Direction::Below), ("both", Direction::Both)];

/// The levels, from the most severe, and the direction in which they lie.
pub(super) fn levels(table: &mut Table, technique: Technique) -> Result<(Vec<Level>, Direction), DocumentError> {
    let for_ = micros(table.duration("for")?, "for", Duration::ZERO)?;
    let direction = named(table, "direction", DIRECTIONS)?;
    if technique == Technique::NewFingerprint {
        let severity = severity(table)?;
        return Ok((vec![Level { severity, limit: 0.0, for_ }], Direction::Above));
    }
    let origin = table.origin_of("levels").clone();
    let written = if table.has("levels") {
        if let Some(key) = ["above", "below", "severity"].into_iter().find(|key| table.has(key)) {
            return Err(table
                .origin_of(key)
                .error(format!("`{key}` and `levels` exclude each other; move it into a level")));
        }
        let mut levels = table.tables("levels")?;
        for level in &levels {
            level.allow_only(&["severity", "above", "below", "for"])?;
        }
        levels.iter_mut().map(|table| level(table, for_)).collect::<Result<Vec<_>, _>>()?
    } else {
        vec![level(table, for_)?]
    };
    let side =
        written.first().map(|(_, side)| *side).ok_or_else(|| origin.error("`levels` is empty; give at least one"))?;
    if written.iter().any(|(_, other)| *other != side) {
        return Err(origin.error("`levels` must all be `above` or all be `below`"));
    }
    let levels: Vec<Level> = written.into_iter().map(|(level, _)| level).collect();
    check_order(&levels, side, &origin)?;
    if technique.has_baseline() && levels.iter().any(|level| level.limit <= 0.0) {
        return Err(origin.error(format!("the limit of a {} must be above 0", technique.name())));
    }
    match direction {
        Some(Direction::Both) => Ok((levels, Direction::Both)),
        Some(other) if other != side => Err(origin.error("`direction` contradicts `above` or `below`; remove it")),
        _ => Ok((levels, side)),
    }
}

fn level(table: &mut Table, for_default: Micros) -> Result<(Level, Direction), DocumentError> {
    let (above, below) = (table.number("above")?, table.number("below")?);
    let (limit, side) = match (above, below) {
        (Some(limit), None) => (limit.value, Direction::Above),
        (None, Some(limit)) => (limit.value, Direction::Below),
        (Some(_), Some(below)) => return Err(below.origin.error("`above` and `below` exclude each other")),
        (None, None) => return Err(table.missing("above` or `below")),
    };
    let for_ = match table.duration("for")? {
        None => for_default,
        written => micros(written, "for", Duration::ZERO)?,
    };
    Ok((Level { severity: severity(table)?, limit, for_ }, side))
}

fn severity(table: &mut Table) -> Result<Severity, DocumentError> {
    named(table, "severity", SEVERITIES)?.ok_or_else(|| table.missing("severity"))
}

fn check_order(levels: &[Level], side: Direction, origin: &Origin) -> Result<(), DocumentError> {
    let in_order = levels.windows(2).all(|pair| match pair {
        [worse, milder] => {
            let stricter =
                if side == Direction::Below { worse.limit < milder.limit } else { worse.limit > milder.limit };
            worse.severity > milder.severity && stricter
        }
        _ => true,
    });
    if in_order {
        return Ok(());
    }
    Err(origin
        .error("`levels` must go from the most to the least severe, each with a milder limit than the one before"))
}
