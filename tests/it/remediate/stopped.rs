//! The kill switch: from the moment it is seen, nothing more is done, not even what was decided before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use maturion::incident::attempt::Call;
use maturion::roles::remediate::hands::{Finished, Hands, PlatformHands, Task};

use super::plane::{Manner, Plane};
use super::platform::{Platform, Worker};

/// Turns that one condition may take.
const TURNS_MAX: usize = 2_000;

/// Hands that keep the state before to themselves until they may tell it.
struct Slow {
    hands: PlatformHands,
    kept: Vec<Finished>,
    has_kept: Arc<AtomicBool>,
    may_tell: Arc<AtomicBool>,
}

impl Hands for Slow {
    fn start(&mut self, task: Task) {
        self.hands.start(task);
    }

    fn finished(&mut self) -> Vec<Finished> {
        if self.may_tell.load(Ordering::Relaxed) {
            return self.kept.drain(..).chain(self.hands.finished()).collect();
        }
        let is_snapshot = |one: &Finished| matches!(one, Finished::Call { call: Call::Snapshot, .. });
        let (kept, told) = self.hands.finished().into_iter().partition::<Vec<_>, _>(is_snapshot);
        self.has_kept.fetch_or(!kept.is_empty(), Ordering::Relaxed);
        self.kept.extend(kept);
        told
    }
}

fn until(platform: &mut Platform, worker: &mut Worker<Slow>, what: &str, is_so: impl Fn(&Platform) -> bool) {
    for turn in 0..TURNS_MAX {
        worker.worker.turn(worker.session.as_mut()).unwrap();
        if turn % 4 == 0 {
            platform.step();
        }
        if is_so(platform) {
            return;
        }
    }
    panic!("it never came to that: {what}: {:?}", platform.incident());
}

#[test]
fn the_kill_switch_stops_what_was_decided_and_not_yet_done() {
    let folder = tempfile::tempdir().unwrap();
    let switch = folder.path().join("maturion.stop");
    let (plane, _runtime) = Plane::start(Manner::Helpful);
    let mut platform = Platform::new(plane, str::to_owned);
    platform.kill_switch.clone_from(&switch);
    let (has_kept, may_tell) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let hands =
        Slow { hands: platform.hands(), kept: Vec::new(), has_kept: Arc::clone(&has_kept), may_tell: may_tell.clone() };
    let mut worker = platform.worker(hands);
    (0..3).for_each(|_| platform.step());
    platform.detect("opened", 0, 0.1);
    until(&mut platform, &mut worker, "the state before is read", |_| has_kept.load(Ordering::Relaxed));

    std::fs::write(&switch, "").unwrap();
    let is_stopped = |platform: &Platform, wanted: bool| {
        platform.flow.runtime.board.snapshot().remediation.is_some_and(|said| said.is_stopped == wanted)
    };
    until(&mut platform, &mut worker, "the switch is seen", |platform| is_stopped(platform, true));
    may_tell.store(true, Ordering::Relaxed);
    until(&mut platform, &mut worker, "the attempt ends", |platform| {
        platform.incident().unwrap()["attempts"][0]["stage"] == "failed"
    });
    let attempt = platform.incident().unwrap()["attempts"][0].clone();
    assert_eq!(attempt["outcome"], "the kill switch is on");
    (0..100).for_each(|_| worker.worker.turn(worker.session.as_mut()).unwrap());
    assert_eq!(platform.plane.tokens(), [] as [u64; 0], "something was done although everything was stopped");

    std::fs::remove_file(&switch).unwrap();
    until(&mut platform, &mut worker, "it goes on", |platform| {
        platform.incident().unwrap()["attempts"][1]["stage"] == "verified"
    });
    assert_eq!(platform.plane.effects().len(), 1);
}
