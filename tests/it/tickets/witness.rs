//! Lines of logs in tickets: there, scrubbed, of nobody else; and a ticket without them if there is no way to them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, exec_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use maturion::model::schema::StoreTable;
use maturion::query::Tables as Seen;
use maturion::roles::remediate::witness::Tables;
use serde_json::{Value, json};

use super::desk::{Desk, MODULE};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_TRACE: &str = "00f067aa0ba902b7";
const TOKEN: &str = "ghp_abcdefghijABCDEFGHIJ0123456789012345";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0NzExIn0.c2lnbmF0dXJlc2ln";
/// What must not be in any ticket, whatever else it says.
const PRIVATE: [&str; 11] = [
    "ann@",
    "203.0.113.7",
    "198.51.100.9",
    "ghp_",
    "eyJ",
    "hunter2",
    "acme",
    "globex",
    "user-4711",
    "user-8",
    "user-15",
];

fn request(organisation: &str, user: &str, trace: &str, message: &str) -> Value {
    json!({
        "organisation_id": organisation, "module": MODULE, "source": "edge", "level": "error", "event": "http_request",
        "route": "/api/threats", "method": "POST", "status_code": 500, "duration_ms": 30_000.0, "user_id": user,
        "client_ip": "198.51.100.9", "trace_id": trace, "message": message,
    })
}

/// What was logged in the minute of the incident, and around it.
fn records() -> Vec<(i64, Value)> {
    let harmless = |organisation: &str| json!({"organisation_id": organisation, "module": MODULE, "level": "info", "message": "all is well"});
    let of = |message: &str| request("acme", "user-4711", TRACE, message);
    let mut elsewhere = of("the exports of another module");
    elsewhere["module"] = json!("exports");
    vec![
        (-3_600, of("an hour before")),
        (1, harmless("acme")),
        (2, of("canceling statement due to statement timeout for ann@acme.example at 203.0.113.7")),
        (3, of(&format!("retry with Authorization: Bearer {JWT}"))),
        (4, request("acme", "user-8", "ann@acme.example", &format!("password=hunter2 token {TOKEN}"))),
        (5, request("globex", "user-15", OTHER_TRACE, "the merger of globex with initech cannot be saved")),
        (6, elsewhere),
        (7, harmless("globex")),
    ]
}

fn has_nothing_private(text: &str) {
    for private in PRIVATE {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

#[test]
fn a_ticket_shows_what_was_logged_for_its_organisation_and_nothing_private() {
    let desk = Desk::new();
    desk.log(&records());
    desk.detect(Some("acme"), 0, 0.1);
    let _worker = desk.work(Some(desk.tables()));
    let issue = desk.ticket("Log samples");
    let text = format!("{}\n{}\n{}", issue.title, issue.body, issue.comments[0].1);
    has_nothing_private(&text);
    for expected in [
        "ERROR http_request POST /api/threats 500 in 30000.0 ms: canceling statement due to statement timeout for [email]",
        "retry with Authorization: [secret]",
        "password=[secret]",
        &format!("Traces: `{TRACE}`\n"),
        "Affected Users: 2\n",
        "Affected Organisations: 1\n",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    for foreign in ["merger", "initech", "an hour before", "exports", OTHER_TRACE] {
        assert!(!text.contains(foreign), "{foreign} in {text}");
    }
    let state = desk.incident().unwrap();
    has_nothing_private(&state["witness"].to_string());
    assert_eq!(state["witness"]["lines"].as_array().unwrap().len(), 4, "{state:#}");
}

#[test]
fn a_ticket_of_the_whole_platform_names_no_organisation() {
    let desk = Desk::new();
    desk.log(&records());
    desk.detect(None, 0, 0.1);
    let _worker = desk.work(Some(desk.tables()));
    let issue = desk.ticket("Log samples");
    has_nothing_private(&issue.body);
    for expected in [
        "the merger of [organisation] with initech cannot be saved",
        "canceling statement",
        &format!("Traces: `{TRACE}`, `{OTHER_TRACE}`\n"),
        "Affected Users: 3\n",
        "Affected Organisations: 2\n",
    ] {
        assert!(issue.body.contains(expected), "no {expected} in {}", issue.body);
    }
}

#[test]
fn what_was_seen_once_stands_in_the_ticket_after_a_restart_without_the_store() {
    let desk = Desk::new();
    desk.log(&records());
    desk.detect(Some("acme"), 0, 0.1);
    let worker = desk.work(Some(desk.tables()));
    desk.ticket("canceling statement");
    drop(worker);
    desk.detect(Some("acme"), 1, 0.25);
    let _worker = desk.work(None);
    let issue = desk.ticket("- Value: 0.25\n");
    assert!(issue.body.contains("canceling statement") && issue.body.contains(TRACE), "{}", issue.body);
}

#[test]
fn a_process_without_the_tables_reads_what_others_have_committed() {
    let mut desk = Desk::new();
    desk.log(&records());
    desk.stop_filling();
    desk.detect(Some("acme"), 0, 0.1);
    let committed = Tables::Committed { url: "file:store".to_owned(), folder: desk.folder.path().to_owned() };
    let _worker = desk.work(Some(committed));
    let issue = desk.ticket("canceling statement");
    has_nothing_private(&issue.body);
}

#[test]
fn a_ticket_is_written_although_the_logs_cannot_be_read_and_says_so() {
    let nowhere = Tables::Committed { url: "file:nowhere".to_owned(), folder: "/nonexistent".into() };
    let cases = [
        (None, "Log samples: none, the agent had no tables to look in."),
        (Some(nowhere), "Log samples: none, the agent had no tables to look in."),
        (Some(broken(Manner::Fails)), "Log samples: none, the tables could not be read."),
        (Some(broken(Manner::Hangs)), "Log samples: none, the tables did not answer in time."),
    ];
    for (tables, expected) in cases {
        let desk = Desk::new();
        desk.detect(Some("acme"), 0, 0.1);
        let _worker = desk.work(tables);
        let issue = desk.ticket(expected);
        assert!(issue.body.contains("Affected Users: unknown\n"), "{}", issue.body);
    }
}

#[test]
fn a_ticket_says_that_nothing_was_logged() {
    let desk = Desk::new();
    desk.log(&[(-3_600, request("acme", "user-4711", TRACE, "an hour before"))]);
    desk.detect(Some("acme"), 0, 0.1);
    let _worker = desk.work(Some(desk.tables()));
    desk.ticket("Log samples: none, the logs of that time and place have none.");
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Fails,
    Hangs,
}

/// Logs that cannot be read.
#[derive(Debug)]
struct Broken(Manner);

fn broken(manner: Manner) -> Tables {
    Tables::Here(Arc::new(move |_| Seen {
        providers: vec![(StoreTable::Logs.name(), Arc::new(Broken(manner)))],
        renew: Arc::new(|| {}),
    }))
}

#[async_trait]
impl TableProvider for Broken {
    fn schema(&self) -> SchemaRef {
        StoreTable::Logs.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.0 {
            Manner::Fails => exec_err!("the disk is gone"),
            Manner::Hangs => std::future::pending().await,
        }
    }
}
