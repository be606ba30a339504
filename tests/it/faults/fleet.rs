//! Processes of Maturion that share the work, to be killed, paused and stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::load::{PARTITIONS, PIPELINE, SQL};

/// How long a process may take to end after it was told to. Only a failing test waits so long.
const END_WAIT: Duration = Duration::from_secs(120);

/// Configuration, pipelines and logs of one installation.
pub struct Installation {
    pub folder: TempDir,
    starts: usize,
}

impl Installation {
    /// `properties` are lines of `[kafka.properties]`.
    pub fn new(prefix: &str, properties: &str) -> Installation {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("written");
        };
        let configuration = format!(
            "[kafka]\ntopic_prefix = \"{prefix}\"\npartitions = {PARTITIONS}\n[kafka.properties]\n{properties}\n\
             [intake]\nidle_after = \"1day\"\n"
        );
        write("maturion.toml", &configuration);
        write("pipelines/requests.toml", PIPELINE);
        write("sql/requests.sql", SQL);
        Installation { folder, starts: 0 }
    }

    /// Starts a process of this name.
    pub fn start(&mut self, name: &str, brokers: &str) -> Process {
        self.starts += 1;
        let log = self.folder.path().join(format!("{name}-{}.log", self.starts));
        Process::start(self.folder.path(), "intake,detect", name, brokers, log)
    }
}

pub struct Process {
    pub name: String,
    pub brokers: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `maturion run` in a folder, with what stands there. `log` is a new file.
    pub fn start(folder: &Path, roles: &str, name: &str, brokers: &str, log: PathBuf) -> Process {
        let child = Command::new(env!("CARGO_BIN_EXE_maturion"))
            .args(["run", "--roles", roles, "--instance", name])
            .current_dir(folder)
            .env_clear()
            .env("MATURION__KAFKA__BROKERS", brokers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("maturion runs");
        Process { name: name.to_owned(), brokers: brokers.to_owned(), child, log }
    }

    /// SIGKILL: no chance to say anything to anyone.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// Sends a signal by its name, without `SIG`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "{} is gone: {}", self.name, self.last_words());
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + END_WAIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end: {}", self.name, self.last_words());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and how long it took to end in order.
    pub fn stop(&mut self) -> Duration {
        self.signal("TERM");
        let told = Instant::now();
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}: {}", self.name, self.last_words());
        told.elapsed()
    }

    /// Fails if it has ended.
    pub fn check(&mut self) {
        let ended = self.child.try_wait().expect("asked");
        assert!(ended.is_none(), "{} ended with {ended:?}: {}", self.name, self.last_words());
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
