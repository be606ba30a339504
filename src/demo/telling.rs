//! What is told, in the order in which it happens, until time is up.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::feed::Controls;
use super::follow::Deed;
use super::scorecard::{News, Scorecard};
use super::screen::{Style, Tag, delay, describe, time_of_day};
use super::sighting::Sighting;
use super::story::{self, Story};
use super::{DemoError, Happening, Stage};
use crate::model::pipeline::Micros;
use crate::simulate::{MINUTE, MODULES, ORGANISATIONS};

/// How long the live part waits for the history to be worked off, at most.
const SETTLE_WAIT: Duration = Duration::from_secs(60);
/// The share of a demo's length that the history may take, working it off included.
const SETTLE_SHARE: f64 = 0.5;
/// How often the end is looked for while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// The state of the telling.
pub(super) struct Telling<'a> {
    story: Story,
    length: Option<Duration>,
    style: Style,
    controls: Arc<Controls>,
    out: &'a mut dyn Write,
    card: Scorecard,
    began: Instant,
    /// When all of it was written.
    history: Option<Instant>,
    /// Since when the live part runs at its speed, and how fast.
    live: Option<Live>,
    windows_closed: u64,
    is_summed_up: bool,
}

#[derive(Clone, Copy)]
struct Live {
    since: Instant,
    speed: f64,
}

impl<'a> Telling<'a> {
    pub(super) fn new(
        story: Story,
        length: Option<Duration>,
        style: Style,
        controls: Arc<Controls>,
        out: &'a mut dyn Write,
    ) -> Self {
        let card = Scorecard::new(&story.settings.incidents);
        let began = Instant::now();
        let (history, live, windows_closed, is_summed_up) = (None, None, 0, false);
        Self { story, length, style, controls, out, card, began, history, live, windows_closed, is_summed_up }
    }

