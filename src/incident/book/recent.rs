//! The actions of late: what budgets and breakers count. Rebuilt from the incidents after a restart.

use std::collections::{BTreeSet, HashMap};

use crate::decide::Counts;
use crate::incident::attempt::{Attempt, Stage};
use crate::model::pipeline::Micros;

/// How far back budgets look.
pub(super) const BUDGET_WINDOW: Micros = 3_600 * 1_000_000;
/// How long the last action on a target, and what came of an action, are remembered.
const MEMORY: Micros = 24 * BUDGET_WINDOW;

/// One action that was intended.
#[derive(Clone, Debug)]
struct Done {
    at: Micros,
    action: String,
    target: String,
    organisation_id: Option<String>,
    /// When it ended, and whether it helped; `None`: it has not ended.
    ended: Option<(Micros, bool)>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_id: HashMap<String, Done>,
    /// Ids by the moment of the intent, for forgetting.
    by_time: BTreeSet<(Micros, String)>,
}

impl Recent {
    /// Notes an attempt as it is now.
    pub(super) fn note(&mut self, attempt: &Attempt) {
        let ended = attempt.ended_at.map(|at| (at, !attempt.is_unverified()));
        let ended = ended.or_else(|| (attempt.stage == Stage::RollingBack).then_some((attempt.intended_at, false)));
        let done = Done {
            at: attempt.intended_at,
            action: attempt.intent.action.clone(),
            target: attempt.intent.target.clone(),
            organisation_id: attempt.intent.organisation_id.clone(),
            ended,
        };
        self.by_time.insert((done.at, attempt.action_id.clone()));
        self.by_id.insert(attempt.action_id.clone(), done);
    }

    /// Forgets what no budget and no breaker counts any more.
    pub(super) fn forget_before(&mut self, now: Micros) {
        let is_old = |(at, _): &&(Micros, String)| at.saturating_add(MEMORY) <= now;
        while self.by_time.first().filter(is_old).is_some() {
            let Some((_, id)) = self.by_time.pop_first() else { return };
            self.by_id.remove(&id);
        }
    }

    /// The actions of the last hour that concern these.
    pub(super) fn counts(&self, action: &str, target: &str, organisation_id: Option<&str>, now: Micros) -> Counts {
        let mut counts = Counts::default();
        let first = (now.saturating_sub(BUDGET_WINDOW), String::new());
        for done in self.by_time.range(first..).filter_map(|(_, id)| self.by_id.get(id)) {
            counts.overall += 1;
            counts.target += u32::from(done.target == target);
            counts.action += u32::from(done.action == action);
            counts.organisation += u32::from(done.organisation_id.as_deref() == organisation_id);
        }
        counts
    }

    /// How often in a row, the last time included, this action did not help on this target; and when that was.
    pub(super) fn unverified_in_a_row(&self, action: &str, target: &str) -> (u32, Option<Micros>) {
        let of = self.by_time.iter().rev().filter_map(|(_, id)| self.by_id.get(id));
        let of = of.filter(|done| done.action == action && done.target == target);
        let (mut count, mut last) = (0, None);
        for (at, helped) in of.filter_map(|done| done.ended) {
            if helped {
                break;
            }
            count += 1;
            last = last.max(Some(at));
        }
        (count, last)
    }

    /// When this action was last begun on this target.
    pub(super) fn last(&self, action: &str, target: &str) -> Option<Micros> {
        let of = self.by_time.iter().rev().filter_map(|(_, id)| self.by_id.get(id));
        of.filter(|done| done.action == action && done.target == target).map(|done| done.at).next()
    }
}
