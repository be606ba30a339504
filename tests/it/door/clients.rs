//! Others' clients: psql and Python's psycopg, with passwords and with TLS.

use std::path::{Path, PathBuf};
use std::process::Command;

use maturion::serve::postgres::{self, Certificate, PostgresError, PostgresHandle};
use maturion::serve::users::Users;

use crate::kafka::skip;
use crate::python;

use super::{both, door, door_with, engine, psql, users};

const PYTHON_CLIENT: &str = "psycopg[binary]==3.2.13";

#[test]
fn psql_finds_the_tables_and_their_columns() {
    let door = door();
    for (command, words) in [
        ("\\dt", vec!["detections", "logs", "metrics", "windows", "table"]),
        ("\\d", vec!["detections", "logs", "metrics", "windows"]),
        ("\\d logs", vec!["organisation_id", "timestamp with time zone", "attributes", "duration_ms"]),
        ("\\d detections", vec!["incident_id", "evidence_sql"]),
        ("\\l", vec!["maturion"]),
        ("\\conninfo", vec!["as user \"ann\""]),
        ("SELECT count(*) FROM logs", vec!["40"]),
        ("SHOW TimeZone", vec!["UTC"]),
        ("BEGIN; SELECT 1 AS one; COMMIT", vec!["one"]),
    ] {
        let Some(output) = psql(&door, "ann", "ann's password", &["-c", command]) else { return };
        let said = both(&output);
        assert!(output.status.success() && words.iter().all(|word| said.contains(word)), "{command}: {said}");
        assert!(!said.contains("ERROR"), "{command}: {said}");
    }
    door.stop();
}

#[test]
fn psql_is_refused_in_words() {
    let door = door();
    for (command, words) in [
        ("DROP TABLE logs", "DROP TABLE is refused"),
        ("CREATE TABLE x (a int)", "CREATE TABLE is refused"),
        ("\\copy logs TO '/tmp/x'", "COPY"),
        ("SET datafusion.execution.batch_size TO 1", "there is no setting"),
        ("SET TimeZone TO 'Europe/Zurich'", "times are UTC here"),
        ("SELECT * FROM '/etc/passwd'", "is not a table"),
        ("BEGIN; SELECT nothing; SELECT 1", "nothing"),
        ("SELECT repeat('x', 1000000000)", "Invalid function 'repeat'"),
        ("SELECT generate_series(1, 1000000000)", "Invalid function 'generate_series'"),
        ("DECLARE c CURSOR FOR SELECT 1", "DECLARE"),
        ("PREPARE a AS SELECT 1", "PREPARE"),
    ] {
        let Some(output) = psql(&door, "ann", "ann's password", &["-c", command]) else { return };
        assert!(!output.status.success() && both(&output).contains(words), "{command}: {}", both(&output));
    }
    door.stop();
}

#[test]
fn only_the_right_password_opens() {
    let door = door();
    for (user, password) in [("ann", "wrong"), ("ann", "bob's password"), ("eve", "ann's password"), ("ann", " ")] {
        let Some(output) = psql(&door, user, password, &["-c", "SELECT 'inside'"]) else { return };
        let said = both(&output);
        assert!(!output.status.success() && !said.contains("inside"), "{user}: {said}");
        assert!(said.contains(&format!("there is no user \"{user}\" with this password")), "{said}");
    }
    door.stop();
}

/// What is sent before signing in is not answered, and neither is what follows a refusal.
#[test]
fn nobody_is_answered_before_signing_in() {
    use std::io::{Read, Write};

    let door = door();
    let startup = b"\0\x03\0\0user\0ann\0database\0maturion\0\0";
    let query = b"SELECT 'inside'\0";
    let mut first = (startup.len() as u32 + 4).to_be_bytes().to_vec();
    first.extend_from_slice(startup);
    let mut asked = vec![b'Q'];
    asked.extend((query.len() as u32 + 4).to_be_bytes());
    asked.extend_from_slice(query);
    for messages in [
        vec![first.clone(), asked.clone(), asked.clone()],
        vec![asked.clone()],
        vec![first.clone(), vec![b'p', 0, 0, 0, 5, 0], asked],
    ] {
        let mut socket = std::net::TcpStream::connect(door.address()).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(15))).unwrap();
        for message in &messages {
            // The door may be closed already, which is as good.
            let _ = socket.write_all(message);
        }
        let mut heard = vec![];
        let _ = socket.read_to_end(&mut heard);
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(!heard.contains("inside"), "{heard}");
    }
    door.stop();
}

