//! The one integration-test binary: what the parts do together, each against the real thing.
//!
//! `kafka` finds or starts Apache Kafka, `subject` is a log under test; the others are suites.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cli;
mod compose;
mod foreign;
mod kafka;
mod layout;
mod log;
mod readme;
mod serve;
mod subject;
