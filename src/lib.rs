//! Maturion watches a live platform through Kafka, detects what goes wrong, and hands it on with proof.
//!
//! # Layout
//!
//! Read `roles/intake.rs` first, then `window.rs`, `roles/detect.rs` and `detect.rs`: that is the way of a record.
//!
//! ```text
//!  telemetry.logs, telemetry.metrics
//!        │
//!   roles::intake    decode ─▶ window::Aggregator      (one Partial per commit; bad records ─▶ maturion.dead-letter)
//!        │
//!   maturion.partials                                  (keyed by series, one transaction with the input offsets)
//!        │
//!   roles::detect    window::Windows ─▶ detect::Detector
//!        │
//!   maturion.windows, maturion.remediation             (one transaction with the partials' offsets and all state)
//! ```
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`model`] | records, pipelines, series, windows, detections and their Arrow schemas | nothing of ours |
//! | [`cli`] | the command line: arguments in, an exit code and at most one sentence of error out | `config`, `pipelines`, `serve` |
//! | [`config`] | `maturion.toml` and the environment, validated | nothing of ours |
//! | [`detect`] | baselines, techniques, rules: closed windows of a series become detections | `model` |
//! | [`log`] | the log interface; Apache Kafka and the in-process log behind it; the topics | nothing of ours |
//! | [`pipelines`] | pipeline files and their SQL, read and checked; the shipped ones | `model`, `config` |
//! | [`serve`] | the HTTP door: ingestion, status, health | `model`, `log` |
//! | [`simulate`] | the simulated platform: seeded telemetry with scripted incidents | `model` |

pub mod cli;
pub mod config;
pub mod detect;
pub mod log;
pub mod model;
pub mod pipelines;
pub mod serve;
pub mod simulate;
