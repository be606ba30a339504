use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::audit::{Chain, Draft, Kind, Signer};

const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

fn signer() -> Signer {
    Signer::parse(SECRET).unwrap()
}

fn draft(number: u64) -> Draft {
    Draft {
        incident_id: Some(format!("incident-{}", number / 3)),
        organisation_id: number.is_multiple_of(2).then(|| "org_1".to_owned()),
        reasons: vec!["the error rate is high".to_owned()],
        before: Some(serde_json::json!({ "instances": number })),
        ..Draft::new(
            1_764_756_000_000_000 + number as i64 * 1_000_000,
            Kind::Decision,
            "west-1",
            format!("Decided {number}"),
        )
    }
}

/// A chain of `entries`, signed after every entry in `signed`.
fn chain_of(entries: std::ops::RangeInclusive<u64>, signed: &[u64]) -> Vec<String> {
    let (mut chain, signer) = (Chain::after(Head::NONE), signer());
    let mut messages = vec![];
    for number in entries {
        messages.push(chain.append(&draft(number)).text().to_owned());
        if signed.contains(&number) {
            messages.push(signer.sign(chain.head(), number as i64).text());
        }
    }
    messages
}

/// Ten entries, signed after the fifth and the tenth.
fn messages() -> Vec<String> {
    chain_of(1..=10, &[5, 10])
}

fn verify_with(trusted: Vec<PublicKey>, expected: &[Head], messages: &[String]) -> Result<Report, Fault> {
    let mut verifier = Verifier::new(trusted, expected);
    messages.iter().for_each(|message| verifier.take(message.as_bytes()));
    verifier.finish()
}

fn verify(messages: &[String]) -> Result<Report, Fault> {
    verify_with(vec![signer().public_key()], &[], messages)
}

/// The place of an entry among the messages.
fn place(messages: &[String], seq: u64) -> usize {
    let is_it = |text: &String| text.contains("\"previous_hash\"") && text.contains(&format!("\"seq\":{seq},"));
    messages.iter().position(is_it).unwrap()
}

fn head(messages: &[String], seq: u64) -> Head {
    let Message::Entry(link) = Message::read(messages[place(messages, seq)].as_bytes()).unwrap() else { panic!() };
    link.head
}

#[test]
fn a_chain_as_it_was_written_has_no_fault() {
    let report = verify(&messages()).unwrap();
    assert_eq!((report.entries, report.checkpoints, report.first, report.head.seq), (10, 2, 1, 10));
    assert_eq!(report.signed.map(|signed| signed.seq), Some(10));
    assert_eq!(report.time, "2025-12-03T10:00:10Z");
    let empty = verify(&[]).unwrap();
    assert_eq!((empty.entries, empty.head), (0, Head::NONE));
}

#[test]
fn checkpoints_may_stand_before_or_long_after_their_entries() {
    let (checkpoints, entries): (Vec<_>, Vec<_>) =
        messages().into_iter().partition(|text| !text.contains("previous_hash"));
    for order in [[checkpoints.clone(), entries.clone()].concat(), [entries, checkpoints].concat()] {
        assert_eq!(verify(&order).unwrap().signed.map(|signed| signed.seq), Some(10));
    }
}

#[test]
fn an_edited_entry_is_found() {
    let mut messages = messages();
    let at = place(&messages, 7);
    messages[at] = messages[at].replace("Decided 7", "Decided 8");
    let fault = verify(&messages).unwrap_err();
    assert_eq!(fault, Fault::Edited { seq: 7, after: 6 });
    assert_eq!(fault.to_string(), "entry 7 was edited: its content is not what its hash was made of");
}

/// Edited by somebody who makes its hash anew: the next entry shows it.
#[test]
fn an_edited_entry_with_a_new_hash_is_found() {
    let mut messages = messages();
    let mut forged = Chain::after(head(&messages, 6));
    let at = place(&messages, 7);
    messages[at] = forged.append(&draft(70)).text().to_owned();
    assert_eq!(verify(&messages).unwrap_err(), Fault::Unlinked { seq: 8 });
}

#[test]
fn a_deleted_entry_is_found() {
    let mut messages = messages();
    messages.remove(place(&messages, 4));
    let fault = verify(&messages).unwrap_err();
    assert_eq!(fault, Fault::Missing { from: 4, to: 4 });
    assert_eq!(fault.to_string(), "entry 4 was deleted: entry 5 follows 3");
    messages.remove(place(&messages, 3));
    assert_eq!(verify(&messages).unwrap_err().to_string(), "entries 3 to 4 were deleted: entry 5 follows 2");
}

