//! Consumer groups of the in-process log: who reads which partition, handed over cooperatively, and how far they came.
//!
//! A partition changes hands in two steps, as in Kafka's cooperative protocol: its owner is told to give it up, and only
//! when it has, another member is told to take it. No partition ever has two owners. A member that expires gives nothing
//! back: what it owned is free at once, and it learns of that when it next asks. `group` holds no lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::log::{Partition, Rebalance};

/// A member's number within its group; never used twice.
pub(super) type MemberId = u64;

#[derive(Debug, Default)]
struct Member {
    /// The transactional id of its session.
    name: String,
    topics: Vec<String>,
    /// What it was told to take and has not released.
    owned: BTreeSet<Partition>,
    /// What it should own in the end.
    target: BTreeSet<Partition>,
    /// A change was reported and not answered: nothing else is reported until it is.
    is_answering: bool,
    /// Its session has expired and it has not joined again: it owns nothing.
    is_expired: bool,
    /// What it owned when it expired and has not released.
    lost: BTreeSet<Partition>,
    /// It heard of an assignment, be it of nothing: as in Kafka, nobody waits in vain.
    is_told: bool,
}

/// One consumer group.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    committed: BTreeMap<Partition, i64>,
    members_ever: MemberId,
}

impl Group {
    /// Adds a member; [`Group::balance`] must follow.
    pub(super) fn join(&mut self, name: &str, topics: &[String]) -> MemberId {
        self.members_ever += 1;
        let member = Member { name: name.to_owned(), topics: topics.to_vec(), ..Member::default() };
        self.members.insert(self.members_ever, member);
        self.members_ever
    }

    /// The session of every member of this name expires; [`Group::balance`] must follow.
    pub(super) fn expire(&mut self, name: &str) {
        for member in self.members.values_mut().filter(|member| member.name == name) {
            member.is_expired = true;
            member.target.clear();
            member.lost.append(&mut member.owned);
        }
    }

    /// Lets an expired member in again once it has released what it lost. True if it was: [`Group::balance`] must follow.
    pub(super) fn rejoin(&mut self, id: MemberId) -> bool {
        let waits = |member: &&mut Member| member.is_expired && member.lost.is_empty() && !member.is_answering;
        let Some(member) = self.members.get_mut(&id).filter(waits) else { return false };
        member.is_expired = false;
        true
    }

    /// Removes a member with all it owns; [`Group::balance`] must follow.
    pub(super) fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
    }

    /// Decides anew who should own what: evenly, moving as little as possible. `partitions_of` counts a topic's partitions.
    pub(super) fn balance(&mut self, partitions_of: impl Fn(&str) -> i32) {
        let mut unowned = self.subscribed(partitions_of);
        let mut richest_first: Vec<MemberId> = self.live().map(|(id, _)| *id).collect();
        let (share, remainder) = match richest_first.len() {
            0 => return,
            members => (unowned.len() / members, unowned.len() % members),
        };
        richest_first.sort_by_key(|id| std::cmp::Reverse(self.members.get(id).map_or(0, |member| member.owned.len())));
        for (rank, id) in richest_first.iter().enumerate() {
            let quota = share + usize::from(rank < remainder);
            let Some(member) = self.members.get_mut(id) else { continue };
            member.target = member.owned.iter().filter(|owned| unowned.contains(*owned)).take(quota).cloned().collect();
            unowned.retain(|partition| !member.target.contains(partition));
        }
        for partition in unowned {
            let takers = self.members.values_mut().filter(|member| !member.is_expired && member.reads(&partition));
            if let Some(poorest) = takers.min_by_key(|member| member.target.len()) {
                poorest.target.insert(partition);
            }
        }
    }

    fn live(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter().filter(|(_, member)| !member.is_expired)
    }

    fn subscribed(&self, partitions_of: impl Fn(&str) -> i32) -> BTreeSet<Partition> {
        let topics: BTreeSet<&String> = self.live().flat_map(|(_, member)| &member.topics).collect();
        let partitions = topics.into_iter().flat_map(|topic| {
            let name: Arc<str> = topic.as_str().into();
            (0..partitions_of(topic)).map(move |number| Partition { topic: Arc::clone(&name), number })
        });
        partitions.collect()
    }

    /// The next thing the member must be told, if any.
    pub(super) fn next_change(&mut self, id: MemberId) -> Option<Rebalance> {
        let member = self.members.get_mut(&id).filter(|member| !member.is_answering)?;
        if !member.lost.is_empty() {
            member.is_answering = true;
            return Some(Rebalance::Lost(member.lost.iter().cloned().collect()));
        }
        if member.is_expired || (member.is_told && member.owned == member.target) {
            return None;
        }
        let others = self.members.iter().filter(|(other, _)| **other != id);
        let owned_by_others: BTreeSet<Partition> = others.flat_map(|(_, member)| member.owned.clone()).collect();
        let member = self.members.get_mut(&id)?;
        let surplus: Vec<Partition> = member.owned.difference(&member.target).cloned().collect();
        if !surplus.is_empty() {
            member.is_answering = true;
            return Some(Rebalance::Revoked(surplus));
        }
        let free = member.target.difference(&member.owned).filter(|wanted| !owned_by_others.contains(*wanted));
        let free: Vec<Partition> = free.cloned().collect();
        if std::mem::replace(&mut member.is_told, true) && free.is_empty() {
            return None;
        }
        member.owned.extend(free.iter().cloned());
        member.is_answering = true;
        Some(Rebalance::Assigned(free))
    }

    /// The member has taken what it was assigned.
    pub(super) fn assigned(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.is_answering = false;
        }
    }

    /// The member has given up these partitions.
    pub(super) fn released(&mut self, id: MemberId, partitions: &[Partition]) {
        if let Some(member) = self.members.get_mut(&id) {
            member.is_answering = false;
            member.owned.retain(|owned| !partitions.contains(owned));
            member.lost.retain(|lost| !partitions.contains(lost));
        }
    }

    pub(super) fn owns(&self, id: MemberId, partition: &Partition) -> bool {
        self.members.get(&id).is_some_and(|member| member.owned.contains(partition))
    }

    /// True if the member owns the partition, or did and has not been told that it lost it.
    pub(super) fn was_given(&self, id: MemberId, partition: &Partition) -> bool {
        self.owns(id, partition) || self.members.get(&id).is_some_and(|member| member.lost.contains(partition))
    }

    pub(super) fn commit(&mut self, partition: Partition, offset: i64) {
        self.committed.insert(partition, offset);
    }

    pub(super) fn committed(&self, partition: &Partition) -> Option<i64> {
        self.committed.get(partition).copied()
    }

    /// True if the group reads this partition or ever did.
    pub(super) fn uses(&self, partition: &Partition) -> bool {
        self.committed.contains_key(partition) || self.members.values().any(|member| member.reads(partition))
    }
}

