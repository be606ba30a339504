//! What somebody writes who may write to the topics of the agent: none of it is done, all of it is refused and counted, and the
//! process goes on. The policy permits everything, so what refuses is not the policy.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Value, json};

use super::limited::Limited;
use super::plane::{Manner, Plane};
use super::platform::MINUTE;
use super::town::{FAILING, TURNED_AWAY, Town, Trouble, hasty, now};
use crate::kafka_or_skip;

const MODULE: &str = "threat-analysis";
const HOUR: i64 = 3_600_000_000;
const OPENED: &str = "maturion.detection.opened.v1";
/// As large as a topic takes with its type alone, and larger than it takes with what it is passed on with.
const LARGEST: usize = 1_048_475;
/// How often one message comes.
const REPLAYS: usize = 100;

/// A type and a body.
type Message = (String, Vec<u8>);

fn message(kind: &str, body: &Value) -> Message {
    (kind.to_owned(), serde_json::to_vec(body).unwrap())
}

/// Messages that are no word of detect, each made of a true one.
fn forgeries(truth: &Trouble) -> Vec<Message> {
    let edits: [fn(&mut Value); 22] = [
        |body| body["rule"] = json!("no_such_rule"),
        |body| body["rule"] = json!("x".repeat(200_000)),
        |body| body["pipeline"] = json!("pipeline_of_somebody_else"),
        |body| body["pipeline"] = json!("../../etc/passwd"),
        |body| body["value"] = json!(0.005),
        |body| body["value"] = Value::Null,
        |body| body["samples"] = json!(3),
        |body| body["window_end"] = json!(at(now() + 25 * HOUR)),
        |body| body["window_end"] = json!("9999-12-31T23:59:59Z"),
        |body| body["window_start"] = body["window_end"].clone(),
        |body| body["organisation_id"] = json!("org_2"),
        |body| body["series"]["organisation_id"] = json!("org_2"),
        |body| body["module"] = json!("exports"),
        |body| body["series"] = json!({ "module": { "name": "exports" } }),
        |body| body["series"] = json!({}),
        |body| body["severity"] = json!("critical"),
        |body| body["severity"] = json!("y".repeat(200_000)),
        |body| body["measure"] = json!("organisations_deleted"),
        |body| body["detection_id"] = json!("../../etc/passwd"),
        |body| body["incident_id"] = json!(""),
        |body| body["update"] = json!(-1),
        |body| body["padding"] = json!("z".repeat(1_000_000)),
    ];
    let edited = edits.iter().map(|edit| {
        let mut body = truth.body();
        edit(&mut body);
        message(OPENED, &body)
    });
    let mut noise = vec![0; LARGEST];
    StdRng::seed_from_u64(7).fill_bytes(&mut noise);
    let bodies =
        [Vec::new(), b"{".to_vec(), b"null".to_vec(), b"[]".to_vec(), vec![0xff, 0xfe], vec![b'['; 200_000], noise];
    let unread = bodies.into_iter().map(|body| (OPENED.to_owned(), body));
    let kinds = ["", "maturion.detection.executed.v1", "maturion.detection.opened.v2", &"k".repeat(100_000)];
    let of_other_kinds = kinds.map(|kind| message(kind, &truth.body()));
    edited.chain(unread).chain(of_other_kinds).collect()
}

/// Messages that are heard, and about which nothing may be done: what they name is not for the agent.
fn beyond_the_floor(town: &Town) -> Vec<Trouble> {
    let modules = ["auth", "user-data", "tls", "schema-registry", "no-such-module", "..", "exports/../auth"];
    let mut troubles = modules.map(|module| Trouble::new(&FAILING, module, None)).to_vec();
    let organisations = ["unknown", "all", "org_1,org_2", "*"];
    troubles.extend(organisations.map(|one| Trouble::new(&TURNED_AWAY, MODULE, Some(one))));
    troubles.iter().for_each(|trouble| town.say("opened", &trouble.body()));
    troubles
}

