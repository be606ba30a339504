//! The nouns of Maturion: what the stages hand to each other.
//!
//! Everything here is plain data. `model` never does I/O, never reads a clock and uses no other module.

pub mod action;
pub mod detection;
pub mod pipeline;
pub mod principal;
pub mod schema;
pub mod series;
pub mod silence;
pub mod template;
pub mod time;
pub mod trace;
