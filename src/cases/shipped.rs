//! The cases of the shipped pipelines, so that `maturion test` works from any folder.

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        [$((
            concat!("pipelines/tests/", $name, ".toml"),
            include_str!(concat!("../../pipelines/tests/", $name, ".toml")),
        )),+]
    };
}

const SHIPPED: [(&str, &str); 8] = shipped![
    "api_errors",
    "api_latency",
    "calm",
    "exceptions",
    "few_requests",
    "module_api_errors",
    "module_exceptions",
    "resources",
];

/// Each case's file and its text.
pub(super) fn texts() -> Vec<(String, String)> {
    SHIPPED.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}
