use std::collections::HashMap;

use serde::Deserialize;

use super::*;

/// Noon of the plan's date.
const NOON: Micros = 1_764_763_200 * SECOND;

/// A log record of the contract, strictly: an unknown field or a wrong type is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields only prove their type")]
struct Log {
    #[serde(deserialize_with = "micros")]
    timestamp: Micros,
    organisation_id: String,
    module: String,
    source: String,
    level: String,
    event: String,
    message: Option<String>,
    status_code: Option<i32>,
    duration_ms: Option<f64>,
    route: Option<String>,
    method: Option<String>,
    user_id: Option<String>,
    client_ip: Option<std::net::IpAddr>,
    trace_id: Option<String>,
    exception_type: Option<String>,
    handled: Option<bool>,
    operation: Option<String>,
    rows_affected: Option<i64>,
    attributes: serde_json::Map<String, serde_json::Value>,
}

/// A metric record of the contract, strictly.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields only prove their type")]
struct Metric {
    #[serde(deserialize_with = "micros")]
    timestamp: Micros,
    organisation_id: String,
    module: String,
    name: String,
    value: f64,
    unit: String,
}

fn micros<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = chrono::DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
    Ok(time.timestamp_micros())
}

type Owned = (Micros, Kind, Vec<u8>, Vec<u8>);

fn produce(settings: &Settings, start: Micros, duration: Micros) -> Vec<Owned> {
    let mut simulator = Simulator::new(settings.clone(), start);
    let mut records = Vec::new();
    while simulator.now() < start + duration {
        let batch = simulator.next_batch();
        records.extend(batch.iter().map(|one| (one.time, one.kind, one.key.to_vec(), one.value.to_vec())));
    }
    records
}

fn logs(records: &[Owned]) -> Vec<Log> {
    let logs = records.iter().filter(|record| record.1 == Kind::Logs);
    logs.map(|record| serde_json::from_slice(&record.3).unwrap()).collect()
}

fn requests(records: &[Owned]) -> Vec<Log> {
    logs(records).into_iter().filter(|log| log.event == "http_request").collect()
}

fn flat(records_per_second: f64) -> Settings {
    Settings { records_per_second, shape: Shape::Flat, ..Settings::default() }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let settings = Settings { incidents: script(NOON), ..Settings::default() };
    let once = produce(&settings, NOON, 20 * SECOND);
    assert!(once.len() > 10_000);
    assert_eq!(once, produce(&settings, NOON, 20 * SECOND));
    assert_ne!(once, produce(&Settings { seed: 2, ..settings }, NOON, 20 * SECOND));
}

#[test]
fn who_starts_later_sees_the_rest_of_what_who_started_earlier_saw() {
    for rate in [300.0, 20_000.0] {
        let whole = produce(&flat(rate), NOON, 10 * SECOND);
        let later = produce(&flat(rate), NOON + 4 * SECOND, 6 * SECOND);
        assert!(whole.ends_with(&later));
    }
}

#[test]
fn every_record_is_a_record_of_the_contract() {
    let settings = Settings { incidents: script(NOON), records_per_second: 200.0, ..Settings::default() };
    let mut events = HashMap::<String, usize>::new();
    for (time, kind, key, value) in produce(&settings, NOON, 10 * MINUTE) {
        let (timestamp, organisation, module) = match kind {
            Kind::Logs => {
                let log: Log = serde_json::from_slice(&value).unwrap();
                *events.entry(log.event).or_default() += 1;
                (log.timestamp, log.organisation_id, log.module)
            }
            Kind::Metrics => {
                let metric: Metric = serde_json::from_slice(&value).unwrap();
                (metric.timestamp, metric.organisation_id, metric.module)
            }
        };
        assert_eq!(timestamp, time.div_euclid(1_000) * 1_000);
        assert_eq!(format!("{organisation}/{module}").as_bytes(), key);
    }
    for event in ["http_request", "exception", "login_failure", "export", "integration", "slow_query", "data_change"] {
        assert!(events.contains_key(event), "{event} is missing in {events:?}");
    }
}

#[test]
fn the_rate_is_the_one_asked_for() {
    for (rate, seconds) in [(20.0, 600), (1_000.0, 60), (40_000.0, 2)] {
        let expected = rate * seconds as f64;
        let found = produce(&flat(rate), NOON, seconds * SECOND).len() as f64;
        assert!((found - expected).abs() < 5.0 * expected.sqrt() + 0.02 * expected, "{found} for {expected}");
    }
}

#[test]
fn records_are_late_by_no_more_than_the_jitter() {
    let settings = Settings { jitter: 3 * SECOND, ..flat(500.0) };
    let (mut latest, mut late) = (Micros::MIN, 0);
    for (time, ..) in produce(&settings, NOON, MINUTE) {
        late += usize::from(time < latest);
        assert!(latest.saturating_sub(time) <= settings.jitter);
        latest = latest.max(time);
    }
    assert!(late > 1_000, "{late} late records");
    let ordered = produce(&Settings { jitter: 0, ..settings }, NOON, MINUTE);
    assert!(ordered.is_sorted_by_key(|record| record.0));
}

