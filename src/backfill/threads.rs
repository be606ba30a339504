//! The threads of a backfill: one reads, some decode and aggregate, the caller's merges in order.
//!
//! ```text
//!  reader ─▶ numbered chunks ─▶ workers ─▶ numbered work ─▶ put in order ─▶ merge
//!     ▲                                                                       │
//!     └────────────────────── one permit for each chunk ──────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::chunk::{Chunk, Work};
use super::lanes::{History, Reader};
use super::worker::Worker;
use super::{BackfillError, Settings};
use crate::evaluate::PipelineSet;

/// Chunks under way for each worker: one that it works on, one that waits, and one to be put in order.
const CHUNKS_OF_A_WORKER: usize = 3;

/// What a thread hands on, with its place in the order.
type Numbered<T> = (u64, Result<T, BackfillError>);

/// Reads and computes everything; `merge` takes the work in its order. True if `stop` ended it before the input did.
pub(super) fn run(
    history: History,
    sets: &[Arc<PipelineSet>],
    settings: &Settings,
    stop: &AtomicBool,
    merge: &mut dyn FnMut(Work) -> Result<(), BackfillError>,
) -> Result<bool, BackfillError> {
    let workers = settings.workers.max(1);
    let under_way = workers * CHUNKS_OF_A_WORKER;
    let (to_workers, chunks) = sync_channel::<Numbered<Chunk>>(under_way);
    let (to_merge, done) = sync_channel::<Numbered<Work>>(under_way);
    let (permit, permits) = sync_channel::<()>(under_way);
    let chunks = Arc::new(Mutex::new(chunks));
    let computing = (0..workers).map(|_| Worker::new(sets, settings)).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        for (number, worker) in computing.into_iter().enumerate() {
            let (chunks, to_merge) = (Arc::clone(&chunks), to_merge.clone());
            let named = thread::Builder::new().name(format!("backfill-{number}"));
            named.spawn_scoped(scope, move || work(worker, &chunks, &to_merge)).map_err(BackfillError::Thread)?;
        }
        drop((chunks, to_merge));
        let reader = thread::Builder::new().name("backfill-reader".to_owned());
        let reading = reader.spawn_scoped(scope, move || read(Reader::new(history), &permit, &to_workers, stop));
        let reading = reading.map_err(BackfillError::Thread)?;
        // With an error the channels are dropped, and every thread ends at its next step.
        in_order(done, permits, merge)?;
        Ok(reading.join().unwrap_or(true))
    })
}

/// Hands chunks to the workers; true if it was told to stop before the last one.
fn read(
    mut reader: Reader,
    permit: &SyncSender<()>,
    to_workers: &SyncSender<Numbered<Chunk>>,
    stop: &AtomicBool,
) -> bool {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return true;
        }
        let Some(chunk) = reader.next().transpose() else { return false };
        let is_failed = chunk.is_err();
        if permit.send(()).is_err() || to_workers.send((number, chunk)).is_err() || is_failed {
            return true;
        }
    }
    true
}

fn work(mut worker: Worker, chunks: &Mutex<Receiver<Numbered<Chunk>>>, to_merge: &SyncSender<Numbered<Work>>) {
    loop {
        // Whoever panicked with it held nothing but the right to receive.
        let next = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, chunk)) = next else { return };
        let work = chunk.and_then(|chunk| worker.run(chunk));
        if to_merge.send((number, work)).is_err() {
            return;
        }
    }
}

fn in_order(
    done: Receiver<Numbered<Work>>,
    permits: Receiver<()>,
    merge: &mut dyn FnMut(Work) -> Result<(), BackfillError>,
) -> Result<(), BackfillError> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (number, work) in done {
        early.insert(number, work);
        while let Some(work) = early.remove(&next) {
            merge(work?)?;
            next += 1;
            // The reader may have ended already.
            let _ = permits.recv();
        }
    }
    Ok(())
}
