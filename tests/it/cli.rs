//! Bad input on the command line: one clear sentence, the right exit code, never a panic.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

const PIPELINE: &str = "name = \"load\"\nsource = \"logs\"\nsql = \"load.sql\"\nseries = [\"module\"]\n";
const SQL: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests\n\
                   FROM logs\nGROUP BY 1, 2\n";

/// What `check` says of the policy in the binary.
const SHIPPED_POLICY: &str = "9 actions (the shipped ones), 3 policies, mode observe: ok\n";

/// A folder with a configuration and one valid pipeline.
fn folder(configuration: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "maturion.toml", configuration);
    write(&folder, "pipelines/load.toml", PIPELINE);
    write(&folder, "sql/load.sql", SQL);
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.args(arguments).current_dir(folder).env_clear();
    command
}

/// Exit code, standard output, standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn refuses(folder: &TempDir, arguments: &[&str], code: i32, sentence: &str) {
    let expected = (code, String::new(), format!("maturion: {sentence}\n"));
    assert_eq!(run(&mut command(folder.path(), arguments)), expected);
}

#[test]
fn check_says_what_it_checked() {
    let folder = folder("");
    let expected = (0, format!("1 pipeline (from pipelines), 0 rules: ok\n{SHIPPED_POLICY}"), String::new());
    assert_eq!(run(&mut command(folder.path(), &["check"])), expected);
}

#[test]
fn the_shipped_pipelines_pass_the_check_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let expected =
        (0, format!("12 pipelines (the shipped ones), 17 rules, 8 tests: ok\n{SHIPPED_POLICY}"), String::new());
    assert_eq!(run(&mut command(folder.path(), &["check"])), expected);
}

#[test]
fn an_unknown_key_is_named_with_the_nearest() {
    let folder = folder("[kafka]\nbroker = \"localhost:9092\"\n");
    refuses(&folder, &["check"], 2, "maturion.toml:2: unknown key `broker` in [kafka]; did you mean `brokers`?");
}

#[test]
fn an_unknown_key_in_a_variable_is_named() {
    let folder = folder("");
    let (code, _, error) = run(command(folder.path(), &["check"]).env("MATURION__SERVE__HTPP", "127.0.0.1:1"));
    let sentence = "maturion: MATURION__SERVE__HTPP: unknown key `htpp` in [serve]; did you mean `http`?\n";
    assert_eq!((code, error.as_str()), (2, sentence));
}

#[test]
fn a_configuration_that_does_not_exist_is_named() {
    let folder = folder("");
    let sentence =
        "gone.toml: cannot be read (No such file or directory (os error 2)); name another file with --config";
    refuses(&folder, &["check", "--config", "gone.toml"], 2, sentence);
}

#[test]
fn an_unknown_key_of_a_pipeline_is_named_with_the_nearest() {
    let folder = folder("");
    write(&folder, "pipelines/load.toml", &format!("{PIPELINE}latness = \"1s\"\n"));
    let sentence = "pipelines/load.toml:5: unknown key `latness` in the file; did you mean `lateness`?";
    refuses(&folder, &["check"], 2, sentence);
}

#[test]
fn two_pipelines_of_one_name_are_refused() {
    let folder = folder("");
    write(&folder, "pipelines/other.toml", PIPELINE);
    let sentence =
        "pipelines/other.toml:1: the pipeline `load` exists already, at pipelines/load.toml:1; rename one of them";
    refuses(&folder, &["check"], 2, sentence);
}

#[test]
fn an_sql_error_is_named_with_line_and_column() {
    let folder = folder("");
    write(&folder, "sql/load.sql", &SQL.replace("GROUP", "GRUP"));
    let sentence = "sql/load.sql:3:6: not valid SQL: Expected: end of statement, found: BY";
    refuses(&folder, &["check"], 2, sentence);
}

