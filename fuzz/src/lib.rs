//! The parts of Maturion that are fuzzed, taken from its sources one by one: with the whole crate, DataFusion would have to
//! be compiled with the sanitizers.

#[path = "../../src"]
mod product {
    pub mod decode;
    pub mod model {
        pub mod pipeline;
        pub mod schema;
    }
}

#[path = "../../src/decode/tests/oracle.rs"]
pub mod oracle;

pub use product::{decode, model};
