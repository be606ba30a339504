//! The proof that a session shows no row of anybody else: many statements, every byte of every answer looked through.
#![allow(clippy::print_stdout, reason = "a test prints its seed")]

use std::io::Write;
use std::sync::Arc;

use maturion::model::principal::Principal;
use maturion::query::output::Format;
use maturion::query::{Engine, Limits};
use maturion::serve::postgres::PostgresHandle;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, seq::IndexedRandom};

use super::{ONE, TWO, answer, both, door, door_with, engine, engine_with, organisation, psql, tables};

const STATEMENTS: usize = 500;

fn seed() -> u64 {
    std::env::var("MATURION_DOOR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_601)
}

/// Statements that try to see more than they should, about `foreign` rows.
struct Writer {
    chance: StdRng,
    foreign: &'static str,
}

impl Writer {
    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from.choose(&mut self.chance).unwrap()
    }

    fn table(&mut self) -> &'static str {
        self.pick(&[
            "logs",
            "metrics",
            "windows",
            "detections",
            "public.logs",
            "maturion.public.metrics",
            "incident_changes",
            "incidents",
            "audit",
            "actions",
        ])
    }

    fn condition(&mut self) -> String {
        let foreign = self.foreign;
        match self.chance.random_range(0..7) {
            0 => format!("organisation_id = '{foreign}'"),
            1 => format!("organisation_id <> '{ONE}' OR organisation_id IS NULL"),
            2 => "1 = 1 OR organisation_id IS NULL".to_owned(),
            3 => format!("module LIKE '%{foreign}%'"),
            4 => format!("organisation_id IN ('{ONE}', '{TWO}', NULL)"),
            5 => "kafka_offset % 2 = 0".to_owned(),
            _ => format!("coalesce(organisation_id, '{foreign}') >= ''"),
        }
    }

    fn statement(&mut self) -> String {
        let (table, other, condition) = (self.table(), self.table(), self.condition());
        let foreign = self.foreign;
        match self.chance.random_range(0..24) {
            0 => format!("SELECT * FROM {table} WHERE {condition}"),
            1 => format!(
                "SELECT a.*, b.module FROM {table} a JOIN {table} b ON a.kafka_offset = b.kafka_offset LIMIT 90"
            ),
            2 => format!("SELECT a.organisation_id, b.* FROM {table} a CROSS JOIN {other} b LIMIT 200"),
            3 => format!("WITH x AS (SELECT * FROM {table} WHERE {condition}), y AS (SELECT * FROM x) SELECT * FROM y"),
            4 => format!(
                "SELECT organisation_id, module FROM {table} UNION ALL SELECT organisation_id, module FROM {other}"
            ),
            5 => format!("SELECT organisation_id FROM {table} EXCEPT SELECT organisation_id FROM {other} WHERE false"),
            6 => format!(
                "SELECT * FROM {table} a WHERE EXISTS (SELECT 1 FROM {other} b WHERE b.module = a.module AND b.kafka_offset > 1)"
            ),
            7 => format!(
                "SELECT module, (SELECT max(b.module) FROM {other} b WHERE b.module = a.module) AS m FROM {table} a"
            ),
            8 => format!("SELECT * FROM {table} WHERE module IN (SELECT module FROM {other} WHERE {condition})"),
            9 => format!("EXPLAIN ANALYZE SELECT * FROM {table} WHERE {condition}"),
            10 => format!("EXPLAIN VERBOSE SELECT * FROM {table} WHERE {condition}"),
            11 => "SELECT * FROM information_schema.columns".to_owned(),
            12 => "SELECT * FROM information_schema.tables".to_owned(),
            13 => "SELECT * FROM information_schema.df_settings".to_owned(),
            14 => {
                format!("SELECT organisation_id, count(*), min(module), max(module) FROM {table} GROUP BY ROLLUP (1)")
            }
            15 => {
                format!("SELECT *, row_number() OVER (PARTITION BY organisation_id ORDER BY kafka_offset) FROM {table}")
            }
            16 => format!("SELECT * FROM incident_window('{}', INTERVAL '1 hour')", tables::incident(foreign)),
            17 => format!("SELECT * FROM incident_window('{}')", tables::incident(ONE)),
            18 => format!("SELECT * FROM incidents WHERE incident_id LIKE '%{foreign}%' OR {condition}"),
            19 => format!(
                "SELECT * FROM actions a WHERE action_id IN (SELECT action_id FROM audit) OR module LIKE '%{foreign}'"
            ),
            20 => "SELECT i.*, a.* FROM incidents i LEFT JOIN actions a ON i.incident_id = a.incident_id LIMIT 200"
                .to_owned(),
            21 => {
                "SELECT outcome, max(sentence), max(before), max(target), count(*) FROM actions GROUP BY 1".to_owned()
            }
            22 => format!("SELECT string_agg(module, ','), array_agg(organisation_id) FROM {table}"),
            _ => format!("SELECT attributes -> 'shop' ->> 'name', attributes FROM logs WHERE {condition}"),
        }
    }
}