#[test]
fn a_percentile_of_a_text_column_is_refused() {
    let folder = folder("");
    write(&folder, "sql/load.sql", &SQL.replace("count(*)", "quantile(message, 0.95)"));
    let (code, _, error) = run(&mut command(folder.path(), &["check"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.starts_with("maturion: sql/load.sql") && error.contains("quantile"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_column_that_does_not_exist_is_refused() {
    let folder = folder("");
    write(&folder, "sql/load.sql", &SQL.replace("count(*)", "sum(durations_ms)"));
    let (code, _, error) = run(&mut command(folder.path(), &["check"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.starts_with("maturion: sql/load.sql") && error.contains("durations_ms"), "{error}");
}

#[test]
fn an_unknown_role_is_refused() {
    let folder = folder("");
    let sentence = "invalid value 'audit' for '--roles <ROLE,…>', [possible values: intake, detect, store, remediate, serve]; see `maturion --help`";
    refuses(&folder, &["run", "--roles", "intake,audit"], 2, sentence);
}

#[test]
fn an_instance_name_that_kafka_would_refuse_is_refused() {
    let folder = folder("");
    let sentence = "invalid value 'a b' for '--instance <NAME>': 1 to 60 of a-z A-Z 0-9 . _ -; see `maturion --help`";
    refuses(&folder, &["run", "--instance", "a b"], 2, sentence);
}

#[test]
fn the_embedded_log_is_not_shared_among_processes() {
    let folder = folder("");
    let sentence =
        "the embedded log lives in one process, which needs all roles; leave --roles out, or set kafka.brokers";
    refuses(&folder, &["run", "--roles", "detect"], 2, sentence);
    let sentence =
        "kafka.brokers is \"embedded\", whose topics are made when it starts; set it to the host:port of Kafka";
    refuses(&folder, &["topics"], 2, sentence);
}

#[test]
fn a_running_instance_ends_in_order_when_it_is_told_to() {
    let folder = folder("[serve]\nhttp = \"127.0.0.1:0\"\n");
    let mut child = command(folder.path(), &["run", "--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let warned = lines.find(|line| line.contains("\"WARN\"")).unwrap();
    assert!(warned.contains("not for production"), "{warned}");
    assert!(lines.any(|line| line.contains("\"running\"")), "it never ran");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
}

#[test]
fn an_unreachable_broker_is_named() {
    // A port that was free a moment ago: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder(&format!("[kafka]\nbrokers = \"{address}\"\n"));
    for arguments in [["topics"], ["run"]] {
        let (code, _, error) = run(command(folder.path(), &arguments).env("MATURION_LOG", "off"));
        assert_eq!(code, 1, "{error}");
        assert!(error.starts_with(&format!("maturion: cannot reach Kafka at {address}: ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn an_unknown_property_of_librdkafka_is_named() {
    let folder = folder("[kafka]\nbrokers = \"127.0.0.1:1\"\n[kafka.properties]\nsecurty.protocol = \"SSL\"\n");
    let (code, _, error) = run(command(folder.path(), &["topics"]).env("MATURION_LOG", "off"));
    assert_eq!(code, 2, "{error}");
    assert!(error.starts_with("maturion: ") && error.contains("securty.protocol"), "{error}");
}

#[test]
fn an_unknown_command_is_named_with_the_nearest() {
    let folder = folder("");
    let sentence = "unrecognized subcommand 'chek', tip: a similar subcommand exists: 'check'; see `maturion --help`";
    refuses(&folder, &["chek"], 2, sentence);
}

#[test]
fn a_log_filter_that_cannot_be_read_is_refused() {
    let folder = folder("");
    let (code, _, error) = run(command(folder.path(), &["check"]).env("MATURION_LOG", "a=b=c"));
    assert_eq!(code, 2);
    assert!(error.starts_with("maturion: MATURION_LOG: not a log filter: "), "{error}");
}

#[test]
fn status_without_an_instance_says_how_to_start_one() {
    // A port that was free a moment ago: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder(&format!("[serve]\nhttp = \"{address}\"\n"));
    let (code, _, error) = run(&mut command(folder.path(), &["status"]));
    assert_eq!(code, 1);
    assert!(error.starts_with(&format!("maturion: no instance answers at {address} (")), "{error}");
    assert!(error.ends_with("; start one with `maturion run`, or set serve.http to its address\n"), "{error}");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let folder = folder("");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(folder.path(), &["check"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

/// The shipped policy in a folder of its own, with one text replaced in one of its files.
fn policy_folder(configuration: &str, file: &str, from: &str, to: &str) -> TempDir {
    let folder = folder(configuration);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/policy");
    for name in ["actions.toml", "policy.cedar", "policy.cedarschema"] {
        let text = fs::read_to_string(shipped.join(name)).unwrap();
        assert!(name != file || text.contains(from), "{from} is not in {file}");
        let text = if name == file { text.replacen(from, to, 1) } else { text };
        write(&folder, &format!("pipelines/policy/{name}"), &text);
    }
    folder
}

#[test]
fn check_reads_the_policy_of_the_folder() {
    let folder = policy_folder("", "", "", "");
    let (code, out, error) = run(&mut command(folder.path(), &["check"]));
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out.lines().last(), Some("9 actions (from pipelines/policy), 3 policies, mode observe: ok"));
}

#[test]
fn a_policy_that_cannot_be_used_is_told_with_its_line() {
    let told = [
        ("actions.toml", "low_risk = true", "lowrisk = true", "actions.toml:", "did you mean `low_risk`?"),
        ("policy.cedar", "context.severity)\n}", "context.severty)\n}", "policy.cedar:", "severty"),
        ("policy.cedar", "permit (", "permit [", "policy.cedar:", "unexpected token"),
        ("policy.cedarschema", "entity Agent;", "entity Agent", "policy.cedarschema:", "unexpected token"),
    ];
    for (file, from, to, position, words) in told {
        let folder = policy_folder("", file, from, to);
        let (code, out, error) = run(&mut command(folder.path(), &["check"]));
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        assert!(error.starts_with(&format!("maturion: pipelines/policy/{position}")), "{error}");
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_policy_without_one_of_its_files_is_refused() {
    let folder = policy_folder("", "", "", "");
    fs::remove_file(folder.path().join("pipelines/policy/policy.cedar")).unwrap();
    let (code, _, error) = run(&mut command(folder.path(), &["check"]));
    assert_eq!(code, 2);
    assert!(error.starts_with("maturion: pipelines/policy/policy.cedar: cannot be read ("), "{error}");
}

#[test]
fn acting_needs_what_the_actions_call() {
    let folder = folder("[mode]\nactions = \"act\"\n");
    let sentence = "[mode] `actions` is \"act\", but function_recycle needs the control `platform`, \
                    and no [[control]] has that name";
    refuses(&folder, &["check"], 2, sentence);
    write(
        &folder,
        "maturion.toml",
        "[mode]\nactions = \"act\"\n[[control]]\nname = \"platform\"\nurl = \"http://127.0.0.1:1\"\n",
    );
    let (code, out, error) = run(&mut command(folder.path(), &["check"]));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.ends_with("3 policies, mode act: ok\n"), "{out}");
}
