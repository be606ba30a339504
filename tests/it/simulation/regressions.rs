//! What the simulation found once, each by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::evaluate::shard::{LOGS_SOURCE, Outputs, Shard, ShardProgress};
use maturion::evaluate::windows_source;
use maturion::log::{Log, Outgoing};
use maturion::model::pipeline::{Micros, RuleName, Severity};
use maturion::model::series::Series;
use maturion::window::aggregator::Aggregator;
use maturion::window::clock::Heartbeat;
use maturion::window::partial::{self, Inhibition, Message};

use super::oracle::read;
use super::pipelines::{self, SECOND};
use super::world::{Fate, World};

/// 2025-12-03T10:00:00Z.
const START: Micros = 1_764_756_000 * SECOND;
/// The intake of the process at the first place.
const INTAKE: usize = 1;

fn append(world: &World, value: &[u8]) {
    let topic = world.topics.logs();
    let record = Outgoing { topic: &topic, partition: Some(0), value: Some(value), ..Outgoing::default() };
    world.log.appender().unwrap().append(record).unwrap();
}

/// Intake works for a while, with time to commit between its turns.
fn intake_works(world: &World, turns: usize) {
    for _ in 0..turns {
        world.pass(300);
        world.turn(INTAKE);
        assert_eq!(world.state().failure, None);
    }
}

fn log_at(time: Micros) -> String {
    format!(r#"{{"timestamp":{time},"organisation_id":"org_0","module":"billing","duration_ms":1}}"#)
}

#[test]
fn a_dead_letter_that_is_refused_neither_ends_intake_nor_is_lost_or_doubled_or_counted_twice() {
    let world = World::calm();
    world.start(0, "a");
    intake_works(&world, 2);
    append(&world, b"{\"bad\":");
    append(&world, log_at(START).as_bytes());
    world.state().refuses_next = true;
    intake_works(&world, 1);
    assert_eq!(world.dead_letters(), 0, "nothing is committed yet");
    intake_works(&world, 3);
    world.state().next_fate = Some(Fate::Abort);
    append(&world, b"{\"worse\":");
    intake_works(&world, 4);
    let mut letters = Vec::new();
    read(&world, &world.topics.dead_letter(), &mut |record| letters.push(record.value.unwrap().to_vec()));
    letters.sort();
    assert_eq!(letters, [b"{\"bad\":".to_vec(), b"{\"worse\":".to_vec()]);
    assert_eq!(world.dead_letters(), 2);
}

#[test]
fn an_abort_takes_event_time_back_with_the_records() {
    let world = World::calm();
    world.start(0, "a");
    intake_works(&world, 2);
    append(&world, log_at(START).as_bytes());
    append(&world, log_at(START + 100 * SECOND).as_bytes());
    world.state().next_fate = Some(Fate::Abort);
    intake_works(&world, 1);
    assert!(world.state().next_fate.is_none(), "the transaction was aborted");
    // The same records again, one at a time.
    world.state().batch_max = 1;
    intake_works(&world, 1);
    let mut said = BTreeMap::new();
    read(&world, &world.topics.partials(), &mut |record| {
        let message = partial::read_message(&record.headers, record.value.unwrap()).unwrap();
        let Message::Heartbeats(beats) = message else { return };
        let beats = beats.into_iter().filter(|beat| beat.source == LOGS_SOURCE && beat.partition == 0);
        said.extend(beats.map(|beat| (beat.position, beat.event_time)));
    });
    assert_eq!(said.last_key_value(), Some((&1, &Some(START))), "what was not read again yet does not count");
}

#[test]
fn a_verdict_is_kept_for_a_pipeline_that_has_not_closed_a_window_yet() {
    let set = pipelines::set();
    let mut shard = Shard::new(&set, 0, 2, Micros::MAX, ShardProgress::default()).unwrap();
    let mut messages = vec![busy_window()];
    let beat = |source: &str, partition, partitions, event_time| Heartbeat {
        source: source.to_owned(),
        partition,
        partitions,
        position: 1,
        end: 2,
        event_time: Some(event_time),
        wall: 0,
    };
    messages.push(Message::Heartbeats(vec![beat(LOGS_SOURCE, 0, 1, START + 100 * SECOND)]));
    let flood = |severity, since| {
        let rule = RuleName { pipeline: "everything".to_owned(), rule: "flood".to_owned() };
        Message::Inhibition(Inhibition { rule, series: Series(vec![]), severity, since })
    };
    messages.push(flood(Some(Severity::Critical), START + 3 * SECOND));
    messages.push(flood(None, START + 24 * SECOND));
    let mut out = Outputs::default();
    take(&mut shard, messages, &mut out);
    assert!(out.windows.is_empty(), "what flood silences waits for flood's verdict in every partition");
    let source = windows_source("everything");
    let frontiers = (0..2).map(|partition| beat(&source, partition, 2, START + 80 * SECOND));
    take(&mut shard, vec![Message::Heartbeats(frontiers.collect())], &mut out);
    let said = out.detections.iter().map(|detection| detection.rule.as_str()).collect::<Vec<_>>();
    assert!(!out.windows.is_empty() && !said.contains(&"quiet"), "{said:?}");
}

fn take(shard: &mut Shard, messages: Vec<Message>, out: &mut Outputs) {
    for (offset, message) in messages.into_iter().enumerate() {
        shard.take(offset as i64, message).unwrap();
    }
    shard.advance(out).unwrap();
}

/// A partial of `by_org` with enough records in its first window for the rule that can be silenced.
fn busy_window() -> Message {
    let set = pipelines::set();
    let plan = Arc::clone(&set.pipelines()[set.place("by_org").unwrap()].plan);
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    for _ in 0..3 {
        let value = log_at(START);
        let record = Incoming { value: value.as_bytes(), kafka_timestamp_ms: None, partition: 0, offset: 0 };
        decoder.push(&record).unwrap();
    }
    let mut aggregator = Aggregator::new(&plan).unwrap();
    aggregator.push(&decoder.finish().unwrap()).unwrap();
    let states = aggregator.finish().unwrap().unwrap();
    let bytes = partial::encode(&states).unwrap().remove(0);
    Message::Partial { pipeline: plan.pipeline.clone(), version: plan.version.clone(), bytes }
}
