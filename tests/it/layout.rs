//! The layout as a test: what may use what stands in the table of `src/lib.rs`, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file that one person reads at one sitting.
const LINES_MAX: usize = 450;
/// A function that does one thing.
const FUNCTION_LINES_MAX: usize = 70;

/// Modules whose results depend on their arguments only.
const PURE: [&str; 6] = ["model", "decode", "window", "detect", "evaluate", "scrub"];
/// What a pure module cannot use: clocks, chance, waiting, and the world outside.
const IMPURE: [&str; 11] = [
    "SystemTime",
    "Instant",
    "Utc::now",
    "Local::now",
    "tokio",
    "rdkafka",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "rand::rng",
];

/// A source file without its tests.
struct Source {
    path: PathBuf,
    /// The module of `lib.rs` it belongs to.
    module: String,
    /// How many modules deep it is: `window.rs` is 1, `window/plan.rs` is 2.
    depth: usize,
    lines: Vec<String>,
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Source {
        let text = fs::read_to_string(&path).unwrap();
        let below = path.strip_prefix(root).unwrap().with_extension("");
        let parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let lines = without_tests(&text);
        Source { path, module: parts[0].clone(), depth: parts.len(), lines }
    }

    /// Every module of `lib.rs` that the code names, with the line.
    fn uses(&self) -> Vec<(usize, String)> {
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        let text: Vec<String> = self.lines.iter().map(|line| code(line)).collect();
        let mut uses = Vec::new();
        for (number, line) in text.iter().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                if rest.starts_with('{') {
                    let group = format!("{rest}{}", text[number + 1..].join(" "));
                    uses.extend(grouped(&group).into_iter().map(|module| (number + 1, module)));
                } else {
                    uses.push((number + 1, identifier(rest)));
                }
            }
        }
        uses
    }
}

/// The first path segment of each entry of `{a::b, c::{d, e}}`.
fn grouped(group: &str) -> Vec<String> {
    let (mut depth, mut entries, mut entry) = (0, Vec::new(), String::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => entries.push(std::mem::take(&mut entry)),
            _ if depth >= 1 => entry.push(character),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    entries.push(entry);
    entries.iter().map(|entry| identifier(entry.trim())).filter(|module| !module.is_empty()).collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// The lines of a formatted file, with each item under `#[cfg(test)]` made empty, so that line numbers stay.
fn without_tests(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != "#[cfg(test)]" {
            at += 1;
            continue;
        }
        let end = item_end(&lines, at + 1);
        lines[at..=end].iter_mut().for_each(String::clear);
        at = end + 1;
    }
    lines
}

/// The last line of the item that begins at `start`: its own if it ends there, else the brace below it, or the end of
/// a signature without a body.
fn item_end(lines: &[String], start: usize) -> usize {
    let indentation = lines[start].len() - lines[start].trim_start().len();
    if lines[start].trim_end().ends_with([';', '}']) {
        return start;
    }
    let closes = |line: &String| match line.get(indentation..) {
        Some(rest) => {
            line[..indentation].trim().is_empty() && (rest == "}" || rest.starts_with(')') && rest.ends_with(';'))
        }
        None => false,
    };
    lines[start..].iter().position(closes).map_or(lines.len() - 1, |length| start + length)
}

/// Files that a parent declares under `#[cfg(test)]`.
fn test_files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in rust_files(root) {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            if let Some(name) =
                pair[1].trim_start_matches("pub ").strip_prefix("mod ").and_then(|m| m.strip_suffix(';'))
            {
                found.insert(path.with_extension("").join(format!("{name}.rs")));
            }
        }
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let (root, tests) = (root(), test_files(&root()));
    let shipped = rust_files(&root)
        .into_iter()
        .filter(|path| !tests.iter().any(|test| path == test || path.starts_with(test.with_extension(""))));
    shipped.map(|path| Source::read(&root, path)).collect()
}

/// The table in `src/lib.rs`: each module and what it may use. "all above" is every row before it.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("lib.rs")).unwrap();
    let mut table = BTreeMap::<String, BTreeSet<String>>::new();
    for line in text.lines().filter(|line| line.starts_with("//! | [`")) {
        let cells: Vec<&str> = line.trim_start_matches("//! |").split('|').map(str::trim).collect();
        let module = cells[0].trim_matches(['[', ']', '`']).to_owned();
        let may_use = match cells[2] {
            "nothing of ours" => BTreeSet::new(),
            "all above" => table.keys().cloned().collect(),
            list => list.split(',').map(|name| name.trim().trim_matches(['[', ']', '`']).to_owned()).collect(),
        };
        table.insert(module, may_use);
    }
    table
}