#[test]
fn reordered_entries_are_found() {
    let mut messages = messages();
    let (one, other) = (place(&messages, 3), place(&messages, 4));
    messages.swap(one, other);
    let fault = verify(&messages).unwrap_err();
    assert_eq!(fault, Fault::Reordered { seq: 3 });
    assert_eq!(fault.to_string(), "the entries were reordered: entry 3 stands after later ones");
}

#[test]
fn an_inserted_entry_is_found() {
    let mut copied = messages();
    let at = place(&copied, 4);
    copied.insert(at, copied[at].clone());
    assert_eq!(verify(&copied).unwrap_err(), Fault::Twice { seq: 4 });
    let mut forged = messages();
    let entry = Chain::after(head(&forged, 3)).append(&draft(40)).text().to_owned();
    forged.insert(at, entry);
    assert_eq!(verify(&forged).unwrap_err(), Fault::Second { seq: 4 });
}

#[test]
fn a_beginning_that_was_cut_off_is_found_and_may_be_expected() {
    let all = messages();
    let rest = &all[place(&all, 4)..];
    let fault = verify(rest).unwrap_err();
    assert_eq!(fault, Fault::BeginsLate { first: 4 });
    assert!(fault.to_string().contains("--expect 3:HASH"), "{fault}");
    let trusted = || vec![signer().public_key()];
    let report = verify_with(trusted(), &[head(&all, 3)], rest).unwrap();
    assert_eq!((report.entries, report.first, report.head.seq), (7, 4, 10));
    let wrong = Head { seq: 3, hash: Hash::NONE };
    assert_eq!(verify_with(trusted(), &[wrong], rest).unwrap_err(), Fault::Unlinked { seq: 4 });
}

#[test]
fn an_end_that_was_cut_off_is_found_by_its_checkpoint() {
    let all = messages();
    let (checkpoint, kept) = (all.last().unwrap().clone(), &all[..place(&all, 8)]);
    let fault = verify(&[kept, &[checkpoint]].concat()).unwrap_err();
    assert_eq!(fault, Fault::CutOff { last: 7, known: 10, how: "signed" });
    assert_eq!(fault.to_string(), "the chain ends with entry 7, but entry 10 is signed: what followed was cut off");
    assert_eq!(fault.seq(), 8);
}

#[test]
fn an_end_that_was_cut_off_with_its_checkpoint_is_found_by_who_expects_it() {
    let all = messages();
    let kept = &all[..place(&all, 8)];
    let trusted = || vec![signer().public_key()];
    let report = verify(kept).unwrap();
    assert_eq!((report.head.seq, report.signed.unwrap().seq), (7, 5), "two entries are not signed, which is told");
    let fault = verify_with(trusted(), &[head(&all, 10)], kept).unwrap_err();
    assert_eq!(fault, Fault::CutOff { last: 7, known: 10, how: "expected" });
    assert!(verify_with(trusted(), &[head(&all, 10)], &all).is_ok());
}

/// An insider may write all of the chain, and has every hash made anew, but not the key.
#[test]
fn a_chain_that_was_computed_anew_is_found_by_its_signature() {
    let all = messages();
    let mut anew = all[..place(&all, 7)].to_vec();
    let mut chain = Chain::after(head(&all, 6));
    anew.extend((7..=10).map(|number| chain.append(&draft(number * 100)).text().to_owned()));
    let with_the_old = [anew.clone(), vec![all.last().unwrap().clone()]].concat();
    let fault = verify(&with_the_old).unwrap_err();
    assert_eq!(fault, Fault::NotAsSigned { from: 6, to: 10, time: "1970-01-01T00:00:00.000010Z".to_owned() });
    assert!(fault.to_string().contains("entries 6 to 10 are not what was signed"), "{fault}");
    let insider = Signer::parse(&"ab".repeat(32)).unwrap();
    let with_another_key = [anew.clone(), vec![insider.sign(chain.head(), 10).text()]].concat();
    let fault = verify(&with_another_key).unwrap_err();
    assert_eq!(fault, Fault::Stranger { seq: 10, key: insider.public_key() });
    let edited = all.last().unwrap().replace(&head(&all, 10).hash.to_string(), &chain.head().hash.to_string());
    assert_eq!(verify(&[anew.clone(), vec![edited]].concat()).unwrap_err(), Fault::Signature { seq: 10 });
    let fault = verify_with(vec![signer().public_key()], &[head(&all, 10)], &anew).unwrap_err();
    assert_eq!(fault, Fault::Unexpected { seq: 10 });
}

