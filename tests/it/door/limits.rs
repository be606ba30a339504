//! Every limit, reached.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use maturion::model::principal::Principal;
use maturion::query::output::Format;
use maturion::query::{Limits, QueryError, Tables};

use super::{ONE, TWO, answer, both, csv, door_with, engine_with, organisation, psql, tables};
use crate::kafka::skip;

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 8";

fn limits() -> Limits {
    Limits { time_max: Duration::from_millis(400), ..Limits::default() }
}

#[test]
fn a_statement_ends_when_its_time_is_over() {
    let engine = engine_with(tables::source(), limits());
    let began = Instant::now();
    let ended = answer(&engine, &organisation(ONE), ENDLESS, Format::Csv);
    assert_eq!(ended, Err(QueryError::Time(Duration::from_millis(400))));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn the_time_goes_on_while_nobody_takes_the_rows() {
    let engine = engine_with(tables::source(), limits());
    let mut rows = engine.run_waiting(&organisation(ONE), "SELECT * FROM generate_series(1, 100000000)").unwrap();
    assert!(rows.wait().unwrap().is_ok());
    std::thread::sleep(Duration::from_secs(1));
    let mut last = rows.wait();
    while let Some(Ok(_)) = last {
        last = rows.wait();
    }
    assert_eq!(last.unwrap().unwrap_err(), QueryError::Time(Duration::from_millis(400)));
}

/// A hundred million rows go by in little memory, because only a few batches are ever ready.
#[test]
fn a_long_answer_is_not_collected() {
    let engine = engine_with(tables::source(), Limits { memory_bytes_max: 1 << 20, ..Limits::default() });
    let mut rows = engine.run_waiting(&organisation(ONE), "SELECT * FROM generate_series(1, 3000000)").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut count = 0;
    while let Some(batch) = rows.wait() {
        count += batch.unwrap().num_rows();
    }
    assert_eq!(count, 3_000_000);
}

#[test]
fn a_statement_that_needs_too_much_memory_ends_in_words() {
    let few = Limits { memory_bytes_max: 4 << 20, ..Limits::default() };
    let total = Limits { memory_total_bytes_max: 4 << 20, ..Limits::default() };
    for limits in [few, total] {
        let engine = engine_with(tables::source(), limits);
        // In no order, because groups that come one after the other need no memory.
        let sql =
            "SELECT count(*) FROM (SELECT value * 7919 % 5000011 AS k FROM generate_series(1, 5000000) GROUP BY k)";
        let ended = answer(&engine, &organisation(ONE), sql, Format::Csv);
        assert!(matches!(ended, Err(QueryError::Memory(_))), "{ended:?}");
        assert_eq!(csv(&engine, &organisation(ONE), "SELECT count(*) FROM logs"), ["40"], "others go on");
    }
}

#[test]
fn statements_of_one_principal_wait_for_their_turn() {
    let time_max = Duration::from_secs(4);
    let engine = engine_with(tables::source(), Limits { statements_max: 1, time_max, ..limits() });
    let mut first = engine.run_waiting(&organisation(ONE), "SELECT * FROM generate_series(1, 100000000)").unwrap();
    assert!(first.wait().unwrap().is_ok());
    let began = Instant::now();
    assert_eq!(csv(&engine, &organisation(TWO), "SELECT count(*) FROM logs"), ["40"], "another does not wait");
    // The first ends when its time is over, and the second, which began later, still has as much as it is behind.
    std::thread::sleep(time_max / 2);
    assert_eq!(csv(&engine, &organisation(ONE), "SELECT count(*) FROM logs"), ["40"]);
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(first);
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn the_tables_are_renewed_once_for_each_statement() {
    let renewed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&renewed);
    let inner = tables::source();
    let source = Arc::new(move |principal: &Principal| {
        let counted = Arc::clone(&counted);
        Tables { renew: Arc::new(move || count(&counted)), ..inner(principal) }
    });
    let engine = engine_with(source, Limits::default());
    for expected in 1..=3 {
        let joined = csv(&engine, &organisation(ONE), "SELECT count(*) FROM logs a JOIN logs b USING (kafka_offset)");
        assert_eq!(joined, ["40"]);
        assert_eq!(renewed.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn connections_are_counted_and_the_next_one_is_told() {
    let limits = Limits { time_max: Duration::from_secs(300), ..Limits::default() };
    let door = door_with(engine_with(tables::source(), limits), |settings| settings.connections_max = 1);
    let port = door.address().port().to_string();
    let mut holding = Command::new("psql");
    holding.args(["-X", "-w", "-h", "127.0.0.1", "-p", &port, "-U", "ann", "-d", "maturion", "-c", ENDLESS]);
    holding.env("PGPASSWORD", "ann's password").stdout(Stdio::null()).stderr(Stdio::null());
    let mut held = match holding.spawn() {
        Ok(held) => held,
        Err(error) => return skip(&format!("psql cannot be run: {error}")),
    };
    let mut said = String::new();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(500));
        // Either of the two may come first, and the other is told.
        if held.try_wait().unwrap().is_some() {
            held = holding.spawn().unwrap();
            continue;
        }
        let output = psql(&door, "bob", "bob's password", &["-c", "SELECT 1"]).unwrap();
        said = both(&output);
        if !output.status.success() {
            break;
        }
    }
    held.kill().unwrap();
    held.wait().unwrap();
    assert!(said.contains("1 connections are open, which is query.connections_max"), "{said}");
    // Much sooner than the statement of the one that is gone would have ended.
    let mut freed = false;
    for _ in 0..40 {
        freed = freed || psql(&door, "bob", "bob's password", &["-c", "SELECT 1"]).unwrap().status.success();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(freed, "a place was not given back");
    door.stop();
}
