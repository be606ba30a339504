//! The chain on a log: the embedded one and Apache Kafka.

use maturion::audit::{Chain, Head, Verifier};
use maturion::log::topics::{Partitions, Topics};
use maturion::log::{Outgoing, Partition, Position};
use maturion::roles::audit::{AuditTopicError, head, verify};

use super::{Filed, TAMPERINGS, action, messages, signer};
use crate::kafka_or_skip;
use crate::subject::{Subject, eventually};

/// The topics of an installation of its own.
fn installation(subject: &Subject, name: &str) -> Topics {
    let topics = Topics::new(&format!("{}{name}.", subject.prefix));
    let specification = topics.specification(Partitions { inputs: 1, series: 1 });
    let audit = specification.into_iter().find(|topic| topic.name == topics.audit()).unwrap();
    subject.log.create(&audit).unwrap();
    topics
}

/// Sends messages in one transaction, and commits or aborts it.
fn send(subject: &Subject, topics: &Topics, messages: &[Filed], commits: bool) {
    let topic = topics.audit();
    let mut member = subject.member("audit-writers", &topic, &topic);
    member.take(1);
    for (key, text) in messages {
        let record =
            Outgoing { topic: &topic, key: Some(key.as_bytes()), value: Some(text.as_bytes()), ..Outgoing::default() };
        member.session.send(record).unwrap();
    }
    if commits {
        member.commit()
    } else {
        member.session.abort().unwrap()
    }
    member.session.close();
}

fn verified(subject: &Subject, topics: &Topics) -> Result<(u64, u64), String> {
    let mut verifier = Verifier::new(vec![signer().public_key()], &[]);
    verify(subject.log.as_ref(), topics, &mut verifier).unwrap();
    let report = verifier.finish().map_err(|fault| format!("from entry {} on: {fault}", fault.seq()))?;
    Ok((report.entries, report.signed.map_or(0, |signed| signed.seq)))
}

fn a_chain_is_written_verified_and_gone_on_with(subject: &Subject) {
    let topics = installation(subject, "written");
    assert_eq!(head(subject.log.as_ref(), &topics).unwrap(), Head::NONE);
    assert_eq!(verified(subject, &topics), Ok((0, 0)));
    let (all, end) = messages(2);
    send(subject, &topics, &all, true);
    assert_eq!(verified(subject, &topics), Ok((8, 8)));
    // What is aborted was never there, and the chain goes on from what was committed.
    let mut lost = Chain::after(end);
    let entry = lost.append(&action(8, None)[0]);
    send(subject, &topics, &[("action-8".to_owned(), entry.text().to_owned())], false);
    assert_eq!(head(subject.log.as_ref(), &topics).unwrap(), end);
    let mut chain = Chain::after(end);
    let entries = action(9, None).iter().map(|draft| chain.append(draft).text().to_owned()).collect::<Vec<_>>();
    let entries = entries.into_iter().map(|text| ("action-9".to_owned(), text)).collect::<Vec<_>>();
    send(subject, &topics, &entries, true);
    assert_eq!(head(subject.log.as_ref(), &topics).unwrap(), chain.head());
    assert_eq!(verified(subject, &topics), Ok((12, 8)));
}

fn tampered_copies_are_found(subject: &Subject) {
    for (what, tamper, said) in TAMPERINGS {
        let topics = installation(subject, &what.replace(' ', "-"));
        let (mut copy, _) = messages(2);
        tamper(&mut copy);
        send(subject, &topics, &copy, true);
        let fault = verified(subject, &topics).unwrap_err();
        assert!(fault.starts_with(said), "{what}: {fault}");
    }
}

/// Nothing is added to a chain whose end is not what somebody wrote there.
fn a_damaged_end_is_not_gone_on_with(subject: &Subject) {
    let topics = installation(subject, "damaged");
    let (mut all, _) = messages(1);
    all[3].1 = all[3].1.replace("Verified", "Refuted");
    send(subject, &topics, &all, true);
    let error = head(subject.log.as_ref(), &topics).unwrap_err();
    assert!(matches!(&error, AuditTopicError::Damaged { offset: 3, .. }), "{error}");
    assert!(error.to_string().contains("it was edited"), "{error}");
}

fn a_beginning_that_kafka_deleted_is_found(subject: &Subject) {
    let topics = installation(subject, "trimmed");
    let (all, end) = messages(2);
    send(subject, &topics, &all, true);
    let partition = Partition { topic: topics.audit().into(), number: 0 };
    subject.log.trim(&[Position { partition, offset: 5 }]).unwrap();
    eventually("the records are gone", || {
        verified(subject, &topics)
            .is_err_and(|fault| fault.starts_with("from entry 5 on: the chain begins with entry 5"))
    });
    assert_eq!(head(subject.log.as_ref(), &topics).unwrap(), end);
}

fn on(subject: &Subject) {
    a_chain_is_written_verified_and_gone_on_with(subject);
    tampered_copies_are_found(subject);
    a_damaged_end_is_not_gone_on_with(subject);
    a_beginning_that_kafka_deleted_is_found(subject);
}

#[test]
fn on_the_embedded_log_every_tampering_is_found() {
    on(&Subject::embedded());
}

#[test]
fn on_kafka_every_tampering_is_found() {
    on(&Subject::kafka(kafka_or_skip!()));
}

/// More checkpoints than are looked at at first stand after the last entry.
#[test]
fn the_last_entry_is_found_however_far_it_is_from_the_end() {
    let subject = Subject::embedded();
    let topics = installation(&subject, "far");
    let (mut all, end) = messages(1);
    all.extend((0..2_000).map(|at| super::filed(&signer().sign(end, at))));
    send(&subject, &topics, &all, true);
    assert_eq!(head(subject.log.as_ref(), &topics).unwrap(), end);
}
