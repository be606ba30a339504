//! A number that was raised and did not help: it is what it was before, and that is proven.

use serde_json::json;

use super::limited::Limited;
use super::plane::{Manner, Plane};
use super::platform::MODULE;

const ORGANISATION: &str = "org_12345";

#[test]
fn a_number_that_does_not_help_is_what_it_was_and_the_third_time_people_are_called() {
    let (plane, _runtime) = Plane::start(Manner::Helpful);
    // More than the range allows.
    let mut limited = Limited::new(plane.clone(), &[(ORGANISATION, 1_000)]);
    (0..2).for_each(|_| limited.minute());
    limited.detect(ORGANISATION, "opened");
    let incident = limited.until(ORGANISATION, 200, "locked", |incident| incident["is_locked"] == true);

    assert_eq!(limited.limits_set(), [150, 100, 150, 100, 150, 100]);
    assert_eq!(limited.limit(ORGANISATION), 100);
    let (before, after) = (json!({ "requests_per_minute": 100 }), json!({ "requests_per_minute": 150 }));
    let attempts = incident["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3, "{attempts:#?}");
    for (nth, attempt) in attempts.iter().enumerate() {
        assert_eq!(
            (attempt["stage"].as_str(), attempt["attempt"].as_u64()),
            (Some("rolled_back"), Some(nth as u64 + 1))
        );
        assert_eq!(attempt["change"], json!({ "parameter": "requests_per_minute", "from": 100.0, "to": 150.0 }));
        // What was read before it was done, and after it was taken back.
        assert_eq!((&attempt["before"], &attempt["after"]), (&before, &before), "{attempt:#?}");
        assert_eq!(attempt["organisation_id"], ORGANISATION);
        let action_id = attempt["action_id"].as_str().unwrap();
        let done = plane.done();
        let effects = done[2 * nth..2 * nth + 2].iter().map(|effect| effect.key.clone()).collect::<Vec<_>>();
        assert_eq!(effects, [action_id.to_owned(), format!("{action_id}-revert")]);
        // The audit has the whole way, in this order.
        let entries = limited.platform.entries();
        let way = entries.iter().filter(|entry| entry["action_id"] == action_id && entry["kind"] != "decision");
        let way = way.map(|entry| (entry["kind"].as_str().unwrap(), &entry["before"], &entry["after"]));
        let null = json!(null);
        let expected = [
            ("intent", &null, &null),
            ("effect", &before, &null),
            ("effect", &before, &after),
            ("unverified", &before, &after),
            ("rolled_back", &before, &before),
        ];
        assert_eq!(way.collect::<Vec<_>>(), expected);
    }
    assert!(
        plane
            .done()
            .iter()
            .all(|effect| effect.module == MODULE && effect.organisation.as_deref() == Some(ORGANISATION))
    );
    assert_eq!((incident["severity"].as_str(), incident["phase"].as_str()), (Some("critical"), Some("escalated")));
    assert_eq!(incident["escalated"]["reason"], "repeated_failure");
    assert_eq!(limited.entries("escalated").len(), 1);

    (0..60).for_each(|_| limited.minute());
    assert_eq!(limited.limits_set().len(), 6, "it acts although it is locked");
}