/// Fails with every finding at once.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn the_table_of_modules_is_complete() {
    let text = fs::read_to_string(root().join("lib.rs")).unwrap();
    let declared: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect();
    let described: BTreeSet<String> = table().into_keys().collect();
    assert_eq!(declared, described);
}

#[test]
fn modules_use_what_the_table_allows() {
    let table = table();
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| table.contains_key(&source.module)) {
        let allowed = &table[&source.module];
        for (line, used) in source.uses() {
            if table.contains_key(&used) && used != source.module && !allowed.contains(&used) {
                findings.push(format!("{}:{line}: {} may not use {used}", source.path.display(), source.module));
            }
        }
        let to_root = "super::".repeat(source.depth);
        let climbs = source.lines.iter().position(|line| line.contains(&to_root));
        findings.extend(climbs.map(|at| format!("{}:{}: write crate:: for the root", source.path.display(), at + 1)));
    }
    none(findings);
}

#[test]
fn the_core_is_pure() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.module.as_str())) {
        for (number, line) in source.lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words = |name: &&&str| code.match_indices(**name).any(|(at, _)| is_word(code, at, name.len()));
            if let Some(name) = IMPURE.iter().find(words) {
                findings.push(format!("{}:{}: a pure module uses {name}", source.path.display(), number + 1));
            }
        }
    }
    none(findings);
}

fn is_word(code: &str, at: usize, length: usize) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    !code[..at].ends_with(part) && !code[at + length..].starts_with(part)
}

#[test]
fn files_and_functions_are_readable() {
    let mut findings = Vec::new();
    for path in rust_files(&root()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines, at most {LINES_MAX}", path.display()));
        }
        if path.ends_with("mod.rs") {
            findings.push(format!("{}: name it after its folder, beside it", path.display()));
        }
    }
    for source in sources() {
        for start in (0..source.lines.len()).filter(|at| is_function(&source.lines[*at])) {
            let length = item_end(&source.lines, start) - start + 1;
            if length > FUNCTION_LINES_MAX {
                findings.push(format!("{}:{}: a function of {length} lines", source.path.display(), start + 1));
            }
        }
    }
    none(findings);
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || word.ends_with("super)") || ["const", "async", "unsafe", "extern"].contains(word)
    });
    words.next() == Some("fn")
}

#[test]
fn every_module_says_what_it_promises() {
    let silent = |source: &&Source| source.module != "main" && !source.lines[0].starts_with("//!");
    let silent = sources().iter().filter(silent).map(|source| format!("{}: no `//!`", source.path.display())).collect();
    none(silent);
}

#[test]
fn what_panics_is_proved_not_to() {
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let panics = [".unwrap()", ".expect(\"", "panic!(", "todo!(", "unimplemented!("];
            let proved = source.lines[number.saturating_sub(20)..=number].iter().any(|line| line.contains("clippy::"));
            if panics.iter().any(|call| code.contains(call)) && !proved {
                findings.push(format!("{}:{}: {}", source.path.display(), number + 1, line.trim()));
            }
        }
    }
    none(findings);
}

/// What an operator may see has a fixed name, in `events`; what librdkafka says is passed on as it is.
#[test]
fn only_events_log() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.module != "events") {
        for (number, line) in source.lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let logs = code.contains("tracing::") || code.contains("use tracing;");
            if logs && !code.contains("target: \"librdkafka\"") {
                findings.push(format!("{}:{}: make it a function of `events`", source.path.display(), number + 1));
            }
        }
    }
    none(findings);
}

#[test]
fn test_code_is_told_from_shipped_code() {
    let text = "use a;\n#[cfg(test)]\nmod tests {\n    use b;\n}\nfn c() {}\n#[cfg(test)]\nmod golden;\n";
    let kept: Vec<String> = without_tests(text).into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(kept, ["use a;", "fn c() {}"]);
    assert_eq!(grouped("{model::{a, b}, log::Log,} rest"), ["model", "log"]);
}
