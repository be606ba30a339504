//! The forms into which Grafana's PostgreSQL plugin expands its macros, against rows counted by hand.

use datafusion::execution::FunctionRegistry;

use super::tables::{NOON, after_noon};
use super::{ONE, both, csv, door, engine, organisation, psql};

/// Rows of the test's logs from one second after noon to another: one a minute, from 20 minutes before to 19 after.
fn by_hand(from: i64, to: i64) -> usize {
    (0..40).map(|number| number * 60 - 1_200).filter(|at| (from..=to).contains(at)).count()
}

#[test]
fn a_time_filter_is_two_texts_beside_a_time() {
    let (engine, one) = (engine(), organisation(ONE));
    let (from, to) = (after_noon(-600), after_noon(300));
    let (from_s, to_s) = (NOON - 600, NOON + 300);
    for condition in [
        format!("timestamp BETWEEN '{from}' AND '{to}'"),
        format!("timestamp >= '{from}' AND timestamp <= '{to}'"),
        format!("timestamp BETWEEN '{from}'::timestamptz AND '{to}'::timestamptz"),
        format!("timestamp::timestamptz BETWEEN '{from}' AND '{to}'"),
        format!("timestamp BETWEEN to_timestamp({from_s}) AND to_timestamp({to_s})"),
        format!("extract(epoch from timestamp) >= {from_s} AND extract(epoch from timestamp) <= {to_s}"),
        "timestamp BETWEEN '2026-06-01 11:50:00' AND '2026-06-01 12:05:00'".to_owned(),
        "timestamp BETWEEN '2026-06-01T13:50:00+02:00' AND '2026-06-01T14:05:00+02:00'".to_owned(),
    ] {
        let counted = csv(&engine, &one, &format!("SELECT count(*) FROM logs WHERE {condition}"));
        assert_eq!(counted, [by_hand(-600, 300).to_string()], "{condition}");
    }
}

#[test]
fn a_time_group_is_the_start_of_its_interval() {
    let (engine, one) = (engine(), organisation(ONE));
    let sql = format!(
        "SELECT floor(extract(epoch from timestamp)/300)*300 AS \"time\", avg(duration_ms) AS \"value\", count(*) \
         FROM logs WHERE timestamp BETWEEN '{}' AND '{}' GROUP BY 1 ORDER BY 1",
        after_noon(-1_200),
        after_noon(2_400)
    );
    let rows = csv(&engine, &one, &sql);
    assert_eq!(rows.len(), 8, "{rows:?}");
    for (place, row) in rows.iter().enumerate() {
        let cells: Vec<f64> = row.split(',').map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(cells[0] as i64, NOON - 1_200 + 300 * place as i64);
        assert_eq!(cells[2] as usize, 5);
        let mean = (0..5).map(|inside| (place * 5 + inside) as f64 * 1.5).sum::<f64>() / 5.0;
        assert!((cells[1] - mean).abs() < 1e-9, "{row}");
    }
}

#[test]
fn a_truncated_time_is_the_start_of_its_window_and_asks_no_calendar() {
    let (engine, one) = (engine(), organisation(ONE));
    for (granularity, window) in [("minute", "1 minute"), ("hour", "1 hour"), ("day", "1 day")] {
        let rows = |time: String| {
            csv(&engine, &one, &format!("SELECT {time} AS time, count(*) FROM logs GROUP BY 1 ORDER BY 1"))
        };
        let truncated = rows(format!("date_trunc('{granularity}', timestamp)"));
        assert_eq!(truncated, rows(format!("tumble(timestamp, INTERVAL '{window}')")));
    }
    let context = engine.session(&one).unwrap().context().clone();
    for name in ["date_trunc", "datetrunc"] {
        assert_ne!(context.udf(name).unwrap(), datafusion::functions::datetime::date_trunc(), "{name}");
    }
}

/// What it asks when a data source is saved and a table is chosen.
#[test]
fn the_questions_of_its_editor_have_answers() {
    let door = door();
    for (sql, expected) in [
        ("SELECT 1", "1"),
        ("SELECT version()", ""),
        ("SHOW server_version_num", "160006"),
        (
            "SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables \
             WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') ORDER BY 1",
            "actions\naudit\ndetections\nincident_changes\nincidents\nlogs\nmetrics\nwindows",
        ),
        (
            "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns \
             WHERE quote_ident(table_name) = 'logs' AND column_name = 'duration_ms'",
            "duration_ms|",
        ),
    ] {
        let Some(output) = psql(&door, "ann", "ann's password", &["-A", "-t", "-c", sql]) else { return };
        assert!(output.status.success() && both(&output).starts_with(expected), "{sql}: {}", both(&output));
    }
    door.stop();
}
