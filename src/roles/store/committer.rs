//! The thread that writes sealed chunks to Delta, so that the worker goes on reading.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::events;
use crate::model::schema::StoreTable;
use crate::serve::status::StatusBoard;
use crate::store::{Store, StoreError};

/// Between two tries of a commit that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Tries of one commit before the worker starts anew from what Delta has.
const RETRIES_MAX: usize = 30;

/// Commits the tables it is told of, oldest chunk first. How much waits is bounded by the memory that chunks may hold.
pub(super) struct Committer {
    tables: Option<Sender<StoreTable>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<StoreError>>>,
}

impl Committer {
    pub(super) fn start(store: &Arc<Store>, board: &Arc<StatusBoard>) -> std::io::Result<Self> {
        let (tables, told) = channel();
        let failure = Arc::new(Mutex::new(None));
        let (store, board, failed) = (Arc::clone(store), Arc::clone(board), Arc::clone(&failure));
        let body = move || {
            if let Err(error) = commit_all(&store, &board, &told) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        };
        let thread = std::thread::Builder::new().name("store-commit".to_owned()).spawn(body)?;
        Ok(Self { tables: Some(tables), thread: Some(thread), failure })
    }

    /// Commits what is sealed of a table.
    pub(super) fn commit(&self, table: StoreTable) {
        if let Some(tables) = &self.tables {
            // The thread ends before this end of the channel only by a failure, which is asked for.
            let _ = tables.send(table);
        }
    }

    /// Why nothing is committed any more.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.tables = None;
        if let Some(thread) = self.thread.take() {
            // What it had to say is in the log.
            let _ = thread.join();
        }
    }
}

fn commit_all(store: &Store, board: &StatusBoard, told: &Receiver<StoreTable>) -> Result<(), StoreError> {
    for table in told {
        let mut tries = 0;
        // Taken anew each time: parts of it may have gone to another process meanwhile.
        while let Some(chunk) = { store.state(table).oldest_sealed() } {
            let started = Instant::now();
            match store.commit(table, &chunk) {
                Ok(_) => board.metrics().stored(table.name(), chunk.rows() as u64, started.elapsed()),
                Err(error) => {
                    events::store_commit_failed(table.name(), &error.to_string());
                    tries += 1;
                    if tries > RETRIES_MAX || matches!(error, StoreError::NotNext { .. }) {
                        return Err(error);
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }
    Ok(())
}
