//! The one integration-test binary: what the parts do together, each against the real thing.
//!
<<<<<<< HEAD
//! `kafka` finds or starts Apache Kafka; `flow` runs a whole Maturion on a log, `straight` the core without one, `subject`
//! is a log under test; the others are suites.
=======
//! `kafka` finds or starts Apache Kafka, `subject` is a log under test; the others are suites.
>>>>>>> main

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cli;
mod compose;
<<<<<<< HEAD
mod deadlines;
mod demo;
mod flow;
mod foreign;
mod generate;
mod kafka;
mod layout;
mod log;
mod oracle;
mod readme;
mod serve;
mod straight;
mod subject;
=======
mod foreign;
mod kafka;
mod layout;
mod log;
mod readme;
mod serve;
mod subject;
>>>>>>> main
