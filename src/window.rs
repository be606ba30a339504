//! Windows over event time: DataFusion's own two-phase aggregation, spread over time and over processes.
//!
//! | file | what it is |
//! |---|---|
//! | [`plan`] | a pipeline's SQL, taken apart |
//! | [`functions`] | `tumble` and `hop` |
//! | [`aggregator`] | stage one: rows to partial states |
//! | [`partial`] | how partial states travel, and to which partition |
//! | [`clock`] | watermarks from heartbeats |
//! | [`open`] | stage two: partial states to closed windows |
//! | [`rows`] | a closed window's rows as series, numbers and JSON |
//! | [`sketch`], [`quantile`] | percentiles with a stated error, as an aggregate |
//!
//! `window` is pure: it never reads a clock, a socket or a file, and never waits.

pub mod aggregator;
pub mod clock;
pub mod functions;
pub mod open;
pub mod partial;
pub mod plan;
pub mod quantile;
pub mod rows;
pub mod sketch;
mod table;
