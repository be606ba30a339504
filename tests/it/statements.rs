//! Statements and what becomes of them, in files that a person can read.
//!
//! `tests/golden/statements/refused.txt` holds statements that cannot be windowed and the refusal each gets;
//! `tests/golden/statements/*.windows.txt` hold a statement, records in the order of arrival, and the windows they
//! become. Records are `seconds key=value …`; `--` closes what the watermark allows. `GOLDEN=write` rewrites the answers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maturion::evaluate::PipelineSet;
use serde_json::{Map, Value};

use crate::flow::pipeline;
use crate::straight::Straight;

/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/statements")
}

fn check(path: &Path, actual: &str) {
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(path, actual).expect("written");
    }
    let expected = std::fs::read_to_string(path).expect("a golden file");
    assert_eq!(actual, expected, "{}; GOLDEN=write rewrites it", path.display());
}

#[test]
fn what_cannot_be_windowed_is_refused_with_reason_and_position() {
    let path = folder().join("refused.txt");
    let text = std::fs::read_to_string(&path).expect("a golden file");
    let mut actual = String::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let sql = block.lines().take_while(|line| !line.starts_with("=> ")).collect::<Vec<_>>().join("\n");
        let series = if sql.contains("module") { vec!["module"] } else { vec![] };
        let refusal = PipelineSet::compile(vec![pipeline("it", &sql, &series, Duration::ZERO)]).err();
        let refusal = refusal.unwrap_or_else(|| panic!("not refused: {sql}"));
        write!(actual, "{sql}\n=> {refusal}\n\n").expect("memory");
    }
    check(&path, &format!("{}\n", actual.trim_end()));
}

#[test]
fn records_become_these_windows() {
    let mut files = std::fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut seen = 0;
    for path in files.by_ref().filter(|path| path.to_string_lossy().ends_with(".windows.txt")) {
        let text = std::fs::read_to_string(&path).expect("a golden file");
        check(&path, &play(&text));
        seen += 1;
    }
    assert!(seen > 0);
}

fn play(text: &str) -> String {
    let mut parts = text.splitn(2, "\n\n");
    let (head, records) = (parts.next().expect("a statement"), parts.next().expect("records"));
    let (settings, sql) = head.split_once('\n').expect("settings, then the statement");
    let setting = |name: &str| {
        let found = settings.split_whitespace().find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    let series = setting("series");
    let series = series.split(',').filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let lateness = Duration::from_secs(setting("lateness").parse().expect("seconds"));
    let mut straight = Straight::new(vec![pipeline("it", sql, &series, lateness)]);
    let (mut out, mut waiting, mut wall) = (format!("{head}\n\n"), Vec::new(), START);
    for line in records.lines().filter(|line| !line.starts_with("=> ")) {
        writeln!(out, "{line}").expect("memory");
        if !line.starts_with("--") {
            waiting.extend((!line.trim().is_empty()).then(|| record(line)));
            continue;
        }
        wall += 1_000_000;
        let step = straight.step(wall, &std::mem::take(&mut waiting), &[]);
        for window in step.windows {
            let mut row: Map<String, Value> = serde_json::from_str(&window).expect("JSON");
            row.remove("pipeline");
            let span = [row.remove("window_start"), row.remove("window_end")]
                .map(|time| time.and_then(|time| Some(time.as_str()?[11..19].to_owned())).expect("a time"));
            row.sort_keys();
            writeln!(out, "=> {}..{} {}", span[0], span[1], Value::Object(row)).expect("memory");
        }
        let report = &straight.shard.report()[0];
        if report.late_rows > 0 {
            writeln!(out, "=> late so far: {}", report.late_rows).expect("memory");
        }
    }
    out
}

/// `12.5 module=a status_code=500`: a log 12.5 seconds after ten o'clock; what looks like a number is one.
fn record(line: &str) -> Vec<u8> {
    let mut fields = line.split_whitespace();
    let seconds = fields.next().and_then(|text| text.parse::<f64>().ok()).expect("seconds");
    let mut record = Map::new();
    record.insert("timestamp".to_owned(), Value::from(START + (seconds * 1e6) as i64));
    for field in fields {
        let (name, text) = field.split_once('=').expect("key=value");
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        record.insert(name.to_owned(), value);
    }
    serde_json::to_vec(&record).expect("JSON")
}
