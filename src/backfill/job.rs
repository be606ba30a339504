//! Jobs: what makes a backfill the same as one that was run before.
//!
//! A job is a function of its input's content, of the range and the disorder, and of the pipelines with their rules. Where
//! its files lie and what they are called does not matter, nor on how many cores it runs. Whoever has stored a job's rows
//! need not store them again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use xxhash_rust::xxh64::Xxh64;

use super::{BackfillError, Files, Settings};
use crate::evaluate::PipelineSet;
use crate::model::series::stable_id;

/// The order in which rows are said, which decides their numbers. A change to how history is cut into chunks, or to the
/// order in which windows close, takes the next number: a job that was begun in another order cannot be completed in this one.
const ORDER: u32 = 1;
/// What is read of a file at once.
const READ_BYTES: usize = 1 << 20;

/// The identity of a backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is computed.
    pub id: String,
    /// The same, and in which order it is said.
    rows_id: String,
}

impl Job {
    /// `input` names the content of each part of the input ([`Files::digests`]), in the order in which they are read. `names`
    /// are the pipelines whose rows are wanted; none of them is all.
    pub fn new(input: &[String], set: &PipelineSet, names: &[String], settings: &Settings) -> Self {
        let Settings { from, to, disorder, workers: _, hands_over } = settings;
        let range = [*from, *to, *disorder, i64::from(*hands_over)].map(i64::to_be_bytes).concat();
        let pipelines = set.pipelines().iter().map(|compiled| {
            let is_wanted = names.is_empty() || names.contains(&compiled.pipeline.name);
            format!("{is_wanted} {} {:?}", compiled.plan.version, compiled.pipeline)
        });
        let (mut content, mut pipelines) = (input.to_vec(), pipelines.collect::<Vec<_>>());
        content.sort();
        pipelines.sort();
        let mut parts = vec![b"backfill".as_slice(), &range];
        parts.extend(content.iter().chain(&pipelines).map(|text| text.as_bytes()));
        let id = stable_id(&parts);
        let order = ORDER.to_be_bytes();
        let mut parts = vec![id.as_bytes(), &order];
        parts.extend(input.iter().map(|text| text.as_bytes()));
        Job { rows_id: stable_id(&parts), id }
    }

    /// The name under which a table counts the rows that it has of the job.
    pub fn rows(&self) -> String {
        format!("backfill/{}/{}", self.id, self.rows_id)
    }

    /// The name under which a table knows that all of them are there.
    pub fn done(&self) -> String {
        format!("backfill/{}", self.id)
    }
}

impl Files {
    /// What each file contains, in the order in which they are read. It reads them all.
    pub fn digests(&self) -> Result<Vec<String>, BackfillError> {
        let mut files = self.files.iter().collect::<Vec<_>>();
        files.sort_by_key(|file| file.first);
        let digest = |file: &&super::files::HistoryFile| {
            let failed = |error: io::Error| BackfillError::File { file: file.path.clone(), reason: error.to_string() };
            let hash = hash(&file.path).map_err(failed)?;
            Ok(format!("{:?} {} {hash:016x}", file.table, file.bytes))
        };
        files.iter().map(digest).collect()
    }
}

fn hash(path: &Path) -> io::Result<u64> {
    let (mut file, mut hash) = (File::open(path)?, Xxh64::new(0));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest()),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}
