//! The thread that writes sealed chunks to Delta, so that the worker goes on reading.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::events;
use crate::model::schema::StoreTable;
use crate::serve::status::StatusBoard;
use crate::store::chunk::{Chunk, Input};
use crate::store::{Store, StoreError};

/// Between two tries of a commit that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Tries while the worker still wants the commit; memory's own limit holds meanwhile.
const RETRIES_MAX: usize = 600;

/// Takes chunks in the order in which they were sealed. How many wait is bounded by the memory they may hold.
pub(super) struct Committer {
    chunks: Option<Sender<(StoreTable, Arc<Chunk>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(store: &Arc<Store>, board: &Arc<StatusBoard>) -> std::io::Result<Self> {
        let (chunks, waiting) = channel();
        let (store, board) = (Arc::clone(store), Arc::clone(board));
        let body = move || commit_all(&store, &board, &waiting);
        let thread = std::thread::Builder::new().name("store-commit".to_owned()).spawn(body)?;
        Ok(Self { chunks: Some(chunks), thread: Some(thread) })
    }

    pub(super) fn commit(&self, table: StoreTable, chunk: Arc<Chunk>) {
        if let Some(chunks) = &self.chunks {
            // The thread ends only after this end of the channel.
            let _ = chunks.send((table, chunk));
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            // What it had to say is in the log.
            let _ = thread.join();
        }
    }
}

fn commit_all(store: &Store, board: &StatusBoard, waiting: &Receiver<(StoreTable, Arc<Chunk>)>) {
    for (table, chunk) in waiting {
        let mut tries = 0;
        while store.state(table).is_sealed(&chunk) {
            let started = Instant::now();
            match store.commit(table, &chunk) {
                Ok(_) => board.metrics().stored(table.name(), chunk.rows() as u64, started.elapsed()),
                Err(error) if tries < RETRIES_MAX => {
                    tries += 1;
                    turned_away(store, table, &chunk, &error);
                }
                Err(error) => {
                    events::store_gave_up(table.name(), &error.to_string());
                    forget(store, table, &chunk);
                }
            }
        }
    }
}

/// A commit that did not succeed: the rows belong to somebody else now, or it is tried again.
fn turned_away(store: &Store, table: StoreTable, chunk: &Chunk, error: &StoreError) {
    events::store_commit_failed(table.name(), &error.to_string());
    if matches!(error, StoreError::NotNext { .. }) {
        forget(store, table, chunk);
        return;
    }
    std::thread::sleep(RETRY_PAUSE);
}

fn forget(store: &Store, table: StoreTable, chunk: &Chunk) {
    let inputs = chunk.parts.keys().cloned().collect::<Vec<Input>>();
    store.state(table).forget(&inputs);
}
