//! Ready, and live: two questions with two answers.
//!
//! *Ready*: every role runs, has been told which partitions are its own, and reports them. *Live*: the process answers and
//! no worker hangs. Whoever restarts what is not live must not do so because Kafka is away: a worker that waits for the
//! brokers still turns, if slowly, and [`WEDGED_AFTER`] is longer than all it may wait for in one turn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Health, PartitionStatus, RoleState};

/// A worker that has not turned for this long hangs. One turn may hold a commit, an abort and the requests of a restore,
/// and librdkafka repeats each of the former twenty times for as long as a transaction may last, twelve seconds: four
/// minutes each. A shorter time would restart processes in a loop while Kafka is away.
pub const WEDGED_AFTER: Duration = Duration::from_secs(20 * 60);

/// The worst role decides; running roles are stalled if a partition of theirs is. One sentence for each problem.
pub(super) fn judge(roles: &BTreeMap<&'static str, RoleState>, own: &[PartitionStatus]) -> (Health, Vec<String>) {
    let mut problems = Vec::new();
    let mut health = Health::Running;
    let mut problem = |worse: Health, sentence: String| {
        health = health.max(worse);
        problems.push(sentence);
    };
    if roles.is_empty() {
        problem(Health::Starting, "no role has started yet".to_owned());
    }
    for (role, state) in roles {
        match state {
            RoleState::Running => {}
            RoleState::Starting => problem(Health::Starting, format!("{role} is starting")),
            RoleState::Restoring => problem(Health::Starting, format!("{role} is restoring its state")),
            RoleState::Restarting(reason) => problem(Health::Stalled, format!("{role} starts anew: {reason}")),
            RoleState::Failed(reason) => problem(Health::Failed, format!("{role} failed: {reason}")),
        }
    }
    for partition in own.iter().filter(|partition| partition.is_stalled()) {
        let PartitionStatus { stage, topic, partition, age_ms, .. } = partition;
        let sentence = format!("{stage} has not reported {topic}-{partition} for {} s", age_ms / 1000);
        problem(Health::Stalled, sentence);
    }
    (health, problems)
}

/// A sentence about the first worker that hangs, given when each turned last.
pub(super) fn wedged(turns: &BTreeMap<&'static str, Instant>, now: Instant) -> Option<String> {
    let (role, last) = turns.iter().find(|(_, last)| now.saturating_duration_since(**last) > WEDGED_AFTER)?;
    Some(format!("{role} has not turned for {} s", now.saturating_duration_since(*last).as_secs()))
}
