//! The statements of the shipped pipelines over history on a Ballista cluster, for more of it than one machine reads.
//!
//! `cargo run --release --features ballista --example ballista` writes two hours of the simulated platform's logs as Parquet,
//! starts a scheduler and an executor in this process, and computes every window of the pipelines over logs twice: on the
//! cluster, and by `maturion::backfill`. It ends with an error unless both say the same. `SessionContext::remote_with_state`
//! in place of `standalone_with_state` asks a cluster that runs already; its executors need the same functions
//! registered, by name.
//!
//! The statements are the pipelines' own: `tumble` is a function like any other, and a partial aggregate travels between
//! executors as it does between partitions. Rules are few and their windows small, so they stay with whoever collects them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "an example prints and may fail loudly")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ballista::prelude::SessionContextExt;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::error::Result;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use maturion::backfill::{self, BackfillError, Files, History, Progress, Rejected, Settings, Sink};
use maturion::config::PipelineFiles;
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::evaluate::PipelineSet;
use maturion::evaluate::shard::Outputs;
use maturion::model::pipeline::{Pipeline, Source};
use maturion::simulate::{self, Kind, Simulator};
use maturion::window::functions::window_functions;
use maturion::window::quantile;
use parquet::arrow::ArrowWriter;
use serde_json::{Map, Value};

/// 2025-12-03T10:00:00Z, in microseconds.
const START: i64 = 1_764_756_000_000_000;
const HOUR: i64 = 3_600_000_000;
/// Files, and so pieces of work.
const FILES: i64 = 2;
/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// The windows of each pipeline, as their rows without what only a stream knows.
type Windows = BTreeMap<String, Vec<Map<String, Value>>>;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write(folder.path());
    let pipelines = maturion::pipelines::load(&PipelineFiles::Shipped).unwrap();
    let pipelines = pipelines.into_iter().filter(|pipeline| pipeline.source == Source::Logs).collect::<Vec<_>>();
    let cluster = cluster(folder.path()).await?;
    let mut distributed = Windows::new();
    for pipeline in &pipelines {
        let batches = cluster.sql(&pipeline.sql).await?.collect().await?;
        distributed.insert(pipeline.name.clone(), rows(&batches));
    }
    let local = local(folder.path(), &pipelines);
    for pipeline in &pipelines {
        let (one, other) = (&distributed[&pipeline.name], local.get(&pipeline.name).map_or(&[][..], Vec::as_slice));
        compare(&pipeline.name, one, other);
        println!("{:<20} {:>6} windows, the same on the cluster and here", pipeline.name, one.len());
    }
    Ok(())
}

/// A scheduler and an executor that know the functions of pipelines, and a session that has the table `logs`.
async fn cluster(folder: &Path) -> Result<SessionContext> {
    let known = SessionContext::new();
    register_functions(&known)?;
    // The session gets Ballista's functions in place of those that the state has, so it is told again.
    let cluster = SessionContext::standalone_with_state(known.state()).await?;
    register_functions(&cluster)?;
    cluster.register_parquet("logs", folder.to_string_lossy(), ParquetReadOptions::default()).await?;
    Ok(cluster)
}

fn register_functions(context: &SessionContext) -> Result<()> {
    window_functions().iter().for_each(|function| context.register_udf(function.as_ref().clone()));
    quantile::register(context)
}

/// The same by the library, on this machine.
fn local(folder: &Path, pipelines: &[Pipeline]) -> Windows {
    let sets = [Arc::new(PipelineSet::compile(pipelines.to_vec()).unwrap_or_else(|error| panic!("{error}")))];
    let files = (0..FILES).map(|number| file(folder, number)).collect::<Vec<_>>();
    let files = Files::open(&files, None, &backfill::needed(&sets)).unwrap();
    let mut kept = Kept::default();
    let history = History::of_files(files);
    backfill::run(history, &sets, &Settings::default(), &mut kept, &AtomicBool::new(false)).unwrap();
    kept.0
}

#[derive(Default)]
struct Kept(Windows);

impl Sink for Kept {
    fn say(&mut self, _: usize, outputs: &Outputs) -> Result<(), BackfillError> {
        for window in &outputs.windows {
            let mut row: Map<String, Value> = serde_json::from_slice(&window.json).unwrap();
            let Some(Value::String(pipeline)) = row.remove("pipeline") else { panic!("a window of no pipeline") };
            row.remove("window_end");
            self.0.entry(pipeline).or_default().push(row);
        }
        Ok(())
    }

    fn reject(&mut self, record: &Rejected) -> Result<(), BackfillError> {
        panic!("{record:?}")
    }

    fn progress(&mut self, _: &Progress) {}
}

/// Batches as JSON objects; nulls stay, as they do in windows.
fn rows(batches: &[RecordBatch]) -> Vec<Map<String, Value>> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    let lines = writer.into_inner();
    serde_json::Deserializer::from_slice(&lines).into_iter().map(std::result::Result::unwrap).collect()
}

/// Same windows, same counts and texts; numbers up to the order in which they were added.
fn compare(pipeline: &str, one: &[Map<String, Value>], other: &[Map<String, Value>]) {
    let (one, other) = (sorted(one), sorted(other));
    assert_eq!(one.len(), other.len(), "{pipeline}");
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one.0, other.0, "{pipeline}");
        for (name, number) in &one.1 {
            let difference = (number - other.1[name]).abs();
            assert!(difference <= 1e-9 * number.abs().max(1.0), "{pipeline}: {name} of {}", one.0);
        }
    }
}

/// What identifies each row and its counts, as text, beside its broken numbers.
fn sorted(rows: &[Map<String, Value>]) -> Vec<(String, BTreeMap<String, f64>)> {
    let split = |row: &Map<String, Value>| {
        let (mut exact, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in row {
            match value {
                Value::Number(number) if number.is_f64() => {
                    drop(numbers.insert(name.clone(), number.as_f64().unwrap()))
                }
                Value::String(text) if name == "window_start" => {
                    let time = text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
                    exact.insert(name.clone(), time.timestamp_micros().into());
                }
                value => drop(exact.insert(name.clone(), value.clone())),
            }
        }
        (format!("{exact:?}"), numbers)
    };
    let mut rows = rows.iter().map(split).collect::<Vec<_>>();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}

fn file(folder: &Path, number: i64) -> PathBuf {
    folder.join(format!("logs-{number}.parquet"))
}

/// An hour of the simulated platform's logs in each file.
fn write(folder: &Path) {
    let settings = simulate::Settings { records_per_second: 100.0, jitter: 0, ..simulate::Settings::default() };
    let mut simulator = Simulator::new(settings, START);
    for number in 0..FILES {
        let target = File::create(file(folder, number)).unwrap();
        let mut writer = ArrowWriter::try_new(target, Table::Logs.schema(), None).unwrap();
        let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
        let mut offset = 0;
        while simulator.now() < START + (number + 1) * HOUR {
            for record in simulator.next_batch().iter().filter(|record| record.kind == Kind::Logs) {
                let (kafka_timestamp_ms, partition) = (Some(record.time / 1_000), 0);
                decoder.push(&Incoming { value: record.value, kafka_timestamp_ms, partition, offset }).unwrap();
                offset += 1;
            }
            if decoder.len() >= BATCH_ROWS {
                writer.write(&decoder.finish().unwrap()).unwrap();
            }
        }
        writer.write(&decoder.finish().unwrap()).unwrap();
        writer.close().unwrap();
    }
}