#[test]
fn a_door_without_users_or_encryption_stays_closed() {
    let settings = |address: &str| postgres::Settings {
        address: address.parse().unwrap(),
        allow_remote: false,
        certificate: None,
        connections_max: 1,
    };
    let nobody = postgres::start(settings("127.0.0.1:0"), engine(), Users::default().into());
    assert!(matches!(nobody, Err(PostgresError::WithoutUsers)));
    let remote = postgres::start(settings("0.0.0.0:0"), engine(), users());
    assert!(matches!(remote, Err(PostgresError::Remote { .. })));
    let files = Certificate { chain: "/nowhere/chain.pem".into(), key: "/nowhere/key.pem".into() };
    let broken = postgres::Settings { certificate: Some(files), ..settings("127.0.0.1:0") };
    assert!(matches!(postgres::start(broken, engine(), users()), Err(PostgresError::Certificate { .. })));
}

/// A certificate for 127.0.0.1 and its key, made by openssl.
fn certificate(folder: &Path) -> Result<Certificate, String> {
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout"]).arg(&key).arg("-out").arg(&chain);
    let made = openssl.output().map_err(|error| format!("openssl cannot be run: {error}"))?;
    made.status.success().then_some(Certificate { chain, key }).ok_or_else(|| both(&made))
}

fn encrypted(folder: &Path, address: &str) -> Option<(PostgresHandle, PathBuf)> {
    match certificate(folder) {
        Ok(files) => {
            let chain = files.chain.clone();
            Some((
                door_with(engine(), |settings| {
                    settings.certificate = Some(files);
                    settings.address = address.parse().unwrap();
                }),
                chain,
            ))
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

#[test]
fn psql_speaks_tls_and_checks_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let Some((door, chain)) = encrypted(folder.path(), "127.0.0.1:0") else { return };
    let port = door.address().port();
    let connect = |mode: &str| {
        format!("host=127.0.0.1 port={port} user=ann dbname=maturion sslmode={mode} sslrootcert={}", chain.display())
    };
    let ask = |mode: &str| {
        let mut command = Command::new("psql");
        command.args(["-X", "-w", &connect(mode), "-c", "\\conninfo", "-c", "SELECT count(*) FROM logs"]);
        command.env("PGPASSWORD", "ann's password").output()
    };
    for mode in ["require", "verify-full"] {
        let output = match ask(mode) {
            Ok(output) => output,
            Err(error) => return skip(&format!("psql cannot be run: {error}")),
        };
        let said = both(&output);
        assert!(output.status.success() && said.contains("SSL connection") && said.contains("40"), "{mode}: {said}");
    }
    assert!(ask("disable").unwrap().status.success(), "the own machine may do without");
    door.stop();
}

/// The address by which other machines would reach this one, if it has any. Nothing is sent to find out.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn other_machines_must_speak_tls() {
    let Some(address) = own_address() else { return skip("this machine has no address but its own") };
    let folder = tempfile::tempdir().unwrap();
    let Some((door, _)) = encrypted(folder.path(), "0.0.0.0:0") else { return };
    let port = door.address().port();
    let ask = |mode: &str| {
        let mut command = Command::new("psql");
        let connect = format!("host={address} port={port} user=ann dbname=maturion sslmode={mode}");
        command.args(["-X", "-w", &connect, "-c", "SELECT count(*) FROM logs"]);
        command.env("PGPASSWORD", "ann's password").output()
    };
    let plain = match ask("disable") {
        Ok(plain) => plain,
        Err(error) => return skip(&format!("psql cannot be run: {error}")),
    };
    assert!(!plain.status.success() && both(&plain).contains("speaks TLS only"), "{}", both(&plain));
    let encrypted = ask("require").unwrap();
    assert!(encrypted.status.success() && both(&encrypted).contains("40"), "{}", both(&encrypted));
    door.stop();
}

#[test]
fn python_prepares_cancels_and_reads_types() {
    let client = match python::packages("psycopg-3.2.13", &[PYTHON_CLIENT]) {
        Ok(client) => client,
        Err(reason) => return skip(&reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let Some((door, chain)) = encrypted(folder.path(), "127.0.0.1:0") else { return };
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/door.py"));
    python.arg(door.address().port().to_string()).arg(chain).env("PYTHONPATH", &client);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert!(both(&output).contains("all well"), "{}", both(&output));
    door.stop();
}