impl Member {
    fn reads(&self, partition: &Partition) -> bool {
        self.topics.iter().any(|topic| **topic == *partition.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers everything the members are told until nothing is left to tell; returns how many partitions each owns.
    fn settle(group: &mut Group, members: &[MemberId]) -> Vec<usize> {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for member in members {
                match group.next_change(*member) {
                    Some(Rebalance::Revoked(partitions)) => group.released(*member, &partitions),
                    Some(_) => group.assigned(*member),
                    None => continue,
                }
                is_quiet = false;
            }
        }
        members.iter().map(|member| group.members[member].owned.len()).collect()
    }

    #[test]
    fn members_share_evenly_as_they_come_and_go() {
        let mut group = Group::default();
        let topics = ["t".to_owned()];
        let first = group.join("first", &topics);
        group.balance(|_| 5);
        assert_eq!(settle(&mut group, &[first]), [5]);
        let second = group.join("second", &topics);
        group.balance(|_| 5);
        assert_eq!(settle(&mut group, &[first, second]), [3, 2]);
        group.leave(first);
        group.balance(|_| 5);
        assert_eq!(settle(&mut group, &[second]), [5]);
    }

    #[test]
    fn nothing_is_assigned_before_its_owner_gave_it_up() {
        let mut group = Group::default();
        let topics = ["t".to_owned()];
        let first = group.join("first", &topics);
        group.balance(|_| 2);
        settle(&mut group, &[first]);
        let second = group.join("second", &topics);
        group.balance(|_| 2);
        assert_eq!(group.next_change(second), Some(Rebalance::Assigned(Vec::new())));
        group.assigned(second);
        assert_eq!(group.next_change(second), None);
        let Some(Rebalance::Revoked(surplus)) = group.next_change(first) else { panic!("nothing was revoked") };
        assert_eq!(group.next_change(second), None);
        group.released(first, &surplus);
        assert_eq!(group.next_change(second), Some(Rebalance::Assigned(surplus)));
    }

    #[test]
    fn a_member_that_expires_while_it_answers_still_loses_everything() {
        let mut group = Group::default();
        let first = group.join("first", &["t".to_owned()]);
        group.balance(|_| 2);
        let Some(Rebalance::Assigned(taken)) = group.next_change(first) else { panic!("nothing was assigned") };
        group.expire("first");
        group.balance(|_| 2);
        assert!(!group.rejoin(first), "it does not know yet");
        assert!(taken.iter().all(|partition| group.was_given(first, partition) && !group.owns(first, partition)));
        group.assigned(first);
        assert_eq!(group.next_change(first), Some(Rebalance::Lost(taken.clone())));
        group.released(first, &taken);
        assert!(group.rejoin(first));
        group.balance(|_| 2);
        assert_eq!(group.next_change(first), Some(Rebalance::Assigned(taken)));
    }
}
