use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::pipeline::Severity;
use crate::notify::routing::Route;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;

/// The plan's table of contacts and times.
fn routing() -> Routing {
    let route = |primary: &str, secondary: Option<&str>, after: Micros, within: Micros| Route {
        primary: primary.to_owned(),
        secondary: secondary.map(str::to_owned),
        secondary_after: after,
        respond_within: within,
    };
    Routing {
        routes: BTreeMap::from([
            (Issue::CriticalPlatform, route("on-call", Some("johan"), 5 * MINUTE, 0)),
            (Issue::High, route("builder", Some("foreman"), 30 * MINUTE, 30 * MINUTE)),
            (Issue::Medium, route("builder", None, 240 * MINUTE, 240 * MINUTE)),
            (Issue::Architecture, route("johan", Some("governance"), 1_440 * MINUTE, 1_440 * MINUTE)),
            (Issue::Security, route("security", Some("johan"), 5 * MINUTE, 0)),
        ]),
        ungrouped: vec!["on-call".to_owned()],
        group_wait: 30 * SECOND,
        update_interval: 5 * MINUTE,
        repeat_interval: 240 * MINUTE,
        storm_triggers: 20,
        storm_window: 5 * MINUTE,
    }
}

fn router() -> Router {
    Router::new(routing(), State::default())
}

fn notice(incident: &str, issue: Issue, what: What) -> Notice {
    Notice {
        incident: incident.to_owned(),
        epoch: 0,
        what,
        issue,
        severity: match issue {
            Issue::CriticalPlatform | Issue::Security => Severity::Critical,
            Issue::High | Issue::Architecture => Severity::High,
            Issue::Medium => Severity::Medium,
        },
        title: format!("{incident} of ann@example.org"),
        module: None,
        ticket: None,
        group: "threat-analysis".to_owned(),
    }
}

/// A delivery in a line.
fn told(deliveries: &[Delivery]) -> Vec<String> {
    let line = |delivery: &Delivery| {
        let incidents: Vec<&str> = delivery.entries.iter().map(|entry| entry.incident.as_str()).collect();
        let more = if delivery.more > 0 { format!("+{}", delivery.more) } else { String::new() };
        let reason = delivery.reason.map(|reason| format!(" because {reason:?}")).unwrap_or_default();
        format!("{} {} {}{more}{reason}", delivery.kind.name(), delivery.contact, incidents.join(","))
    };
    deliveries.iter().map(line).collect()
}

#[test]
fn unacknowledged_critical_goes_to_the_second_contact_after_five_minutes() {
    let mut router = router();
    let opened = router.notice(&notice("a", Issue::CriticalPlatform, What::Opened), 0);
    assert_eq!(told(&opened), ["trigger on-call a"]);
    assert_eq!(opened[0].entries[0].title, "a of [email]");
    assert_eq!(router.next_deadline(), Some(5 * MINUTE));
    assert!(router.tick(5 * MINUTE - 1).is_empty());
    assert_eq!(told(&router.tick(5 * MINUTE)), ["trigger johan a because Unacknowledged"]);
    let resolved = router.notice(&notice("a", Issue::CriticalPlatform, What::Resolved), 6 * MINUTE);
    assert_eq!(told(&resolved), ["resolve johan a", "resolve on-call a"]);
    assert_eq!((router.next_deadline(), router.state().incidents.len()), (None, 0));
}

#[test]
fn an_acknowledgement_stops_escalation_and_repetition() {
    let mut router = router();
    router.notice(&notice("a", Issue::CriticalPlatform, What::Opened), 0);
    let by = What::Acknowledged { by: "johan".to_owned() };
    let acknowledged = router.notice(&notice("a", Issue::CriticalPlatform, by), MINUTE);
    assert_eq!(told(&acknowledged), ["acknowledge on-call a"]);
    assert_eq!(router.next_deadline(), None);
    assert_eq!(
        told(&router.notice(&notice("a", Issue::CriticalPlatform, What::Resolved), MINUTE)),
        ["resolve on-call a"]
    );
}

