//! The board as a function of what was said on it, and when.

use std::time::Instant;

use super::board::Now;
use super::health::WEDGED_AFTER;
use super::*;
use crate::serve::metrics::Work;

const SECOND: Micros = 1_000_000;

fn progress(position: i64, end_offset: i64) -> Progress {
    Progress { position, end_offset, watermark: Some(SECOND) }
}

/// So many seconds from now, by both clocks.
fn after(seconds: u64) -> Now {
    let length = Duration::from_secs(seconds);
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + length;
    Now { instant: Instant::now() + length, wall: since_epoch.as_micros() as Micros }
}

fn running(instance: &str) -> StatusBoard {
    let board = StatusBoard::new("embedded").of(instance);
    board.role("intake", RoleState::Running);
    board.intake("telemetry.logs", 0, progress(7, 10));
    board
}

fn report(late_rows: u64) -> PipelineReport<'static> {
    PipelineReport { pipeline: "errors", late_rows, open_windows: 1, ..PipelineReport::default() }
}

#[test]
fn lag_is_what_is_left_and_never_negative() {
    let board = running("a");
    assert_eq!(board.snapshot().partitions[0].lag, 3);
    board.intake("telemetry.logs", 0, progress(12, 10));
    assert_eq!(board.snapshot().partitions[0].lag, 0);
}

#[test]
fn the_worst_role_decides() {
    let board = running("a");
    assert_eq!(board.snapshot().health, Health::Running);
    board.role("detect", RoleState::Restoring);
    assert_eq!(board.snapshot().health, Health::Starting);
    board.role("detect", RoleState::Failed("out of luck".into()));
    let status = board.snapshot();
    assert_eq!(status.health, Health::Failed);
    assert_eq!(status.problems, ["detect failed: out of luck"]);
    assert_eq!(StatusBoard::new("").snapshot().health, Health::Starting);
}

#[test]
fn a_silent_partition_is_stalled_until_it_is_released() {
    let board = running("a");
    let later = after(STALLED_AFTER.as_secs() + 1);
    assert_eq!(board.snapshot_at(later).health, Health::Stalled);
    board.released(Stage::Intake, "telemetry.logs", 0);
    assert_eq!(board.snapshot_at(later).health, Health::Running);
}

#[test]
fn a_stalled_process_is_live_until_a_worker_hangs() {
    let board = running("a");
    board.turned("intake");
    let hour = Instant::now() + WEDGED_AFTER * 3;
    assert_eq!(board.wedged_at(Instant::now() + WEDGED_AFTER - Duration::from_secs(1)), None);
    let sentence = board.wedged_at(hour).unwrap();
    assert!(sentence.starts_with("intake has not turned for 3"), "{sentence}");
    board.role("intake", RoleState::Failed("Kafka is away".into()));
    assert_eq!(board.wedged_at(hour), None, "what has ended cannot hang");
    board.turned("detect");
    board.ended("detect");
    assert_eq!(board.wedged_at(hour), None, "nor what was told to end");
}

#[test]
fn pipelines_are_summed_over_the_partitions_owned() {
    let board = running("a");
    let with = |late_rows, oldest_open| PipelineReport { oldest_open, ..report(late_rows) };
    board.detect("maturion.partials", 0, progress(0, 0), &[with(2, Some(90))]);
    board.detect("maturion.partials", 1, progress(0, 0), &[with(3, None)]);
    board.detect("maturion.partials", 1, progress(0, 0), &[with(4, Some(60))]);
    let total = board.snapshot().pipelines;
    assert_eq!((total[0].late_rows, total[0].open_windows, total[0].oldest_open_us), (6, 2, Some(60)));
    board.released(Stage::Detect, "maturion.partials", 1);
    assert_eq!(board.snapshot().pipelines[0].late_rows, 2);
}

