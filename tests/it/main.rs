//! The one integration-test binary: what the parts do together, each against the real thing.
//!
//! `kafka` finds or starts Apache Kafka, `subject` is a log under test, `flow` runs a whole Maturion on a log and
//! `straight` the core without one, `simulation` everything in one thread, `faults` as processes that are killed; the others
//! are suites.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod cli;
mod compose;
mod deadlines;
mod demo;
mod door;
mod faults;
mod flow;
mod foreign;
mod generate;
mod github;
mod history;
mod kafka;
mod layout;
mod limits;
mod log;
mod membership;
mod notices;
mod oracle;
mod panes;
mod python;
mod readme;
mod reference;
mod scale;
mod serve;
mod simulation;
mod state;
mod statements;
mod store;
mod straight;
mod subject;
mod tickets;
mod topics;
mod trouble;
mod versions;
mod whole;
