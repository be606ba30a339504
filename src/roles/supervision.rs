//! Supervision: a worker that ended by an error of the world is started anew from what was committed.
//!
//! A broker that is away or refuses a request is no reason to end the process: whatever would start it again could do
//! no more than is done here, and would throw away the other stage's memory. So it is tried for ever, with a pause, and
//! the board says so. What no retry cures ends the worker, and with it the process: refused credentials, a topic or
//! records that are gone, state that contradicts itself, a pipeline that cannot be computed, and another instance of the
//! same name. Of that a fence is no proof: Kafka also fences a process that was paused for too long, or whose
//! coordinator went down in the middle of a transaction. So a fenced worker starts anew; only one that is fenced
//! [`FENCES_MAX`] times within [`NAMESAKE_WINDOW`] has a namesake, and ends. Of two namesakes the older is fenced first, so
//! the newer stays. Nothing is retried in a hurry, and nothing that was not committed survives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::RolesError;
use crate::events;
use crate::serve::status::{RoleState, StatusBoard};

/// How long a worker rests after an error before it starts anew. Longer delays a recovery by as much, shorter writes more
/// of the same into the logs.
pub const RESTART_PAUSE: Duration = Duration::from_secs(2);
/// So many fences of one worker within [`NAMESAKE_WINDOW`] are the work of a namesake, which starts anew as soon as it is
/// fenced, too: about every five seconds one of the two is. Fewer fences or a longer window end processes whose broker
/// went down two or three times in a row, the contrary lets namesakes on a slow machine fence each other for ever.
pub const FENCES_MAX: usize = 3;
pub const NAMESAKE_WINDOW: Duration = Duration::from_secs(30);
/// How soon a rest ends when the process is told to stop.
const STOP_STEP: Duration = Duration::from_millis(50);

/// Runs `work` until it ends by itself, by an error that no retry cures, or by `stop`.
pub(super) fn supervise(
    role: &'static str,
    board: &StatusBoard,
    stop: &AtomicBool,
    pause: Duration,
    work: impl Fn(&AtomicBool) -> Result<(), RolesError>,
) -> Result<(), RolesError> {
    let mut fences = Vec::new();
    loop {
        // It runs once its group has told it which partitions are its own.
        board.role(role, RoleState::Starting);
        board.turned(role);
        let ended = work(stop);
        board.ended(role);
        let Err(error) = ended else { return Ok(()) };
        let has_namesake = error.is_fence() && {
            fences.retain(|at: &Instant| at.elapsed() < NAMESAKE_WINDOW);
            fences.push(Instant::now());
            fences.len() >= FENCES_MAX
        };
        if has_namesake || !(error.is_fence() || error.passes()) {
            events::role_stopped(role, &error.to_string());
            board.role(role, RoleState::Failed(error.to_string()));
            return Err(error);
        }
        if stop.load(Ordering::Relaxed) {
            // Nothing is lost: whoever goes on begins where this worker last committed.
            events::stopped_uncommitted(role, &error.to_string());
            return Ok(());
        }
        events::worker_restarted(role, &error.to_string());
        board.metrics().restarted(role);
        board.role(role, RoleState::Restarting(error.to_string()));
        rest(stop, pause);
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// Waits, but not for longer than until `stop`.
fn rest(stop: &AtomicBool, pause: Duration) {
    let deadline = Instant::now() + pause;
    while !stop.load(Ordering::Relaxed) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(STOP_STEP));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::log::LogError;

    const PAUSE: Duration = Duration::from_millis(1);

    fn unreachable() -> RolesError {
        LogError::Unreachable { brokers: "b:1".to_owned(), reason: "it is away".to_owned() }.into()
    }

    #[test]
    fn an_error_of_the_world_starts_the_worker_anew_and_the_board_says_so() {
        let (board, stop, runs) = (StatusBoard::new(""), AtomicBool::new(false), AtomicUsize::new(0));
        let result = supervise("intake", &board, &stop, PAUSE, |_| match runs.fetch_add(1, Ordering::Relaxed) {
            0..5 => Err(unreachable()),
            _ => Ok(()),
        });
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(runs.into_inner(), 6);
        assert_eq!(board.snapshot().roles[0].state, RoleState::Starting);
        assert!(board.exposition().contains("maturion_worker_restarts_total{role=\"intake\"} 5\n"));
    }

    #[test]
    fn an_error_that_no_retry_cures_ends_the_worker() {
        let errors: [fn() -> RolesError; 2] = [
            || LogError::Setting("`x`: no such property".to_owned()).into(),
            || crate::roles::intake::IntakeError::from(LogError::UnknownTopic { topic: "t".to_owned() }).into(),
        ];
        for error in errors {
            let (board, stop, runs) = (StatusBoard::new(""), AtomicBool::new(false), AtomicUsize::new(0));
            let result = supervise("intake", &board, &stop, PAUSE, |_| {
                runs.fetch_add(1, Ordering::Relaxed);
                Err(error())
            });
            assert_eq!(runs.into_inner(), 1, "{result:?}");
            assert_eq!(board.snapshot().roles[0].state, RoleState::Failed(error().to_string()));
        }
    }

    #[test]
    fn a_worker_that_is_fenced_again_and_again_has_a_namesake() {
        let (board, stop, runs) = (StatusBoard::new(""), AtomicBool::new(false), AtomicUsize::new(0));
        let fenced = || LogError::Fenced { transactional_id: "a".to_owned() };
        let result = supervise("intake", &board, &stop, PAUSE, |_| match runs.fetch_add(1, Ordering::Relaxed) {
            1 | 3 => Err(unreachable()),
            _ => Err(fenced().into()),
        });
        assert!(matches!(result, Err(RolesError::Log(LogError::Fenced { .. }))), "{result:?}");
        assert_eq!(runs.into_inner(), 5);
        assert_eq!(board.snapshot().roles[0].state, RoleState::Failed(fenced().to_string()));
    }

    /// Without the rest, a broker that is away would keep a core busy; with a deaf one, a process could not be stopped.
    #[test]
    fn a_worker_rests_before_it_starts_anew_and_can_be_stopped_meanwhile() {
        let (board, stop, runs) = (StatusBoard::new(""), AtomicBool::new(false), AtomicUsize::new(0));
        let work = |_: &AtomicBool| {
            runs.fetch_add(1, Ordering::Relaxed);
            Err(unreachable())
        };
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| supervise("intake", &board, &stop, Duration::from_secs(3_600), work));
            let resting = || board.snapshot().roles.first().map(|role| role.state.clone());
            while resting() != Some(RoleState::Restarting(unreachable().to_string())) {
                std::thread::yield_now();
            }
            assert_eq!(runs.load(Ordering::Relaxed), 1);
            stop.store(true, Ordering::Relaxed);
            let ended = worker.join().unwrap_or_else(|_| panic!("the worker panicked"));
            assert!(ended.is_ok(), "{ended:?}");
        });
    }
}