#[test]
fn each_row_of_the_plans_table() {
    let rows = [
        (Issue::CriticalPlatform, "on-call", Some("johan"), 5),
        (Issue::High, "builder", Some("foreman"), 30),
        (Issue::Medium, "builder", None, 240),
        (Issue::Architecture, "johan", Some("governance"), 1_440),
        (Issue::Security, "security", Some("johan"), 5),
    ];
    for (issue, primary, secondary, minutes) in rows {
        let mut router = router();
        let mut first = router.notice(&notice("a", issue, What::Opened), 0);
        first.extend(router.tick(30 * SECOND));
        assert_eq!(told(&first), [format!("trigger {primary} a")]);
        // Repetitions aside.
        let second: Vec<Delivery> =
            (router.tick(minutes * MINUTE).into_iter()).filter(|one| one.contact != primary).collect();
        let expected = secondary.map(|contact| format!("trigger {contact} a because Unacknowledged"));
        assert_eq!(told(&second), expected.into_iter().collect::<Vec<String>>());
    }
}

#[test]
fn what_is_not_urgent_is_told_with_its_group_and_partly_resolved() {
    let mut router = router();
    assert!(router.notice(&notice("a", Issue::High, What::Opened), 0).is_empty());
    assert!(router.notice(&notice("b", Issue::High, What::Opened), 10 * SECOND).is_empty());
    assert!(router.notice(&notice("c", Issue::High, What::Opened), 11 * SECOND).is_empty());
    assert!(router.notice(&notice("c", Issue::High, What::Resolved), 12 * SECOND).is_empty(), "nobody was told of c");
    assert_eq!(told(&router.tick(30 * SECOND)), ["trigger builder a,b"]);
    assert!(router.notice(&notice("a", Issue::High, What::Resolved), MINUTE).is_empty());
    assert_eq!(told(&router.tick(6 * MINUTE)), ["update builder a,b"]);
    assert_eq!(told(&router.notice(&notice("b", Issue::High, What::Resolved), 7 * MINUTE)), ["resolve builder a,b"]);
}

#[test]
fn what_nobody_acknowledges_is_repeated() {
    let mut router = router();
    router.notice(&notice("a", Issue::Medium, What::Opened), 0);
    router.tick(30 * SECOND);
    assert_eq!(told(&router.tick(241 * MINUTE)), ["trigger builder a"]);
    assert_eq!(told(&router.tick(482 * MINUTE)), ["trigger builder a"]);
}

#[test]
fn a_storm_becomes_a_digest_and_everyone_named_is_resolved() {
    let mut router = router();
    let mut first = vec![];
    for nth in 0..500 {
        first.extend(
            router.notice(&notice(&format!("i{nth:03}"), Issue::CriticalPlatform, What::Opened), nth * SECOND / 10),
        );
    }
    assert_eq!(first.len(), 20, "one message each, up to the limit");
    let digests = router.tick(5 * MINUTE + 10 * SECOND);
    let digest = digests.iter().find(|one| one.contact == "on-call").expect("a digest");
    assert_eq!((digest.entries.len(), digest.more), (100, 380));
    let mut last = vec![];
    for nth in 0..500 {
        last.extend(router.notice(&notice(&format!("i{nth:03}"), Issue::CriticalPlatform, What::Resolved), 6 * MINUTE));
    }
    let resolved: Vec<&Delivery> = last.iter().filter(|one| one.contact == "on-call").collect();
    assert_eq!(resolved.len(), 21, "each message and the digest");
    assert!(router.state().alerts.values().all(|alert| alert.is_over()), "what is left names nobody");
}

#[test]
fn growing_worse_calls_the_new_contact_and_forgets_the_acknowledgement() {
    let mut router = router();
    router.notice(&notice("a", Issue::High, What::Opened), 0);
    router.tick(30 * SECOND);
    router.notice(&notice("a", Issue::High, What::Acknowledged { by: "b".to_owned() }), MINUTE);
    let worse = router.notice(&notice("a", Issue::CriticalPlatform, What::Changed), 2 * MINUTE);
    assert_eq!(told(&worse), ["trigger on-call a", "update builder a"]);
    assert_eq!(router.next_deadline(), Some(7 * MINUTE), "and the time until the second contact runs");
}