#[test]
fn one_process_knows_what_another_owns_and_how_old_the_news_is() {
    let (board, other) = (running("a"), running("b"));
    other.intake("telemetry.logs", 1, progress(40, 50));
    other.detect("maturion.partials", 0, progress(5, 5), &[report(2)]);
    other.committed("intake", Duration::ZERO, &Work { dead_letters: [("empty", 3)].into(), ..Work::default() });
    board.heard(other.bulletin());
    let status = board.snapshot_at(after(9));
    let rows: Vec<(&str, i32, &str, i64)> =
        status.partitions.iter().map(|row| (row.topic.as_str(), row.partition, row.owner.as_str(), row.lag)).collect();
    let expected = [("telemetry.logs", 0, "a", 3), ("telemetry.logs", 1, "b", 10), ("maturion.partials", 0, "b", 0)];
    assert_eq!(rows, expected, "what is its own, a process knows better");
    assert!((9_000..10_000).contains(&status.partitions[1].age_ms), "{}", status.partitions[1].age_ms);
    assert_eq!(status.pipelines[0].late_rows, 2);
    assert_eq!(status.dead_letters["empty"], 3);
    assert_eq!(status.health, Health::Running, "that another is silent is no fault of this one");
}

#[test]
fn of_two_that_speak_of_a_partition_the_later_is_believed() {
    let (board, old, new) = (StatusBoard::new("").of("a"), running("b"), running("c"));
    old.detect("maturion.partials", 0, progress(5, 5), &[report(1)]);
    let mut of_old = old.bulletin();
    of_old.wall_us -= 60 * SECOND;
    new.detect("maturion.partials", 0, progress(9, 9), &[report(2)]);
    board.heard(new.bulletin());
    board.heard(of_old.clone());
    let status = board.snapshot();
    assert_eq!((status.partitions[1].owner.as_str(), status.partitions[1].position), ("c", 9));
    assert_eq!(status.pipelines[0].late_rows, 2, "totals are of the owner, once");
    // A new word of the same process replaces the old one whole.
    new.released(Stage::Detect, "maturion.partials", 0);
    board.heard(new.bulletin());
    assert_eq!(board.snapshot().partitions[1].owner, "b");
}

#[test]
fn a_process_does_not_take_its_own_words_for_anothers() {
    let board = running("a");
    board.heard(board.bulletin());
    board.released(Stage::Intake, "telemetry.logs", 0);
    assert_eq!(board.snapshot().partitions, []);
}

#[test]
fn the_lag_of_a_partition_without_an_owner_grows() {
    let (board, gone) = (running("a"), running("b"));
    gone.intake("telemetry.logs", 1, progress(40, 40));
    let mut last_words = gone.bulletin();
    last_words.wall_us -= 60 * SECOND;
    board.heard(last_words);
    let wanted = board.wanted_ends();
    assert_eq!(wanted.len(), 1, "only of the silent one: {wanted:?}");
    board.ends(wanted.into_iter().map(|partition| (partition, 99)));
    assert_eq!(board.snapshot().partitions[1].lag, 59);
}

#[test]
fn processes_that_come_and_go_do_not_grow_the_board() {
    let board = running("a");
    for number in 0..1_500 {
        let other = running(&format!("b{number}"));
        board.heard(Bulletin { wall_us: number, ..other.bulletin() });
    }
    assert!(format!("{board:?}").matches("\"b1499\"").count() > 0);
    assert_eq!(format!("{board:?}").matches("\"b499\"").count(), 0, "the one that was silent for longest is forgotten");
}

#[test]
fn a_status_survives_its_json() {
    let board = running("a");
    board.role("detect", RoleState::Failed("x".into()));
    let status = board.snapshot();
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.contains(r#"{"role":"detect","state":"failed","reason":"x"}"#), "{text}");
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn a_bulletin_of_another_version_is_read_as_far_as_it_goes() {
    let bulletin = running("b").bulletin();
    assert_eq!(serde_json::from_slice::<Bulletin>(&serde_json::to_vec(&bulletin).unwrap()).unwrap(), bulletin);
    let newer = serde_json::from_str::<Bulletin>(r#"{"instance":"c","wall_us":7,"mood":"good"}"#).unwrap();
    assert_eq!(newer, Bulletin { instance: "c".into(), wall_us: 7, ..Bulletin::default() });
}
