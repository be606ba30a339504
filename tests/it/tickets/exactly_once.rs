//! A thousand incidents, five restarts each and many more, and every fault: one issue each, as it should be.

#![allow(clippy::print_stdout, reason = "a test prints its seed")]

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use maturion::model::pipeline::Severity;
use maturion::tickets::github::{Done, Outcome};
use maturion::tickets::{Desired, Identity};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Scene, desired, identity};
use crate::github::{SECOND, USUAL};

const INCIDENTS: usize = 1_000;
/// What each incident is in each round; a new process begins each round.
const ROUNDS: [(Severity, bool); 5] = [
    (Severity::High, true),
    (Severity::Critical, true),
    (Severity::Critical, false),
    (Severity::Medium, true),
    (Severity::Low, false),
];

/// What comes of a call that is dropped after so many steps, if it is not done before.
async fn for_polls<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let (mut call, mut left) = (pin!(call), polls);
    let step = |context: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(context).map(Some)
    };
    poll_fn(step).await
}

struct Trial {
    scene: Scene,
    chance: StdRng,
    numbers: BTreeMap<Identity, u64>,
    restarts: usize,
}

impl Trial {
    /// Calls until it is done, and kills the process now and then in the middle of a call.
    fn settle(&mut self, identity: &Identity, desired: &Desired) -> Outcome {
        for _ in 0..300 {
            let known = self.numbers.get(identity).copied();
            let now = self.scene.fake.world().now;
            let call = self.scene.client.reconcile(identity, known, desired, now);
            let killed = self.chance.random_ratio(1, 12);
            let polls = if killed { self.chance.random_range(0..30) } else { usize::MAX };
            let answer = self.scene.runtime.block_on(for_polls(polls, call));
            match answer {
                Some(Ok(outcome)) => {
                    // What is known of the issue may not have been kept.
                    if let Some(number) = outcome.number.filter(|_| self.chance.random_ratio(2, 3)) {
                        self.numbers.insert(identity.clone(), number);
                    }
                    return outcome;
                }
                Some(Err(error)) => {
                    let wait = error.wait().unwrap_or_else(|| panic!("{error}"));
                    self.scene.pass(wait);
                }
                None => {
                    self.restarts += 1;
                    self.scene.restart();
                }
            }
        }
        panic!("{identity:?} is never as it should be");
    }
}

impl Trial {
    /// Takes incidents through all rounds under faults.
    fn run(seed: u64, incidents: &[Identity], more: &str) -> Trial {
        println!("MATURION_TICKETS_SEED={seed}");
        let mut trial = Trial {
            scene: Scene::new(&format!("issues_per_hour = 1000000\ntimeout = \"2s\"\n{more}")),
            chance: StdRng::seed_from_u64(seed),
            numbers: BTreeMap::new(),
            restarts: 0,
        };
        {
            let mut world = trial.scene.fake.world();
            world.lag = 20 * SECOND;
            world.with_chance(seed, &USUAL);
        }
        for (severity, open) in ROUNDS {
            trial.restarts += 1;
            trial.scene.restart();
            for one in incidents {
                trial.settle(one, &desired(one, severity, open));
            }
        }
        trial.scene.fake.world().chance = None;
        trial
    }
}

fn seed() -> u64 {
    std::env::var("MATURION_TICKETS_SEED").map_or(20_251_203, |seed| seed.parse().unwrap())
}

fn incidents(count: usize) -> Vec<Identity> {
    (0..count).map(|nth| identity(nth, (nth % 3) as u64)).collect()
}

#[test]
fn a_thousand_incidents_have_one_issue_each_whatever_is_lost() {
    let incidents = incidents(INCIDENTS);
    let mut trial = Trial::run(seed(), &incidents, "");
    let (severity, open) = ROUNDS[ROUNDS.len() - 1];
    for one in &incidents {
        assert_eq!(trial.settle(one, &desired(one, severity, open)).done, Done::Unchanged, "nothing is left to do");
    }
    let issues = trial.scene.issues();
    println!("{} requests, {} restarts", trial.scene.fake.world().requests.len(), trial.restarts);
    assert_eq!(issues.len(), INCIDENTS);
    for one in &incidents {
        let of: Vec<_> = issues.iter().filter(|issue| issue.body.starts_with(&one.marker())).collect();
        assert_eq!(of.len(), 1, "{one:?}");
        let wanted = desired(one, severity, open);
        assert_eq!((&of[0].title, &of[0].body, of[0].open), (&wanted.title, &wanted.body, open));
        assert_eq!(of[0].labels, wanted.labels);
        let comments: Vec<&str> = of[0].comments.iter().map(|comment| comment.1.as_str()).collect();
        assert_eq!(comments, [wanted.comment.as_str()]);
    }
}

#[test]
fn the_trial_notices_a_client_that_does_not_wait_for_the_list() {
    let incidents = incidents(300);
    let trial = Trial::run(seed(), &incidents, "list_lag = \"0s\"\n");
    assert!(trial.scene.issues().len() > incidents.len(), "second issues were created");
}
