//! A bucket of a real server that speaks S3, reached as `docs/reference.md` says: by the usual `AWS_…` variables.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maturion::model::principal::Principal;
use maturion::model::schema::StoreTable;
use maturion::store::chunk::OffsetRange;
use maturion::store::{Location, Store, StoreError};

use super::delta::{DAY, LATER, input, logs};
use super::open_at;
use crate::{kafka, python};

const SERVER: &str = "moto[server]==5.2.5";
const BUCKET: &str = "telemetry";
const URL: &str = "s3://telemetry/some/prefix";
const WAIT: Duration = Duration::from_secs(60);
/// What this process tells the one that works in the bucket.
const TOLD: &str = "MATURION_TEST_BUCKET";

fn now() -> i64 {
    LATER
}

/// A server that ends with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server() -> Result<Server, String> {
    let packages = python::packages("moto-5.2.5", &[SERVER])?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let mut command = Command::new("python3");
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]).env("PYTHONPATH", packages);
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3 runs");
    let mut server = Server { process, port };
    let deadline = Instant::now() + WAIT;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(server.process.try_wait().expect("a process").is_none(), "the server ended");
        assert!(Instant::now() < deadline, "the server does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().proxy(None).build());
    agent.put(format!("http://127.0.0.1:{port}/{BUCKET}")).send_empty().expect("a bucket");
    Ok(server)
}

/// A program that is told of the bucket, and of nothing else.
fn told(program: &str, server: &Server) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let settings = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("NO_PROXY", "127.0.0.1"),
    ];
    command.envs(settings);
    command
}

#[test]
fn a_store_in_a_bucket_is_written_compacted_opened_again_and_read_by_sql() {
    let server = match server() {
        Ok(server) => server,
        Err(reason) => return kafka::skip(&reason),
    };
    let own = std::env::current_exe().expect("this program");
    let mut worker = told(own.to_str().expect("a path"), &server);
    worker.args(["store::s3::works_in_the_bucket_it_is_told_of", "--exact", "--ignored", "--nocapture"]).env(TOLD, URL);
    let worked = worker.output().expect("it runs");
    let said = format!("{}{}", String::from_utf8_lossy(&worked.stdout), String::from_utf8_lossy(&worked.stderr));
    assert!(worked.status.success() && said.contains("1 passed"), "{said}");

    let folder = tempfile::tempdir().expect("a folder");
    let mut sql = told(env!("CARGO_BIN_EXE_maturion"), &server);
    sql.current_dir(folder.path()).env("MATURION__STORE__URL", URL).env("MATURION__SERVE__HTTP", "127.0.0.1:1");
    sql.args(["sql", "--format", "csv", "--tenant", "org_1"]);
    sql.arg("SELECT count(*) AS logs, sum(kafka_offset) AS offsets FROM logs");
    let answer = sql.output().expect("maturion runs");
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    let odd = (0..120).filter(|offset| offset % 2 == 1);
    let expected = format!("logs,offsets\r\n{},{}\r\n", odd.clone().count(), odd.sum::<i64>());
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&answer.stderr));
}

fn append(store: &Store, offsets: std::ops::Range<i64>) {
    let range = OffsetRange { start: offsets.start, end: offsets.end };
    let batch = logs(offsets, "audit", LATER - DAY);
    store.state(StoreTable::Logs).append(&input(), range, batch).expect("appended");
}

/// The store finds the bucket by the environment, which belongs to a whole process: so this is one of its own.
#[test]
#[ignore = "is started by the test above"]
fn works_in_the_bucket_it_is_told_of() {
    let url = std::env::var(TOLD).expect("the bucket");
    let location = Location::parse(&url, std::path::Path::new(".")).expect("a bucket");
    let (store, other) = (open_at(&location), open_at(&location));
    let count = |store: &Arc<Store>| super::ask(store, now, &Principal::Operator, "SELECT count(*) FROM logs");
    for start in (0..100).step_by(5) {
        append(&store, start..start + 5);
        let chunk = store.state(StoreTable::Logs).seal().expect("rows");
        store.commit(StoreTable::Logs, &chunk).expect("committed");
        assert_eq!(count(&store), start + 5);
    }
    append(&other, 0..5);
    let late = other.state(StoreTable::Logs).seal().expect("rows");
    let refused = other.commit(StoreTable::Logs, &late);
    assert!(matches!(refused, Err(StoreError::NotNext { committed: 100, start: 0, .. })), "{:?}", refused.err());
    let done = store.maintain(StoreTable::Logs, LATER).expect("maintained");
    assert_eq!((done.merged, done.is_checkpointed), (16, true));
    assert_eq!(count(&store), 100);
    drop((store, other));
    let store = open_at(&location);
    assert_eq!(store.offset(StoreTable::Logs, &input()).expect("read"), Some(100));
    assert_eq!(store.view().table(StoreTable::Logs).committed.files.len(), 5);
    append(&store, 100..120);
    assert_eq!(count(&store), 120);
    let chunk = store.state(StoreTable::Logs).seal().expect("rows");
    store.commit(StoreTable::Logs, &chunk).expect("committed");
    assert_eq!(count(&open_at(&location)), 120);
}
