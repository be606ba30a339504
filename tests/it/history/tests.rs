//! `maturion test`: what passes, what fails and is shown, what is refused.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

const PIPELINE: &str = "name = \"load\"\nsource = \"logs\"\nsql = \"load.sql\"\nseries = [\"module\"]\n\
                        [[rule]]\nname = \"many\"\ntechnique = \"threshold\"\nmeasure = \"requests\"\nabove = 100\nseverity = \"high\"\n";
const SQL: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests\n\
                   FROM logs\nGROUP BY 1, 2\n";
const GENERATE: &str =
    "[generate]\nmodule = \"a\"\nrate = 1\nfor = \"20m\"\nphases = [{ from = \"5m\", to = \"8m\", rate = 5 }]\n";

/// A folder with a pipeline and these tests.
fn folder(tests: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut files =
        vec![("pipelines/load.toml".to_owned(), PIPELINE.to_owned()), ("sql/load.sql".to_owned(), SQL.to_owned())];
    files.extend(tests.iter().map(|(name, text)| (format!("pipelines/tests/{name}"), (*text).to_owned())));
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn run(folder: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    let output = command.args(arguments).current_dir(folder.path()).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A test of generated records with these expectations.
fn case(expect: &str) -> String {
    format!("{GENERATE}{expect}")
}

#[track_caller]
fn refuses(text: &str, sentence: &str) {
    for command in ["test", "check"] {
        let folder = folder(&[("one.toml", text)]);
        let (code, out, error) = run(&folder, &[command]);
        assert_eq!((code, out.as_str(), error), (2, "", format!("maturion: {sentence}\n")), "{command}");
    }
}

#[test]
fn the_shipped_tests_pass_from_any_folder() {
    let (code, out, error) = run(&tempfile::tempdir().unwrap(), &["test"]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    assert!(out.contains("test api_errors ... ok\n") && out.contains("test result: ok. 8 passed; 0 failed;"), "{out}");
}

#[test]
fn the_shipped_tests_are_all_that_lie_in_the_folder() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/tests");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files = files.collect::<Vec<_>>();
    files.sort();
    let (_, out, _) = run(&tempfile::tempdir().unwrap(), &["test"]);
    let told =
        out.lines().filter_map(|line| Some(format!("{}.toml", line.strip_prefix("test ")?.strip_suffix(" ... ok")?)));
    assert_eq!(told.collect::<Vec<_>>(), files);
}

#[test]
fn a_failed_test_shows_what_was_expected_and_what_came() {
    let good = case("[[expect.detection]]\nrule = \"load.many\"\nopened_between = [\"6m\", \"7m\"]\nresolved = true\n");
    let wrong = case(
        "[[expect.detection]]\nrule = \"load.many\"\nseverity = \"medium\"\nseries = { module = \"a\" }\nopened_at = \"9m\"\n",
    );
    let absent = case(
        "[expect]\ndetections = 0\n[[expect.window]]\npipeline = \"load\"\nwindow_start = \"6m\"\nmeasures = { requests = 299 }\n",
    );
    let folder = folder(&[("good.toml", &good), ("wrong.toml", &wrong), ("absent.toml", &absent)]);
    let (code, out, error) = run(&folder, &["test"]);
    assert_eq!((code, error.as_str()), (1, "maturion: 2 tests failed\n"), "{out}");
    let told = out.split("finished in").next().unwrap();
    let expected = "\
running 3 tests
test absent ... FAILED
test good ... ok
test wrong ... FAILED

---- absent (pipelines/tests/absent.toml) ----
not expected: load.many, high, module=a, opened at 2025-12-03T10:06:00Z (6m) with requests 300, resolved at 2025-12-03T10:13:00Z (13m)
pipelines/tests/absent.toml:8: expected a window of load at 2025-12-03T10:06:00Z (6m), requests 299
  found {\"pipeline\":\"load\",\"window_start\":\"2025-12-03T10:06:00Z\",\"window_end\":\"2025-12-03T10:07:00Z\",\"module\":\"a\",\"requests\":300}

---- wrong (pipelines/tests/wrong.toml) ----
pipelines/tests/wrong.toml:6: expected load.many, medium, module=a, opened at 2025-12-03T10:09:00Z (9m)
  found load.many, high, module=a, opened at 2025-12-03T10:06:00Z (6m) with requests 300, resolved at 2025-12-03T10:13:00Z (13m)
  wrong: the severity, when it opened

test result: FAILED. 1 passed; 2 failed; 0 filtered out; ";
    assert_eq!(told, expected);
    let (code, out, _) = run(&folder, &["test", "goo"]);
    assert_eq!(code, 0);
    assert!(out.contains("1 passed; 0 failed; 2 filtered out"), "{out}");
}

#[test]
fn a_test_that_cannot_be_read_names_its_line() {
    refuses(
        &case("[[expect.detection]]\nrule = \"load.manny\"\n"),
        "pipelines/tests/one.toml:7: there is no rule `load.manny`; did you mean `load.many`?",
    );
    refuses(
        &case("[[expect.detection]]\nrule = \"load.many\"\nopen_at = \"5m\"\n"),
        "pipelines/tests/one.toml:8: unknown key `open_at` in [[detection]]; did you mean `opened_at`?",
    );
    refuses(GENERATE, "pipelines/tests/one.toml: expects nothing; say `[expect] detections = 0` if nothing may fire");
    refuses(
        "[[record]]\njson = '{\"module\": \"a\"}'\nfile = \"b\"\n[expect]\ndetections = 0\n",
        "pipelines/tests/one.toml:1: [[record]] needs either `json` or `file`",
    );
    refuses(
        "[[record]]\nfile = \"../load.toml\"\n[expect]\ndetections = 0\n",
        "pipelines/tests/one.toml:2: `file` must name a file beside the test, not \"../load.toml\"",
    );
}

#[test]
fn records_may_lie_in_a_file_beside_the_test() {
    let lines = "{\"timestamp\":\"2025-12-03T10:00:01Z\",\"module\":\"b\"}\n{\"timestamp\":\"2025-12-03T10:00:02Z\",\"module\":\"b\"}\n";
    let test = "[[record]]\nfile = \"lines.ndjson\"\n[[expect.window]]\npipeline = \"load\"\nwindow_start = \"2025-12-03T10:00:00Z\"\nseries = { module = \"b\" }\nmeasures = { requests = 2 }\n";
    let folder = folder(&[("one.toml", test), ("lines.ndjson", lines)]);
    let (code, out, error) = run(&folder, &["test"]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    let (_, out, _) = run(&folder, &["check"]);
    assert_eq!(out.lines().next(), Some("1 pipeline (from pipelines), 1 rule, 1 test: ok"));
}

#[test]
fn without_tests_there_is_nothing_to_run() {
    let (code, _, error) = run(&folder(&[]), &["test"]);
    assert_eq!((code, error.as_str()), (2, "maturion: there are no tests; put TOML files into pipelines/tests\n"));
}
