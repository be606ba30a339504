//! `incidents` and `actions` over a store: the newest revision wherever it is, and nobody's rows but one's own.

use std::sync::Arc;

use maturion::audit::{Chain, Draft, Head, Kind};
use maturion::evaluate::tables::{AuditTable, IncidentTable, Place};
use maturion::model::detection::format_time;
use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::query::{Engine, Limits};
use maturion::store::Store;
use maturion::store::chunk::{Input, OffsetRange};
use maturion::store::scan::table_source;
use serde_json::json;
use tempfile::TempDir;

use crate::audit::action;
use crate::door::csv;

const DAY: i64 = 86_400_000_000;

/// A minute after the audit's drafts.
fn now() -> i64 {
    (crate::audit::NOON + 3_600) * 1_000_000
}

fn organisation(name: &str) -> Principal {
    Principal::Organisation(name.to_owned())
}

/// A store, and the next offset of the two topics, each with one partition per organisation.
struct Written {
    _folder: TempDir,
    store: Arc<Store>,
    engine: Arc<Engine>,
    next: i64,
}

impl Written {
    fn new() -> Written {
        let folder = tempfile::tempdir().unwrap();
        let store = super::open(folder.path());
        let engine = Engine::start(table_source(Arc::clone(&store), now), Limits::default()).unwrap();
        Written { _folder: folder, store, engine, next: 0 }
    }

    /// Revisions of incidents: number, organisation, revision, phase.
    fn incidents(&mut self, changes: &[(i64, &str, u64, &str)]) {
        let mut table = IncidentTable::default();
        for (at, (number, organisation, revision, phase)) in (self.next..).zip(changes) {
            let changed = now() - DAY + *revision as i64 * 1_000_000;
            let state = json!({
                "incident_id": format!("i{number}"), "revision": revision, "epoch": 0, "pipeline": "api_errors",
                "rule": "error_rate", "organisation_id": organisation, "module": format!("module of {organisation}"),
                "phase": phase, "changed_at": format_time(changed), "opened_at": format_time(now() - DAY),
                "resolved_at": null, "attempts": [], "ticket": null,
            });
            table.push(state.to_string().as_bytes(), Place { partition: 0, offset: at }).unwrap();
        }
        self.append(StoreTable::IncidentChanges, changes.len(), table.finish().unwrap());
    }

    fn audit(&mut self, drafts: &[Draft]) {
        let mut chain = Chain::after(Head { seq: self.next as u64, ..Head::NONE });
        let mut table = AuditTable::default();
        for (at, draft) in (self.next..).zip(drafts) {
            table.push(chain.append(draft).text().as_bytes(), Place { partition: 0, offset: at }).unwrap();
        }
        self.append(StoreTable::Audit, drafts.len(), table.finish().unwrap());
    }

    fn append(&mut self, table: StoreTable, rows: usize, batch: arrow::array::RecordBatch) {
        let input: Input = format!("{}-0", table.name()).into();
        let range = OffsetRange { start: self.next, end: self.next + rows as i64 };
        self.store.state(table).append(&input, range, batch).unwrap();
        self.next = range.end;
    }

    fn commit(&self, table: StoreTable) {
        let chunk = self.store.state(table).seal().unwrap();
        self.store.commit(table, &chunk).unwrap();
    }

    fn rows(&self, who: &Principal, sql: &str) -> Vec<String> {
        csv(&self.engine, who, sql)
    }
}

const PHASES: &str = "SELECT incident_id, revision, phase FROM incidents ORDER BY incident_id";

