//! Memory: what a backfill holds does not grow with its input.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{SECOND, request};
use crate::whole::START;

/// Records of ten modules, one every 20 ms.
fn write(path: &Path, records: i64) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for nth in 0..records {
        let module = format!("module {}", nth % 10);
        file.write_all(&request(START + nth * SECOND / 50, &module, 200)).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
}

/// The most memory that a backfill of this file ever held, in KiB.
fn peak(folder: &Path, file: &Path) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_maturion"))
        .args(["backfill", "--input"])
        .arg(file)
        .current_dir(folder)
        .env_clear()
        // One arena, so that it is the program that is measured and not the allocator.
        .env("MALLOC_ARENA_MAX", "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(kibibytes.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn four_times_the_input_takes_no_more_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (one, four) = (folder.path().join("one.ndjson"), folder.path().join("four.ndjson"));
    write(&one, 300_000);
    write(&four, 1_200_000);
    let bytes = std::fs::metadata(&four).unwrap().len() - std::fs::metadata(&one).unwrap().len();
    let (one, four) = (peak(folder.path(), &one), peak(folder.path(), &four));
    println!("{one} KiB, then {four} KiB, for {} KiB more of input", bytes / 1_024);
    assert!(four < one + bytes / 1_024 / 4, "{one} KiB, then {four} KiB");
}
