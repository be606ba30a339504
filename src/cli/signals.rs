//! Being told to stop: SIGINT (Ctrl-C) and SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::events;

/// The exit code of a process that was interrupted, by the shells' convention.
const INTERRUPTED: i32 = 130;

/// A flag that the first signal raises, so that work can end in order. The second one ends the process.
pub(super) fn stop_requested() -> io::Result<Arc<AtomicBool>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let requested = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&requested);
    let listen = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if raised.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
            events::stopping();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listen))?;
    Ok(requested)
}