#[test]
fn a_chain_without_its_checkpoints_is_not_taken_for_signed() {
    let unsigned = chain_of(1..=3, &[]);
    assert_eq!(verify(&unsigned).unwrap_err(), Fault::Unsigned { first: 1 });
    let report = verify_with(vec![], &[], &unsigned).unwrap();
    assert_eq!((report.entries, report.signed), (3, None));
    let report = verify_with(vec![], &[], &messages()).unwrap();
    assert_eq!((report.checkpoints, report.signed), (2, None), "nobody says that the key is to be trusted");
}

#[test]
fn what_is_no_message_is_found_where_it_stands() {
    let mut messages = messages();
    let at = place(&messages, 4);
    messages.insert(at, "{\"note\":1}".to_owned());
    let fault = verify(&messages).unwrap_err();
    assert_eq!(fault.to_string(), "what stands after entry 3 is no message of the audit: it has no `kind`");
    assert_eq!(fault.seq(), 4);
}

#[test]
fn an_entry_in_another_spelling_is_found() {
    let mut messages = messages();
    let at = place(&messages, 4);
    let value: Value = serde_json::from_str(&messages[at]).unwrap();
    messages[at] = serde_json::to_string_pretty(&value).unwrap();
    assert!(matches!(verify(&messages).unwrap_err(), Fault::Unreadable { after: 3, .. }));
}

#[test]
fn a_number_without_a_next_one_does_not_panic() {
    let before = Head { seq: u64::MAX - 1, hash: Hash::NONE };
    let mut chain = Chain::after(before);
    let messages = [chain.append(&draft(1)).text().to_owned(), chain.append(&draft(2)).text().to_owned()];
    assert_eq!(verify_with(vec![], &[before], &messages[..1]).unwrap().entries, 1);
    assert_eq!(verify_with(vec![], &[before], &messages).unwrap_err(), Fault::Second { seq: u64::MAX });
}

/// What somebody may do to one message.
#[derive(Clone, Debug)]
enum Mutation {
    /// Another byte in place of one, by their places.
    Byte(prop::sample::Index, prop::sample::Index, u8),
    RemoveByte(prop::sample::Index, prop::sample::Index),
    Delete(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index),
    CutOff(prop::sample::Index),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    use prop::sample::Index;
    prop_oneof![
        4 => (any::<Index>(), any::<Index>(), 1u8..=255).prop_map(|(at, byte, flip)| Mutation::Byte(at, byte, flip)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(at, byte)| Mutation::RemoveByte(at, byte)),
        1 => any::<Index>().prop_map(Mutation::Delete),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Mutation::Swap(one, other)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Copy(from, to)),
        1 => any::<Index>().prop_map(Mutation::CutOff),
    ]
}

/// The chain of `entries` and its last checkpoint, changed.
fn mutate(entries: &[String], checkpoint: &str, mutation: &Mutation) -> Vec<Vec<u8>> {
    let mut changed = entries.iter().map(|text| text.clone().into_bytes()).collect::<Vec<_>>();
    let of_any = changed.len() + 1;
    changed.push(checkpoint.to_owned().into_bytes());
    let count = entries.len();
    match mutation {
        Mutation::Byte(at, byte, flip) => {
            let message = &mut changed[at.index(of_any)];
            let byte = byte.index(message.len());
            message[byte] ^= flip;
        }
        Mutation::RemoveByte(at, byte) => {
            let message = &mut changed[at.index(of_any)];
            message.remove(byte.index(message.len()));
        }
        Mutation::Delete(at) => drop(changed.remove(at.index(count))),
        Mutation::Swap(one, other) => changed.swap(one.index(count), other.index(count)),
        Mutation::Copy(from, to) => {
            let copy = changed[from.index(count)].clone();
            changed.insert(to.index(count + 1), copy);
        }
        Mutation::CutOff(from) => drop(changed.drain(from.index(count)..count)),
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to one message of a signed chain is found, and what is not done is not.
    #[test]
    fn any_single_mutation_is_found(length in 1u64..12, mutation in mutations()) {
        let all = chain_of(1..=length, &[length]);
        prop_assert!(verify(&all).is_ok());
        let (checkpoint, entries) = all.split_last().unwrap();
        let changed = mutate(entries, checkpoint, &mutation);
        let is_changed = changed.iter().ne(all.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
        let mut verifier = Verifier::new(vec![signer().public_key()], &[]);
        changed.iter().for_each(|message| verifier.take(message));
        prop_assert_eq!(verifier.finish().is_err(), is_changed, "{:?}", mutation);
    }
}
