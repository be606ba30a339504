//! Two versions of the pipelines over the same history: what fired with one and not with the other.
//!
//! Two episodes are the same if they have the same detection id: the same rule, series and first window in breach.

use std::collections::BTreeMap;

use super::episodes::Episode;
use crate::model::pipeline::RuleName;

/// Episodes of one version only that are kept to be listed; further ones are counted. Each takes a few hundred bytes.
const LISTED_MAX: usize = 200_000;

/// What the versions have said so far.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    rules: BTreeMap<RuleName, Counts>,
    /// Episodes that only one version has had so far, with its place.
    unmatched: BTreeMap<String, (usize, Episode)>,
    /// Episodes that were not compared because too many differ.
    untold: u64,
}

/// How often a rule fired with each version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    fired: [u64; 2],
}

/// The difference in one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDifference {
    pub rule: RuleName,
    /// How often it fired with the first version, and with the second.
    pub before: u64,
    pub now: u64,
    /// Episodes of the first version only, by the time at which they opened.
    pub gone: Vec<Episode>,
    /// Episodes of the second version only.
    pub new: Vec<Episode>,
}

impl Comparison {
    /// Takes an episode of the first version (0) or of the second (1).
    pub fn take(&mut self, version: usize, episode: Episode) {
        if let Some(fired) = self.rules.entry(episode.rule.clone()).or_default().fired.get_mut(version) {
            *fired += 1;
        }
        match self.unmatched.get(&episode.detection_id) {
            Some((other, _)) if *other != version => drop(self.unmatched.remove(&episode.detection_id)),
            _ if self.unmatched.len() < LISTED_MAX => {
                self.unmatched.insert(episode.detection_id.clone(), (version, episode));
            }
            _ => self.untold += 1,
        }
    }

    /// Episodes that were counted and not compared one by one, because too many differ.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// What is left when all episodes were taken: each rule that fired with any version, by its name.
    pub fn differences(self) -> Vec<RuleDifference> {
        let empty = |(rule, Counts { fired: [before, now] })| {
            (RuleName::clone(&rule), RuleDifference { rule, before, now, gone: Vec::new(), new: Vec::new() })
        };
        let mut rules: BTreeMap<RuleName, RuleDifference> = self.rules.into_iter().map(empty).collect();
        let mut unmatched = self.unmatched.into_values().collect::<Vec<_>>();
        unmatched
            .sort_by(|(_, one), (_, other)| (one.opened, &one.detection_id).cmp(&(other.opened, &other.detection_id)));
        for (version, episode) in unmatched {
            let Some(rule) = rules.get_mut(&episode.rule) else { continue };
            if version == 0 { &mut rule.gone } else { &mut rule.new }.push(episode);
        }
        rules.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pipeline::Severity;
    use crate::model::series::Series;

    fn episode(rule: &str, id: &str, opened: i64) -> Episode {
        Episode {
            detection_id: id.to_owned(),
            rule: RuleName { pipeline: "p".to_owned(), rule: rule.to_owned() },
            series: Series(Vec::new()),
            severity: Severity::High,
            opened,
            resolved: None,
            measure: "m".to_owned(),
            value: None,
            threshold: None,
        }
    }

    #[test]
    fn what_both_versions_say_is_counted_and_not_listed() {
        let mut comparison = Comparison::default();
        for (version, id, opened) in [(0, "same", 1), (0, "late", 9), (0, "early", 2), (1, "same", 1), (1, "other", 3)]
        {
            comparison.take(version, episode("a", id, opened));
        }
        comparison.take(1, episode("b", "only now", 5));
        let differences = comparison.differences();
        let ids = |episodes: &[Episode]| episodes.iter().map(|it| it.detection_id.clone()).collect::<Vec<_>>();
        let [a, b] = differences.as_slice() else { panic!("{differences:?}") };
        assert_eq!(
            (a.before, a.now, ids(&a.gone), ids(&a.new)),
            (3, 2, vec!["early".into(), "late".into()], vec!["other".into()])
        );
        assert_eq!((b.before, b.now, ids(&b.new)), (0, 1, vec!["only now".into()]));
    }
}
