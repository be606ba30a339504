//! What may be asked, and what is refused.

use maturion::model::principal::Principal;
use maturion::query::QueryError;
use maturion::query::output::Format;

use super::{ONE, answer, csv, engine, organisation};

#[test]
fn what_is_not_reading_is_refused() {
    let engine = engine();
    for sql in [
        "INSERT INTO logs SELECT * FROM logs",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE SCHEMA x",
        "CREATE DATABASE x",
        "DROP TABLE logs",
        "UPDATE logs SET level = 'x'",
        "DELETE FROM logs",
        "TRUNCATE TABLE logs",
        "COPY logs TO '/tmp/maturion-copy'",
        "COPY (SELECT 1) TO STDOUT",
        "PREPARE a AS SELECT 1",
        "SELECT 1 INTO x",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file.parquet'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM \"https://example.org/x.csv\"",
        "SET datafusion.execution.target_partitions = 64",
        "RESET ALL",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "SELECT hop(timestamp, INTERVAL '1 minute', INTERVAL '5 minutes'), count(*) FROM logs GROUP BY 1",
    ] {
        let refused = answer(&engine, &Principal::Operator, sql, Format::Csv);
        assert!(matches!(refused, Err(QueryError::Refused(_))), "{sql}: {refused:?}");
    }
    assert!(!std::path::Path::new("/tmp/maturion-copy").exists());
}

#[test]
fn what_does_not_exist_is_an_error_and_reads_nothing() {
    let engine = engine();
    for sql in [
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 1000000000)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT generate_series(1, 1000000000)",
        "SELECT * FROM nothing",
        "SELECT nothing FROM logs",
        "SELECT",
        "this is not SQL",
        "",
    ] {
        let refused = answer(&engine, &Principal::Operator, sql, Format::Csv);
        assert!(matches!(refused, Err(QueryError::Invalid(_) | QueryError::Refused(_))), "{sql}: {refused:?}");
    }
}

#[test]
fn members_of_attributes_are_columns_of_a_query() {
    let (engine, one) = (engine(), organisation(ONE));
    let all = csv(
        &engine,
        &one,
        "SELECT DISTINCT attributes -> 'shop' ->> 'name', attributes ->> 'nothing', attributes -> 'shop' -> 'items' ->> 0, \
         attributes -> 'shop' -> 'items' -> -2 FROM logs",
    );
    assert_eq!(all, [format!("shop-of-{ONE},,1,2")]);
    let filtered = csv(&engine, &one, "SELECT count(*) FROM logs WHERE attributes -> 'shop' -> 'items' ->> 2 = '7'");
    assert_eq!(filtered, ["1"]);
    let not_json = csv(&engine, &one, "SELECT count(message ->> 'a'), count(NULL -> 'a') FROM logs");
    assert_eq!(not_json, ["0,0"]);
}

#[test]
fn the_functions_of_pipelines_work_over_the_past() {
    let (engine, one) = (engine(), organisation(ONE));
    let windows = csv(
        &engine,
        &one,
        "SELECT tumble(timestamp, INTERVAL '10 minutes') AS w, count(*), quantile(duration_ms, 0.5) FROM logs GROUP BY 1 ORDER BY 1",
    );
    let starts: Vec<&str> = windows.iter().map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(
        starts,
        ["2026-06-01T11:40:00Z", "2026-06-01T11:50:00Z", "2026-06-01T12:00:00Z", "2026-06-01T12:10:00Z"]
    );
    assert!(windows.iter().all(|row| row.split(',').nth(1) == Some("10")), "{windows:?}");
    let median: f64 = windows[0].split(',').nth(2).unwrap().parse().unwrap();
    assert!((median - 6.0).abs() <= 0.06, "the fifth of 0, 1.5, 3, … is 6, within 1 %: {median}");
}

#[test]
fn each_format_says_the_same() {
    let (engine, one) = (engine(), organisation(ONE));
    let sql =
        "SELECT kafka_offset, organisation_id, exception_type, timestamp FROM logs WHERE kafka_offset < 2 ORDER BY 1";
    let json: serde_json::Value = serde_json::from_str(&answer(&engine, &one, sql, Format::Json).unwrap()).unwrap();
    assert_eq!(json[1]["kafka_offset"], 1);
    assert_eq!(json[1]["exception_type"], serde_json::Value::Null);
    assert_eq!(json.as_array().unwrap().len(), 2);
    let lines = csv(&engine, &one, sql);
    assert_eq!(lines[0], format!("0,{ONE},,2026-06-01T11:40:00Z"));
    let table = answer(&engine, &one, sql, Format::Table).unwrap();
    assert!(table.starts_with("kafka_offset  organisation_id  exception_type  timestamp"), "{table}");
    assert!(table.ends_with("(2 rows)\n"), "{table}");
    let nothing = "SELECT * FROM logs WHERE false";
    assert_eq!(answer(&engine, &one, nothing, Format::Json).unwrap(), "[]\n");
    assert!(answer(&engine, &one, nothing, Format::Csv).unwrap().starts_with("timestamp,organisation_id,"));
    assert!(answer(&engine, &one, nothing, Format::Table).unwrap().ends_with("(0 rows)\n"));
}

#[test]
fn a_text_cannot_leave_its_cell() {
    let sql = "SELECT 'a,b' AS x, 'say \"hi\"' AS y, '' AS z, NULL AS n, E'\\x1b[2J\\r\\n' AS w";
    let engine = engine();
    assert_eq!(
        answer(&engine, &Principal::Operator, sql, Format::Csv).unwrap().lines().nth(1).unwrap(),
        "\"a,b\",\"say \"\"hi\"\"\",\"\",,\"\u{1b}[2J"
    );
    assert!(!answer(&engine, &Principal::Operator, sql, Format::Table).unwrap().contains('\u{1b}'));
}