/// What stands in a row of somebody else. The statement's own words come back in errors and in plans, so of those the
/// name alone is no proof: a row's texts have more around it.
pub fn foreign_rows(output: &str, foreign: &str) -> usize {
    [
        "message ",
        "edge",
        "shop",
        "host",
        "cpu",
        "unit",
        "rule",
        "pipeline",
        "user-0",
        "user-1",
        "trace-1",
        "module-0",
        "module-1",
        "module-2",
        "actor",
        "sentence ",
        "state",
    ]
    .iter()
    .map(|prefix| {
        let of = format!("of-{foreign}");
        let spaced = format!("of {foreign}");
        output
            .match_indices(prefix)
            .filter(|(at, _)| {
                let after: String = output[at + prefix.len()..].chars().take(40).collect();
                let near = after.find(&of).or_else(|| after.find(&spaced));
                near.is_some_and(|near| near <= 4)
            })
            .count()
    })
    .sum()
}

#[test]
fn no_statement_shows_a_foreign_row() {
    shows_no_foreign_row(&engine());
}

#[test]
fn no_statement_over_a_store_shows_a_foreign_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = tables::store(folder.path());
    shows_no_foreign_row(&engine_with(tables::stored(&store), Limits::default()));
}

fn shows_no_foreign_row(engine: &Arc<Engine>) {
    let seed = seed();
    println!("MATURION_DOOR_SEED={seed}");
    let mut writer = Writer { chance: StdRng::seed_from_u64(seed), foreign: TWO };
    let (mut own, mut answered, mut seen_by_operator) = (0, 0, 0);
    for number in 0..STATEMENTS {
        let sql = writer.statement();
        let said = match answer(engine, &organisation(ONE), &sql, Format::Json) {
            Ok(rows) => {
                answered += 1;
                rows
            }
            Err(error) => error.to_string(),
        };
        for foreign in [TWO, "nobody-platform"] {
            assert_eq!(foreign_rows(&said, foreign), 0, "seed {seed}, statement {number}: {sql}\n{said}");
        }
        own += usize::from(foreign_rows(&said, ONE) > 0);
        // The same statement shows foreign rows to whoever may see them: what looks for them can find them.
        let everything = answer(engine, &Principal::Operator, &sql, Format::Json).unwrap_or_default();
        seen_by_operator += usize::from(foreign_rows(&everything, TWO) > 0);
    }
    println!(
        "{answered} of {STATEMENTS} answered, {own} with own rows, {seen_by_operator} with rows of {TWO} for the operator"
    );
    assert!(answered > STATEMENTS * 8 / 10, "{answered} answered: the statements are not what they should be");
    assert!(own > STATEMENTS / 3, "own rows came back {own} times");
    assert!(seen_by_operator > STATEMENTS / 2, "the operator saw foreign rows {seen_by_operator} times");
}

