//! Other people's readers of Delta Lake see what our own SQL sees.

use std::process::Command;

use maturion::model::schema::StoreTable;

use super::delta::{append, commit};
use crate::{kafka, python};

const PACKAGES: [&str; 4] = ["deltalake==1.6.6", "duckdb==2.0.0", "polars==2.1.0", "pyarrow==26.0.1"];

#[test]
fn foreign_readers_count_and_sum_the_same() {
    let packages = match python::packages("delta-readers-1", &PACKAGES) {
        Ok(packages) => packages,
        Err(reason) => return kafka::skip(&reason),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let store = super::open(folder.path());
    for nth in 0..20 {
        append(&store, nth * 100..nth * 100 + 100);
        commit(&store);
    }
    store.maintain(StoreTable::Logs, super::delta::NOW).expect("maintained");
    append(&store, 2_000..2_050);
    commit(&store);
    let mut reader = Command::new("python3");
    reader.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/readers.py")).arg(folder.path().join("store/logs"));
    let read = reader.env("PYTHONPATH", packages).output().expect("python3 runs");
    eprint!("{}", String::from_utf8_lossy(&read.stderr));
    assert!(read.status.success());
    let said = String::from_utf8_lossy(&read.stdout);
    let sum = (0..2_050).sum::<i64>();
    for reader in ["deltalake", "polars", "duckdb"] {
        assert!(said.contains(&format!("{reader} 2050 {sum}\n")), "{said}");
    }
    assert!(!said.contains("delta_scan") || said.contains(&format!("delta_scan 2050 {sum}\n")), "{said}");
}
