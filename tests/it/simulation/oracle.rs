//! What must have come out: windows counted by hand over the records, detections as the core makes them without a log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use maturion::log::{Log, Partition, Position, Record};
use maturion::model::detection::format_time;
use maturion::model::pipeline::Micros;
use serde_json::Value;

use super::pipelines::{CONTINUOUS, ROLLUP, SIZE, SLIDE, TUMBLE, WIDE};
use super::records::Sample;
use super::world::{Mode, World};
use crate::straight::Straight;

/// A window's row: its key, and what it counts.
type Rows = BTreeMap<String, Row>;

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    n: f64,
    /// The second measure: a total, a mean or a number of parts.
    more: f64,
}

/// Compares everything that the world committed with what it should have; the first difference.
pub fn check(world: &World) -> Result<(), String> {
    let state = world.state();
    let (good, closing, bad) = (state.records.good.clone(), state.records.closing.clone(), state.records.bad.clone());
    drop(state);
    dead_letters(world, &bad)?;
    let rows = windows(world)?;
    let detections = detections(world)?;
    match world.mode {
        Mode::Strict => {
            same_windows(&expected(&good), &rows)?;
            none_late(world)?;
            same_detections(world, &good, &closing, &detections)
        }
        Mode::Lossy => {
            let records = good.len() + closing.len();
            ["by_org", "everything"].iter().try_for_each(|pipeline| conserved(world, pipeline, &rows, records))
        }
    }
}

