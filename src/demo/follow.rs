//! The consumer's side of the demo: threads that read the output topics as anybody could.

use std::sync::mpsc::Sender;
use std::time::Duration;

use serde::Deserialize;

use super::Happening;
use super::feed::Controls;
use super::sighting::Sighting;
use crate::log::{Log, LogError, Partition, Position, Reader, Record};
use crate::model::pipeline::Micros;
use crate::model::time::{read_time, rfc3339};

/// An entry of the audit, as far as the demo tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Deed {
    #[serde(with = "rfc3339")]
    pub time: Micros,
    pub kind: String,
    pub sentence: String,
}

/// How long one wait for new records lasts, and so how soon a stop is noticed.
const POLL_WAIT: Duration = Duration::from_millis(100);
const POLL_RECORDS: usize = 1_000;

/// Passes on every detection.
pub fn detections(log: &dyn Log, topic: &str, controls: &Controls, tell: &Sender<Happening>) -> Result<(), LogError> {
    follow(log, topic, controls, &mut |record| {
        // The receiver ends with the demo; what comes later is of no interest.
        let _ = tell.send(match Sighting::read(record) {
            Ok(sighting) => Happening::Seen(Box::new(sighting)),
            Err(reason) => Happening::Odd(reason),
        });
    })
}

/// Passes on how many windows were closed and up to which event time.
pub fn windows(log: &dyn Log, topic: &str, controls: &Controls, tell: &Sender<Happening>) -> Result<(), LogError> {
    #[derive(Deserialize)]
    struct Window<'a> {
        window_end: &'a str,
    }
    let (mut closed, mut latest) = (0, None);
    follow(log, topic, controls, &mut |record| {
        closed += 1;
        let window = serde_json::from_slice::<Window<'_>>(record.value.unwrap_or_default()).ok();
        let end = window.and_then(|window| read_time(window.window_end).ok());
        if end > latest {
            latest = end;
            let _ = tell.send(Happening::WindowsClosed { closed, until: end.unwrap_or_default() });
        }
    })
}

/// Passes on what is decided and done.
pub fn audit(log: &dyn Log, topic: &str, controls: &Controls, tell: &Sender<Happening>) -> Result<(), LogError> {
    follow(log, topic, controls, &mut |record| {
        // Checkpoints are no deeds.
        if let Ok(deed) = serde_json::from_slice::<Deed>(record.value.unwrap_or_default()) {
            let _ = tell.send(Happening::Done(Box::new(deed)));
        }
    })
}

fn follow(log: &dyn Log, topic: &str, controls: &Controls, visit: &mut dyn FnMut(&Record<'_>)) -> Result<(), LogError> {
    let mut reader = open(log, topic)?;
    while !controls.is_stopped() {
        match reader.poll(POLL_WAIT, POLL_RECORDS, visit) {
            Ok(_) => {}
            // In a log of bounded memory a slow reader loses the oldest records, and goes on with what there is.
            Err(LogError::OffsetLost { .. }) => reader = open(log, topic)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a topic from its earliest records on.
fn open(log: &dyn Log, topic: &str) -> Result<Box<dyn Reader>, LogError> {
    let found = log.describe(&[topic.to_owned()])?;
    let unknown = || LogError::UnknownTopic { topic: topic.to_owned() };
    let partitions = found.first().ok_or_else(unknown)?.partitions;
    let partitions: Vec<Partition> = (0..partitions).map(|number| Partition { topic: topic.into(), number }).collect();
    let bounds = log.bounds(&partitions)?;
    let start = |(partition, (earliest, _)): (Partition, (i64, i64))| Position { partition, offset: earliest };
    log.reader(&partitions.into_iter().zip(bounds).map(start).collect::<Vec<_>>())
}
