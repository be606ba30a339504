//! The one integration-test binary: what the parts do together, each against the real thing.
//!
//! `kafka` finds or starts Apache Kafka, `subject` is a log under test, `flow` runs a whole Maturion on a log and
//! `straight` the core without one, `simulation` everything in one thread; the others are suites.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cli;
mod compose;
mod deadlines;
mod demo;
mod flow;
mod foreign;
mod generate;
mod kafka;
mod layout;
mod log;
mod oracle;
mod panes;
mod readme;
mod serve;
mod simulation;
mod statements;
mod straight;
mod subject;
mod topics;
mod whole;