/// The same through PostgreSQL's protocol, with its own catalog, one connection for all.
#[test]
fn no_connection_shows_a_foreign_row() {
    shows_no_foreign_row_to_connections(door());
}

#[test]
fn no_connection_to_a_store_shows_a_foreign_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = tables::store(folder.path());
    let engine = engine_with(tables::stored(&store), Limits::default());
    shows_no_foreign_row_to_connections(door_with(engine, |_| {}));
}

fn shows_no_foreign_row_to_connections(door: PostgresHandle) {
    let seed = seed();
    println!("MATURION_DOOR_SEED={seed}");
    let mut writer = Writer { chance: StdRng::seed_from_u64(seed + 1), foreign: TWO };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for number in 0..STATEMENTS {
        let sql = match number % 10 {
            0 => "SELECT * FROM pg_catalog.pg_class".to_owned(),
            1 => "SELECT * FROM pg_catalog.pg_attribute".to_owned(),
            2 => "SELECT * FROM pg_catalog.pg_database, pg_catalog.pg_roles".to_owned(),
            3 => format!("SET application_name = '{number}'; SET search_path TO public"),
            4 => format!("BEGIN; {}; COMMIT", writer.statement()),
            _ => writer.statement(),
        };
        writeln!(file, "{sql};").unwrap();
    }
    for (user, password, own, foreign) in [("ann", "ann's password", ONE, TWO), ("bob", "bob's password", TWO, ONE)] {
        let Some(output) = psql(&door, user, password, &["-f", file.path().to_str().unwrap()]) else { return };
        let said = both(&output);
        for foreign in [foreign, "nobody-platform"] {
            assert_eq!(foreign_rows(&said, foreign), 0, "seed {seed}, as {user}");
        }
        assert!(foreign_rows(&said, own) > 1_000, "own rows did not come back to {user}: {said:.2000}");
    }
    door.stop();
}

#[test]
fn a_foreign_incident_is_as_unknown_as_none() {
    let engine = engine();
    let ask = |id: &str| {
        let sql = format!("SELECT * FROM incident_window('{id}')");
        answer(&engine, &organisation(ONE), &sql, Format::Json).unwrap_err().to_string().replace(id, "ID")
    };
    assert_eq!(ask(&tables::incident(TWO)), ask("nothing"));
}

/// A view that shows another organisation's rows to its owner and none to others, of every table that it is made of.
#[test]
fn a_view_shows_the_rows_of_one_organisation() {
    let engine = engine();
    for (view, rows) in [("incidents", 5), ("actions", 10)] {
        let count = |who: &Principal, of: &str| {
            let sql = format!("SELECT count(*) AS rows FROM {view} WHERE {of}");
            answer(&engine, who, &sql, Format::Csv).unwrap().lines().nth(1).unwrap().parse::<i64>().unwrap()
        };
        assert_eq!(count(&Principal::Operator, "true"), 3 * rows, "{view}");
        assert_eq!(count(&Principal::Operator, "organisation_id IS NULL"), rows, "{view}");
        for (own, foreign) in [(ONE, TWO), (TWO, ONE)] {
            assert_eq!(count(&organisation(own), "true"), rows, "{view} of {own}");
            assert_eq!(count(&organisation(own), &format!("organisation_id = '{own}'")), rows, "{view} of {own}");
            assert_eq!(count(&organisation(own), &format!("organisation_id = '{foreign}'")), 0, "{view} of {own}");
        }
        assert_eq!(count(&organisation("nobody"), "true"), 0, "{view}");
    }
}

#[test]
fn the_search_for_foreign_rows_finds_them() {
    assert_eq!(foreign_rows(r#"{"module":"module-1-of-org-walrus"}"#, TWO), 1);
    assert_eq!(foreign_rows("message 3 of org-walrus", TWO), 1);
    assert_eq!(foreign_rows("organisation_id = Utf8View(\"org-walrus\")", TWO), 0);
}
