//! Tables of two organisations and of nobody, in memory or in a store, and the sessions' view of them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::query::{TableSource, Tables};
use maturion::store::chunk::OffsetRange;
use maturion::store::scan::table_source;
use maturion::store::{Location, Store};
use serde_json::{Value, json};

use super::{ONE, TWO};

/// Noon of 1 June 2026.
pub const NOON: i64 = 1_780_315_200;

/// Rows of each owner in each table.
const NUMBERS: i64 = 40;

/// RFC 3339, so many seconds after noon.
pub fn after_noon(seconds: i64) -> String {
    maturion::model::detection::format_time((NOON + seconds) * 1_000_000)
}

/// An incident of an organisation, ten minutes long, from noon on.
pub fn incident(organisation: &str) -> String {
    format!("incident-of-{organisation}")
}

pub fn batch(schema: &SchemaRef, rows: &[Value]) -> RecordBatch {
    let mut decoder =
        ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows.len().max(1)).build_decoder().unwrap();
    decoder.serialize(rows).unwrap();
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema)))
}

pub fn memory(table: StoreTable, rows: &[Value]) -> Arc<dyn TableProvider> {
    let schema = table.schema();
    let batch = batch(&schema, rows);
    Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())
}

/// What each organisation has of every table: its name is a part of every text, so that a foreign row cannot hide.
fn rows(table: StoreTable, organisation: Option<&str>, numbers: Range<i64>) -> Vec<Value> {
    let own = organisation.unwrap_or("nobody-platform");
    numbers.map(|number| row(table, organisation, own, number)).collect()
}

fn row(table: StoreTable, organisation: Option<&str>, own: &str, number: i64) -> Value {
    let time = after_noon(number * 60 - 1_200);
    let module = format!("module-{}-of-{own}", number % 3);
    let place =
        json!({ "organisation_id": organisation, "module": module, "kafka_partition": 0, "kafka_offset": number });
    let rest = match table {
        StoreTable::Logs => json!({
            "timestamp": time, "source": format!("edge-of-{own}"), "level": if number % 5 == 0 { "ERROR" } else { "INFO" },
            "event": "http_request", "message": format!("message {number} of {own}"), "status_code": 200 + (number % 4) * 100,
            "duration_ms": number as f64 * 1.5, "route": format!("/{own}/{}", number % 7), "method": "GET",
            "user_id": format!("user-{}-of-{own}", number % 4), "trace_id": format!("trace-{number}-of-{own}"),
            "attributes": json!({"shop": {"name": format!("shop-of-{own}"), "items": [1, 2, number]}}).to_string(),
        }),
        StoreTable::Metrics => json!({
            "timestamp": time, "name": format!("cpu-of-{own}"), "value": number as f64, "unit": format!("unit-of-{own}"),
            "attributes": json!({"host": format!("host-of-{own}")}).to_string(),
        }),
        StoreTable::Windows => json!({
            "window_start": time, "window_end": after_noon(number * 60 - 1_140), "pipeline": format!("pipeline-of-{own}"),
            "complete": true, "row": json!({"module": module, "requests": number}).to_string(),
        }),
        StoreTable::Detections => detection(organisation, own, &module, number),
        StoreTable::IncidentChanges => json!({
            "changed_at": time, "opened_at": after_noon(0), "incident_id": format!("incident-{}-of-{own}", number % 5),
            "revision": number, "epoch": 0, "pipeline": format!("pipeline-of-{own}"), "rule": format!("rule-of-{own}"),
            "phase": if number < 35 { "firing" } else { "resolved" }, "severity": "high", "scope": "trivial",
            "series": json!({"organisation_id": organisation}).to_string(), "attempts": "[]",
            "acknowledged": json!({"by": format!("actor-of-{own}")}).to_string(),
            "evidence_sql": format!("SELECT '{own}'"), "state": json!({"note": format!("state-of-{own}")}).to_string(),
        }),
        StoreTable::Audit => json!({
            "time": time, "kind": AUDIT_KINDS[(number % 4) as usize], "seq": number + 1,
            "actor": format!("actor-of-{own}"), "sentence": format!("sentence {number} of {own}"),
            "incident_id": format!("incident-{}-of-{own}", number % 5), "action_id": format!("action-{}-of-{own}", number / 4),
            "action": "function_recycle", "target": module, "decision": (number % 4 == 0).then_some("allow"),
            "reasons": json!([format!("rule-of-{own}")]).to_string(), "before": json!({"host": format!("host-of-{own}")}).to_string(),
            "hash": "00", "previous_hash": "00", "entry": json!({"note": format!("state-of-{own}")}).to_string(),
        }),
    };
    let mut all = place.as_object().unwrap().clone();
    all.extend(rest.as_object().unwrap().clone());
    Value::Object(all)
}