#[test]
fn an_escalation_calls_the_second_contact_at_once_and_the_first_again_without_one() {
    let mut router = router();
    let escalated = |reason| What::Escalated { reason };
    let high = router.notice(&notice("a", Issue::High, escalated(Reason::RepeatedFailure)), 0);
    assert_eq!(told(&high), ["trigger foreman a because RepeatedFailure"]);
    router.notice(&Notice { group: "other".to_owned(), ..notice("b", Issue::Medium, What::Opened) }, 0);
    router.tick(30 * SECOND);
    let medium = router.notice(&notice("b", Issue::Medium, escalated(Reason::Ambiguity)), MINUTE);
    assert_eq!(told(&medium), ["trigger builder b because Ambiguity"]);
}

#[test]
fn incidents_beyond_the_limit_are_counted_and_the_count_ends() {
    let mut router = router();
    for nth in 0..INCIDENTS_MAX + 7 {
        router.notice(&notice(&format!("i{nth}"), Issue::Medium, What::Opened), 0);
    }
    let said = router.tick(5 * MINUTE);
    let digest = said.iter().find(|one| one.entries.is_empty()).expect("a digest");
    assert_eq!(digest.more, 7);
    let end = router.tick(10 * MINUTE);
    assert!(end.iter().any(|one| one.alert == digest.alert && one.kind == Kind::Resolve), "{:?}", told(&end));
}

#[test]
fn the_state_can_be_kept_and_read_back() {
    let mut router = router();
    router.notice(&notice("a", Issue::High, What::Opened), 0);
    router.tick(30 * SECOND);
    let kept = serde_json::to_string(router.state()).expect("JSON");
    let mut again = Router::new(routing(), serde_json::from_str(&kept).expect("the state"));
    assert_eq!(again.tick(30 * MINUTE), router.tick(30 * MINUTE));
}

/// Something that happens to one of a few incidents, and how long until the next.
fn step() -> impl Strategy<Value = (usize, usize, usize, Micros)> {
    (0..8_usize, 0..5_usize, 0..7_usize, prop_oneof![0..SECOND, 0..MINUTE, 0..60 * MINUTE])
}

fn what(nth: usize) -> What {
    match nth {
        0 | 1 => What::Opened,
        2 => What::Changed,
        3 => What::Acknowledged { by: "ann".to_owned() },
        4 => What::Escalated { reason: Reason::HighRisk },
        _ => What::Resolved,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever was told that an alert began is told that it ended, no id is used twice, nothing is said of an
    /// alert that has not begun, and a router that is read back from its state says the same.
    #[test]
    fn every_trigger_has_its_resolve_and_no_id_is_used_twice(
        steps in prop::collection::vec(step(), 0..120),
        storm_triggers in 1..6_usize,
        restart in 0..120_usize,
    ) {
        let routing = Routing { storm_triggers, ..routing() };
        let mut router = Router::new(routing.clone(), State::default());
        let (mut now, mut said) = (0, vec![]);
        for (nth, (incident, issue, happens, pause)) in steps.into_iter().enumerate() {
            if nth == restart {
                let kept = serde_json::to_string(router.state()).expect("JSON");
                router = Router::new(routing.clone(), serde_json::from_str(&kept).expect("a state"));
            }
            said.extend(router.notice(&notice(&format!("i{incident}"), Issue::ALL[issue], what(happens)), now));
            now += pause;
            said.extend(router.tick(now));
        }
        for incident in 0..8 {
            said.extend(router.notice(&notice(&format!("i{incident}"), Issue::Medium, What::Resolved), now));
        }
        let mut rounds = 0;
        while let Some(at) = router.next_deadline() {
            said.extend(router.tick(at.max(now)));
            rounds += 1;
            prop_assert!(rounds < 1_000, "the timers end");
        }
        let ids: BTreeSet<&str> = said.iter().map(|delivery| delivery.id.as_str()).collect();
        prop_assert_eq!(ids.len(), said.len());
        let mut open = BTreeSet::new();
        for delivery in &said {
            let alert = (delivery.contact.clone(), delivery.alert.clone());
            match delivery.kind {
                Kind::Trigger => drop(open.insert(alert)),
                Kind::Resolve => prop_assert!(open.remove(&alert), "{:?} began before", told(std::slice::from_ref(delivery))),
                Kind::Update | Kind::Acknowledge => prop_assert!(open.contains(&alert)),
            }
        }
        prop_assert!(open.is_empty(), "never resolved: {:?} of {:#?}", open, told(&said));
        prop_assert!(router.state().incidents.is_empty() && router.state().alerts.is_empty() && router.state().waiting.is_empty());
    }
}
