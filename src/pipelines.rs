//! Pipelines as people write them: one TOML file each in `pipelines/`, one SQL statement per file in `sql/`.
//!
//! [`load`] gives pipelines that agree with themselves and with each other: names are unique, rules measure columns that the
//! SQL gives, windows are read from pipelines that exist, no inhibition runs in a circle. Whether DataFusion can plan a
//! statement, and as a window, is for `window` to say. `pipelines` never touches the log.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::config::PipelineFiles;
use crate::config::document::DocumentError;
use crate::model::pipeline::Pipeline;

mod agreement;
mod file;
mod levels;
mod rule;
mod selection;
mod statement;

pub use selection::choose;

/// The folder of the pipelines' own tests, within that of the pipelines.
pub const TESTS: &str = "tests";

/// Why pipelines cannot be used.
#[derive(Debug, Error)]
pub enum PipelineError {
    #[error("{path}: cannot be read ({reason})")]
    Unreadable { path: String, reason: String },
    #[error("{dir}: has no pipeline; put at least one TOML file there")]
    Empty { dir: String },
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// `position` is `file:line:column`, or the file alone.
    #[error("{position}: {reason}")]
    Statement { position: String, reason: String },
}

/// Reads and checks all pipelines. A pipeline that reads another's windows comes after it.
pub fn load(files: &PipelineFiles) -> Result<Vec<Pipeline>, PipelineError> {
    let read = match files {
        PipelineFiles::Shipped => shipped()?,
        PipelineFiles::Folder { dir, sql } => from_folder(dir, sql)?,
    };
    Ok(agreement::check(read)?)
}

/// The statements' texts by name.
trait Statements {
    /// The name for messages and the text of an SQL file.
    fn read(&self, name: &str) -> Result<(String, String), String>;
}

struct Folder<'a>(&'a Path);

impl Statements for Folder<'_> {
    fn read(&self, name: &str) -> Result<(String, String), String> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(format!("`sql` must name a file within {}, not \"{name}\"", self.0.display()));
        }
        let path = self.0.join(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("`sql` names {}, which cannot be read ({error})", path.display()))?;
        Ok((path.display().to_string(), text))
    }
}

fn from_folder(dir: &Path, sql: &Path) -> Result<Vec<file::Written>, PipelineError> {
    let mut paths = toml_files(dir)
        .map_err(|error| PipelineError::Unreadable { path: dir.display().to_string(), reason: error.to_string() })?;
    paths.sort();
    if paths.is_empty() {
        return Err(PipelineError::Empty { dir: dir.display().to_string() });
    }
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => file::read(&name, &text, &Folder(sql)),
            Err(error) => Err(PipelineError::Unreadable { path: name, reason: error.to_string() }),
        }
    };
    paths.iter().map(read).collect()
}

/// The TOML files in a folder, but not in folders within it.
pub fn toml_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = vec![];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// One pipeline of the binary: its file's text and its statement's.
struct Shipped {
    file: &'static str,
    toml: &'static str,
    sql: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        [$(Shipped {
            file: concat!("pipelines/", $name, ".toml"),
            toml: include_str!(concat!("../pipelines/", $name, ".toml")),
            sql: include_str!(concat!("../sql/", $name, ".sql")),
        }),+]
    };
}

/// The shipped pipelines, so that the binary works from any folder. Each statement is called as its pipeline.
const SHIPPED: [Shipped; 12] = shipped![
    "agent_dead_letters",
    "agent_gaps",
    "agent_lag",
    "api_errors",
    "api_latency",
    "exceptions",
    "isolated_errors",
    "module_api_errors",
    "module_api_latency",
    "module_exceptions",
    "module_resources",
    "resources",
];

impl Statements for Shipped {
    fn read(&self, name: &str) -> Result<(String, String), String> {
        Ok((format!("sql/{name}"), self.sql.to_owned()))
    }
}

fn shipped() -> Result<Vec<file::Written>, PipelineError> {
    SHIPPED.iter().map(|shipped| file::read(shipped.file, shipped.toml, shipped)).collect()
}

#[cfg(test)]
mod tests;
