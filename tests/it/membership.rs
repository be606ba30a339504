//! Membership of a group on Apache Kafka: what a restart, a namesake and a long pause mean for others and for oneself.

use std::time::Duration;

use maturion::log::{LogError, Position};

use crate::kafka::unique_prefix;
use crate::kafka_or_skip;
use crate::subject::{Subject, connect, eventually, outgoing, partition};

#[test]
fn new_partitions_appear_after_every_member_was_started_again() {
    let subject = Subject::kafka(kafka_or_skip!());
    let input = subject.create("in", 2, &[]);
    let mut first = subject.member("g", &input, "id-1");
    first.take(2);
    let mut second = subject.member("g", &input, "id-2");
    eventually("each owns one", || {
        first.step();
        second.step();
        first.next.len() == 1 && second.next.len() == 1
    });
    first.session.close();
    second.session.close();
    let (mut first, mut second) = (subject.member("g", &input, "id-1"), subject.member("g", &input, "id-2"));
    eventually("each owns its one again", || {
        first.step();
        second.step();
        first.next.len() == 1 && second.next.len() == 1
    });
    (subject.grow)(&input, 6);
    eventually("the new ones are spread", || {
        first.step();
        second.step();
        first.next.len() == 3 && second.next.len() == 3
    });
}

/// Kafka fences whoever leaves a transaction open for too long. That is no namesake: a new session of the name goes on.
#[test]
fn a_transaction_that_was_open_for_too_long_does_not_end_a_name() {
    let kafka = kafka_or_skip!();
    let brief = [("transaction.timeout.ms", "1000"), ("message.timeout.ms", "900")];
    let subject = Subject { log: Box::new(connect(&kafka.brokers, &brief).unwrap()), ..Subject::kafka(kafka) };
    let (input, output) = (subject.create("in", 1, &[]), subject.create("out", 1, &[]));
    let mut member = subject.member("g", &input, "id");
    member.take(1);
    member.send(&output, "paused");
    // The record goes out within the producer's linger; then its transaction is left alone until Kafka ends it.
    let place = [partition(&output, 0)];
    std::thread::sleep(Duration::from_millis(500));
    subject.log.settled_bounds(&place).unwrap();
    let result = member.session.commit(&[Position { partition: partition(&input, 0), offset: 0 }]);
    assert!(matches!(result, Err(LogError::Fenced { .. })), "{result:?}");
    drop(member);
    let mut next = subject.member("g", &input, "id");
    next.take(1);
    next.session.send(outgoing(&output, 0, "back")).unwrap();
    next.session.commit(&[Position { partition: partition(&input, 0), offset: 0 }]).unwrap();
    assert_eq!(subject.values(&output, 0), ["back"]);
}

/// Every installation calls its first instance `maturion`: those that share a Kafka must not fence each other.
#[test]
fn installations_with_prefixes_of_their_own_do_not_fence_each_other() {
    let ids = [unique_prefix(), unique_prefix()]
        .map(|prefix| maturion::log::topics::Topics::new(&prefix).transactional_id("maturion", "intake"));
    assert_ne!(ids[0], ids[1]);
}
