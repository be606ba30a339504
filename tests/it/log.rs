//! What the log promises, as one suite: each behaviour is a function, run against both logs.

use maturion::log::embedded::{EmbeddedLog, EmbeddedSettings};
use maturion::log::partitioner::partition_of;
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{LogError, Outgoing, Position, Rebalance, Record};

use crate::kafka_or_skip;
use crate::subject::{PATIENCE, STEP, Subject, connect, eventually, outgoing, partition};

fn a_commit_carries_outputs_and_offsets_together(subject: &Subject) {
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    subject.append(&input, 0, &["a", "b"]);
    let mut member = subject.member("g", &input, "id");
    member.see(&["a", "b"]);
    member.send(&output, "A");
    assert_eq!(subject.values(&output, 0), [""; 0]);
    assert_eq!(member.session.committed(&[partition(&input, 0)]).unwrap(), [None]);
    member.commit();
    assert_eq!(subject.values(&output, 0), ["A"]);
    assert_eq!(member.session.committed(&[partition(&input, 0)]).unwrap(), [Some(2)]);
}

fn aborted_records_are_invisible(subject: &Subject) {
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    let mut member = subject.member("g", &input, "id");
    member.take(1);
    member.send(&output, "never");
    member.session.abort().unwrap();
    member.send(&output, "kept");
    member.commit();
    member.send(&output, "never either");
    drop(member);
    assert_eq!(subject.values(&output, 0), ["kept"]);
}

fn a_newer_session_fences_the_older(subject: &Subject) {
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    let mut older = subject.member("g", &input, "id");
    older.take(1);
    let _newer = subject.member("g", &input, "id");
    for _ in 0..3 {
        let sent = older.session.send(outgoing(&output, 0, "zombie"));
        let refused = sent.and_then(|()| older.session.commit(&[]));
        assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    }
    assert_eq!(subject.values(&output, 0), [""; 0]);
}

fn a_restart_continues_at_the_committed_offsets(subject: &Subject) {
    let input = subject.create("in", 1, &[]);
    subject.append(&input, 0, &["a", "b"]);
    let mut first = subject.member("g", &input, "id");
    first.see(&["a", "b"]);
    first.commit();
    subject.append(&input, 0, &["c"]);
    first.see(&["a", "b", "c"]);
    first.session.close();
    subject.member("g", &input, "id").see(&["c"]);
}

fn two_sessions_share_and_hand_over(subject: &Subject) {
    let input = subject.create("in", 4, &[]);
    let mut first = subject.member("g", &input, "id-1");
    first.take(4);
    let mut second = subject.member("g", &input, "id-2");
    eventually("both own two partitions", || {
        first.step();
        second.step();
        first.next.len() == 2 && second.next.len() == 2
    });
    (0..4).for_each(|number| subject.append(&input, number, &[&format!("early {number}")]));
    eventually("both have read their own", || {
        first.step();
        second.step();
        first.seen.len() == 2 && second.seen.len() == 2
    });
    first.commit();
    first.session.close();
    second.take(4);
    (0..4).for_each(|number| subject.append(&input, number, &[&format!("late {number}")]));
    second.steps_until("the other's partitions go on", |member| member.seen.len() >= 6);
    let mut seen: Vec<String> = first.seen.into_iter().chain(second.seen).collect();
    seen.sort();
    let expected: Vec<String> =
        ["early", "late"].iter().flat_map(|when| (0..4).map(move |number| format!("{when} {number}"))).collect();
    assert_eq!(seen, expected, "every record is read once");
}

fn nothing_is_read_while_an_answer_is_owed(subject: &Subject) {
    let input = subject.create("in", 2, &[]);
    let mut first = subject.member("g", &input, "id-1");
    first.take(2);
    let mut second = subject.member("g", &input, "id-2");
    let mut revoked = Vec::new();
    eventually("a partition is revoked", || {
        second.step();
        if let Some(Rebalance::Revoked(partitions)) = first.session.poll(STEP, 10, &mut |_| {}).unwrap() {
            revoked = partitions;
        }
        !revoked.is_empty()
    });
    for number in 0..2 {
        subject.append(&input, number, &["x"]);
    }
    for _ in 0..10 {
        first.step();
        second.step();
    }
    assert!(first.seen.is_empty(), "{:?}", first.seen);
    assert!(second.next.is_empty(), "nothing is handed over before it was released");
    first.session.release(&revoked).unwrap();
    first.next.retain(|partition, _| !revoked.contains(partition));
    eventually("each reads its own", || {
        first.step();
        second.step();
        first.seen == ["x"] && second.seen == ["x"]
    });
}

