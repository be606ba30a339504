//! TOML documents as people write them: every value knows where it was written, so that every error can say so.
//!
//! [`Table`] is the first of two stages: the text is well-formed, its keys are known, nothing is judged yet.
//! `config` and `pipelines` turn tables into values that cannot be wrong. `document` never reads a file or the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// What a variable's name must begin with to override a key of the configuration.
pub const VARIABLE_PREFIX: &str = "MATURION__";

/// How much a key may differ from a known one (Jaro-Winkler, 1 is equal) to be taken for a slip of the pen.
/// Below it the suggestion would be noise, and all known keys are listed instead.
const SIMILAR: f64 = 0.75;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line, from 1, of a file.
    Line(Arc<str>, usize),
    /// An environment variable, by its name.
    Variable(String),
    /// A file as a whole: what is missing has no line.
    File(Arc<str>),
}

impl Origin {
    /// An error about what stands here.
    pub fn error(&self, reason: impl Into<String>) -> DocumentError {
        DocumentError { origin: self.clone(), reason: reason.into() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Line(file, line) => write!(formatter, "{file}:{line}"),
            Origin::Variable(name) => formatter.write_str(name),
            Origin::File(file) => formatter.write_str(file),
        }
    }
}

/// What is wrong, and where: one sentence.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{origin}: {reason}")]
pub struct DocumentError {
    pub origin: Origin,
    pub reason: String,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub origin: Origin,
}

/// A value of a document before anyone asked for its type.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Located<Value>>),
    Table(Table),
    /// An environment variable's text: its type is whatever the key asks for.
    Variable(String),
    /// What no key of ours takes; the TOML name of its type.
    Other(&'static str),
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Variable(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(name) => name,
        }
    }
}

/// The keys of one table that have not been taken yet.
#[derive(Clone, Debug)]
pub struct Table {
    /// How messages call it: `the file`, `[kafka]`, `[[rule]]`.
    name: String,
    pub origin: Origin,
    entries: BTreeMap<String, Located<Value>>,
}

