//! A number that survives being written and read.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A finite `f64` that is written as text, because `serde_json` may read a plain number back off by its last bit, and then a restart
/// would not continue with the same baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exact(pub(super) f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Exact(value)),
            _ => Err(D::Error::custom(format!("`{text}` is not a finite number"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_finite_number_is_read_back_as_it_was(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let text = serde_json::to_string(&Exact(value)).unwrap();
            match serde_json::from_str::<Exact>(&text) {
                Ok(read) => prop_assert_eq!(read.0.to_bits(), bits),
                Err(_) => prop_assert!(!value.is_finite()),
            }
        }
    }
}