    /// Tells what happens until the end.
    pub(super) fn tell(&mut self, stage: &Stage<'_>, told: &Receiver<Happening>) -> Result<(), DemoError> {
        self.open(stage)?;
        while !self.is_over() && !stage.stop.load(Ordering::Relaxed) {
            if (stage.has_failed)() {
                return Err(DemoError::RoleStopped);
            }
            match told.recv_timeout(TICK) {
                Ok(happening) => self.take(stage, happening)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(DemoError::Panicked),
            }
            if self.is_settling_too_long() {
                self.go_live(false)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, stage: &Stage<'_>) -> Result<(), DemoError> {
        let (organisations, modules) = (ORGANISATIONS.len(), MODULES.len());
        let platform =
            format!("{organisations} organisations, {modules} modules, simulated; seed {}", self.story.settings.seed);
        self.fact("platform", &platform)?;
        self.fact("log", &stage.log.describe_self())?;
        self.fact("status", &stage.door)?;
        let minutes = (self.story.live_start - self.story.history_start) / MINUTE;
        self.fact("history", &format!("{minutes} minutes of the platform, as fast as this machine can"))
    }

    fn take(&mut self, stage: &Stage<'_>, happening: Happening) -> Result<(), DemoError> {
        match happening {
            Happening::HistoryWritten { records, took } => {
                self.history = Some(Instant::now());
                let seconds = took.as_secs_f64();
                let text = format!("{records} records in {seconds:.1} s, {:.0} a second", records as f64 / seconds);
                self.fact("", &text)
            }
            Happening::WindowsClosed { closed, until } => {
                self.windows_closed = closed;
                let is_settled = self.history.is_some() && until >= self.story.live_start - MINUTE;
                if is_settled && self.live.is_none() { self.go_live(true) } else { Ok(()) }
            }
            Happening::Injected(number) => self.injected(number),
            Happening::Over(number, at) => self.over(number, at),
            Happening::Seen(sighting) => self.seen(&sighting),
            Happening::Done(deed) => self.done(&deed),
            Happening::StoryEnded => self.story_ended(stage),
            Happening::Odd(reason) => self.fact("odd", &format!("a message that cannot be read: {reason}")),
            Happening::Failed(error) => Err(error),
        }
    }

    /// Live traffic runs at full speed from here on, whether or not the history is worked off.
    fn go_live(&mut self, is_settled: bool) -> Result<(), DemoError> {
        let elapsed = self.began.elapsed();
        let speed = story::speed(self.length.map(|length| length.saturating_sub(elapsed)));
        self.live = Some(Live { since: Instant::now(), speed });
        self.controls.speed.store(speed as u64, Ordering::Relaxed);
        let (windows, seconds) = (self.windows_closed, elapsed.as_secs_f64());
        let state = if is_settled { "baselines are warm" } else { "not all of the history is worked off" };
        self.fact("", &format!("{windows} windows closed, {state} after {seconds:.1} s"))?;
        let (minutes, from) = (speed / 60.0, time_of_day(self.story.live_start));
        let clock =
            format!("1 s here is {minutes:.1} min of the platform, from {from} on: rules wait for minutes there");
        self.fact("live", &clock)?;
        self.write("\n")
    }

    fn injected(&mut self, number: usize) -> Result<(), DemoError> {
        self.card.inject(number, self.began.elapsed());
        let Some(incident) = self.story.settings.incidents.get(number).cloned() else { return Ok(()) };
        self.line(incident.start, Tag::Injected, &format!("{}: {}", incident.name, incident.story))
    }

    fn over(&mut self, number: usize, at: Micros) -> Result<(), DemoError> {
        let Some(incident) = self.story.settings.incidents.get(number).cloned() else { return Ok(()) };
        self.line(at, Tag::Over, &format!("{}: the platform does it no more", incident.name))
    }

    fn seen(&mut self, sighting: &Sighting) -> Result<(), DemoError> {
        let text = describe(&sighting.body);
        let severity = sighting.body.severity;
        let (tag, text) = match self.card.note(sighting, self.began.elapsed()) {
            News::Nothing => return Ok(()),
            News::Resolved => (Tag::Resolved, text),
            News::Worse => (Tag::Worse(severity), text),
            News::Detected(Some(_), Some(after)) => {
                (Tag::Detected(severity), format!("{text}, {}", delay(after, self.speed())))
            }
            News::Detected(..) => (Tag::Unexplained(severity), text),
        };
        self.line(sighting.body.window_end, tag, &text)
    }

    /// What was decided and done, in the words of the audit.
    fn done(&mut self, deed: &Deed) -> Result<(), DemoError> {
        let tag = match deed.kind.as_str() {
            "intent" => Tag::Acting,
            "verified" => Tag::Verified,
            "escalated" => Tag::Escalated,
            "decision" | "unverified" | "failed" | "rolled_back" => Tag::Decided,
            _ => return Ok(()),
        };
        self.line(deed.time, tag, &deed.sentence)
    }

    /// Without a length the summary comes with the story's end, and ordinary traffic goes on after it.
    fn story_ended(&mut self, stage: &Stage<'_>) -> Result<(), DemoError> {
        if self.length.is_some() {
            return Ok(());
        }
        self.summary(stage)?;
        self.write("\nThe script is over. Healthy traffic goes on, 1 s for 1 s, until Ctrl-C.\n\n")
    }

    /// What was injected and what was found, told once.
    pub(super) fn summary(&mut self, stage: &Stage<'_>) -> Result<(), DemoError> {
        if std::mem::replace(&mut self.is_summed_up, true) {
            return Ok(());
        }
        self.write(&self.style.summary(&self.card, self.speed()))?;
        match &self.card.first {
            Some(first) => self.write(&self.style.message(&stage.topics.remediation(), first)),
            None => Ok(()),
        }
    }

    fn speed(&self) -> f64 {
        self.live.map_or(1.0, |live| live.speed)
    }

    fn is_over(&self) -> bool {
        self.length.is_some_and(|length| self.began.elapsed() >= length)
    }

    fn is_settling_too_long(&self) -> bool {
        let share = self.length.map_or(SETTLE_WAIT, |length| length.mul_f64(SETTLE_SHARE).min(SETTLE_WAIT));
        let waited = self.history.is_some_and(|_| self.began.elapsed() >= share);
        self.live.is_none() && waited
    }

    fn fact(&mut self, name: &str, text: &str) -> Result<(), DemoError> {
        self.write(&self.style.fact(name, text))
    }

    fn line(&mut self, clock: Micros, tag: Tag, text: &str) -> Result<(), DemoError> {
        let at = self.live.map_or(self.began, |live| live.since).elapsed();
        self.write(&self.style.line(at, clock, tag, text))
    }

    fn write(&mut self, text: &str) -> Result<(), DemoError> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(DemoError::Output)
    }
}
