//! `maturion audit`: is the audit as it was written, and a key to sign it with.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};

use crate::audit::{Head, KeyError, PublicKey, Report, Signer, Verifier};
use crate::config::{Brokers, Config};
use crate::log::topics::Topics;
use crate::roles::{self, runtime};

use super::{Failure, output};

mod copy;

/// The longest line of a file: more than an entry can have. It bounds memory.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Finds what was edited, deleted, reordered, inserted or cut off since it was written
    Verify(VerifyArguments),
    /// Makes a key that signs the audit, and prints its public part
    Keygen(KeygenArguments),
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Reads the messages from a file, one on each line, instead of the topic
    #[arg(conflicts_with = "store")]
    file: Option<PathBuf>,
    /// Reads the table `audit`, and compares each row with its entry
    #[arg(long)]
    store: bool,
    /// An end that the chain had at some time, as `verify` printed it; may be given several times
    #[arg(long, value_name = "SEQ:HASH", value_parser = expected)]
    expect: Vec<Head>,
}

#[derive(Debug, Args)]
pub(super) struct KeygenArguments {
    /// Where the secret key is written; it must not exist
    file: PathBuf,
}

fn expected(text: &str) -> Result<Head, String> {
    Head::parse(text)
        .ok_or_else(|| "write the number of an entry and its hash, as `maturion audit verify` prints them".to_owned())
}

pub(super) fn audit(config: &Config, command: &AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify(arguments) => verify(config, arguments),
        AuditCommand::Keygen(arguments) => keygen(&arguments.file),
    }
}

/// Reads everything, and says what was found; a fault is a failure of the command.
fn verify(config: &Config, arguments: &VerifyArguments) -> Result<(), Failure> {
    let mut verifier = Verifier::new(trusted(config)?, &arguments.expect);
    match &arguments.file {
        Some(file) => read_file(file, &mut verifier)?,
        None if arguments.store => copy::read_table(config, &mut verifier)?,
        None => read_topic(config, &mut verifier)?,
    }
    let report = verifier.finish().map_err(|fault| {
        Failure::work(format!("the audit is not as it was written, from entry {} on: {fault}", fault.seq()))
    })?;
    output::print(&told(&report, config.audit.checkpoint_interval))
}

/// The keys whose checkpoints count.
fn trusted(config: &Config) -> Result<Vec<PublicKey>, Failure> {
    let unusable = |error: KeyError| Failure::Unusable(error.to_string());
    let named = config.audit.public_keys.iter().map(|key| PublicKey::parse(key));
    let mut keys = named.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    if let Some(key) = &config.audit.key {
        keys.push(Signer::parse(key.reveal()).map_err(unusable)?.public_key());
    }
    Ok(keys)
}

fn read_topic(config: &Config, verifier: &mut Verifier) -> Result<(), Failure> {
    if config.kafka.brokers == Brokers::Embedded {
        return Err(Failure::Unusable(
            "kafka.brokers is \"embedded\", whose topics are gone with their process; set it to the host:port of Kafka, \
             or check the table with --store"
                .to_owned(),
        ));
    }
    let log = runtime::connect(config)?;
    Ok(roles::audit::verify(log.as_ref(), &Topics::new(&config.kafka.topic_prefix), verifier)?)
}

fn read_file(path: &Path, verifier: &mut Verifier) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::Unusable(format!("{}: cannot be read ({error})", path.display()));
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = vec![];
    while std::io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        verifier.take(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
    Ok(())
}

/// What was found, in a few lines.
fn told(report: &Report, interval: Duration) -> String {
    let Report { entries, checkpoints, first, head, time, signed } = report;
    if *entries == 0 {
        return "no entries: ok\n".to_owned();
    }
    let counted = output::counted(*checkpoints, "checkpoint");
    let checkpoints = match signed {
        Some(signed) => {
            let (seq, at) = (signed.seq, &signed.time);
            let open = match head.seq - seq {
                0 => "nothing since".to_owned(),
                open => format!(
                    "{open} since, which only the chain protects (the next checkpoint is due within {} of them)",
                    humantime::format_duration(interval)
                ),
            };
            format!("{counted}; signed up to entry {seq} at {at}, {open}")
        }
        None => format!(
            "{counted}, not compared with a known key: [audit] has neither key nor public_keys, so whoever may write the \
             audit could have written all of it anew"
        ),
    };
    format!("entries: {entries} ({first} to {}), the last at {time}\n{checkpoints}\nend: {head}\nok\n", head.seq)
}

/// Writes a new key that only its owner may read.
fn keygen(path: &Path) -> Result<(), Failure> {
    let mut random = [0; 32];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| Failure::work("the system gives no random numbers"))?;
    let secret = Signer::secret_text(&random);
    let signer = Signer::parse(&secret).map_err(Failure::work)?;
    let unwritable = |error| Failure::Unusable(format!("{}: cannot be written ({error})", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    writeln!(file, "{secret}").and_then(|()| file.sync_all()).map_err(unwritable)?;
    output::print(&format!(
        "the secret key is in {}; keep a copy elsewhere\n\n[audit]\nkey_file = \"{}\"\n\n\
         and where the audit is only checked:\n\n[audit]\npublic_keys = [\"{}\"]\n",
        path.display(),
        path.display(),
        signer.public_key()
    ))
}
