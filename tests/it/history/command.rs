//! `maturion backfill` as people meet it: what it prints, what it refuses, how it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::write;
use crate::whole::outage;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.args(arguments).current_dir(folder).env_clear();
    command
}

/// Exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = command(folder, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn refuses(folder: &Path, arguments: &[&str], code: i32, sentence: &str) {
    assert_eq!(run(folder, arguments), (code, String::new(), format!("maturion: {sentence}\n")));
}

#[test]
fn it_prints_a_line_for_each_detection_and_a_summary() {
    let folder = folder();
    write(folder.path(), "outage.ndjson", &outage());
    let (code, out, error) = run(folder.path(), &["backfill", "--input", "outage.ndjson"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let expected = "\
        2025-12-03T10:11:00Z high     module_api_errors.error_rate module=risk-matrix: error_rate 0.2 against 0.01, for 14m\n\
        1 detection in 270 rows of windows of 12 pipelines, over 12000 records from 2025-12-03T10:00:00Z to 2025-12-03T10:29:59.850Z\n";
    assert_eq!(out, expected);
}

#[test]
fn pipelines_that_were_not_asked_for_only_silence() {
    let folder = folder();
    write(folder.path(), "outage.ndjson", &outage());
    let backfill = ["backfill", "--input", "outage.ndjson", "--pipelines"];
    let (code, out, _) = run(folder.path(), &[&backfill[..], &["api_errors"]].concat());
    assert_eq!(code, 0);
    assert!(out.starts_with("0 detections in "), "{out}");
    let unknown = [&backfill[..], &["api_error"]].concat();
    refuses(folder.path(), &unknown, 2, "--pipelines: there is no pipeline `api_error`; did you mean `api_errors`?");
}

#[test]
fn what_is_no_history_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("notes.txt"), "hello\n").unwrap();
    fs::write(folder.path().join("broken.parquet"), "PAR1").unwrap();
    fs::write(folder.path().join("junk.ndjson"), "junk\n\nmore junk\n").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let sentence = "gone.ndjson: there is no such file or folder";
    refuses(folder.path(), &["backfill", "--input", "gone.ndjson"], 2, sentence);
    let sentence = "notes.txt: is no .ndjson, .jsonl or .json (.gz and .zst too), and no .parquet";
    refuses(folder.path(), &["backfill", "--input", "notes.txt"], 2, sentence);
    let sentence = "empty: holds no .ndjson, .jsonl, .json or .parquet file";
    refuses(folder.path(), &["backfill", "--input", "empty"], 2, sentence);
    let (code, out, error) = run(folder.path(), &["backfill", "--input", "broken.parquet"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.starts_with("maturion: broken.parquet: ") && error.lines().count() == 1, "{error}");
    let (code, _, error) = run(folder.path(), &["backfill", "--input", "junk.ndjson"]);
    assert_eq!(code, 1);
    let expected = "2 records cannot be read (not_an_object), the first: junk.ndjson:1: not a JSON object\n\
                    maturion: the input has no record that can be read (2 cannot)\n";
    assert_eq!(error, expected);
    let (code, _, error) = run(folder.path(), &["backfill"]);
    assert_eq!(code, 2);
    assert!(error.contains("--input"), "{error}");
}

#[test]
fn rejected_records_are_kept_as_they_were() {
    let folder = folder();
    let mut records = outage();
    records.insert(7, b"\xff not even text".to_vec());
    records.insert(70, b"{\"timestamp\": \"yesterday\"}".to_vec());
    write(folder.path(), "a.ndjson", &records);
    let (code, _, error) = run(folder.path(), &["backfill", "--input", "a.ndjson", "--rejected", "bad"]);
    assert_eq!(code, 0);
    assert!(error.contains("1 record cannot be read (not_utf8), the first: a.ndjson:8: "), "{error}");
    assert_eq!(fs::read(folder.path().join("bad")).unwrap(), b"\xff not even text\n{\"timestamp\": \"yesterday\"}\n");
}

#[test]
fn two_versions_are_compared_rule_by_rule() {
    let folder = folder();
    write(folder.path(), "outage.ndjson", &outage());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["pipelines", "sql"] {
        fs::create_dir_all(folder.path().join("other").join(name)).unwrap();
        for entry in fs::read_dir(repository.join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = folder.path().join("other").join(name).join(path.file_name().unwrap());
                fs::copy(path, to).unwrap();
            }
        }
    }
    // The module's rules are gone, so its organisations are told of.
    let module = folder.path().join("other/pipelines/module_api_errors.toml");
    let text = fs::read_to_string(&module).unwrap();
    fs::write(&module, text.split("[[rule]]").next().unwrap()).unwrap();
    let arguments = ["backfill", "--input", "outage.ndjson", "--compare", "other"];
    let (code, out, error) = run(folder.path(), &arguments);
    assert_eq!((code, error.as_str()), (0, ""));
    let lines = out.lines().collect::<Vec<_>>();
    assert_eq!(lines[0], "api_errors.error_rate: 0 fired, now 3");
    for (line, organisation) in lines[1..4].iter().zip(["org_0", "org_1", "org_2"]) {
        assert!(line.starts_with("  new  2025-12-03T10:12:00Z high"), "{line}");
        assert!(out.contains(&format!("organisation_id={organisation} ")), "{out}");
    }
    let module = lines.iter().position(|line| *line == "module_api_errors.error_rate: 1 fired, now 0").unwrap();
    assert!(lines[module + 1].starts_with("  gone 2025-12-03T10:11:00Z high"), "{out}");
    refuses(
        folder.path(),
        &["backfill", "--input", "outage.ndjson", "--compare", "nowhere"],
        2,
        "--compare: there is no folder nowhere/pipelines",
    );
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let folder = folder();
    // Many short outages of many modules: more lines than a pipe holds.
    let mut records = Vec::new();
    for nth in 0..60_000 {
        let module = format!("{:0200}", nth % 1_500);
        let time = crate::whole::START + nth * 1_000;
        records.push(
            format!("{{\"timestamp\":{time},\"module\":\"{module}\",\"exception_type\":\"E\",\"handled\":false}}")
                .into_bytes(),
        );
    }
    write(folder.path(), "a.ndjson", &records);
    let mut child = command(folder.path(), &["backfill", "--input", "a.ndjson"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
