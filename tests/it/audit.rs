//! The audit: written to a log in transactions, verified there, tampered with in copies; the command; the table.

mod command;
mod table;
mod topic;

use maturion::audit::{Chain, Checkpoint, Draft, Head, Kind, Signer};
use serde_json::json;

/// A secret key of the tests.
pub const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

pub fn signer() -> Signer {
    Signer::parse(SECRET).unwrap()
}

/// The entries of an action that helped, for an organisation: decision, intent, effect, verified.
pub fn action(number: i64, organisation: Option<&str>) -> Vec<Draft> {
    let steps = [
        (Kind::Decision, "May recycle"),
        (Kind::Intent, "Going to recycle"),
        (Kind::Effect, "Recycled"),
        (Kind::Verified, "Verified"),
    ];
    let draft = |(nth, (kind, words)): (i64, (Kind, &str))| Draft {
        incident_id: Some(format!("incident-{number}")),
        action_id: Some(format!("action-{number}")),
        action: Some("function_recycle".to_owned()),
        target: Some("risk".to_owned()),
        organisation_id: organisation.map(str::to_owned),
        module: Some("risk".to_owned()),
        decision: (kind == Kind::Decision).then(|| "allow".to_owned()),
        reasons: if kind == Kind::Decision { vec!["the policy allows it".to_owned()] } else { vec![] },
        before: (kind == Kind::Intent).then(|| json!({"instances": number})),
        after: (kind == Kind::Verified).then(|| json!({"instances": number + 1})),
        ..Draft::new((NOON + number * 60 + nth) * 1_000_000, kind, "west-1", format!("{words} {number}"))
    };
    (0..).zip(steps).map(draft).collect()
}

/// Noon of 1 June 2026.
pub const NOON: i64 = 1_780_315_200;

/// A message: its key on the topic, and its text.
pub type Filed = (String, String);

/// The entries of `actions` actions of no organisation, signed after each of them.
pub fn messages(actions: i64) -> (Vec<Filed>, Head) {
    let mut chain = Chain::after(Head::NONE);
    let mut messages = vec![];
    for number in 0..actions {
        for draft in action(number, None) {
            let entry = chain.append(&draft);
            messages.push((entry.key.clone().unwrap(), entry.text().to_owned()));
        }
        messages.push(filed(&signer().sign(chain.head(), (NOON + number * 60) * 1_000_000)));
    }
    (messages, chain.head())
}

pub fn filed(checkpoint: &Checkpoint) -> Filed {
    (maturion::audit::CHECKPOINT.to_owned(), checkpoint.text())
}

/// Something that somebody who may write everything does to the messages, and what the verifier says of it. There are
/// two actions: entries 1 to 4, a checkpoint, entries 5 to 8, a checkpoint.
pub type Tampering = (&'static str, fn(&mut Vec<Filed>), &'static str);

pub const TAMPERINGS: [Tampering; 7] = [
    ("edited", |all| all[6].1 = all[6].1.replace("Going to", "Not going to"), "from entry 6 on: entry 6 was edited"),
    ("deleted", |all| drop(all.remove(6)), "from entry 6 on: entry 6 was deleted: entry 7 follows 5"),
    ("reordered", |all| all.swap(6, 7), "from entry 6 on: the entries were reordered"),
    ("inserted", |all| all.insert(6, all[5].clone()), "from entry 5 on: entry 5 stands there twice"),
    ("cut off in front", |all| drop(all.drain(..5)), "from entry 5 on: the chain begins with entry 5"),
    (
        "cut off behind",
        |all| drop(all.drain(7..9)),
        "from entry 7 on: the chain ends with entry 6, but entry 8 is signed: what followed was cut off",
    ),
    ("computed anew", anew, "from entry 5 on: entries 5 to 8 are not what was signed at 2026-06-01T12:01:00Z"),
];

/// The second action never happened; another did. Every hash is right.
fn anew(all: &mut Vec<Filed>) {
    let mut chain = Chain::after(Head::NONE);
    let drafts = action(0, None).into_iter().chain(action(7, None));
    let entries: Vec<Filed> = drafts
        .map(|draft| chain.append(&draft))
        .map(|entry| (entry.key.clone().unwrap(), entry.text().to_owned()))
        .collect();
    all.splice(5..9, entries[4..].iter().cloned());
}
