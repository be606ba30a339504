//! History: backfill gives what streaming gives, whatever the files look like, in bounded memory; and the commands over it.

mod answer;
mod command;
mod explain;
mod files;
mod memory;
mod stored;
mod tests;
mod warm;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use maturion::backfill::{self, BackfillError, Files, History, Progress, Rejected, Report, Settings, Sink};
use maturion::evaluate::PipelineSet;
use maturion::evaluate::shard::Outputs;
use maturion::model::detection::Detection;
use maturion::model::pipeline::Pipeline;
use serde_json::{Value, json};

pub const SECOND: i64 = 1_000_000;

/// Everything that a backfill handed out.
#[derive(Default)]
pub struct Heard {
    pub windows: Vec<Value>,
    pub detections: Vec<Detection>,
    pub rejected: Vec<Rejected>,
    pub report: Report,
}

impl Sink for Heard {
    fn say(&mut self, _: usize, outputs: &Outputs) -> Result<(), BackfillError> {
        self.windows.extend(outputs.windows.iter().map(|row| serde_json::from_slice(&row.json).expect("JSON")));
        self.detections.extend(outputs.detections.iter().cloned());
        Ok(())
    }

    fn reject(&mut self, record: &Rejected) -> Result<(), BackfillError> {
        self.rejected.push(record.clone());
        Ok(())
    }

    fn progress(&mut self, _: &Progress) {}
}

impl Heard {
    /// Rule, change and event id of every detection, in an order of their own.
    pub fn said(&self) -> Vec<(String, String, String)> {
        let one = |detection: &Detection| {
            let rule = format!("\"{}\".\"{}\" {}", detection.pipeline, detection.rule, detection.series.to_json());
            (rule, detection.change.event_type().to_owned(), detection.event_id())
        };
        let mut said = self.detections.iter().map(one).collect::<Vec<_>>();
        said.sort();
        said
    }

    fn late(&self) -> u64 {
        self.report.sets[0].pipelines.iter().map(|pipeline| pipeline.late_rows).sum()
    }
}

pub fn compiled(pipelines: Vec<Pipeline>) -> Arc<PipelineSet> {
    Arc::new(PipelineSet::compile(pipelines).unwrap_or_else(|error| panic!("{error}")))
}

/// Evaluates files with these settings.
pub fn backfill_with(paths: &[PathBuf], set: &Arc<PipelineSet>, settings: &Settings) -> Heard {
    let sets = [Arc::clone(set)];
    let files = Files::open(paths, None, &backfill::needed(&sets)).unwrap_or_else(|error| panic!("{error}"));
    let mut heard = Heard::default();
    let report = backfill::run(History::of_files(files), &sets, settings, &mut heard, &AtomicBool::new(false));
    heard.report = report.unwrap_or_else(|error| panic!("{error}"));
    heard
}

pub fn backfill_of(paths: &[PathBuf], set: &Arc<PipelineSet>) -> Heard {
    backfill_with(paths, set, &Settings::default())
}

/// Writes records as lines, packed as the name says.
pub fn write(folder: &Path, name: &str, records: &[Vec<u8>]) -> PathBuf {
    let path = folder.join(name);
    let mut lines = records.join(&b"\n"[..]);
    lines.push(b'\n');
    let bytes = match name.rsplit('.').next() {
        Some("gz") => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packer, &lines).expect("packed");
            packer.finish().expect("packed")
        }
        Some("zst") => zstd::encode_all(lines.as_slice(), 1).expect("packed"),
        _ => lines,
    };
    std::fs::write(&path, bytes).expect("written");
    path
}

/// A request at this time.
pub fn request(time: i64, module: &str, status: u64) -> Vec<u8> {
    let record = json!({
        "timestamp": time, "organisation_id": "org_1", "module": module, "event": "http_request",
        "status_code": status, "duration_ms": 40 + time % 17,
    });
    serde_json::to_vec(&record).expect("JSON")
}
