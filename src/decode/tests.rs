//! The traps of telemetry in JSON, a line each, and the proof that every record is a row or a rejection.

mod oracle;
mod properties;
mod traps;
