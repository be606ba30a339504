//! Personal data and secrets taken out of text that leaves: tickets, pull requests, notices.
//!
//! [`scrub`] knows shapes, not people: e-mail and network addresses, telephone, card and account numbers, tokens and
//! keys, passwords in addresses, UUIDs, and the values of fields whose names say that they are personal or secret. A
//! name of a person in plain words it cannot know. It hides too much rather than too little, takes time linear in the
//! text, and if its rules could not be made it hides everything. It never fails, and never reads anything else.

use std::sync::LazyLock;

use regex::{Captures, Regex};

mod judge;
mod rules;

use rules::{ORGANISATIONS, RULES};

/// The longest text that is looked at; what lies beyond is cut off before. More costs time for each text that leaves.
pub const INPUT_BYTES_MAX: usize = 32 * 1024;

/// What stands in place of a text that could not be looked at.
const WITHHELD: &str = "[withheld]";

/// What a rule finds, and what of it is hidden.
struct Rule {
    pattern: &'static str,
    /// What stands in its place, or `None` if it is harmless after all.
    hide: fn(&Found<'_, '_>) -> Option<String>,
}

/// One place that a pattern matches.
struct Found<'a, 't> {
    captures: &'a Captures<'t>,
    before: Option<char>,
    after: Option<char>,
}

impl Found<'_, '_> {
    /// The whole match.
    fn text(&self) -> &str {
        self.group(0)
    }

    /// A group of the pattern; empty if it took no part.
    fn group(&self, nth: usize) -> &str {
        self.captures.get(nth).map_or("", |group| group.as_str())
    }

    /// True if it is not a part of a longer word.
    fn stands_alone(&self) -> bool {
        let part = |character: char| character.is_alphanumeric() || character == '_';
        !self.before.is_some_and(part) && !self.after.is_some_and(part)
    }
}

/// The patterns of a list of rules, or none: with one missing nothing may leave.
type Compiled = Option<Vec<(Regex, &'static Rule)>>;

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| compiled(RULES));
static COMPILED_ORGANISATIONS: LazyLock<Compiled> = LazyLock::new(|| compiled(ORGANISATIONS));

fn compiled(rules: &'static [Rule]) -> Compiled {
    rules.iter().map(|rule| Some((Regex::new(rule.pattern).ok()?, rule))).collect()
}

/// The text with `[email]`, `[ip]`, `[token]` and so on in place of what may not leave.
pub fn scrub(text: &str) -> String {
    hidden(text, &COMPILED)
}

/// The text with `[organisation]` in place of the values of fields such as `organisation_id`.
pub fn scrub_organisations(text: &str) -> String {
    hidden(text, &COMPILED_ORGANISATIONS)
}

fn hidden(text: &str, rules: &Compiled) -> String {
    let Some(rules) = rules else { return WITHHELD.to_owned() };
    let mut text = within_bounds(text).to_owned();
    for (pattern, rule) in rules {
        if pattern.is_match(&text) {
            text = applied(&text, pattern, rule);
        }
    }
    text
}

fn applied(text: &str, pattern: &Regex, rule: &Rule) -> String {
    let replaced = pattern.replace_all(text, |captures: &Captures<'_>| {
        let range = captures.get(0).map_or(0..0, |whole| whole.range());
        let found = Found {
            captures,
            before: text.get(..range.start).and_then(|before| before.chars().next_back()),
            after: text.get(range.end..).and_then(|after| after.chars().next()),
        };
        (rule.hide)(&found).unwrap_or_else(|| found.text().to_owned())
    });
    replaced.into_owned()
}

/// The text up to [`INPUT_BYTES_MAX`], without the word that the cut goes through: half a token has no known shape.
fn within_bounds(text: &str) -> &str {
    if text.len() <= INPUT_BYTES_MAX {
        return text;
    }
    let cut = text.floor_char_boundary(INPUT_BYTES_MAX);
    let kept = text.get(..cut).unwrap_or_default();
    kept.rfind(char::is_whitespace).and_then(|end| kept.get(..end)).unwrap_or(WITHHELD)
}

#[cfg(test)]
mod tests;
