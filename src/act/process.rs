//! One run of a program, to its end or to its time limit.
//!
//! It waits in a thread of its caller. When the time is over, the program and whatever it started in its process group are
//! killed. Output beyond the limit is read and thrown away, so that no program hangs on a full pipe.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{ANSWER_BYTES_MAX, ActError};

/// How often it is looked whether the program has ended. Longer makes every command longer by as much.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long the output may still come after the program has ended: something that it started may hold the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
const SIGKILL: i32 = 9;

// SAFETY: kill(2) takes two numbers and touches no memory of this process.
#[allow(unsafe_code, reason = "std kills one process, and not its group")]
unsafe extern "C" {
    safe fn kill(process: i32, signal: i32) -> i32;
}

/// What is run.
#[derive(Debug)]
pub(super) struct Started {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// All of it.
    pub environment: [(String, String); 2],
    pub timeout: Duration,
}

/// Runs it until it ends well. Gives its output, or nothing if that is too long or goes on after the end.
pub(super) fn run(started: &Started) -> Result<Option<Vec<u8>>, ActError> {
    let mut child = Command::new(&started.program)
        .args(&started.arguments)
        .env_clear()
        .envs(started.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| ActError::NotSent(format!("the program does not start ({error})")))?;
    let output = read_aside(&mut child);
    let status = ended(&mut child, started.timeout)?;
    if !status.success() {
        return Err(ActError::Unknown(format!("the program ended with {status}")));
    }
    Ok(output.recv_timeout(OUTPUT_GRACE).ok().filter(|output| output.len() <= ANSWER_BYTES_MAX))
}

/// Reads the output beside the waiting, up to one byte beyond the limit; the rest is read for nothing.
fn read_aside(child: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut output = vec![];
            // What cannot be read is not there, and neither is one who waits for it any more.
            let _ = stdout.by_ref().take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut output);
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
            let _ = sender.send(output);
        });
    }
    receiver
}

/// Waits for the end, and brings it about when the time is over.
fn ended(child: &mut Child, timeout: Duration) -> Result<ExitStatus, ActError> {
    let lost = |error: std::io::Error| ActError::Unknown(format!("the program cannot be watched ({error})"));
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(lost)? {
            return Ok(status);
        }
        if begun.elapsed() >= timeout {
            kill_group(child);
            child.wait().map_err(lost)?;
            return Err(ActError::Unknown("the program was killed: it did not end in time".to_owned()));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// The group has the number of its first process, which is still ours: it was not waited for.
fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        kill(-group, SIGKILL);
    }
}
