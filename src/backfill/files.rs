//! Which files history is in, and what each of them holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BackfillError;
use super::lines::{Lines, Packing};
use super::parquet::ParquetFile;
use crate::decode::{DecodeLimits, Decoder, Incoming, Table};
use crate::model::pipeline::Micros;

/// Folders within folders that are looked into; deeper ones are a loop of links, or not meant.
const DEPTH_MAX: usize = 16;
/// The beginning of a file of lines that is searched for a first record.
const PEEK_BYTES: usize = 64 << 10;

/// The files of one history.
pub struct Files {
    pub(super) files: Vec<HistoryFile>,
    /// What a user should know about them: one sentence each.
    pub notes: Vec<String>,
    /// Of all files, as they are on disk.
    pub bytes: u64,
}

/// One file, looked into.
pub(super) struct HistoryFile {
    pub(super) path: PathBuf,
    pub(super) table: Table,
    pub(super) kind: FileKind,
    /// The event time that it begins with; `Micros::MIN` if nobody knows.
    pub(super) first: Micros,
    /// As it is on disk.
    pub(super) bytes: u64,
}

pub(super) enum FileKind {
    Lines(Packing),
    Parquet(Arc<ParquetFile>),
}

/// How a file is read, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Lines(Packing),
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?;
        let packings = [(".gz", Packing::Gzip), (".zst", Packing::Zstd)];
        let packed = packings.iter().find_map(|(end, packing)| Some((name.strip_suffix(end)?, *packing)));
        let (name, packing) = packed.unwrap_or((name, Packing::Plain));
        match name.rsplit_once('.')?.1 {
            "ndjson" | "jsonl" | "json" => Some(Format::Lines(packing)),
            "parquet" if packing == Packing::Plain => Some(Format::Parquet),
            _ => None,
        }
    }
}

impl Files {
    /// Finds the files at these paths, files and folders, and looks at the beginning of each. `table`: what they hold;
    /// without it, each file's own columns tell. `needed` are the columns that will be read.
    pub fn open(paths: &[PathBuf], table: Option<Table>, needed: &Needed) -> Result<Self, BackfillError> {
        let mut found = Vec::new();
        for path in paths {
            find(path, &mut found)?;
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found.dedup();
        let mut all = Files { files: Vec::new(), notes: Vec::new(), bytes: 0 };
        for (path, format) in found {
            let failed = |reason: String| BackfillError::File { file: path.clone(), reason };
            let bytes = fs::metadata(&path).map_err(|error| failed(error.to_string()))?.len();
            let file = match format {
                Format::Lines(packing) => of_lines(&path, packing, table).map_err(|error| failed(error.to_string()))?,
                Format::Parquet => all.of_parquet(&path, table, needed).map_err(failed)?,
            };
            all.bytes += bytes;
            all.files.push(HistoryFile { bytes, ..file });
        }
        Ok(all)
    }

    fn of_parquet(&mut self, path: &Path, table: Option<Table>, needed: &Needed) -> Result<HistoryFile, String> {
        let file = ParquetFile::open(path, table, needed)?;
        if !file.unknown.is_empty() {
            let columns = file.unknown.join(", ");
            self.notes.push(format!("{}: columns that no table has are ignored: {columns}", path.display()));
        }
        let first = file.rest(0).unwrap_or(Micros::MIN);
        let (path, table) = (path.to_owned(), file.table);
        Ok(HistoryFile { path, table, kind: FileKind::Parquet(Arc::new(file)), first, bytes: 0 })
    }
}

/// The columns that pipelines read, as places in the schemas of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    pub logs: Vec<usize>,
    pub metrics: Vec<usize>,
}

impl Needed {
    pub(super) fn of(&self, table: Table) -> &[usize] {
        match table {
            Table::Logs => &self.logs,
            Table::Metrics => &self.metrics,
        }
    }
}

/// The files at a path that was named: it must be one, or have some.
fn find(path: &Path, found: &mut Vec<(PathBuf, Format)>) -> Result<(), BackfillError> {
    let unusable = |reason: &str| Err(BackfillError::Unusable(format!("{}: {reason}", path.display())));
    if path.is_dir() {
        let before = found.len();
        find_within(path, 0, found)?;
        return if found.len() > before {
            Ok(())
        } else {
            unusable("holds no .ndjson, .jsonl, .json or .parquet file")
        };
    }
    if !path.exists() {
        return unusable("there is no such file or folder");
    }
    match Format::of(path) {
        Some(format) => found.push((path.to_owned(), format)),
        None => return unusable("is no .ndjson, .jsonl or .json (.gz and .zst too), and no .parquet"),
    }
    Ok(())
}

fn find_within(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, Format)>) -> Result<(), BackfillError> {
    let failed = |error: std::io::Error| BackfillError::File { file: folder.to_owned(), reason: error.to_string() };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && depth < DEPTH_MAX {
            find_within(&path, depth + 1, found)?;
        } else if path.is_file() {
            found.extend(Format::of(&path).map(|format| (path, format)));
        }
    }
    Ok(())
}

/// A file of lines: what it holds and when it begins, by its first record that can be read.
fn of_lines(path: &Path, packing: Packing, table: Option<Table>) -> std::io::Result<HistoryFile> {
    let (beginning, _) = Lines::open(path, packing, &Arc::default(), &Arc::default())?.next_of(PEEK_BYTES)?;
    let lines = || beginning.split(|byte| *byte == b'\n');
    let table = table.or_else(|| lines().find_map(table_of)).unwrap_or(Table::Logs);
    let mut decoder = Decoder::new(table, DecodeLimits::default());
    let mut time = |line: &[u8]| decoder.push(&incoming(line)).ok();
    let first = lines().find_map(&mut time).unwrap_or(Micros::MIN);
    Ok(HistoryFile { path: path.to_owned(), table, kind: FileKind::Lines(packing), first, bytes: 0 })
}

/// A record with a name and a value is a metric; as `maturion generate` sees it.
fn table_of(line: &[u8]) -> Option<Table> {
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let is_metric = record.contains_key("name") && record.contains_key("value");
    Some(if is_metric { Table::Metrics } else { Table::Logs })
}

/// A record that never was in Kafka.
pub(super) fn incoming(value: &[u8]) -> Incoming<'_> {
    Incoming { value, kafka_timestamp_ms: None, partition: -1, offset: -1 }
}
