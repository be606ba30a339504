//! A process that dies at any of the sixteen steps, and what is done twice: nothing.
//!
//! Everything a worker does in the world it does after a commit, so there are three kinds of moments in which it can die:
//! between two turns, before a call is made, and after it was made but before its answer is known. Each moment of a whole
//! incident is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use maturion::roles::remediate::hands::{Finished, Hands, PlatformHands, Task};

use super::plane::{Manner, Plane};
use super::platform::{MODULE, Platform, Worker};

/// Turns that one incident may take.
const TURNS_MAX: usize = 2_000;

/// When the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Before so many turns were made.
    Turn(usize),
    /// When so many calls were to be made: before the last of them is.
    BeforeCall(usize),
    /// … and after it was.
    AfterCall(usize),
    Never,
}

/// Hands whose process dies.
struct Mortal {
    hands: PlatformHands,
    death: Death,
    calls: Arc<AtomicUsize>,
    is_dead: Arc<AtomicBool>,
}

impl Hands for Mortal {
    fn start(&mut self, task: Task) {
        if self.is_dead.load(Ordering::Relaxed) {
            return;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.death == Death::BeforeCall(call) {
            self.is_dead.store(true, Ordering::Relaxed);
            return;
        }
        self.hands.start(task);
        if self.death == Death::AfterCall(call) {
            while self.hands.finished().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.is_dead.store(true, Ordering::Relaxed);
        }
    }

    fn finished(&mut self) -> Vec<Finished> {
        self.hands.finished()
    }
}

/// How an incident ended.
#[derive(Debug)]
struct Ended {
    turns: usize,
    calls: usize,
    died: bool,
    requests: usize,
    effects: usize,
    incident: serde_json::Value,
    audit: Vec<String>,
}

/// One incident from its detection to its end, with one death on the way.
fn live(death: Death, actions: impl Fn(&str) -> String) -> Ended {
    live_with(Manner::Helpful, death, actions, |incident| incident["phase"] == "resolved")
}

fn live_with(
    manner: Manner,
    death: Death,
    actions: impl Fn(&str) -> String,
    is_over: impl Fn(&serde_json::Value) -> bool,
) -> Ended {
    let (plane, _runtime) = Plane::start(manner);
    let mut platform = Platform::new(plane, actions);
    let (calls, is_dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let worker = |platform: &Platform, death: Death| {
        let (calls, is_dead) = (Arc::clone(&calls), Arc::clone(&is_dead));
        platform.worker(Mortal { hands: platform.hands(), death, calls, is_dead })
    };
    let mut alive = worker(&platform, death);
    (0..3).for_each(|_| platform.step());
    platform.detect("opened", 0, 0.1);
    let (mut died, mut turns) = (false, 0);
    loop {
        turns += 1;
        assert!(turns < TURNS_MAX, "{death:?} does not end: {:?}", platform.incident());
        if death == Death::Turn(turns) {
            is_dead.store(true, Ordering::Relaxed);
        }
        if is_dead.swap(false, Ordering::Relaxed) {
            died = true;
            // Nothing is said and nothing closed: as when the power goes.
            drop(alive);
            alive = worker(&platform, Death::Never);
        }
        let Worker { worker, session } = &mut alive;
        worker.turn(session.as_mut()).unwrap();
        if turns % 4 == 0 {
            platform.step();
            if platform.incident().is_some_and(|incident| is_over(&incident)) {
                break;
            }
        }
    }
    Ended {
        turns,
        calls: calls.load(Ordering::Relaxed),
        died,
        requests: platform.plane.tokens().len(),
        effects: platform.plane.effects().values().filter(|module| *module == MODULE).count(),
        incident: platform.incident().unwrap(),
        audit: platform.audit(),
    }
}

/// Every moment of an incident, tried in eight threads: most of the time is waiting.
fn every_death(actions: impl Fn(&str) -> String + Sync + Copy, check: impl Fn(Death, &Ended) + Sync) {
    let whole = live(Death::Never, actions);
    check(Death::Never, &whole);
    assert_eq!(whole.calls, 2, "one snapshot and one restart");
    let of_calls = (1..=whole.calls).flat_map(|call| [Death::BeforeCall(call), Death::AfterCall(call)]);
    let deaths = (1..=whole.turns.min(60)).map(Death::Turn).chain(of_calls).collect::<Vec<_>>();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(death) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ended = live(*death, actions);
                    assert!(ended.died, "{death:?} did not happen");
                    check(*death, &ended);
                }
            });
        }
    });
}

#[test]
fn a_death_at_any_step_does_nothing_twice() {
    every_death(str::to_owned, |death, ended| {
        assert_eq!(ended.effects, 1, "{death:?}: {ended:#?}");
        assert_eq!(ended.incident["attempts"].as_array().unwrap().len(), 1, "{death:?}");
        assert_eq!(ended.incident["attempts"][0]["stage"], "verified", "{death:?}");
        let counted = |kind: &str| ended.audit.iter().filter(|entry| *entry == kind).count();
        assert_eq!((counted("intent"), counted("verified")), (1, 1), "{death:?}: {:?}", ended.audit);
    });
}

/// A control plane that does a thing as often as it is asked: then it is asked once at most.
#[test]
fn what_must_not_be_asked_twice_is_asked_once_at_most() {
    let actions = |text: &str| text.replace("idempotent = true", "idempotent = false");
    every_death(actions, |death, ended| assert!(ended.requests <= 1, "{death:?}: {ended:#?}"));
}

#[test]
fn an_answer_that_never_comes_is_settled_by_the_samples() {
    let impatient = |text: &str| text.replace("timeout = \"10s\"", "timeout = \"1s\"");
    let ended = live_with(Manner::Mute, Death::Never, impatient, |incident| incident["phase"] == "resolved");
    assert_eq!((ended.effects, ended.requests), (1, 1), "{ended:#?}");
    assert_eq!(ended.incident["attempts"][0]["stage"], "verified");
    assert_eq!(ended.incident["attempts"][0]["after"], serde_json::Value::Null);
}

#[test]
fn a_control_plane_that_refuses_is_asked_three_times_and_then_people_are() {
    let ended = live_with(Manner::Refusing, Death::Never, str::to_owned, |incident| incident["is_locked"] == true);
    assert_eq!((ended.effects, ended.requests), (0, 3), "{ended:#?}");
    assert_eq!(ended.incident["escalated"]["reason"], "repeated_failure");
    let counted = |kind: &str| ended.audit.iter().filter(|entry| *entry == kind).count();
    assert_eq!((counted("intent"), counted("failed"), counted("escalated")), (3, 3, 1), "{:?}", ended.audit);
}
