//! Log levels: many words and OpenTelemetry's severity numbers become the six of the contract.

/// The level that a word means, in any case.
///
/// | level | also |
/// |---|---|
/// | `TRACE` | `VERBOSE` |
/// | `DEBUG` | |
/// | `INFO` | `INFORMATION`, `INFORMATIONAL`, `NOTICE`, `LOG` |
/// | `WARN` | `WARNING` |
/// | `ERROR` | `ERR`, `SEVERE` |
/// | `CRITICAL` | `CRIT`, `FATAL`, `ALERT`, `EMERG`, `EMERGENCY`, `PANIC` |
pub fn from_text(word: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 20] = [
        ("INFO", "INFO"),
        ("ERROR", "ERROR"),
        ("WARN", "WARN"),
        ("DEBUG", "DEBUG"),
        ("CRITICAL", "CRITICAL"),
        ("TRACE", "TRACE"),
        ("WARNING", "WARN"),
        ("ERR", "ERROR"),
        ("FATAL", "CRITICAL"),
        ("NOTICE", "INFO"),
        ("LOG", "INFO"),
        ("INFORMATION", "INFO"),
        ("INFORMATIONAL", "INFO"),
        ("VERBOSE", "TRACE"),
        ("SEVERE", "ERROR"),
        ("CRIT", "CRITICAL"),
        ("ALERT", "CRITICAL"),
        ("EMERG", "CRITICAL"),
        ("EMERGENCY", "CRITICAL"),
        ("PANIC", "CRITICAL"),
    ];
    WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

/// The level of an OpenTelemetry severity number: four numbers each from 1, `TRACE`, to 24, the last `FATAL`.
/// 0, OpenTelemetry's "unspecified", is none, like everything else.
pub fn from_severity_number(number: i64) -> Option<&'static str> {
    match number {
        1..=4 => Some("TRACE"),
        5..=8 => Some("DEBUG"),
        9..=12 => Some("INFO"),
        13..=16 => Some("WARN"),
        17..=20 => Some("ERROR"),
        21..=24 => Some("CRITICAL"),
        _ => None,
    }
}