#[test]
fn an_incident_is_its_newest_revision_hot_committed_and_compacted() {
    let mut written = Written::new();
    let operator = Principal::Operator;
    assert_eq!(written.rows(&operator, PHASES), [""; 0]);
    written.incidents(&[(1, "org_1", 1, "pending"), (2, "org_2", 1, "pending"), (1, "org_1", 2, "firing")]);
    assert_eq!(written.rows(&operator, PHASES), ["i1,2,firing", "i2,1,pending"], "hot");
    written.commit(StoreTable::IncidentChanges);
    assert_eq!(written.rows(&operator, PHASES), ["i1,2,firing", "i2,1,pending"], "committed");
    written.incidents(&[(1, "org_1", 3, "acting")]);
    assert_eq!(written.rows(&operator, PHASES), ["i1,3,acting", "i2,1,pending"], "the newest is hot");
    written.commit(StoreTable::IncidentChanges);
    for revision in 4..44 {
        written.incidents(&[(1, "org_1", revision, "settling"), (2, "org_2", revision, "firing")]);
        written.commit(StoreTable::IncidentChanges);
    }
    written.incidents(&[(2, "org_2", 44, "resolved")]);
    let newest = ["i1,43,settling", "i2,44,resolved"];
    assert_eq!(written.rows(&operator, PHASES), newest);
    let done = written.store.maintain(StoreTable::IncidentChanges, now()).unwrap();
    assert!(done.merged > 0, "{done:?}");
    assert_eq!(written.rows(&operator, PHASES), newest, "compacted");
    assert_eq!(written.rows(&operator, "SELECT count(*) FROM incident_changes"), ["85"]);
}

/// The condition is on the newest revision, never on an older one.
#[test]
fn a_condition_does_not_bring_an_old_revision_back() {
    let mut written = Written::new();
    written.incidents(&[(1, "org_1", 1, "firing"), (1, "org_1", 2, "resolved"), (2, "org_2", 1, "firing")]);
    let ask = |condition: &str| {
        written.rows(&Principal::Operator, &format!("SELECT incident_id FROM incidents AS x WHERE x.{condition}"))
    };
    assert_eq!(ask("phase = 'firing'"), ["i2"]);
    assert_eq!(ask("revision < 2"), ["i2"]);
    assert_eq!(ask("phase = 'resolved' AND x.incident_id = 'i1'"), ["i1"]);
    assert_eq!(ask("state LIKE '%\"phase\":\"firing\"%'"), ["i2"]);
    assert_eq!(written.rows(&Principal::Operator, "SELECT count(*) FROM incidents"), ["2"]);
    let joined = "SELECT a.phase, b.phase FROM incidents a JOIN incidents b USING (incident_id) ORDER BY 1 LIMIT 1";
    assert_eq!(written.rows(&Principal::Operator, joined), ["firing,firing"]);
}

#[test]
fn an_organisation_sees_its_own_incidents_and_actions_hot_and_committed() {
    let mut written = Written::new();
    written.incidents(&[(1, "org_1", 1, "firing"), (2, "org_2", 1, "firing")]);
    written.commit(StoreTable::IncidentChanges);
    written.incidents(&[(1, "org_1", 2, "resolved"), (3, "org_2", 1, "firing")]);
    let incidents = "SELECT incident_id FROM incidents ORDER BY 1";
    assert_eq!(written.rows(&organisation("org_1"), incidents), ["i1"]);
    assert_eq!(written.rows(&organisation("org_2"), incidents), ["i2", "i3"]);
    assert_eq!(written.rows(&organisation("org_7"), incidents), [""; 0]);
    written.next = 0;
    let of = |number, organisation| action(number, organisation);
    written.audit(&[of(1, Some("org_1")), of(2, Some("org_2")), of(3, None)].concat());
    written.commit(StoreTable::Audit);
    written.audit(&of(4, Some("org_2")));
    let actions = "SELECT action_id FROM actions ORDER BY 1";
    assert_eq!(written.rows(&organisation("org_1"), actions), ["action-1"]);
    assert_eq!(written.rows(&organisation("org_2"), actions), ["action-2", "action-4"]);
    assert_eq!(written.rows(&Principal::Operator, actions), ["action-1", "action-2", "action-3", "action-4"]);
    let audit = "SELECT count(*) FROM audit WHERE sentence LIKE '%2' OR organisation_id IS NULL OR true";
    assert_eq!(written.rows(&organisation("org_1"), audit), ["4"]);
}