fn a_rewind_after_an_abort_reads_again(subject: &Subject) {
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    subject.append(&input, 0, &["a", "b", "c"]);
    let mut member = subject.member("g", &input, "id");
    member.see(&["a", "b", "c"]);
    member.send(&output, "wrong");
    member.session.abort().unwrap();
    let back = Position { partition: partition(&input, 0), offset: 1 };
    member.session.rewind(std::slice::from_ref(&back)).unwrap();
    assert_eq!(member.session.positions().unwrap(), [back]);
    member.see(&["a", "b", "c", "b", "c"]);
    member.send(&output, "right");
    member.commit();
    assert_eq!(subject.values(&output, 0), ["right"]);
}

fn a_rewind_may_follow_the_assignment_at_once(subject: &Subject) {
    let input = subject.create("in", 1, &[]);
    subject.append(&input, 0, &["a", "b", "c"]);
    let mut member = subject.member("g", &input, "id");
    member.take(1);
    member.session.rewind(&[Position { partition: partition(&input, 0), offset: 2 }]).unwrap();
    member.see(&["c"]);
}

fn a_tombstone_advances_the_offset(subject: &Subject) {
    let topic = subject.create("in", 1, &[]);
    let appender = subject.log.appender().unwrap();
    let tombstone = Outgoing { topic: &topic, partition: Some(0), key: Some(b"k"), ..Outgoing::default() };
    appender.append(tombstone).unwrap();
    appender.flush(PATIENCE).unwrap();
    subject.append(&topic, 0, &["after"]);
    let mut member = subject.member("g", &topic, "id");
    member.see(&["tombstone", "after"]);
    assert_eq!(member.next[&partition(&topic, 0)], 2);
}

fn headers_keys_and_timestamps_survive(subject: &Subject) {
    let topic = subject.create("in", 1, &[]);
    let headers: [(&str, &[u8]); 2] = [("reason", b"why"), ("empty", b"")];
    let record = Outgoing {
        topic: &topic,
        partition: Some(0),
        key: Some(b"\x00key"),
        value: Some(b""),
        headers: &headers,
        timestamp_ms: Some(1_700_000_000_123),
    };
    let appender = subject.log.appender().unwrap();
    appender.append(record).unwrap();
    appender.flush(PATIENCE).unwrap();
    let mut reader = subject.log.reader(&[Position { partition: partition(&topic, 0), offset: 0 }]).unwrap();
    eventually("the record arrives", || {
        let mut check = |record: &Record<'_>| {
            assert_eq!((record.topic, record.partition, record.offset), (topic.as_str(), 0, 0));
            assert_eq!((record.key, record.value), (Some(&b"\x00key"[..]), Some(&b""[..])));
            assert_eq!(record.headers, headers);
            assert_eq!(record.timestamp_ms, Some(1_700_000_000_123));
        };
        reader.poll(STEP, 10, &mut check).unwrap() == 1
    });
}

