//! Who asks.

/// Whose rows may be seen. A connection belongs to exactly one principal for as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Everything, platform-wide rows included.
    Operator,
    /// The rows of one organisation, and nothing else.
    Organisation(String),
}
