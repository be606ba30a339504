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
}

impl Windows {
    /// Shows the book the windows that have come since the last call.
    pub(super) fn read(&mut self, runtime: &Runtime, book: &mut Book, now: Micros) -> Result<(), LogError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => open(runtime)?,
        };
        let read = reader.poll(Duration::ZERO, WINDOWS_MAX, &mut |record| {
            let is_complete = !record.headers.iter().any(|(name, value)| *name == "complete" && *value == b"false");
            let window = record.value.and_then(|value| ClosedWindow::read(value, is_complete));
            if let Some(window) = window {
                book.window(&window, now);
            }
        });
        match read {
            Ok(_) => self.reader = Some(reader),
            // In a log of bounded memory a slow reader loses the oldest, and goes on with what there is.
            Err(LogError::OffsetLost { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn open(runtime: &Runtime) -> Result<Box<dyn Reader>, LogError> {
    let topic: Arc<str> = runtime.topics.windows().into();
    let partitions = (0..runtime.partitions).map(|number| Partition { topic: Arc::clone(&topic), number });
    let partitions = partitions.collect::<Vec<_>>();
    let bounds = runtime.log.bounds(&partitions)?;
    let start = |(partition, (earliest, end)): (Partition, (i64, i64))| Position {
        partition,
        offset: end.saturating_sub(TAIL_OFFSETS).max(earliest),
    };
    runtime.log.reader(&partitions.into_iter().zip(bounds).map(start).collect::<Vec<_>>())
}
