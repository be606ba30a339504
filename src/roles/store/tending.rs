//! The thread that maintains the store's tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::events;
use crate::model::schema::StoreTable;
use crate::roles::Clock;
use crate::store::Store;

/// Between two rounds. Longer leaves more small files to statements, shorter looks at the log more often.
const ROUND: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// Maintains every table once a minute, for as long as it lives.
pub(super) struct Tending {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tending {
    pub(super) fn start(store: &Arc<Store>, clock: &Arc<dyn Clock>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (store, clock, stopped) = (Arc::clone(store), Arc::clone(clock), Arc::clone(&stop));
        let body = move || tend(&store, clock.as_ref(), &stopped);
        let thread = std::thread::Builder::new().name("store-tend".to_owned()).spawn(body)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it had to say is in the log.
            let _ = thread.join();
        }
    }
}

fn tend(store: &Store, clock: &dyn Clock, stop: &AtomicBool) {
    let mut last = clock.elapsed();
    while !stop.load(Ordering::Relaxed) {
        if clock.elapsed().saturating_sub(last) < ROUND {
            std::thread::sleep(STEP);
            continue;
        }
        StoreTable::ALL.iter().for_each(|table| maintain(store, *table, clock));
        last = clock.elapsed();
    }
}

/// One round; one that fails is told of, and the next tries again.
fn maintain(store: &Store, table: StoreTable, clock: &dyn Clock) {
    match store.maintain(table, clock.wall()) {
        Ok(done) => events::store_maintained(table.name(), done.merged, done.expired),
        Err(error) => events::store_maintenance_failed(table.name(), &error.to_string()),
    }
}