fn append_time_replaces_the_producers(subject: &Subject) {
    let topic = subject.create("in", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let appender = subject.log.appender().unwrap();
    appender.append(Outgoing { timestamp_ms: Some(1_000), ..outgoing(&topic, 0, "old") }).unwrap();
    appender.flush(PATIENCE).unwrap();
    let mut reader = subject.log.reader(&[Position { partition: partition(&topic, 0), offset: 0 }]).unwrap();
    let mut timestamp_ms = None;
    eventually("the record arrives", || {
        reader.poll(STEP, 10, &mut |record| timestamp_ms = record.timestamp_ms).unwrap() == 1
    });
    assert!(timestamp_ms > Some(1_700_000_000_000), "{timestamp_ms:?}");
}

fn keys_choose_the_partition_as_in_kafka(subject: &Subject) {
    let topic = subject.create("in", 7, &[]);
    let appender = subject.log.appender().unwrap();
    let keys: Vec<String> = (0..50).map(|number| format!("key {number}")).collect();
    for key in &keys {
        let bytes = Some(key.as_bytes());
        appender.append(Outgoing { topic: &topic, key: bytes, value: bytes, ..Outgoing::default() }).unwrap();
    }
    appender.flush(PATIENCE).unwrap();
    for number in 0..7 {
        for key in subject.values(&topic, number) {
            assert_eq!(partition_of(key.as_bytes(), 7), number, "{key}");
        }
    }
}

fn a_paused_partition_waits(subject: &Subject) {
    let topic = subject.create("in", 2, &[]);
    let mut member = subject.member("g", &topic, "id");
    member.take(2);
    member.session.pause(&[partition(&topic, 0)]).unwrap();
    subject.append(&topic, 0, &["paused"]);
    subject.append(&topic, 1, &["open"]);
    member.see(&["open"]);
    member.session.resume(&[partition(&topic, 0)]).unwrap();
    member.see(&["open", "paused"]);
}

fn what_was_trimmed_is_lost_not_skipped(subject: &Subject) {
    let topic = subject.create("in", 1, &[]);
    subject.append(&topic, 0, &["a", "b", "c"]);
    let at = |offset| Position { partition: partition(&topic, 0), offset };
    subject.log.trim(&[at(2)]).unwrap();
    assert_eq!(subject.log.bounds(&[partition(&topic, 0)]).unwrap(), [(2, 3)]);
    assert_eq!(subject.values(&topic, 0), ["c"]);
    let refused = subject.log.reader(&[at(1)]).err();
    assert!(matches!(refused, Some(LogError::OffsetLost { offset: 1, earliest: 2, .. })), "{refused:?}");
    let mut member = subject.member("g", &topic, "id");
    let mut refused = None;
    eventually("the session says what is lost", || {
        match member.session.poll(STEP, 10, &mut |record| panic!("skipped to {record:?}")) {
            Ok(Some(Rebalance::Assigned(_))) => member.session.assign(&[at(1)]).unwrap(),
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
        refused.is_some()
    });
    assert!(matches!(refused, Some(LogError::OffsetLost { offset: 1, earliest: 2, .. })), "{refused:?}");
}

fn an_unknown_topic_is_named(subject: &Subject) {
    let name = format!("{}missing", subject.prefix);
    let is_named = |error: Option<LogError>| {
        assert!(matches!(&error, Some(LogError::UnknownTopic { topic }) if *topic == name), "{error:?}");
    };
    is_named(subject.log.session("g", std::slice::from_ref(&name), "id").err());
    is_named(subject.log.bounds(&[partition(&name, 0)]).err());
    is_named(subject.log.reader(&[Position { partition: partition(&name, 0), offset: 0 }]).err());
    let appender = subject.log.appender().unwrap();
    is_named(appender.append(outgoing(&name, 0, "x")).and_then(|()| appender.flush(PATIENCE)).err());
    let input = subject.create("in", 1, &[]);
    let mut member = subject.member("g", &input, "id");
    member.take(1);
    is_named(member.session.send(outgoing(&name, 0, "x")).and_then(|()| member.session.commit(&[])).err());
}

fn the_end_is_reached_past_markers(subject: &Subject) {
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    let mut member = subject.member("g", &input, "id");
    member.take(1);
    for value in ["a", "b"] {
        member.send(&output, value);
        member.commit();
    }
    member.send(&output, "never");
    member.session.abort().unwrap();
    assert_eq!(subject.values(&output, 0), ["a", "b"]);
    let mut follower = subject.member("follower", &output, "id-2");
    follower.see(&["a", "b"]);
    let (_, end) = subject.log.bounds(&[partition(&output, 0)]).unwrap()[0];
    assert!(end > 3, "markers take offsets: {end}");
    follower.steps_until("the position passes the markers", |_| true);
    eventually("the position is the end", || {
        follower.step();
        follower.session.positions().unwrap()[0].offset == end
    });
}

fn new_partitions_appear(subject: &Subject) {
    let topic = subject.create("in", 1, &[]);
    let mut member = subject.member("g", &topic, "id");
    member.take(1);
    (subject.grow)(&topic, 3);
    subject.append(&topic, 2, &["new"]);
    member.take(3);
    member.see(&["new"]);
}

fn a_member_without_partitions_is_told_so(subject: &Subject) {
    let topic = subject.create("in", 1, &[]);
    let mut first = subject.member("g", &topic, "id-1");
    first.take(1);
    let mut second = subject.member("g", &topic, "id-2");
    eventually("the second hears that nothing is left", || {
        first.step();
        match second.session.poll(STEP, 1, &mut |record| panic!("nothing is its own: {record:?}")).unwrap() {
            Some(Rebalance::Assigned(partitions)) => {
                assert_eq!(partitions, []);
                second.session.assign(&[]).unwrap();
                true
            }
            other => other.is_some_and(|change| panic!("{change:?}")),
        }
    });
    // It goes on hearing of what follows.
    first.session.close();
    second.take(1);
}

fn a_session_that_owes_an_answer_can_end(subject: &Subject) {
    let topic = subject.create("in", 1, &[]);
    let mut member = subject.member("g", &topic, "id");
    eventually("an assignment is reported", || {
        matches!(member.session.poll(STEP, 1, &mut |_| {}).unwrap(), Some(Rebalance::Assigned(_)))
    });
    drop(member);
    subject.member("g", &topic, "id").take(1);
}

fn created_topics_pass_their_check(subject: &Subject) {
    let topics = Topics::new(&subject.prefix);
    let partitions = Partitions { inputs: 2, series: 3 };
    assert_eq!(topics.ensure(&*subject.log, partitions).unwrap().len(), 12);
    assert_eq!(topics.ensure(&*subject.log, partitions).unwrap().len(), 0);
    assert_eq!(topics.check(&*subject.log, partitions, 3_600_000).unwrap(), [""; 0]);
    let changed = Partitions { inputs: 2, series: 4 };
    assert_eq!(topics.check(&*subject.log, changed, 3_600_000).unwrap().len(), 6);
    assert_eq!(topics.check(&*subject.log, partitions, i64::MAX).unwrap().len(), 2);
}

macro_rules! behaviours {
    ($($behaviour:ident,)*) => {
        mod embedded {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(&super::Subject::embedded());
            })*
        }

        mod kafka {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(&super::Subject::kafka(super::kafka_or_skip!()));
            })*
        }
    };
}

