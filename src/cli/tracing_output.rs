//! Where logs go: standard error, as text or as one JSON object per line.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Failure, LogFormat};
use crate::events;

/// The variable that filters logs, in tracing's own syntax.
const VARIABLE: &str = "MATURION_LOG";
/// librdkafka reports each lost connection at `info` and above, Delta's crates every step of every commit; the roles say
/// what follows from it.
const DEFAULT_FILTER: &str =
    "info,librdkafka=warn,rdkafka=warn,deltalake_core=error,buoyant_kernel=error,buoyant_kernel_engine=error";

/// Starts writing logs; once per process.
pub(super) fn start(format: LogFormat) -> Result<(), Failure> {
    let filter = std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| Failure::Unusable(format!("{VARIABLE}: not a log filter: {error}; write e.g. \"debug\"")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let started = match format {
        LogFormat::Text => builder.with_ansi(is_terminal).finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
    // Whoever embeds the command line may have a subscriber of their own, which then stays.
    if started.is_err() {
        events::logs_go_elsewhere();
    }
    Ok(())
}