impl Table {
    /// Reads a document. `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Table, DocumentError> {
        let file: Arc<str> = file.into();
        let lines = Lines { file: Arc::clone(&file), text };
        match DeTable::parse(text) {
            Ok(root) => Ok(lines.table("the file".to_owned(), Origin::File(file), root.into_inner())),
            Err(error) => {
                let origin = error.span().map_or(Origin::File(file), |span| lines.at(span.start));
                Err(origin.error(format!("not valid TOML: {}", error.message().replace('\n', ", "))))
            }
        }
    }

    /// A document without a file.
    pub fn empty(name: &str) -> Table {
        Table { name: "the file".to_owned(), origin: Origin::File(name.into()), entries: BTreeMap::new() }
    }

    /// Puts an environment variable over the key it names: `MATURION__KAFKA__TOPIC_PREFIX` is `topic_prefix` of `[kafka]`.
    /// Variables without [`VARIABLE_PREFIX`] are none of our business.
    pub fn overlay(&mut self, variable: &str, text: &str) -> Result<(), DocumentError> {
        let Some(path) = variable.strip_prefix(VARIABLE_PREFIX) else { return Ok(()) };
        let origin = Origin::Variable(variable.to_owned());
        let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let Some((key, sections)) = path.split_last().filter(|(key, sections)| !key.is_empty() && !sections.is_empty())
        else {
            return Err(origin.error("names no key; write MATURION__SECTION__KEY"));
        };
        let mut table = self;
        for section in sections {
            let child = Table { name: format!("[{section}]"), origin: origin.clone(), entries: BTreeMap::new() };
            let empty = Located { value: Value::Table(child), origin: origin.clone() };
            table = match &mut table.entries.entry(section.clone()).or_insert(empty).value {
                Value::Table(child) => child,
                _ => return Err(origin.error(format!("`{section}` is not a section"))),
            };
        }
        table.entries.insert(key.clone(), Located { value: Value::Variable(text.to_owned()), origin });
        Ok(())
    }

    /// Refuses every key that is not among `known`, naming the nearest known one.
    pub fn allow_only(&self, known: &[&str]) -> Result<(), DocumentError> {
        match self.entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, entry)) => Err(entry.origin.error(format!(
                "unknown {} `{key}` in {}; {}",
                if matches!(entry.value, Value::Table(_)) { "section" } else { "key" },
                self.name,
                suggestion(key, known)
            ))),
            None => Ok(()),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where a key is written; the table itself if it is absent.
    pub fn origin_of(&self, key: &str) -> &Origin {
        self.entries.get(key).map_or(&self.origin, |entry| &entry.origin)
    }

    /// The error for a key that must be there.
    pub fn missing(&self, key: &str) -> DocumentError {
        self.origin.error(format!("{} has no `{key}`, which it needs", self.name))
    }

    /// Takes a section; an absent one is empty.
    pub fn section(&mut self, key: &str) -> Result<Table, DocumentError> {
        match self.entries.remove(key) {
            None => Ok(Table { name: format!("[{key}]"), origin: self.origin.clone(), entries: BTreeMap::new() }),
            Some(Located { value: Value::Table(table), .. }) => Ok(table),
            Some(entry) => Err(wrong_type(key, "a section", &entry)),
        }
    }

    /// Takes a list of tables, `[[key]]`; absent is empty.
    pub fn tables(&mut self, key: &str) -> Result<Vec<Table>, DocumentError> {
        let Some(entry) = self.entries.remove(key) else { return Ok(vec![]) };
        let Value::Array(items) = entry.value else { return Err(wrong_type(key, "a list of tables", &entry)) };
        let table = |item: Located<Value>| match item.value {
            Value::Table(table) => Ok(table),
            _ => Err(wrong_type(key, "a list of tables", &item)),
        };
        items.into_iter().map(table).collect()
    }

    pub fn text(&mut self, key: &str) -> Result<Option<Located<String>>, DocumentError> {
        self.take(key, "text", |value| match value {
            Value::Text(text) | Value::Variable(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// A number of any kind. Not NaN, not infinite.
    pub fn number(&mut self, key: &str) -> Result<Option<Located<f64>>, DocumentError> {
        let number = |value: &Value| match value {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        };
        self.take(key, "a finite number", |value| number(value).filter(|number: &f64| number.is_finite()))
    }

    /// A whole number that is not negative.
    pub fn count(&mut self, key: &str) -> Result<Option<Located<u64>>, DocumentError> {
        self.take(key, "a whole number, 0 or more", |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        })
    }

    pub fn boolean(&mut self, key: &str) -> Result<Option<Located<bool>>, DocumentError> {
        self.take(key, "true or false", |value| match value {
            Value::Boolean(value) => Some(*value),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        })
    }

    /// A length of time as people write it: `30s`, `5m`, `1h 30m`.
    pub fn duration(&mut self, key: &str) -> Result<Option<Located<Duration>>, DocumentError> {
        self.take(key, "a length of time such as \"30s\" or \"5m\"", |value| match value {
            Value::Text(text) | Value::Variable(text) => humantime::parse_duration(text.trim()).ok(),
            _ => None,
        })
    }

    /// A list of texts; a variable separates them with commas.
    pub fn texts(&mut self, key: &str) -> Result<Option<Located<Vec<String>>>, DocumentError> {
        self.take(key, "a list of texts", |value| match value {
            Value::Array(items) => items
                .iter()
                .map(|item| if let Value::Text(text) = &item.value { Some(text.clone()) } else { None })
                .collect(),
            Value::Variable(text) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
            _ => None,
        })
    }

    /// Takes all that is left as texts with dotted names: `security.protocol = "SSL"` and
    /// `"security.protocol" = "SSL"` are the same. Numbers and truth values are written as TOML writes them.
    pub fn dotted(self) -> Result<BTreeMap<String, Located<String>>, DocumentError> {
        let mut flat = BTreeMap::new();
        for (key, entry) in self.entries {
            let text = match entry.value {
                Value::Text(text) | Value::Variable(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(value) => value.to_string(),
                Value::Table(table) => {
                    flat.extend(table.dotted()?.into_iter().map(|(child, text)| (format!("{key}.{child}"), text)));
                    continue;
                }
                Value::Array(_) | Value::Other(_) => return Err(wrong_type(&key, "text", &entry)),
            };
            flat.insert(key, Located { value: text, origin: entry.origin });
        }
        Ok(flat)
    }

    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Located<T>>, DocumentError> {
        let Some(entry) = self.entries.remove(key) else { return Ok(None) };
        match read(&entry.value) {
            Some(value) => Ok(Some(Located { value, origin: entry.origin })),
            None => Err(wrong_type(key, expected, &entry)),
        }
    }
}

/// The names that may stand in place of `wrong`: the most similar one, or all of them.
pub fn suggestion(wrong: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((likeness, name)) if likeness >= SIMILAR => format!("did you mean `{name}`?"),
        Some(_) => format!("known are {}", known.join(", ")),
        None => "nothing is known here".to_owned(),
    }
}

fn wrong_type(key: &str, expected: &str, entry: &Located<Value>) -> DocumentError {
    let found = match &entry.value {
        // A variable may hold a secret, but none of our typed keys does.
        Value::Text(text) | Value::Variable(text) => format!("\"{text}\""),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => other.type_name().to_owned(),
    };
    entry.origin.error(format!("`{key}` must be {expected}, not {found}"))
}

/// Turns the parser's byte offsets into lines.
struct Lines<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Lines<'_> {
    fn at(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        Origin::Line(Arc::clone(&self.file), 1 + before.filter(|byte| **byte == b'\n').count())
    }

    fn table(&self, name: String, origin: Origin, table: DeTable<'_>) -> Table {
        let entry = |(key, value): (toml::Spanned<std::borrow::Cow<'_, str>>, toml::Spanned<DeValue<'_>>)| {
            let origin = self.at(key.span().start);
            let value = self.value(key.get_ref(), &origin, value.into_inner());
            (key.get_ref().to_string(), Located { value, origin })
        };
        Table { name, origin, entries: table.into_iter().map(entry).collect() }
    }

    fn value(&self, key: &str, origin: &Origin, value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number too large"),
            },
            DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a number"), Value::Float),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Table(table) => Value::Table(self.table(format!("[{key}]"), origin.clone(), table)),
            DeValue::Array(items) => Value::Array(items.into_iter().map(|item| self.item(key, item)).collect()),
        }
    }

    /// An element of a list: a table among them is called `[[key]]` and begins at its own line.
    fn item(&self, key: &str, item: toml::Spanned<DeValue<'_>>) -> Located<Value> {
        let origin = self.at(item.span().start);
        let value = match item.into_inner() {
            DeValue::Table(table) => Value::Table(self.table(format!("[[{key}]]"), origin.clone(), table)),
            other => self.value(key, &origin, other),
        };
        Located { value, origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Table {
        Table::parse("a.toml", text).expect("valid TOML")
    }

    fn message<T>(result: Result<T, DocumentError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = message(Table::parse("a.toml", "x = 1\ny = = 2\n"));
        assert!(error.starts_with("a.toml:2: not valid TOML: "), "{error}");
    }

    #[test]
    fn a_key_given_twice_names_its_line() {
        let error = message(Table::parse("a.toml", "x = 1\nx = 2\n"));
        assert!(error.starts_with("a.toml:2: not valid TOML: duplicate key"), "{error}");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let mut root = parse("[kafka]\n\nbroker = 1\n");
        let error = root.section("kafka").and_then(|kafka| kafka.allow_only(&["brokers", "topic_prefix"]));
        assert_eq!(message(error), "a.toml:3: unknown key `broker` in [kafka]; did you mean `brokers`?");
    }

    #[test]
    fn a_key_like_nothing_known_lists_all() {
        assert_eq!(suggestion("zzz", &["brokers", "http"]), "known are brokers, http");
    }

    #[test]
    fn a_wrong_type_says_what_is_expected_and_found() {
        let error = message(parse("x = 1\n").text("x"));
        assert_eq!(error, "a.toml:1: `x` must be text, not 1");
        let error = message(parse("wait = \"soon\"\n").duration("wait"));
        assert_eq!(error, "a.toml:1: `wait` must be a length of time such as \"30s\" or \"5m\", not \"soon\"");
        let error = message(parse("x = nan\n").number("x"));
        assert_eq!(error, "a.toml:1: `x` must be a finite number, not NaN");
        let error = message(parse("x = 99999999999999999999\n").count("x"));
        assert_eq!(error, "a.toml:1: `x` must be a whole number, 0 or more, not a number too large");
    }

    #[test]
    fn a_variable_overrides_a_key_and_is_named_in_errors() {
        let mut root = parse("[kafka]\npartitions = 3\n");
        root.overlay("MATURION__KAFKA__PARTITIONS", "many").expect("a key");
        let error = message(root.section("kafka").and_then(|mut kafka| kafka.count("partitions")));
        assert_eq!(error, "MATURION__KAFKA__PARTITIONS: `partitions` must be a whole number, 0 or more, not \"many\"");
    }

    #[test]
    fn a_variable_takes_the_type_its_key_asks_for() {
        let mut root = Table::empty("none");
        root.overlay("MATURION__A__TEXT", "123").expect("a key");
        root.overlay("MATURION__A__COUNT", "123").expect("a key");
        let mut section = root.section("a").expect("a section");
        assert_eq!(section.text("text").expect("text").map(|text| text.value).as_deref(), Some("123"));
        assert_eq!(section.count("count").expect("a count").map(|count| count.value), Some(123));
    }

    #[test]
    fn a_variable_without_a_key_is_refused() {
        let error = message(Table::empty("none").overlay("MATURION__KAFKA", "x"));
        assert_eq!(error, "MATURION__KAFKA: names no key; write MATURION__SECTION__KEY");
    }

    #[test]
    fn dotted_names_may_be_quoted_or_not() {
        let flat = parse("\"a.b\" = 1\nc.d = true\n").dotted().expect("texts");
        let flat: Vec<_> = flat.iter().map(|(name, text)| (name.as_str(), text.value.as_str())).collect();
        assert_eq!(flat, [("a.b", "1"), ("c.d", "true")]);
    }

    #[test]
    fn each_table_of_a_list_knows_its_line() {
        let mut root = parse("[[rule]]\nname = \"a\"\n[[rule]]\nnam = \"b\"\n");
        let rules = root.tables("rule").expect("tables");
        let error = message(rules[1].allow_only(&["name"]));
        assert_eq!(error, "a.toml:4: unknown key `nam` in [[rule]]; did you mean `name`?");
    }
}