#[test]
fn a_healthy_platform_has_few_errors_and_no_unhandled_exception() {
    let logs = logs(&produce(&flat(2_000.0), NOON, 2 * MINUTE));
    assert!(logs.iter().all(|log| log.handled != Some(false)));
    let requests = logs.iter().filter(|log| log.event == "http_request");
    let share = |of: &dyn Fn(&Log) -> bool| {
        requests.clone().filter(|log| of(log)).count() as f64 / requests.clone().count() as f64
    };
    let errors = share(&|log| log.status_code >= Some(500));
    assert!((0.0001..0.0004).contains(&errors), "{errors}");
    assert!(share(&|log| log.duration_ms > Some(1_000.0)) < 0.01);
}

#[test]
fn a_record_has_about_300_bytes() {
    let records = produce(&flat(1_000.0), NOON, 10 * SECOND);
    let bytes: usize = records.iter().map(|record| record.3.len()).sum();
    let mean = bytes / records.len();
    assert!((300..350).contains(&mean), "{mean}");
}

fn incident(name: &str) -> (Settings, Incident) {
    let incidents = script(NOON);
    let found = incidents.iter().find(|incident| incident.name == name).unwrap().clone();
    (Settings { incidents, ..flat(2_000.0) }, found)
}

#[test]
fn the_worked_example_fails_one_request_in_ten_of_the_threat_module() {
    let (settings, incident) = incident("threat_errors");
    let records = produce(&settings, incident.start, 2 * MINUTE);
    let requests: Vec<Log> = requests(&records).into_iter().filter(|log| log.timestamp >= incident.start).collect();
    let share = |of: &dyn Fn(&Log) -> bool| {
        let these: Vec<&Log> = requests.iter().filter(|log| of(log)).collect();
        these.iter().filter(|log| log.status_code >= Some(500)).count() as f64 / these.len() as f64
    };
    let (threat, others) =
        (share(&|log| log.module == "threat-analysis"), share(&|log| log.module != "threat-analysis"));
    assert!((0.09..0.11).contains(&threat) && others < 0.001, "{threat} against {others}");
    assert!(logs(&records).iter().any(|log| log.handled == Some(false) && log.module == "threat-analysis"));
}

#[test]
fn slow_exports_have_a_p95_of_more_than_five_seconds() {
    let (settings, incident) = incident("slow_exports");
    let records = produce(&settings, incident.start + 3 * SECOND, MINUTE);
    let mut durations: Vec<f64> =
        requests(&records).iter().filter(|log| log.module == "exports").filter_map(|log| log.duration_ms).collect();
    durations.sort_by(f64::total_cmp);
    assert!(durations[durations.len() * 95 / 100] > 5_000.0);
}

#[test]
fn a_leak_fills_the_memory_of_one_module() {
    let (settings, incident) = incident("full_memory");
    for (_, kind, _, value) in produce(&settings, incident.start + 3 * MINUTE, MINUTE) {
        let metric: Metric = match kind {
            Kind::Metrics => serde_json::from_slice(&value).unwrap(),
            Kind::Logs => continue,
        };
        let leaks = metric.name == "memory_percent" && Some(&*metric.module) == incident.module;
        assert_eq!(metric.value > 90.0, leaks, "{metric:?}");
    }
}

#[test]
fn errors_of_one_organisation_stay_its_own() {
    let (settings, incident) = incident("one_organisation");
    let requests = requests(&produce(&settings, incident.start + 3 * SECOND, 2 * MINUTE));
    let share = |mine: bool| {
        let hit = |log: &Log| incident.concerns(Some(&log.organisation_id), Some(&log.module));
        let these: Vec<&Log> = requests.iter().filter(|log| hit(log) == mine).collect();
        these.iter().filter(|log| log.status_code >= Some(500)).count() as f64 / these.len() as f64
    };
    assert!((0.03..0.05).contains(&share(true)) && share(false) < 0.001, "{} {}", share(true), share(false));
}

#[test]
fn at_every_hour_there_is_an_organisation_of_middling_size() {
    for hour in 0..24 {
        let start = NOON + hour * 60 * MINUTE;
        let incidents = script(start);
        let hit = incidents.iter().find(|incident| incident.name == "one_organisation").unwrap();
        let number = ORGANISATIONS.iter().position(|one| Some(one.id) == hit.organisation).unwrap();
        let share = platform::shares(Shape::Day, hit.start)[number];
        assert!((0.1..0.22).contains(&share), "{share} at hour {hour}");
        assert!(incidents.iter().all(|incident| incident.end() <= start + SCRIPT_DURATION));
    }
}

#[test]
fn a_new_exception_is_new() {
    let (settings, incident) = incident("new_exception");
    let Effect::NewException { exception, .. } = incident.effect else { panic!("{incident:?}") };
    let seen = |start: Micros, duration: Micros| {
        let logs = logs(&produce(&settings, start, duration));
        logs.iter().filter(|log| log.exception_type.as_deref() == Some(exception)).count()
    };
    assert_eq!(seen(incident.start - MINUTE, MINUTE), 0);
    assert!(seen(incident.start, 2 * MINUTE) >= 4);
}
