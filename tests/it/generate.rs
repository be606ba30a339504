//! `maturion generate` into a log: what is sent arrives, whole and in the right topic.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maturion::generate::{
    Destination, Format, GenerateOptions, HttpDestination, Labels, LogDestination, Pace, Replay, Simulated, Tally,
};
use maturion::log::topics::Topics;
use maturion::log::{Appender, LogError, Outgoing};
use maturion::serve::status::StatusBoard;
use maturion::serve::{self, Settings};
use maturion::simulate::Kind;

/// 2025-12-03T12:00:00Z
const NOW: i64 = 1_764_763_200_000_000;

/// Topic, key and value of what was appended.
type Appended = (String, Vec<u8>, Vec<u8>);

/// Keeps what is appended.
#[derive(Default)]
struct Recorder(Mutex<Vec<Appended>>);

impl Appender for Recorder {
    fn append(&self, record: Outgoing<'_>) -> Result<(), LogError> {
        let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
        self.0.lock().unwrap().push((record.topic.to_owned(), bytes(record.key), bytes(record.value)));
        Ok(())
    }

    fn flush(&self, _wait: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn simulated(options: &GenerateOptions) -> Vec<Appended> {
    let recorder = Arc::new(Recorder::default());
    let mut destination = LogDestination::new(Arc::clone(&recorder) as Arc<dyn Appender>, &Topics::new("t."));
    let mut tally = Tally::new(Pace::new(options.rate), options.records, options.seconds);
    Simulated::new(options, NOW).unwrap().send(&mut tally, &mut destination).unwrap();
    destination.finish().unwrap();
    std::mem::take(&mut *recorder.0.lock().unwrap())
}

#[test]
fn simulated_records_are_as_many_as_asked_for_and_repeat_with_the_seed() {
    let options = GenerateOptions { records: Some(5_000), seed: 7, ..GenerateOptions::default() };
    let records = simulated(&options);
    assert_eq!(records.len(), 5_000);
    assert_eq!(records, simulated(&options));
    let metrics = records.iter().filter(|record| record.0 == "t.telemetry.metrics").count();
    assert!(metrics > 0 && records.iter().filter(|record| record.0 == "t.telemetry.logs").count() == 5_000 - metrics);
}

#[test]
fn without_a_rate_or_an_end_nothing_starts() {
    let error = Simulated::new(&GenerateOptions::default(), NOW).unwrap_err();
    assert!(error.is_unusable() && error.to_string().contains("--records"), "{error}");
}

#[test]
fn unpaced_records_end_about_now() {
    let options = GenerateOptions { records: Some(60_000), ..GenerateOptions::default() };
    let (mut tally, recorder) = (Tally::new(Pace::new(None), options.records, None), Arc::new(Recorder::default()));
    let mut destination = LogDestination::new(recorder, &Topics::new(""));
    Simulated::new(&options, NOW).unwrap().send(&mut tally, &mut destination).unwrap();
    let (first, last) = tally.so_far().times.unwrap();
    assert!(NOW - first > 50_000_000 && (NOW - last).abs() < 10_000_000, "{} {}", NOW - first, NOW - last);
}

#[test]
fn a_running_instance_takes_records_over_http() {
    let recorder = Arc::new(Recorder::default());
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        allow_remote: false,
        token: None,
        body_bytes_max: 4 << 20,
        logs_topic: "telemetry.logs".to_owned(),
        metrics_topic: "telemetry.metrics".to_owned(),
        intents_topic: "maturion.intents".to_owned(),
        engine: None,
        users: Arc::default(),
    };
    let appender = Arc::clone(&recorder) as Arc<dyn Appender>;
    let door = serve::start(settings, appender, Arc::new(StatusBoard::new("a test's log"))).unwrap();
    let mut destination = HttpDestination::new(&format!("http://{}", door.address()), None).unwrap();
    let replay = Replay::new(&data("apache_combined_200.log"), Some(Format::Combined), Labels::default()).unwrap();
    let mut tally = Tally::new(Pace::new(None), None, None);
    replay.send(0, &mut tally, &mut destination).unwrap();
    destination.send(Kind::Metrics, None, br#"{"name":"cpu_percent","value":1}"#).unwrap();
    destination.finish().unwrap();
    door.stop();
    let records = recorder.0.lock().unwrap();
    let count = |topic: &str| records.iter().filter(|record| record.0 == topic).count();
    assert_eq!((count("telemetry.logs"), count("telemetry.metrics")), (200, 1));
}

#[test]
fn an_instance_that_is_not_there_is_named() {
    let mut destination = HttpDestination::new("http://127.0.0.1:1", None).unwrap();
    destination.send(Kind::Logs, None, b"{}").unwrap();
    let error = destination.finish().unwrap_err().to_string();
    assert!(error.starts_with("http://127.0.0.1:1/ingest/json?topic=logs does not take records: "), "{error}");
}