behaviours! {
    a_commit_carries_outputs_and_offsets_together,
    aborted_records_are_invisible,
    a_newer_session_fences_the_older,
    a_restart_continues_at_the_committed_offsets,
    two_sessions_share_and_hand_over,
    nothing_is_read_while_an_answer_is_owed,
    a_rewind_after_an_abort_reads_again,
    a_rewind_may_follow_the_assignment_at_once,
    a_tombstone_advances_the_offset,
    headers_keys_and_timestamps_survive,
    append_time_replaces_the_producers,
    keys_choose_the_partition_as_in_kafka,
    a_paused_partition_waits,
    what_was_trimmed_is_lost_not_skipped,
    an_unknown_topic_is_named,
    the_end_is_reached_past_markers,
    new_partitions_appear,
    a_member_without_partitions_is_told_so,
    a_session_that_owes_an_answer_can_end,
    created_topics_pass_their_check,
}

/// Only the in-process log can be told that a member has expired; on Kafka that takes a session timeout.
#[test]
fn an_expired_member_loses_what_it_had_and_joins_again() {
    let log = EmbeddedLog::new(EmbeddedSettings::default());
    let subject = Subject { log: Box::new(log.clone()), grow: Box::new(|_, _| {}), prefix: String::new() };
    let (input, output) = (subject.create("in", 2, &[]), subject.create("out", 1, &[]));
    (0..2).for_each(|number| subject.append(&input, number, &["x"]));
    let mut zombie = subject.member("g", &input, "zombie");
    zombie.see(&["x", "x"]);
    let mut heir = subject.member("g", &input, "heir");
    log.expire("zombie");
    heir.take(2);
    heir.see(&["x", "x"]);
    zombie.send(&output, "never");
    let offsets = zombie.positions();
    let refused = zombie.session.commit(&offsets);
    assert!(matches!(refused, Err(LogError::Abort(_))), "{refused:?}");
    heir.commit();
    zombie.session.abort().unwrap();
    zombie.session.rewind(&offsets).unwrap();
    let lost = zombie.session.poll(STEP, 10, &mut |record| panic!("{record:?}")).unwrap();
    let Some(Rebalance::Lost(mut lost)) = lost else { panic!("{lost:?}") };
    lost.sort();
    assert_eq!(lost, [partition(&input, 0), partition(&input, 1)]);
    zombie.session.release(&lost).unwrap();
    zombie.next.clear();
    eventually("it has a share again", || {
        zombie.step();
        heir.step();
        zombie.next.len() == 1 && heir.next.len() == 1
    });
    assert_eq!(zombie.seen.len(), 2, "what the heir committed is not read again");
    assert_eq!(subject.values(&output, 0), [""; 0]);
}

#[test]
fn an_unreachable_broker_is_one_sentence() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let sentence = connect(&closed, &[]).err().unwrap().to_string();
    assert!(sentence.contains(&closed) && sentence.contains("kafka.brokers"), "{sentence}");
}

#[test]
fn refused_credentials_are_one_sentence() {
    let kafka = kafka_or_skip!();
    let Some(sasl) = &kafka.sasl else { return crate::kafka::skip("the given Kafka has no SASL listener") };
    let with = |password| {
        let credentials = [("sasl.username", "maturion"), ("sasl.password", password)];
        let mechanism = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN")];
        connect(sasl, &[credentials, mechanism].concat())
    };
    assert!(with("secret").is_ok());
    let refused = with("wrong").err();
    assert!(matches!(refused, Some(LogError::Authentication { .. })), "{refused:?}");
    assert!(!refused.unwrap().to_string().contains("wrong"), "a secret is shown");
}

#[test]
fn unusable_properties_are_named() {
    for property in ["linger.msec", "isolation.level"] {
        let sentence = connect("127.0.0.1:1", &[(property, "5")]).err().unwrap().to_string();
        assert!(sentence.contains(property), "{sentence}");
    }
}
