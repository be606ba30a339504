//! A real `kill -9` of the process that acts, on real Kafka, at every moment of what it does; and each thing is done once.
//!
//! Aimed kills come from the control plane, while a request waits, or follow what stands on the topic; the others come when
//! a seed says so. Every attempt was intended once, had one effect, and was verified once; what a cooldown or a budget
//! forbids was not done; and the real `maturion audit verify` finds nothing.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::plane::{Ask, LIMIT, Moment};
use super::town::{EXHAUSTED, FAILING, Rule, SURGE, TURNED_AWAY, Town, Trouble, hasty};
use crate::kafka::Kafka;

/// When the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// At a moment of a request to the control plane.
    At(Moment, Ask),
    /// When the attempt has come so far.
    Stage(&'static str),
}

/// An attempt's way, in order.
const STAGES: [&str; 7] = ["intended", "applying", "settling", "proving", "verified", "reverting", "reverted"];

/// Every moment that can be aimed at, in the order of an attempt.
const AIMS: [Aim; 14] = [
    Aim::At(Moment::Asked, Ask::Before),
    Aim::At(Moment::Done, Ask::Before),
    Aim::At(Moment::Answered, Ask::Before),
    Aim::Stage("applying"),
    Aim::At(Moment::Asked, Ask::Apply),
    Aim::At(Moment::Done, Ask::Apply),
    Aim::At(Moment::Answered, Ask::Apply),
    Aim::At(Moment::Asked, Ask::After),
    Aim::Stage("settling"),
    Aim::Stage("proving"),
    Aim::Stage("verified"),
    Aim::At(Moment::Asked, Ask::Revert),
    Aim::At(Moment::Done, Ask::Revert),
    Aim::At(Moment::Answered, Ask::Revert),
];

/// A town, and who is killed in it.
struct Killing {
    town: Town,
    aim: Arc<Mutex<Option<(Moment, Ask)>>>,
    opened: Vec<Trouble>,
    kills: usize,
}

impl Killing {
    /// So many things are going to be done, and no more may be.
    fn begin(kafka: &Kafka, actions: usize) -> Killing {
        let town = Town::start(kafka, |text| hasty(text, actions), "");
        let aim = Arc::<Mutex<Option<(Moment, Ask)>>>::default();
        let (aimed, process) = (Arc::clone(&aim), Arc::clone(&town.process));
        town.plane.on(move |moment, ask| {
            let mut aimed = aimed.lock().unwrap();
            if *aimed == Some((moment, ask)) {
                *aimed = None;
                process.lock().unwrap().kill();
            }
        });
        Killing { town, aim, opened: Vec::new(), kills: 0 }
    }

    fn open(&mut self, rule: &'static Rule) -> Trouble {
        let trouble = self.town.open(rule, &format!("module-{}", self.opened.len()));
        self.opened.push(trouble.clone());
        trouble
    }

    /// Aims before the trouble begins, so that no moment is missed.
    fn aim(&self, aim: Aim) {
        if let Aim::At(moment, ask) = aim {
            *self.aim.lock().unwrap() = Some((moment, ask));
        }
    }

    /// Waits until the moment has come and the process is dead, and starts it anew.
    fn strike(&mut self, aim: Aim, trouble: &Trouble) {
        match aim {
            Aim::At(..) => self.town.until(&format!("killed at {aim:?}"), |_| self.aim.lock().unwrap().is_none()),
            Aim::Stage(stage) => {
                self.town.until(stage, |town| has_come_to(town, trouble, stage));
                self.town.kill();
            }
        }
        self.kills += 1;
        self.town.restart();
    }

    /// A module that is acted upon fails for another reason, too. Lease and cooldown forbid that anything is done about that.
    fn open_twice(&mut self) -> Trouble {
        let first = self.open(&FAILING);
        self.town.until("intended", |town| has_come_to(town, &first, "intended"));
        let second = self.town.open(&SURGE, &first.module);
        self.town
            .until("refused", |town| refused(town, &second, "cools down") || refused(town, &second, "is leased to"));
        second
    }

    /// Waits until everything is over, then asks for one thing more than the budget allows, and compares.
    fn end(self, again: &Trouble) {
        let Killing { town, opened, kills, .. } = self;
        for trouble in &opened {
            let last = if trouble.rule.is_for_one { "reverted" } else { "verified" };
            town.until(&format!("{last} {trouble:?}"), |town| is_over(town, trouble, last));
        }
        let beyond = town.open(&FAILING, "beyond-the-budget");
        town.until("beyond the budget", |town| refused(town, &beyond, "actions of an hour"));
        town.end();
        assert_eq!(town.incident(&beyond)["attempts"].as_array().map(Vec::len), Some(0));
        assert_eq!(town.incident(again)["attempts"].as_array().map(Vec::len), Some(0));
        opened.iter().for_each(|trouble| compare(&town, trouble));
        let (effects, asked) = (town.plane.done().len(), town.plane.changes().len());
        say(&format!("| kill -9 of the acting process | {kills} | {} | {effects} | {asked} |", opened.len()));
    }
}

