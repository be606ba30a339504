//! What inhibiting rules of other partitions have said, and whom that silences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::pipeline::{Micros, RuleName, Severity};
use crate::model::series::Series;
use crate::window::partial::Inhibition;

/// Firing series of inhibiting rules that a shard remembers; beyond it further ones silence nobody, which errs on the
/// side of saying too much.
const INHIBITING_SERIES_MAX: usize = 10_000;

/// From the end of a window on, this severity, or nothing any more. A shard that catches up hears several verdicts at
/// once and must know which of them a window stands under.
type History = Vec<(Micros, Option<Severity>)>;

/// What each inhibiting rule has said of each series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(super) struct Verdicts(BTreeMap<RuleName, BTreeMap<Series, History>>);

/// JSON has no maps whose keys are rules or series.
type Written = Vec<(RuleName, Vec<(Series, History)>)>;

impl From<Written> for Verdicts {
    fn from(written: Written) -> Self {
        Self(written.into_iter().map(|(rule, series)| (rule, series.into_iter().collect())).collect())
    }
}

impl From<Verdicts> for Written {
    fn from(verdicts: Verdicts) -> Self {
        verdicts.0.into_iter().map(|(rule, series)| (rule, series.into_iter().collect())).collect()
    }
}

impl Verdicts {
    pub(super) fn take(&mut self, inhibition: Inhibition) {
        let known = self.0.values().map(BTreeMap::len).sum::<usize>();
        let series = self.0.entry(inhibition.rule).or_default();
        if known < INHIBITING_SERIES_MAX || series.contains_key(&inhibition.series) {
            series.entry(inhibition.series).or_default().push((inhibition.since, inhibition.severity));
        }
    }

    /// Forgets verdicts on moments that every pipeline has left behind.
    pub(super) fn forget(&mut self, horizon: Micros) {
        for series in self.0.values_mut() {
            for verdicts in series.values_mut() {
                let passed = verdicts.iter().filter(|(since, _)| *since <= horizon).count();
                verdicts.drain(..passed.saturating_sub(1));
            }
            series.retain(|_, verdicts| !matches!(verdicts.as_slice(), [] | [(_, None)]));
        }
        self.0.retain(|_, series| !series.is_empty());
    }

    /// Up to which severity these rules silence a series, as they stood at `moment`.
    pub(super) fn silencing(&self, inhibitors: &[RuleName], series: &Series, moment: Micros) -> Option<Severity> {
        let firing = inhibitors.iter().filter_map(|inhibitor| self.0.get(inhibitor));
        let covering = firing.flatten().filter(|(wide, _)| wide.covers(series));
        covering.filter_map(|(_, verdicts)| verdicts.iter().rev().find(|(since, _)| *since <= moment)?.1).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::series::Label;

    #[test]
    fn series_beyond_the_limit_silence_nobody() {
        let rule = RuleName { pipeline: "wide".to_owned(), rule: "down".to_owned() };
        let series = |nth: usize| Series(vec![("module".to_owned(), Label::Int(nth as i64))]);
        let mut verdicts = Verdicts::default();
        for nth in 0..=INHIBITING_SERIES_MAX {
            let (rule, series, severity) = (rule.clone(), series(nth), Some(Severity::High));
            verdicts.take(Inhibition { rule, series, severity, since: 0 });
        }
        let silenced = |nth| verdicts.silencing(std::slice::from_ref(&rule), &series(nth), 0);
        assert_eq!(silenced(INHIBITING_SERIES_MAX - 1), Some(Severity::High));
        assert_eq!(silenced(INHIBITING_SERIES_MAX), None);
    }
}
