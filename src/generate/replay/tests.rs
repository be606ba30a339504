use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::generate::Pace;
use crate::simulate::SECOND;

/// Keeps what is sent.
#[derive(Default)]
struct Kept(Vec<(Kind, Option<String>, String)>);

impl Destination for Kept {
    fn send(&mut self, kind: Kind, key: Option<&[u8]>, value: &[u8]) -> Result<(), GenerateError> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.0.push((kind, key.map(text), text(value)));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        Ok(())
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn replay(file: &Path, format: Option<Format>, labels: Labels, shift: Micros) -> (Kept, Tally) {
    let (mut kept, mut tally) = (Kept::default(), Tally::new(Pace::new(None), None, None));
    Replay::new(file, format, labels).unwrap().send(shift, &mut tally, &mut kept).unwrap();
    (kept, tally)
}

/// A file with this content.
fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

/// Every tenth record, as one text.
fn sample(kept: &Kept) -> String {
    let lines = kept.0.iter().step_by(10).map(|(kind, key, value)| format!("{kind:?} {key:?} {value}\n"));
    lines.collect()
}

fn values(kept: &Kept) -> Vec<&str> {
    kept.0.iter().map(|record| record.2.as_str()).collect()
}

#[test]
fn real_web_requests_become_http_request_records() {
    let labels = Labels { organisation: Some("org_1".into()), ..Labels::default() };
    let (kept, tally) = replay(&data("apache_combined_200.log"), Some(Format::Combined), labels, 0);
    assert_eq!((kept.0.len(), tally.so_far().malformed), (200, 0));
    assert!(kept.0.iter().all(|record| serde_json::from_str::<serde_json::Value>(&record.2).is_ok()));
    insta::assert_snapshot!("combined", sample(&kept));
}

#[test]
fn real_processor_use_becomes_metric_records() {
    let labels = Labels { module: Some("web".into()), name: Some("cpu_percent".into()), ..Labels::default() };
    let (kept, tally) = replay(&data("ec2_cpu_utilization_300.csv"), None, labels, 0);
    assert_eq!((kept.0.len(), tally.so_far().malformed), (300, 0));
    insta::assert_snapshot!("csv", sample(&kept));
}

#[test]
fn a_metric_without_a_name_is_named_after_its_file() {
    let (kept, _) = replay(&data("ec2_cpu_utilization_300.csv"), None, Labels::default(), 0);
    assert!(kept.0[0].2.contains(r#""name":"ec2_cpu_utilization_300""#));
}

#[test]
fn odd_requests_are_kept_and_broken_lines_are_named() {
    let text =
        br#"::1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?q=\"x\"&y=\\z HTTP/1.0" 500 2326 "-" "say \"hi\" \x16"
10.0.0.1 - - [10/Oct/2000:13:55:37 -0700] "\x16\x03\x01" 400 -
10.0.0.1 - - [10/Oct/2000:13:55:38 -0700] "-" 408 0

this is no request
10.0.0.1 - - [yesterday] "GET / HTTP/1.1" 200 1
10.0.0.1 - - [10/Oct/2000:13:55:37 -0700] "GET / HTTP/1.1
10.0.0.1 - - [10/Oct/2000:13:55:37 -0700] "GET / HTTP/1.1" ok 1
"#;
    let mut text = text.to_vec();
    text.extend_from_slice(b"10.0.0.1 - - \xff\n");
    let (_folder, path) = file("access.log", &text);
    let (kept, tally) = replay(&path, Some(Format::Combined), Labels::default(), 0);
    let told: Vec<String> = tally.so_far().told.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("odd_requests", format!("{}\n\n{}\n", values(&kept).join("\n"), told.join("\n")));
}

#[test]
fn other_columns_become_attributes_and_broken_rows_are_named() {
    let text = "timestamp,host,value\n2014-02-14 14:30:00,\"a \"\"b\"\"\",1.5\n1392388200,c,2e3\nsoon,d,1\n2014-02-14T14:30:00Z,e,NaN\n2014-02-14 14:30:00\n";
    let (_folder, path) = file("load.csv", text.as_bytes());
    let (kept, tally) = replay(&path, None, Labels::default(), 0);
    let told: Vec<String> = tally.so_far().told.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("odd_rows", format!("{}\n\n{}\n", values(&kept).join("\n"), told.join("\n")));
}

#[test]
fn records_pass_unchanged_and_metrics_are_told_from_logs() {
    let text =
        "{\"timestamp\": \"2025-12-03T10:00:00Z\",  \"odd\":[1, 2]}\n{\"name\":\"cpu\",\"value\":1}\n[1]\n{\"a\":\n";
    let (_folder, path) = file("records.ndjson", text.as_bytes());
    let (kept, tally) = replay(&path, None, Labels::default(), 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(values(&kept), lines[..2]);
    assert_eq!((kept.0[0].0, kept.0[1].0), (Kind::Logs, Kind::Metrics));
    let numbers: Vec<u64> = tally.so_far().told.iter().map(|malformed| malformed.line).collect();
    assert_eq!(numbers, [3, 4]);
}

#[test]
fn a_shift_changes_nothing_but_the_timestamp() {
    let text = "{\"a\": 1, \"timestamp\":1764756000.5, \"b\":\"\\u00e9\"}\n{\"timestamp\":\"2025-12-03T10:00:00Z\"}\n{\"b\":2}\n";
    let (_folder, path) = file("records.ndjson", text.as_bytes());
    let (kept, tally) = replay(&path, None, Labels::default(), 60 * SECOND);
    let expected = [
        "{\"a\": 1, \"timestamp\":\"2025-12-03T10:01:00.500Z\", \"b\":\"\\u00e9\"}",
        "{\"timestamp\":\"2025-12-03T10:01:00Z\"}",
        "{\"b\":2}",
    ];
    assert_eq!(values(&kept), expected);
    let latest = tally.so_far().times.unwrap().1;
    assert_eq!(latest, 1_764_756_060_500_000);
}

#[test]
fn the_last_event_time_is_the_latest_of_the_whole_file() {
    let replay = Replay::new(&data("apache_combined_200.log"), Some(Format::Combined), Labels::default()).unwrap();
    assert_eq!(replay.last_time().unwrap(), Some(1_431_864_353 * SECOND));
}

#[test]
fn packed_files_are_unpacked() {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(b"{\"a\":1}\n").unwrap();
    let (_folder, path) = file("records.ndjson.gz", &packer.finish().unwrap());
    assert_eq!(values(&replay(&path, None, Labels::default(), 0).0), ["{\"a\":1}"]);
}

#[test]
fn an_endless_line_is_left_out_and_the_next_one_is_read() {
    let mut text = vec![b'x'; LINE_BYTES_MAX + 10];
    text.extend_from_slice(b"\n{\"a\":1}\n");
    let (_folder, path) = file("records.ndjson", &text);
    let (kept, tally) = replay(&path, None, Labels::default(), 0);
    assert_eq!((kept.0.len(), tally.so_far().malformed), (1, 1));
}

#[test]
fn a_file_of_another_format_is_an_error() {
    let replay = Replay::new(&data("README.md"), Some(Format::Ndjson), Labels::default()).unwrap();
    let mut tally = Tally::new(Pace::new(None), None, None);
    let error = replay.send(0, &mut tally, &mut Kept::default()).unwrap_err();
    assert!(
        error.to_string().ends_with("README.md: no line of it is a JSON object; line 1: not a JSON object"),
        "{error}"
    );
}

#[test]
fn a_file_that_does_not_say_its_format_needs_to_be_told() {
    let error = Replay::new(Path::new("access.log"), None, Labels::default()).unwrap_err();
    assert!(error.is_unusable() && error.to_string().contains("--format"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_line_is_too_odd(line in "[ -~\u{e9}]{0,80}", prefix in proptest::bool::ANY) {
        let line = if prefix { format!("1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"{line}") } else { line };
        let mut out = Vec::new();
        if combined::convert(&line, &Labels::default(), 0, &mut out).is_ok() {
            let record: serde_json::Value = serde_json::from_slice(&out).unwrap();
            proptest::prop_assert_eq!(&record["event"], "http_request");
        }
    }
}
