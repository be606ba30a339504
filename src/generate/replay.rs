//! Files of real logs and metrics, as telemetry records.
//!
//! A file is read as a stream, unpacked on the way if its name ends in `.gz`, so it may be larger than the memory.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use flate2::read::MultiGzDecoder;

use super::GenerateError;
use super::destination::Destination;
use super::report::Tally;
use crate::model::pipeline::Micros;
use crate::simulate::Kind;

mod combined;
mod ndjson;
mod table;

/// The longest line that is read whole; the rest of a longer one is skipped.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Web requests in Apache's combined (or common) log format
    Combined,
    /// Metric values: a header, then rows with a timestamp and a value
    Csv,
    /// Telemetry records as they are, one on each line
    Ndjson,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Combined => "a request in the combined log format",
            Format::Csv => "a row with a timestamp and a value",
            Format::Ndjson => "a JSON object",
        }
    }

    /// By the file's name, without `.gz`.
    fn guess(file: &Path) -> Option<Format> {
        let name = file.file_name()?.to_str()?;
        match name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.')?.1 {
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        }
    }
}

/// What the lines of a file do not say themselves.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    pub organisation: Option<String>,
    pub module: Option<String>,
    /// Of the metric.
    pub name: Option<String>,
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// From 1.
    pub line: u64,
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.reason)
    }
}

/// One record of a file; its value is in the buffer that it was read into.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Replayed {
    kind: Kind,
    key: Option<String>,
    /// After the shift; `None` if the record has none that can be read.
    time: Option<Micros>,
}

/// One file to be replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    file: PathBuf,
    format: Format,
    labels: Labels,
}

impl Replay {
    /// Opens nothing yet. Without a format, the file's name must tell it.
    pub fn new(file: &Path, format: Option<Format>, labels: Labels) -> Result<Self, GenerateError> {
        let Some(format) = format.or_else(|| Format::guess(file)) else {
            let file = file.display();
            return Err(GenerateError::Unusable(format!(
                "{file}: say what it holds with --format combined, csv or ndjson"
            )));
        };
        Ok(Self { file: file.to_owned(), format, labels })
    }

    /// The latest event time of the whole file: reads it once.
    pub fn last_time(&self) -> Result<Option<Micros>, GenerateError> {
        let mut last = None;
        self.visit(0, &mut |record, _| {
            last = last.max(record.ok().and_then(|record| record.time));
            Ok(true)
        })?;
        Ok(last)
    }

    /// Sends the file's records in their order, their event times moved by `shift`.
    /// A file without a single record is an error, because then the format is wrong.
    pub fn send(
        &self,
        shift: Micros,
        tally: &mut Tally,
        destination: &mut dyn Destination,
    ) -> Result<(), GenerateError> {
        self.visit(shift, &mut |record, value| {
            if !tally.is_next_due() {
                return Ok(false);
            }
            match record {
                Err(malformed) => tally.count_malformed(malformed),
                Ok(record) => {
                    destination.send(record.kind, record.key.as_deref().map(str::as_bytes), value)?;
                    tally.count(record.time, value.len());
                }
            }
            Ok(true)
        })?;
        match (tally.so_far().records, tally.so_far().told.first()) {
            (0, Some(first)) => {
                let (file, format) = (self.file.clone(), self.format.name());
                Err(GenerateError::NothingReadable { file, format, first: first.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Visits every line of the file until the visitor has seen enough (false).
    fn visit(&self, shift: Micros, visit: &mut Visit<'_>) -> Result<(), GenerateError> {
        let input = open(&self.file)?;
        match self.format {
            Format::Csv => table::visit(input, &self.metric_labels(), shift, visit),
            Format::Combined => lines(input, visit, |line, out| combined::convert(line, &self.labels, shift, out)),
            Format::Ndjson => lines(input, visit, |line, out| ndjson::convert(line, shift, out)),
        }
        .map_err(|failure| match failure {
            Failure::Read(error) => GenerateError::File { file: self.file.clone(), reason: error.to_string() },
            Failure::Visit(error) => error,
        })
    }

    /// The labels, with the metric named after the file if nobody named it.
    fn metric_labels(&self) -> Labels {
        let name = self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default().to_owned();
        Labels { name: Some(self.labels.name.clone().unwrap_or(stem)), ..self.labels.clone() }
    }
}

/// Takes a record with its value, or why there is none; false if it has seen enough.
type Visit<'a> = dyn FnMut(Result<Replayed, Malformed>, &[u8]) -> Result<bool, GenerateError> + 'a;

/// Why a visit ended early.
enum Failure {
    Read(std::io::Error),
    Visit(GenerateError),
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, GenerateError> {
    let opened =
        File::open(file).map_err(|error| GenerateError::File { file: file.to_owned(), reason: error.to_string() })?;
    let is_packed = file.extension().is_some_and(|extension| extension == "gz");
    Ok(if is_packed {
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(opened))))
    } else {
        Box::new(BufReader::new(opened))
    })
}

/// Converts each line that is not empty.
fn lines(
    mut input: impl BufRead,
    visit: &mut Visit<'_>,
    convert: impl Fn(&str, &mut Vec<u8>) -> Result<Replayed, String>,
) -> Result<(), Failure> {
    let (mut bytes, mut value) = (Vec::new(), Vec::new());
    for number in 1.. {
        let Some(is_whole) = read_line(&mut input, &mut bytes).map_err(Failure::Read)? else { break };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        value.clear();
        let line = str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned());
        let record = match line {
            _ if !is_whole => Err(format!("longer than {LINE_BYTES_MAX} bytes")),
            Err(reason) => Err(reason),
            Ok(line) => convert(line.trim_end(), &mut value),
        };
        let record = record.map_err(|reason| Malformed { line: number, reason });
        if !visit(record, &value).map_err(Failure::Visit)? {
            break;
        }
    }
    Ok(())
}

/// Reads one line, false if it was too long to be kept; `None` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    line.clear();
    input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() < LINE_BYTES_MAX || line.last() == Some(&b'\n') {
        return Ok(Some(true));
    }
    input.skip_until(b'\n')?;
    Ok(Some(false))
}

#[cfg(test)]
mod tests;
