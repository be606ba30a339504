//! The platform's side of the demo: a thread that writes its telemetry, and says how far it is.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Happening;
use super::story::Story;
use crate::generate::{Destination, GenerateError, LogDestination, Pace};
use crate::model::pipeline::Micros;
use crate::roles::{Clock, SystemClock};
use crate::simulate::{SECOND, Simulator};

/// What the other threads tell the feed.
#[derive(Debug, Default)]
pub struct Controls {
    pub stop: AtomicBool,
    /// Seconds of event time in one second of the live part; 0: the history is not worked off yet.
    pub speed: AtomicU64,
    /// How far event time has come: what a clock on the platform's wall would show.
    pub now: AtomicI64,
    /// What was restarted and has not recovered yet.
    recycled: Mutex<Vec<String>>,
}

impl Controls {
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The functions that were restarted since the feed last looked.
    pub fn recycled(&self) -> MutexGuard<'_, Vec<String>> {
        self.recycled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The speed, in whole seconds of event time a second. Before it is known event time does not stand still but runs at
    /// its own pace: a log without new records would count as idle.
    fn speed(&self) -> u64 {
        self.speed.load(Ordering::Relaxed).max(1)
    }
}

/// The platform's own clock, which runs at the story's speed: what happens on the platform is timed by it.
pub struct StoryClock {
    controls: Arc<Controls>,
    elapsed: SystemClock,
}

impl StoryClock {
    pub fn new(controls: &Arc<Controls>) -> StoryClock {
        StoryClock { controls: Arc::clone(controls), elapsed: SystemClock::default() }
    }
}

impl Clock for StoryClock {
    fn elapsed(&self) -> Duration {
        self.elapsed.elapsed()
    }

    fn wall(&self) -> Micros {
        self.controls.now.load(Ordering::Relaxed)
    }
}

/// Writes history, then live traffic until it is told to stop. Event time runs on at its own pace after the story's end.
pub fn feed(
    story: &Story,
    mut destination: LogDestination,
    controls: &Controls,
    tell: &Sender<Happening>,
) -> Result<(), GenerateError> {
    let mut simulator = Simulator::new(story.settings.clone(), story.history_start);
    let began = Instant::now();
    let mut records = 0;
    while simulator.now() < story.live_start && !controls.is_stopped() {
        records += send(&mut simulator, &mut destination)?;
        controls.now.store(simulator.now(), Ordering::Relaxed);
    }
    destination.finish()?;
    // The receiver ends with the demo, and so does the interest in what it is told, here and below.
    let _ = tell.send(Happening::HistoryWritten { records, took: began.elapsed() });
    live(story, &mut simulator, &mut destination, controls, tell)?;
    destination.finish()
}

fn live(
    story: &Story,
    simulator: &mut Simulator,
    destination: &mut LogDestination,
    controls: &Controls,
    tell: &Sender<Happening>,
) -> Result<(), GenerateError> {
    let pace = Pace::new(None);
    let mut due = Duration::ZERO;
    while !controls.is_stopped() {
        let (before, after) = (simulator.now(), simulator.now() + SECOND);
        for module in std::mem::take(&mut *controls.recycled()) {
            simulator.recover(&module);
        }
        for (number, incident) in simulator.incidents().iter().enumerate() {
            let passes = |time: Micros| (before..after).contains(&time);
            if passes(incident.start) {
                let _ = tell.send(Happening::Injected(number));
            }
            if passes(incident.end()) {
                let _ = tell.send(Happening::Over(number, incident.end()));
            }
        }
        if (before..after).contains(&story.end) {
            let _ = tell.send(Happening::StoryEnded);
        }
        while simulator.now() < after {
            send(simulator, destination)?;
        }
        controls.now.store(after, Ordering::Relaxed);
        let speed = if after > story.end { 1 } else { controls.speed() };
        due += Duration::from_secs(1) / u32::try_from(speed).unwrap_or(u32::MAX);
        pace.wait_until(due);
    }
    Ok(())
}

fn send(simulator: &mut Simulator, destination: &mut LogDestination) -> Result<u64, GenerateError> {
    let batch = simulator.next_batch();
    for record in batch.iter() {
        destination.send(record.kind, Some(record.key), record.value)?;
    }
    Ok(batch.len() as u64)
}
