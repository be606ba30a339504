//! `incident_window`, and the ready questions of `sql/incidents`, against telemetry of which the answer is known.

use std::path::Path;
use std::sync::Arc;

use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::query::output::Format;
use maturion::query::{Engine, Limits, Tables, variables};
use serde_json::{Value, json};

use super::tables::{after_noon, memory};
use super::{answer, csv, engine_with};

const INCIDENT: &str = "0f0f";

fn log(at: i64, organisation: &str, module: Option<&str>, more: Value) -> Value {
    let mut row = json!({
        "timestamp": after_noon(at), "organisation_id": organisation, "module": module, "level": "INFO",
        "event": "http_request", "kafka_partition": 0, "kafka_offset": at + 100_000,
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

fn detection(change: &str, start: i64, series: Value) -> Value {
    json!({
        "time": after_noon(start + 60), "window_start": after_noon(start), "window_end": after_noon(start + 60),
        "change": change, "incident_id": INCIDENT, "detection_id": "d", "module": series["module"], "series": series.to_string(),
        "organisation_id": series["organisation_id"], "kafka_partition": 0, "kafka_offset": start,
    })
}

fn engine(logs: Vec<Value>, detections: Vec<Value>) -> Arc<Engine> {
    let source = move |_: &Principal| Tables {
        providers: vec![
            ("logs", memory(StoreTable::Logs, &logs)),
            ("detections", memory(StoreTable::Detections, &detections)),
        ],
        renew: Arc::new(|| {}),
    };
    engine_with(Arc::new(source), Limits::default())
}

fn offsets(engine: &Arc<Engine>, call: &str) -> Vec<i64> {
    let rows = csv(engine, &Principal::Operator, &format!("SELECT kafka_offset FROM {call} ORDER BY 1"));
    rows.iter().map(|row| row.parse::<i64>().unwrap() - 100_000).collect()
}

/// One row every minute of an hour on both sides of noon, of each of three modules, one of which has no name.
fn telemetry() -> Vec<Value> {
    let modules = [Some("auth"), Some("search"), None];
    let row = |at: i64| (0..3).map(move |place| log(at + place, "org_1", modules[place as usize], json!({})));
    (-60..=60).flat_map(|minute| row(minute * 60)).collect()
}

/// What should be there: the rows of the module from the first second to the last.
fn by_hand(place: i64, from: i64, to: i64) -> Vec<i64> {
    (-60..=60).map(|minute| minute * 60 + place).filter(|at| (from..=to).contains(at)).collect()
}

#[test]
fn the_window_is_of_the_series_and_as_wide_as_asked() {
    let series = json!({"organisation_id": "org_1", "module": "search"});
    let detections = vec![detection("opened", 0, series.clone()), detection("resolved", 540, series)];
    let engine = engine(telemetry(), detections);
    let call = |around: &str| format!("incident_window('{INCIDENT}', INTERVAL '{around}')");
    assert_eq!(offsets(&engine, &call("15 minutes")), by_hand(1, -900, 600 + 900));
    assert_eq!(offsets(&engine, &call("90 seconds")), by_hand(1, -90, 690));
    assert_eq!(offsets(&engine, &format!("incident_window('{INCIDENT}')")), by_hand(1, -900, 1_500));
}

#[test]
fn a_null_label_is_a_null_column_and_an_open_incident_lasts_until_now() {
    let engine = engine(telemetry(), vec![detection("opened", 0, json!({"organisation_id": "org_1", "module": null}))]);
    let call = format!("incident_window('{INCIDENT}', INTERVAL '1 minute')");
    // Now is before or after that June: what is known is that nothing later than now is there.
    let now = chrono::Utc::now().timestamp() - super::tables::NOON;
    assert_eq!(offsets(&engine, &call), by_hand(2, -60, now));
}

#[test]
fn the_series_of_an_incident_are_looked_at_together() {
    let of = |module: &str| json!({"organisation_id": "org_1", "module": module});
    let mut detections = vec![detection("opened", 0, of("auth")), detection("opened", 60, of("search"))];
    detections.push(detection("resolved", 60, of("search")));
    let engine = engine(telemetry(), detections);
    let mut expected = by_hand(0, -60, 180);
    expected.extend(by_hand(1, -60, 180));
    expected.sort_unstable();
    assert_eq!(offsets(&engine, &format!("incident_window('{INCIDENT}', INTERVAL '1 minute')")), expected);
}

#[test]
fn filters_limits_and_joins_go_through_the_window() {
    let series = json!({"organisation_id": "org_1", "module": "auth"});
    let engine = engine(telemetry(), vec![detection("opened", 0, series.clone()), detection("resolved", 0, series)]);
    let count = |sql: &str| csv(&engine, &Principal::Operator, sql);
    let window = format!("incident_window('{INCIDENT}', INTERVAL '10 minutes')");
    assert_eq!(count(&format!("SELECT count(*) FROM {window}")), ["22"]);
    assert_eq!(
        count(&format!("SELECT count(*) FROM {window} WHERE kafka_offset < 100000 AND event = 'http_request'")),
        ["10"]
    );
    assert_eq!(count(&format!("SELECT count(*) FROM (SELECT * FROM {window} LIMIT 3)")), ["3"]);
    assert_eq!(count(&format!("SELECT count(*) FROM {window} a JOIN {window} b USING (kafka_offset)")), ["22"]);
}

#[test]
fn a_call_that_makes_no_sense_says_how_to_write_it() {
    let engine = engine(vec![], vec![]);
    for call in [
        "incident_window()",
        "incident_window(1)",
        "incident_window('a', 'b')",
        "incident_window('a', INTERVAL '1 month')",
    ] {
        let error = answer(&engine, &Principal::Operator, &format!("SELECT * FROM {call}"), Format::Csv)
            .unwrap_err()
            .to_string();
        assert!(error.contains("interval"), "{call}: {error}");
    }
    let error = answer(&engine, &Principal::Operator, "SELECT * FROM incident_window('a')", Format::Csv).unwrap_err();
    assert_eq!(error.to_string(), "there is no incident \"a\" that may be seen here");
}

/// A ready question about the incident.
fn ready(engine: &Arc<Engine>, name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/incidents").join(name);
    let sql = variables::fill(&std::fs::read_to_string(path).unwrap(), &[("incident".to_owned(), INCIDENT.to_owned())])
        .unwrap();
    let said =
        answer(engine, &Principal::Operator, &sql, Format::Json).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&said).unwrap()
}

/// A module fails for two organisations after somebody changed its configuration.
fn story() -> Arc<Engine> {
    let auth = Some("auth");
    let mut logs = vec![
        log(-7_200, "org_1", auth, json!({"event": "config_snapshot", "message": "long before"})),
        log(
            -600,
            "org_1",
            auth,
            json!({"event": "data_change", "operation": "update", "message": "limits were lowered"}),
        ),
        log(-300, "org_1", Some("search"), json!({"event": "data_change", "message": "of another module"})),
        log(120, "org_1", auth, json!({"event": "data_change", "message": "afterwards"})),
        log(
            30,
            "org_1",
            auth,
            json!({"event": "exception", "level": "ERROR", "exception_type": "Timeout", "trace_id": "t1"}),
        ),
        log(
            40,
            "org_2",
            auth,
            json!({"event": "exception", "level": "ERROR", "exception_type": "Timeout", "trace_id": "t2"}),
        ),
        log(
            50,
            "org_1",
            auth,
            json!({"event": "slow_query", "duration_ms": 900.0, "attributes": "{\"query\":\"SELECT a\"}"}),
        ),
        log(60, "org_1", auth, json!({"event": "slow_query", "duration_ms": 5000.0, "message": "SELECT b"})),
        log(
            70,
            "org_1",
            auth,
            json!({"event": "slow_query", "duration_ms": 950.0, "attributes": "{\"query\":\"SELECT a\"}"}),
        ),
    ];
    for number in 0..20 {
        let failed = json!({"status_code": if number < 5 { 503 } else { 200 }, "route": "/login", "method": "POST",
                            "duration_ms": 100.0, "user_id": format!("u{}", number % 2), "level": "WARN"});
        logs.push(log(number, "org_1", auth, failed));
        logs.push(log(
            number,
            "org_2",
            auth,
            json!({"status_code": 200, "route": "/logout", "method": "POST", "duration_ms": 1.0}),
        ));
    }
    let series = json!({"module": "auth"});
    engine(logs, vec![detection("opened", 0, series.clone()), detection("resolved", 240, series)])
}

#[test]
fn what_changed_before_is_found() {
    let rows = ready(&story(), "what_changed_before.sql");
    let messages: Vec<&str> = rows.iter().map(|row| row["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["limits were lowered"]);
}

#[test]
fn the_worst_route_comes_first() {
    let rows = ready(&story(), "routes.sql");
    let routes: Vec<&str> = rows.iter().map(|row| row["route"].as_str().unwrap()).collect();
    assert_eq!(routes, ["/login", "/logout"]);
    assert_eq!((rows[0]["requests"].as_i64(), rows[0]["errors"].as_i64()), (Some(20), Some(5)));
    assert_eq!(rows[0]["error_rate"], 0.25);
}

#[test]
fn the_most_affected_organisation_comes_first() {
    let rows = ready(&story(), "organisations.sql");
    let errors: Vec<(&str, i64, i64)> = rows
        .iter()
        .map(|row| {
            (
                row["organisation_id"].as_str().unwrap(),
                row["errors"].as_i64().unwrap(),
                row["users_with_errors"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(errors, [("org_1", 5, 2), ("org_2", 0, 0)]);
}

#[test]
fn the_slowest_statement_comes_first() {
    let rows = ready(&story(), "slowest_queries.sql");
    let queries: Vec<(&str, i64)> =
        rows.iter().map(|row| (row["query"].as_str().unwrap(), row["times"].as_i64().unwrap())).collect();
    assert_eq!(queries, [("SELECT b", 1), ("SELECT a", 2)]);
}

#[test]
fn the_first_error_of_each_kind_is_found() {
    let rows = ready(&story(), "first_error.sql");
    let kinds: Vec<&str> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["status 503", "Timeout"]);
    assert_eq!(rows[1]["trace_id"], "t1");
}

#[test]
fn every_ready_question_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/incidents");
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        ["first_error.sql", "organisations.sql", "routes.sql", "slowest_queries.sql", "what_changed_before.sql"]
    );
}
