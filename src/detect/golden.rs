//! Golden tests: `tests/golden/detect/*.txt` show windows on the left and what detection says on the right of the bar.
//!
//! A file is a rule (`key: value` lines), `---`, and rows `start value samples note | says`. `start` is a minute, or a range of minutes
//! `00:00-00:59` with the same row. `none` is a window without a row, `null` a row without a measure. The notes are `open` (the window is
//! not closed yet) and `silenced`. `GOLDEN=write` rewrites the right side.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::tests::{MINUTE, level, pipeline, rule, series};
use super::*;
use crate::model::detection::Change;
use crate::model::pipeline::{Direction, Evaluate, Severity};

#[test]
fn the_golden_files_say_what_detection_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/detect");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "golden files are missing");
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let actual = play(&written);
        if std::env::var_os("GOLDEN").is_some_and(|mode| mode == "write") {
            std::fs::write(&file, &actual).unwrap();
            continue;
        }
        assert!(written == actual, "{} says otherwise; detection says\n{actual}", file.display());
    }
}

/// The file with its right side as detection says it.
fn play(file: &str) -> String {
    let (head, rows) = file.split_once("---\n").expect("a line `---` between rule and rows");
    let rule = read_rule(head);
    let detector = Detector::new(&pipeline(vec![rule.clone()]), MINUTE).unwrap();
    let mut state = SeriesState::default();
    let mut text = format!("{head}---\n");
    for row in rows.lines() {
        let left = row.split('|').next().unwrap().trim_end();
        let said: Vec<String> = expand(left).flat_map(|start| play_row(&detector, &mut state, start, left)).collect();
        let line = format!("{left:44}| {}", said.join("; "));
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

fn play_row(detector: &Detector, state: &mut SeriesState, start: Micros, row: &str) -> Vec<String> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let has = |note: &str| fields.iter().skip(1).any(|field| *field == note);
    let (series, mut out) = (series(), Vec::new());
    let window = (start, start + MINUTE);
    let values: Vec<Option<f64>> = [number(1), number(2)].into_iter().take(detector.columns().len()).collect();
    let seen = Observation {
        series: &series,
        window_start: window.0,
        window_end: window.1,
        watched_since: 0,
        values: &values,
    };
    let silenced = |_: &RuleName| has("silenced").then_some(Severity::Critical);
    match (has("none"), has("open")) {
        (true, _) => detector.on_missing(state, &series, window, &mut out),
        (_, true) => detector.on_change(state, &seen, &silenced, &mut out),
        _ => detector.on_close(state, &seen, &silenced, &mut out),
    };
    out.iter().map(|detection| describe(detection, state)).collect()
}

fn describe(detection: &Detection, state: &SeriesState) -> String {
    let mut text = format!("{:?} {:?} at {}", detection.change, detection.severity, clock(detection.window_start));
    let limit = [("limit", detection.threshold), ("score", detection.score)];
    for (name, value) in limit.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        write!(text, ", {name} {}", (value * 1e4).round() / 1e4).unwrap();
    }
    assert_eq!(state.firing().next().is_some(), detection.change != Change::Resolved);
    text.to_lowercase()
}

fn read_rule(head: &str) -> Rule {
    let mut rule = rule("rule", Technique::Threshold, vec![]);
    for line in head.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("`{line}` is not `key: value`"));
        match key {
            "technique" => rule.technique = technique(value),
            "levels" => (rule.direction, rule.levels) = levels(value),
            "direction" => rule.direction = Direction::Both,
            "clear_for" => rule.clear_for = minutes(value),
            "min_samples" => (rule.samples, rule.min_samples) = (Some("samples".into()), value.parse().unwrap()),
            "rate" => rule.rate = value.parse().unwrap(),
            "min_effect" => rule.min_effect = value.parse().unwrap(),
            "warmup_windows" => rule.warmup_windows = value.parse().unwrap(),
            "evaluate" => rule.evaluate = Evaluate::Continuous,
            _ => panic!("unknown key `{key}`"),
        }
    }
    rule
}

fn technique(name: &str) -> Technique {
    match name {
        "threshold" => Technique::Threshold,
        "ratio" => Technique::Ratio,
        "zscore" => Technique::Zscore { robust: false },
        "robust zscore" => Technique::Zscore { robust: true },
        "new_fingerprint" => Technique::NewFingerprint,
        _ => panic!("unknown technique `{name}`"),
    }
}

/// `high above 2 for 3m, medium above 1 for 6m`
fn levels(text: &str) -> (Direction, Vec<Level>) {
    let below = text.contains(" below ");
    let read = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let severity = match words[0] {
            "critical" => Severity::Critical,
            "high" => Severity::High,
            "medium" => Severity::Medium,
            "low" => Severity::Low,
            other => panic!("unknown severity `{other}`"),
        };
        let limit = words.get(2).map_or(0.0, |limit| limit.parse().unwrap());
        level(severity, limit, words.get(4).map_or(0, |for_| minutes(for_) / MINUTE))
    };
    (if below { Direction::Below } else { Direction::Above }, text.split(',').map(read).collect())
}

fn minutes(text: &str) -> Micros {
    text.trim_end_matches('m').parse::<Micros>().unwrap() * MINUTE
}

/// The minutes that a row stands for.
fn expand(row: &str) -> impl Iterator<Item = Micros> {
    let read = |text: &str| {
        let (hours, minutes) = text.split_once(':').expect("a time HH:MM");
        hours.parse::<Micros>().unwrap() * 60 + minutes.parse::<Micros>().unwrap()
    };
    let field = row.split_whitespace().next().expect("a row begins with a time");
    let (first, last) = field.split_once('-').unwrap_or((field, field));
    (read(first)..=read(last)).map(|minute| minute * MINUTE)
}

fn clock(time: Micros) -> String {
    format!("{:02}:{:02}", time / MINUTE / 60, time / MINUTE % 60)
}