/// Two organisations of which one takes the other's ids: neither sees, or changes, anything of the other.
#[test]
fn ids_of_somebody_else_open_nothing() {
    let mut written = Written::new();
    written.incidents(&[(1, "org_1", 1, "firing"), (1, "org_2", 9, "resolved")]);
    assert_eq!(written.rows(&organisation("org_1"), PHASES), ["i1,1,firing"]);
    assert_eq!(written.rows(&organisation("org_2"), PHASES), ["i1,9,resolved"]);
    written.next = 0;
    let forged = Draft { organisation_id: Some("org_2".to_owned()), ..action(1, None)[2].clone() };
    written.audit(&[action(1, Some("org_1")), vec![forged]].concat());
    let outcome = "SELECT action_id, outcome FROM actions ORDER BY organisation_id";
    assert_eq!(written.rows(&organisation("org_1"), outcome), ["action-1,verified"]);
    assert_eq!(written.rows(&organisation("org_2"), outcome), ["action-1,effect"]);
    assert_eq!(written.rows(&Principal::Operator, outcome), ["action-1,verified", "action-1,effect"]);
}

#[test]
fn an_action_is_what_was_decided_and_done_and_what_came_of_it() {
    let mut written = Written::new();
    let mut drafts = action(1, Some("org_1"));
    drafts.truncate(3);
    let after = |kind: Kind, seconds: i64, words: &str| Draft {
        time: drafts[2].time + seconds * 1_000_000,
        kind,
        after: None,
        sentence: words.to_owned(),
        ..drafts[2].clone()
    };
    let (unverified, rolled_back) =
        (after(Kind::Unverified, 60, "It did not help"), after(Kind::RolledBack, 61, "Rolled back"));
    let denied = Draft { decision: Some("deny".to_owned()), ..action(2, Some("org_1"))[0].clone() };
    written.audit(&[drafts, vec![unverified, rolled_back, denied]].concat());
    let sql = "SELECT action_id, incident_id, action, target, module, decision, decided_at, started_at, verified_at,
                      rolled_back_at, outcome, reasons, before, after, sentence FROM actions ORDER BY action_id";
    assert_eq!(
        written.rows(&organisation("org_1"), sql),
        [
            "action-1,incident-1,function_recycle,risk,risk,allow,2026-06-01T12:01:00Z,2026-06-01T12:01:01Z,,\
             2026-06-01T12:02:03Z,rolled_back,\"[\"\"the policy allows it\"\"]\",\"{\"\"instances\"\":1}\",,Rolled back",
            "action-2,incident-2,function_recycle,risk,risk,deny,2026-06-01T12:02:00Z,,,,deny,\
             \"[\"\"the policy allows it\"\"]\",,,May recycle 2",
        ]
    );
}

/// Each column of a view alone: what is not asked for is left out of the plan.
#[test]
fn the_views_have_the_columns_that_are_documented() {
    let mut written = Written::new();
    written.incidents(&[(1, "org_1", 1, "firing")]);
    written.commit(StoreTable::IncidentChanges);
    written.next = 0;
    written.audit(&action(1, Some("org_1")));
    let of_changes = maturion::model::schema::incident_changes();
    let of_changes = of_changes.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
    let of_actions = "action_id incident_id organisation_id module action target decision decided_at started_at verified_at \
                      rolled_back_at outcome reasons before after sentence";
    for (view, columns) in [("incidents", of_changes), ("actions", of_actions.split_whitespace().collect())] {
        let rows = written.engine.run_waiting(&Principal::Operator, &format!("SELECT * FROM {view}")).unwrap();
        assert_eq!(rows.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), columns);
        for column in columns {
            let counted =
                written.rows(&Principal::Operator, &format!("SELECT {column}, count(*) FROM {view} GROUP BY 1"));
            assert_eq!(counted.len(), 1, "{column}");
        }
    }
}

#[test]
fn what_has_expired_is_in_no_view() {
    let mut written = Written::new();
    let old = |drafts: Vec<Draft>| drafts.into_iter().map(|draft| Draft { time: draft.time - 366 * DAY, ..draft });
    written.audit(&old(action(1, None)).chain(action(2, None)).collect::<Vec<_>>());
    assert_eq!(written.rows(&Principal::Operator, "SELECT action_id FROM actions"), ["action-2"]);
    written.commit(StoreTable::Audit);
    assert_eq!(written.rows(&Principal::Operator, "SELECT action_id FROM actions"), ["action-2"]);
    assert_eq!(written.store.maintain(StoreTable::Audit, now()).unwrap().expired, 1);
}