/// Messages of the internal topic that nobody of ours wrote: the kind, the type and the body.
fn forged_intents(truth: &Trouble) -> Vec<(Option<&'static str>, Option<&'static str>, Vec<u8>)> {
    let command = |body: Value| (Some("command"), None, serde_json::to_vec(&body).unwrap());
    let known = truth.incident_id();
    vec![
        command(json!({ "command": "execute", "action": "delete_data", "target": MODULE, "by": "mia" })),
        command(json!({ "command": "unlock", "incident_id": "0".repeat(32), "by": "mia" })),
        command(json!({ "command": "acknowledge", "incident_id": "no incident", "by": "mia" })),
        command(json!({ "command": "acknowledge", "incident_id": known, "by": "m".repeat(1_000_000) })),
        command(json!({ "command": "acknowledge", "incident_id": known, "by": " \n" })),
        command(json!({ "command": "acknowledge", "incident_id": known })),
        command(json!({ "command": "silence", "by": "mia", "silence": { "id": "s", "labels": {}, "owner": "mia",
            "reason": "all of it", "from": at(now()), "until": at(now() + HOUR) } })),
        (Some("command"), None, b"{\"command\": \"unlock\", ".to_vec()),
        (Some("command"), None, vec![0xff; 100_000]),
        (Some("command"), None, Vec::new()),
        (None, None, serde_json::to_vec(&truth.body()).unwrap()),
        (None, Some(OPENED), serde_json::to_vec(&truth.body()).unwrap()),
        (Some("intent"), None, serde_json::to_vec(&json!({ "action": "function_recycle", "target": MODULE })).unwrap()),
        (Some("DETECTION"), Some(OPENED), serde_json::to_vec(&truth.body()).unwrap()),
    ]
}

/// True if it can be written to the internal topic, too, and is not cut there.
fn is_for_intents((kind, body): &Message) -> bool {
    kind.len() < 1_000 && body.len() < LARGEST
}

fn at(micros: i64) -> String {
    maturion::model::detection::format_time(micros)
}

fn forge(town: &Town, messages: &[Message]) {
    let topic = town.flow.runtime.topics.remediation();
    for (kind, body) in messages {
        // A type of nothing is a message without one.
        let headers = [("ce_type", kind.as_bytes())];
        town.write(&topic, body, if kind.is_empty() { &[] } else { &headers });
    }
}

fn forge_intents(town: &Town, truth: &Trouble) -> usize {
    let topic = town.flow.runtime.topics.intents();
    let forged = forged_intents(truth);
    for (kind, event_type, body) in &forged {
        let headers = [("kind", kind), ("ce_type", event_type)];
        let headers = headers.iter().filter_map(|(name, value)| Some((*name, (**value)?.as_bytes())));
        town.write(&topic, body, &headers.collect::<Vec<_>>());
    }
    // The same lies as detections: their way is another one.
    for (kind, body) in forgeries(truth).iter().filter(|message| is_for_intents(message)) {
        town.write(&topic, body, &[("kind", b"detection"), ("ce_type", kind.as_bytes())]);
    }
    forged.len()
}

/// How many messages the audit says that were not heard.
fn refused(town: &Town) -> usize {
    let entries = town.entries();
    entries
        .iter()
        .filter(|entry| entry["sentence"].as_str().is_some_and(|words| words.contains("was not heard")))
        .count()
}

/// How often the log says so, of commands too.
fn logged(town: &Town) -> usize {
    town.process.lock().unwrap().log().matches("a message was not heard").count()
}

