//! Maturion watches a live platform through Kafka, detects what goes wrong, and hands it on with proof.
//!
//! # Layout
//!
//! Read `roles/intake.rs` first, then `window.rs`, `roles/detect.rs` and `detect.rs`: that is the way of a record.
//!
//! ```text
//!  telemetry.logs, telemetry.metrics
//!        │
//!   roles::intake    decode ─▶ window::aggregator      (one Partial per commit; bad records ─▶ maturion.dead-letter)
//!        │
//!   maturion.partials                                  (keyed by series, one transaction with the input offsets)
//!        │
//!   roles::detect    evaluate::shard: window::open ─▶ detect
//!        │
//!   maturion.windows, maturion.remediation             (one transaction with the partials' offsets and all state)
//! ```
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`model`] | records, pipelines, series, windows, detections and their Arrow schemas | nothing of ours |
//! | [`config`] | `maturion.toml` and the environment, validated | nothing of ours |
//! | [`decode`] | JSON records to Arrow batches, or a reason in words | `model` |
//! | [`window`] | plan splitting, partial states, watermarks, open windows, the sketch | `model` |
//! | [`detect`] | baselines, techniques, rules: closed windows of a series become detections | `model` |
//! | [`evaluate`] | pipelines compiled together, and one partition of stage two | `model`, `window`, `detect` |
//! | [`events`] | every line of the logs, by a fixed name | nothing of ours |
//! | [`explain`] | why a detection fired, from the rows of the tables, as text and as a picture | `model` |
//! | [`log`] | the log interface; Apache Kafka and the in-process log behind it; the topics | `events` |
//! | [`pipelines`] | pipeline files and their SQL, read and checked; the shipped ones | `model`, `config` |
//! | [`query`] | read-only SQL over the tables of one principal | `model`, `window` |
//! | [`serve`] | the doors: HTTP for ingestion, SQL, status, metrics, health; PostgreSQL for SQL | `model`, `events`, `log`, `query` |
//! | [`scrub`] | personal data and secrets out of text that leaves | nothing of ours |
//! | [`tickets`] | reports as issues on GitHub, one per incident epoch; draft pull requests | `model`, `config`, `scrub` |
//! | [`notify`] | who is told of an incident, when, and through which channel | `model`, `config`, `scrub` |
//! | [`simulate`] | the simulated platform: seeded telemetry with scripted incidents | `model` |
//! | [`store`] | hot rows and Delta Lake as one view; commits, maintenance, tenants | `model`, `events`, `query` |
//! | [`backfill`] | the same pipelines over history: files and the store | `model`, `decode`, `window`, `detect`, `evaluate` |
//! | [`cases`] | the pipelines' own tests: given records, expected windows and detections | `model`, `config`, `decode`, `window`, `evaluate`, `backfill`, `pipelines`, `simulate` |
//! | [`roles`] | intake, detect, store, serve: where the core meets the world | all above |
//! | [`generate`] | load and replay: simulated telemetry or files, to the log or over HTTP | all above |
//! | [`demo`] | the simulated platform, every role, and what was detected, on one screen | all above |
//! | [`cli`] | the command line: arguments in, an exit code and at most one sentence of error out | all above |

pub mod backfill;
pub mod cases;
pub mod cli;
pub mod config;
pub mod decode;
pub mod demo;
pub mod detect;
pub mod evaluate;
pub mod events;
pub mod explain;
pub mod generate;
pub mod log;
pub mod model;
pub mod notify;
pub mod pipelines;
pub mod query;
pub mod roles;
pub mod scrub;
pub mod serve;
pub mod simulate;
pub mod store;
pub mod tickets;
pub mod window;
