//! How far a backfill is: a bar on a terminal, a line now and then into a pipe, always on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::backfill::Progress;
use crate::cli::output;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the bar is drawn at most, in a second.
const DRAWN_PER_SECOND: u8 = 5;

/// Shows progress.
pub(super) struct Bar {
    began: Instant,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Bar {
    /// A bar for so many bytes, if somebody can see it.
    pub(super) fn new(bytes: u64) -> Self {
        let is_seen = std::io::stderr().is_terminal();
        let bar = is_seen.then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
            let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {eta} left");
            let bar = ProgressBar::with_draw_target(Some(bytes), target);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { began: Instant::now(), bar, last_line: Instant::now() }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(progress.bytes_read);
                bar.set_message(rows(progress, self.began.elapsed()));
            }
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                output::note(&line(progress, self.began.elapsed()));
            }
            None => {}
        }
    }

    /// Does something that writes to the terminal, with the bar out of the way.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn rows(progress: &Progress, elapsed: Duration) -> String {
    let rate = progress.rows as f64 / elapsed.as_secs_f64().max(1e-3);
    format!("{} rows, {rate:.0} rows/s", progress.rows)
}

/// Progress in a line, with an estimate from the bytes read.
fn line(progress: &Progress, elapsed: Duration) -> String {
    let done = progress.bytes_read.min(progress.bytes) as f64 / progress.bytes.max(1) as f64;
    let left = if done > 0.0 { elapsed.as_secs_f64() * (1.0 - done) / done } else { 0.0 };
    format!("{}, {:.0} %, about {left:.0} s left", rows(progress, elapsed), done * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_estimates_from_the_bytes_read() {
        let progress = Progress { rows: 1_000, bytes_read: 25, bytes: 100 };
        let expected = "1000 rows, 100 rows/s, 25 %, about 30 s left";
        assert_eq!(line(&progress, Duration::from_secs(10)), expected);
        assert!(line(&Progress::default(), Duration::ZERO).contains("about 0 s left"));
    }
}