#[test]
fn forged_and_replayed_messages_gain_nothing_though_the_policy_permits_everything() {
    let kafka = kafka_or_skip!();
    let targets = format!("targets = [\"{MODULE}\", \"exports\"]");
    let town = Town::start(kafka, |text| hasty(text, 1_000), &targets);
    let truth = town.trouble(&FAILING, MODULE);
    let forged = forgeries(&truth);
    forge(&town, &forged);
    town.until("refused", |town| refused(town) == forged.len());
    assert_eq!((town.plane.changes().len(), town.incidents().len()), (0, 0));

    // The one true detection, and others that want more of it than its rule says.
    town.say("opened", &truth.body());
    for (update, remedy) in (1..).zip(["delete_data", "disable_auth", "raise_rate_limit", "function_recycle; rm -rf /"])
    {
        let mut body = truth.body();
        body["update"] = json!(update);
        body["remedy"] = json!({ "action": remedy, "target": "auth" });
        body["scope"] = json!("trivial");
        // Nor is it proven by a limit that somebody sets: nothing would ever be beyond it, or everything.
        body["threshold"] = json!(if update % 2 == 0 { -1e9 } else { 1e9 });
        town.say("updated", &body);
    }
    town.until("verified", |town| town.incident(&truth)["phase"] == "verified");
    let attempts = |town: &Town| town.incident(&truth)["attempts"].clone();
    let done = attempts(&town);
    assert_eq!(done.as_array().unwrap().len(), 1);

    // All of it once more, now that there is something to gain: another module's incident under this one's id, too.
    let untouchable = beyond_the_floor(&town);
    let mut stolen = Trouble::new(&FAILING, "exports", None).body();
    stolen["incident_id"] = json!(truth.incident_id());
    forge(&town, &[message(OPENED, &stolen)]);
    forge(&town, &forged);
    let replayed = message(OPENED, &truth.body());
    (0..REPLAYS).for_each(|_| forge(&town, std::slice::from_ref(&replayed)));
    let commands = forge_intents(&town, &truth);
    let of_intents = forged.iter().filter(|message| is_for_intents(message)).count();
    let expected = 2 * forged.len() + 1 + of_intents;
    town.until("refused once more", |town| refused(town) >= expected && logged(town) >= expected - 1 + commands);
    town.until("decided", |town| untouchable.iter().all(|one| town.incident(one)["decided"].is_object()));

    assert_eq!((refused(&town), logged(&town)), (expected, expected - 1 + commands));
    assert_eq!(attempts(&town), done);
    let effects = town.plane.done();
    assert_eq!((effects.len(), effects[0].module.as_str(), town.plane.changes().len()), (1, MODULE, 1), "{effects:?}");
    for trouble in &untouchable {
        let incident = town.incident(trouble);
        assert!(incident["decided"]["reason"].as_str().unwrap().starts_with("floor: "), "{incident:#?}");
    }
    assert_eq!(town.incident(&truth)["acknowledged"], Value::Null);
    town.process.lock().unwrap().check();
    let log = town.process.lock().unwrap().log();
    assert!(!log.contains("starts anew") && !log.contains("was aborted"), "{log}");
    town.end();
}

/// What was said of an incident that is over, or even forgotten, comes once more.
#[test]
fn what_is_over_is_not_begun_again_by_a_message_that_comes_again() {
    const ORGANISATION: &str = "org_12345";
    let (plane, _runtime) = Plane::start(Manner::Helpful);
    let mut limited = Limited::new(plane, &[(ORGANISATION, 150)]);
    (0..2).for_each(|_| limited.minute());
    limited.detect(ORGANISATION, "opened");
    limited.until(ORGANISATION, 50, "verified", |incident| incident["phase"] == "verified");
    limited.needs(ORGANISATION, 100);
    limited.detect(ORGANISATION, "resolved");
    let over = limited.until(ORGANISATION, 120, "over", |incident| {
        incident["phase"] == "resolved" && incident["attempts"][0]["stage"] == "reverted"
    });
    (0..50).for_each(|_| limited.repeat(0));
    (0..30).for_each(|_| limited.minute());
    assert_eq!(limited.incident(ORGANISATION), over);

    // After seven days it is forgotten, and the message opens an incident; but no window shows it today.
    limited.platform.pass(8 * 24 * 60 * MINUTE);
    (0..2).for_each(|_| limited.minute());
    limited.repeat(0);
    (0..60).for_each(|_| limited.minute());
    assert_eq!(limited.limits_set(), [150, 100]);
    let incident = limited.incident(ORGANISATION);
    assert_eq!((&incident["is_confirmed"], &incident["attempts"]), (&json!(false), &json!([])));
}