/// The life of an action.
const AUDIT_KINDS: [&str; 4] = ["decision", "intent", "effect", "verified"];

fn detection(organisation: Option<&str>, own: &str, module: &str, number: i64) -> Value {
    let change = ["opened", "updated", "resolved"][(number % 3) as usize];
    let at = if change == "resolved" { 600 } else { 0 };
    json!({
        "time": after_noon(at + 60), "window_start": after_noon(at), "window_end": after_noon(at + 60), "change": change,
        "detection_id": format!("detection-{number}-of-{own}"), "incident_id": incident(own), "rule": format!("rule-of-{own}"),
        "pipeline": format!("pipeline-of-{own}"), "technique": "threshold", "measure": "error_rate", "value": 0.5,
        "severity": "high", "scope": "trivial", "module": module, "complete": true,
        "series": json!({"organisation_id": organisation}).to_string(),
        "evidence_sql": format!("SELECT '{own}'"), "event_id": format!("event-{number}-of-{own}"),
    })
}

/// The sessions see what is theirs, as those of a store would: by what their tables are made of.
pub fn source() -> TableSource {
    Arc::new(|principal| {
        let owners: Vec<Option<&str>> = match principal {
            Principal::Operator => vec![Some(ONE), Some(TWO), None],
            Principal::Organisation(own) => [ONE, TWO].into_iter().filter(|name| name == own).map(Some).collect(),
        };
        let provider = |table: StoreTable| {
            let rows: Vec<Value> = owners.iter().flat_map(|owner| rows(table, *owner, 0..NUMBERS)).collect();
            (table.name(), memory(table, &rows))
        };
        Tables { providers: StoreTable::ALL.map(provider).to_vec(), renew: Arc::new(|| {}) }
    })
}

/// A store of the same rows: some in a file that was merged, some in one that was not, some in memory; the owners' rows
/// lie in the same files and chunks.
pub fn store(folder: &Path) -> Arc<Store> {
    let store = Store::open(&Location::parse("file:store", folder).unwrap(), &[]).unwrap();
    for table in StoreTable::ALL {
        (0..32).step_by(2).for_each(|number| commit(&store, table, number..number + 2));
        assert_eq!(store.maintain(table, (NOON + 3_600) * 1_000_000).unwrap().merged, 16);
        commit(&store, table, 32..36);
        append(&store, table, 36..NUMBERS);
        let view = store.view();
        let (files, hot) = (&view.table(table).committed.files, &view.table(table).hot);
        let is_mixed =
            |(least, largest, has_none): &(String, String, bool)| least == ONE && largest == TWO && *has_none;
        assert!(files.len() == 2 && files.iter().all(|file| file.organisations.as_ref().is_some_and(is_mixed)));
        assert_eq!(hot.iter().map(RecordBatch::num_rows).sum::<usize>(), 3 * 4);
    }
    store
}

/// What the sessions of a store see an hour after noon.
pub fn stored(store: &Arc<Store>) -> TableSource {
    table_source(Arc::clone(store), || (NOON + 3_600) * 1_000_000)
}

fn commit(store: &Store, table: StoreTable, numbers: Range<i64>) {
    append(store, table, numbers);
    let chunk = store.state(table).seal().unwrap();
    store.commit(table, &chunk).unwrap();
}

fn append(store: &Store, table: StoreTable, numbers: Range<i64>) {
    let range = OffsetRange { start: numbers.start, end: numbers.end };
    for (partition, owner) in [Some(ONE), Some(TWO), None].into_iter().enumerate() {
        let batch = batch(store.schema(table), &rows(table, owner, numbers.clone()));
        store.state(table).append(&format!("rows-{partition}").into(), range, batch).unwrap();
    }
}