/// Every record of a topic, in the order of each partition.
pub fn read(world: &World, topic: &str, visit: &mut dyn FnMut(&Record<'_>)) {
    let info = world.log.describe(&[topic.to_owned()]).unwrap().remove(0);
    let partitions = (0..info.partitions).map(|number| Partition { topic: topic.into(), number });
    let start = partitions.map(|partition| Position { partition, offset: 0 }).collect::<Vec<_>>();
    let mut reader = world.log.reader(&start).unwrap();
    while reader.poll(Duration::ZERO, usize::MAX, visit).unwrap() > 0 {}
}

fn dead_letters(world: &World, bad: &[Vec<u8>]) -> Result<(), String> {
    let mut found = Vec::new();
    read(world, &world.topics.dead_letter(), &mut |record| found.push(record.value.unwrap_or_default().to_vec()));
    let mut expected = bad.to_vec();
    found.sort();
    expected.sort();
    if found == expected {
        return Ok(());
    }
    let text = |letters: &[Vec<u8>]| {
        letters.iter().map(|letter| String::from_utf8_lossy(letter).into_owned() + "}").collect::<String>()
    };
    Err(format!("dead letters {}, bad records {}", text(&found), text(&expected)))
}

fn windows(world: &World) -> Result<Rows, String> {
    let (mut rows, mut twice) = (Rows::new(), None);
    read(world, &world.topics.windows(), &mut |record| {
        let row: Value = serde_json::from_slice(record.value.unwrap_or_default()).expect("JSON");
        let labels = ["organisation_id", "module"].iter().filter_map(|name| row[*name].as_str());
        let pipeline = row["pipeline"].as_str().unwrap_or_default();
        let key = std::iter::once(row["window_start"].as_str().unwrap_or_default()).chain(labels);
        let key = format!("{pipeline} {}", key.collect::<Vec<_>>().join(" "));
        let more = ["total", "mean", "parts"].iter().find_map(|name| row[*name].as_f64());
        let counted = Row { n: row["n"].as_f64().unwrap_or_default(), more: more.unwrap_or_default() };
        if rows.insert(key.clone(), counted).is_some() {
            twice.get_or_insert(key);
        }
    });
    twice.map_or(Ok(rows), |key| Err(format!("the window {key} was said twice")))
}

/// A message about a detection.
struct Said {
    words: String,
    /// It does not depend on the schedule.
    is_certain: bool,
}

/// Every change of every detection by its id; none may be there twice.
fn detections(world: &World) -> Result<BTreeMap<String, Said>, String> {
    let (mut found, mut twice) = (BTreeMap::new(), None);
    read(world, &world.topics.remediation(), &mut |record| {
        let header = |name: &str| {
            let found = record.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let body: Value = serde_json::from_slice(record.value.unwrap_or_default()).expect("JSON");
        let (kind, rule) = (header("ce_type"), &body["rule"]);
        let words = format!("{kind} of {rule} on {} at {}", body["series"], body["window_end"]);
        let said = Said { words: words.clone(), is_certain: *rule != CONTINUOUS };
        if found.insert(header("ce_id"), said).is_some() {
            twice.get_or_insert(format!("{words} was said twice"));
        }
    });
    twice.map_or(Ok(found), Err)
}

/// The windows of every pipeline, record by record.
fn expected(good: &[Sample]) -> Rows {
    let mut rows = Rows::new();
    // The windows of `by_org` that each window of `rollup` reads.
    let mut parts = BTreeMap::<String, BTreeSet<(Micros, &str)>>::new();
    let mut add = |pipeline: &str, start: Micros, labels: &str, more: f64| {
        let key = format!("{pipeline} {}{labels}", format_time(start));
        let row = rows.entry(key).or_default();
        *row = Row { n: row.n + 1.0, more: row.more + more };
    };
    for Sample { time, organisation, module, duration } in good {
        add("by_org", floor(*time, TUMBLE), &format!(" {organisation} {module}"), *duration);
        add("everything", floor(*time, WIDE), "", *duration);
        let mut start = floor(*time, SLIDE);
        while start + SIZE > *time {
            add("hopping", start, &format!(" {module}"), *duration);
            start -= SLIDE;
        }
        let part = floor(*time, TUMBLE);
        add("rollup", floor(part, ROLLUP), &format!(" {module}"), 0.0);
        let rollup = format!("rollup {} {module}", format_time(floor(part, ROLLUP)));
        parts.entry(rollup).or_default().insert((part, organisation));
    }
    for (key, row) in &mut rows {
        if key.starts_with("hopping") {
            row.more /= row.n;
        }
        if let Some(parts) = parts.get(key) {
            row.more = parts.len() as f64;
        }
    }
    rows
}

fn floor(time: Micros, length: Micros) -> Micros {
    time.div_euclid(length) * length
}

fn same_windows(expected: &Rows, found: &Rows) -> Result<(), String> {
    for (key, row) in expected {
        let Some(said) = found.get(key) else { return Err(format!("the window {key} with {row:?} is missing")) };
        if row.n != said.n || (row.more - said.more).abs() > 1e-9 * row.more.abs().max(1.0) {
            return Err(format!("the window {key} should be {row:?}, but is {said:?}"));
        }
    }
    match found.keys().find(|key| !expected.contains_key(*key)) {
        None => Ok(()),
        Some(key) => Err(format!("there is no window {key}")),
    }
}

fn none_late(world: &World) -> Result<(), String> {
    let late = |pipeline: &&str| world.report(pipeline).0 > 0;
    match ["by_org", "hopping", "everything", "rollup"].into_iter().find(late) {
        None => Ok(()),
        Some(pipeline) => Err(format!("rows of {pipeline} are late, though none was")),
    }
}

fn same_detections(
    world: &World,
    good: &[Sample],
    closing: &[Sample],
    found: &BTreeMap<String, Said>,
) -> Result<(), String> {
    let mut straight = Straight::with(Arc::clone(&world.set));
    let mut expected = BTreeMap::new();
    for (now, records) in [good, closing].iter().enumerate() {
        let records = records.iter().map(Sample::bytes).collect::<Vec<_>>();
        for detection in straight.step(now as Micros, &records, &[]).detections {
            if detection.rule != CONTINUOUS {
                expected.insert(detection.event_id(), format!("{detection:?}"));
            }
        }
    }
    if let Some((_, missing)) = expected.iter().find(|(id, _)| !found.contains_key(*id)) {
        return Err(format!("a detection is missing: {missing}"));
    }
    match found.iter().find(|(id, said)| said.is_certain && !expected.contains_key(*id)) {
        None => Ok(()),
        Some((_, said)) => Err(format!("this should not have been detected: {}", said.words)),
    }
}

/// Every record is in a window, late, or the one closing record of an open window.
fn conserved(world: &World, pipeline: &str, rows: &Rows, records: usize) -> Result<(), String> {
    let said = rows.iter().filter(|(key, _)| key.starts_with(&format!("{pipeline} "))).map(|(_, row)| row.n as u64);
    let (said, (late, open)) = (said.sum::<u64>(), world.report(pipeline));
    if said + late + open == records as u64 {
        return Ok(());
    }
    Err(format!(
        "{pipeline}: {said} records in windows, {late} late and {open} in open windows are not the {records} appended"
    ))
}
