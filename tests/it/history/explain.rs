//! Explain: a detection of a backfill, through the tables and their SQL, as text and as a picture.

use std::process::Command;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use maturion::evaluate::shard::ClosedRow;
use maturion::evaluate::tables::{DetectionTable, Place, WindowTable, measures};
use maturion::explain::{ExplainError, Explanation, Messages, detection_sql};
use maturion::model::detection::Detection;
use maturion::model::series::Series;

use super::{Heard, backfill_of, compiled, write};
use crate::flow::shipped;
use crate::whole::outage;

/// The tables that a store would have after the outage.
struct Tables {
    context: SessionContext,
    detections: Vec<Detection>,
}

impl Tables {
    fn new() -> Tables {
        let folder = tempfile::tempdir().unwrap();
        let set = compiled(shipped());
        let heard = backfill_of(&[write(folder.path(), "outage.ndjson", &outage())], &set);
        let context = SessionContext::new();
        for (name, rows) in [("windows", windows(&heard, &measures(&set))), ("detections", detections(&heard))] {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        Tables { context, detections: heard.detections }
    }

    fn query(&self, sql: &str) -> Vec<RecordBatch> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let rows = runtime.block_on(async { self.context.sql(sql).await?.collect().await });
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn explanation(&self, detection_id: &str) -> Explanation {
        let messages = Messages::read(detection_id, &self.query(&detection_sql(detection_id).unwrap())).unwrap();
        let windows = self.query(&messages.windows_sql());
        Explanation::new(messages, &windows).unwrap()
    }
}

fn windows(heard: &Heard, measures: &[String]) -> RecordBatch {
    let mut table = WindowTable::new(measures);
    for (number, window) in heard.windows.iter().enumerate() {
        let row = ClosedRow {
            place: 0,
            series: Series(Vec::new()),
            json: serde_json::to_vec(window).unwrap(),
            is_complete: true,
        };
        table.push_closed(&row, Place { partition: -1, offset: number as i64 }).unwrap();
    }
    table.finish().unwrap()
}

fn detections(heard: &Heard) -> RecordBatch {
    let mut table = DetectionTable::default();
    for (number, detection) in heard.detections.iter().enumerate() {
        table.push_detection(detection, Place { partition: -1, offset: number as i64 }).unwrap();
    }
    table.finish().unwrap()
}

#[test]
fn the_text_tells_rule_window_value_and_query() {
    let tables = Tables::new();
    let detection = &tables.detections[0];
    let text = tables.explanation(&detection.detection_id).text();
    let ids = text.replace(&detection.detection_id, "DETECTION").replace(&detection.incident_id, "INCIDENT");
    let head = "\
detection  DETECTION
rule       module_api_errors.error_rate, threshold on error_rate
series     module=risk-matrix
opened     2025-12-03T10:11:00Z, error_rate was 0.2 against 0.01 in 400 samples
now        resolved at 2025-12-03T10:25:00Z
remedy     function_recycle of risk-matrix
incident   INCIDENT

what was said
  time                  change    severity  error_rate  limit  samples  score
  2025-12-03T10:11:00Z  opened    high      0.2         0.01   400      ";
    assert!(ids.starts_with(head), "{ids}");
    let windows = ids.split("windows of module_api_errors\n").nth(1).unwrap().lines().collect::<Vec<_>>();
    assert_eq!(windows[0], "  window_start          error_rate");
    assert_eq!(windows[1], "  2025-12-03T10:00:00Z  0");
    assert_eq!(windows[11], "  2025-12-03T10:10:00Z  0.2         opened high");
    assert_eq!(windows[25], "  2025-12-03T10:24:00Z  0           resolved high");
    assert_eq!(windows[31], "", "thirty windows: {ids}");
    assert!(ids.contains("\nthe rows behind it\n  SELECT * FROM (\n  -- sql/module_api_errors.sql"), "{ids}");
}

/// The value of an attribute of each element of this name.
fn attributes<'a>(svg: &'a str, element: &str, attribute: &str) -> Vec<&'a str> {
    let (begin, name) = (format!("<{element} "), format!(" {attribute}=\""));
    let elements = svg.match_indices(&begin).map(|(at, _)| svg[at..].split_once('>').unwrap().0);
    elements.filter_map(|text| Some(text.split_once(&name)?.1.split_once('"')?.0)).collect()
}

/// Fails unless every element is closed in its order, and every attribute quoted.
fn assert_is_xml(text: &str) {
    let script = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    match Command::new("python3").args(["-c", script]).arg(file.path()).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("python3: {error}"),
    }
}

#[test]
fn the_picture_has_a_point_for_each_window_and_each_message() {
    let tables = Tables::new();
    let detection = &tables.detections[0];
    let said = tables.detections.iter().filter(|other| other.detection_id == detection.detection_id).count();
    let svg = tables.explanation(&detection.detection_id).svg().unwrap();
    assert_is_xml(&svg);
    let of_line = |points: &&str| points.split_whitespace().count() == 30;
    let lines = attributes(&svg, "polyline", "points").into_iter().filter(of_line).collect::<Vec<_>>();
    assert_eq!(lines.len(), 1, "{svg}");
    let points = lines[0].split_whitespace().map(|point| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse::<f64>().unwrap(), y.parse::<f64>().unwrap())
    });
    let points = points.collect::<Vec<_>>();
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{points:?}");
    // Ten minutes at a fifth, everything else at zero: downwards on a screen is less.
    let (zero, fifth) = (points[0].1, points[12].1);
    assert!(fifth < zero - 200.0, "{points:?}");
    for (nth, (_, y)) in points.iter().enumerate() {
        let expected = if (10..20).contains(&nth) { fifth } else { zero };
        assert!((y - expected).abs() <= 1.0, "window {nth}: {points:?}");
    }
    let circles = attributes(&svg, "circle", "cx").len();
    assert_eq!(circles, said);
    // The limit, at a hundredth, is a twentieth of the way up.
    let limit = attributes(&svg, "polyline", "points").into_iter().filter_map(|points| {
        let ys = points.split_whitespace().map(|point| point.split_once(',').unwrap().1.parse::<f64>().unwrap());
        let ys = ys.collect::<Vec<_>>();
        (ys.len() == 2 && ys[0] == ys[1] && ys[0] < zero - 2.0 && ys[0] > fifth).then_some(ys[0])
    });
    let limit = limit.collect::<Vec<_>>();
    let expected = zero - (zero - fifth) / 20.0;
    assert!(limit.iter().any(|y| (y - expected).abs() <= 2.0), "{limit:?}, {expected}");
}

#[test]
fn an_id_that_is_none_or_unknown_is_said() {
    let tables = Tables::new();
    assert_eq!(detection_sql("x' OR '1'='1"), Err(ExplainError::NotAnId("x' OR '1'='1".to_owned())));
    let unknown = "0".repeat(32);
    let rows = tables.query(&detection_sql(&unknown).unwrap());
    assert_eq!(Messages::read(&unknown, &rows), Err(ExplainError::Unknown(unknown.clone())));
}