/// True if it was decided to do nothing, for this reason.
fn refused(town: &Town, trouble: &Trouble, why: &str) -> bool {
    let (id, entries) = (trouble.incident_id(), town.entries());
    let mut mine = entries.iter().filter(|entry| entry["incident_id"] == id && entry["kind"] == "decision");
    mine.any(|entry| entry["reasons"].to_string().contains(why))
}

fn stage(town: &Town, trouble: &Trouble) -> Option<String> {
    town.incident(trouble)["attempts"][0]["stage"].as_str().map(str::to_owned)
}

fn has_come_to(town: &Town, trouble: &Trouble, wanted: &str) -> bool {
    let place = |stage: &str| STAGES.iter().position(|known| *known == stage);
    stage(town, trouble).is_some_and(|stage| place(&stage) >= place(wanted))
}

/// What must not be asked for twice, and was perhaps not done, may end without an effect.
fn is_over(town: &Town, trouble: &Trouble, last: &str) -> bool {
    let is_once = trouble.rule.pipeline == EXHAUSTED.pipeline;
    stage(town, trouble).is_some_and(|stage| stage == last || (is_once && stage == "rolled_back"))
}

/// One attempt, intended once, done once, verified once, and taken back once if it was temporary.
fn compare(town: &Town, trouble: &Trouble) {
    let incident = town.incident(trouble);
    let attempts = incident["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{incident:#?}");
    let key = attempts[0]["action_id"].as_str().unwrap();
    let asked = town.plane.changes().iter().filter(|asked| *asked == key).count();
    let done = town.plane.done();
    let mine = done.iter().filter(|effect| effect.module == trouble.module).map(|effect| effect.key.clone());
    let mine = mine.collect::<Vec<_>>();
    let entries = town.entries();
    let counted =
        |kind: &str| entries.iter().filter(|entry| entry["action_id"] == key && entry["kind"] == kind).count();
    assert_eq!(counted("intent"), 1, "{trouble:?}");
    if trouble.rule.pipeline == EXHAUSTED.pipeline {
        assert!(asked <= 1, "asked {asked} times: {incident:#?}");
        return;
    }
    assert_eq!(counted("verified"), 1, "{trouble:?}");
    assert!(asked >= 1);
    if let Some(organisation) = &trouble.organisation {
        assert_eq!(mine, [key.to_owned(), format!("{key}-revert")], "{trouble:?}");
        assert_eq!((counted("reverted"), town.plane.limit(&trouble.module, organisation)), (1, LIMIT));
    } else {
        assert_eq!(mine, [key], "{trouble:?}");
    }
}

/// Prints also when the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn a_process_that_is_killed_while_it_acts_and_while_it_takes_back_does_each_once() {
    let kafka = crate::kafka_or_skip!();
    let mut killing = Killing::begin(kafka, 2);
    let again = killing.open_twice();
    let (first, second) = (Aim::At(Moment::Done, Ask::Apply), Aim::At(Moment::Asked, Ask::Revert));
    killing.aim(first);
    let trouble = killing.open(&TURNED_AWAY);
    killing.strike(first, &trouble);
    killing.aim(second);
    killing.strike(second, &trouble);
    killing.end(&again);
}

mod faults {
    use super::*;

    /// Kills at random moments, unless all of it is asked for.
    const KILLS: usize = 8;
    const KILLS_OF_THE_FULL_FORM: usize = 60;

    #[test]
    #[ignore = "a group of its own: cargo test --release --test it faults:: -- --ignored --test-threads=1"]
    fn whenever_the_acting_process_is_killed_each_thing_is_done_once() {
        let kafka = crate::kafka_or_skip!();
        let seed = std::env::var("MATURION_FAULTS_SEED").map_or(rand::random(), |seed| seed.parse().unwrap());
        say(&format!("kill -9 of the acting process: MATURION_FAULTS_SEED={seed}"));
        let is_full = std::env::var("MATURION_FAULTS").is_ok_and(|form| form == "full");
        let kills = if is_full { KILLS_OF_THE_FULL_FORM } else { KILLS };
        let mut chance = StdRng::seed_from_u64(seed);
        let mut killing = Killing::begin(kafka, AIMS.len() + kills + 1);
        let again = killing.open_twice();
        for aim in AIMS {
            killing.aim(aim);
            let trouble = killing.open(&TURNED_AWAY);
            killing.strike(aim, &trouble);
        }
        for nth in 0..kills {
            killing.open([&FAILING, &TURNED_AWAY, &EXHAUSTED][nth % 3]);
            std::thread::sleep(Duration::from_secs_f64(chance.random_range(0.0..10.0)));
            killing.town.kill();
            killing.kills += 1;
            killing.town.restart();
        }
        killing.end(&again);
    }
}
