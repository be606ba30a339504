//! Closed windows as they come: what confirms detections and proves actions.

use std::sync::Arc;
use std::time::Duration;

use crate::incident::book::Book;
use crate::incident::proof::ClosedWindow;
use crate::log::{LogError, Partition, Position, Reader};
use crate::model::pipeline::Micros;
use crate::roles::Runtime;

/// At its start the actor reads so many windows of each partition again: minutes, so that a restart misses no proof.
const TAIL_OFFSETS: i64 = 20_000;
/// Windows read by one turn; what is left waits for the next.
const WINDOWS_MAX: usize = 4_096;

/// Follows `maturion.windows`.
#[derive(Default)]
pub(super) struct Windows {
    reader: Option<Box<dyn Reader>>,
    /// Where the partitions ended when reading began, as far as they have not been read up to there.
    behind: Vec<Position>,
}

impl Windows {
    /// Shows the book the windows that have come since the last call.
    pub(super) fn read(&mut self, runtime: &Runtime, book: &mut Book, now: Micros) -> Result<(), LogError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open(runtime)?,
        };
        let read = reader.poll(Duration::ZERO, WINDOWS_MAX, &mut |record| {
            let is_complete = !record.headers.iter().any(|(name, value)| *name == "complete" && *value == b"false");
            let window = record.value.and_then(|value| ClosedWindow::read(value, is_complete));
            if let Some(window) = window {
                book.window(&window, now);
            }
        });
        match read {
            Ok(_) => {
                self.note_progress(reader.as_mut())?;
                self.reader = Some(reader);
            }
            // In a log of bounded memory a slow reader loses the oldest, and goes on with what there is.
            Err(LogError::OffsetLost { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// True if all was read that stood there when reading began. Before that nobody may say that a proof did not come in
    /// time: it may have come while no process ran.
    pub(super) fn is_caught_up(&self) -> bool {
        self.reader.is_some() && self.behind.is_empty()
    }

    fn note_progress(&mut self, reader: &mut dyn Reader) -> Result<(), LogError> {
        if !self.behind.is_empty() {
            let reached = reader.positions()?;
            let is_before =
                |end: &Position| reached.iter().any(|at| at.partition == end.partition && at.offset < end.offset);
            self.behind.retain(is_before);
        }
        Ok(())
    }

    fn open(&mut self, runtime: &Runtime) -> Result<Box<dyn Reader>, LogError> {
        let topic: Arc<str> = runtime.topics.windows().into();
        let partitions = (0..runtime.partitions).map(|number| Partition { topic: Arc::clone(&topic), number });
        let partitions = partitions.collect::<Vec<_>>();
        let bounds = runtime.log.bounds(&partitions)?;
        let at = |offset: fn((i64, i64)) -> i64| {
            let bounded = partitions.iter().zip(&bounds);
            bounded
                .map(|(partition, bounds)| Position { partition: partition.clone(), offset: offset(*bounds) })
                .collect()
        };
        let starts: Vec<Position> = at(|(earliest, end)| end.saturating_sub(TAIL_OFFSETS).max(earliest));
        self.behind = at(|(_, end)| end);
        runtime.log.reader(&starts)
    }
}
