//! A Python that has DuckDB.

use std::path::{Path, PathBuf};
use std::process::Command;

const DUCKDB: &str = "duckdb==1.4.1";

/// The Python that `MATURION_BENCH_PYTHON` names, else one in a virtual environment below `folder`, with DuckDB from PyPI.
pub fn python(folder: &Path) -> PathBuf {
    if let Ok(python) = std::env::var("MATURION_BENCH_PYTHON") {
        return python.into();
    }
    let environment = folder.join("python");
    let run = |command: &mut Command| assert!(command.status().expect("it runs").success(), "{command:?}");
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", DUCKDB]));
    environment.join("bin/python")
}
