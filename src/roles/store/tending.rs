//! The thread that maintains the store's tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::events;
use crate::model::schema::StoreTable;
use crate::roles::Clock;
use crate::store::Store;

/// Between two rounds. Longer leaves more small files to statements, shorter looks at the log more often.
const ROUND: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// Maintains every table once a minute, until `stop`. A round that fails is told of, and the next one tries again.
pub fn tend(store: &Arc<Store>, clock: &Arc<dyn Clock>, stop: &AtomicBool) {
    let mut last = clock.elapsed();
    while !stop.load(Ordering::Relaxed) {
        if clock.elapsed().saturating_sub(last) < ROUND {
            std::thread::sleep(STEP);
            continue;
        }
        for table in StoreTable::ALL {
            match store.maintain(table, clock.wall()) {
                Ok(done) => events::store_maintained(table.name(), done.merged, done.expired),
                Err(error) => events::store_maintenance_failed(table.name(), &error.to_string()),
            }
        }
        last = clock.elapsed();
    }
}
