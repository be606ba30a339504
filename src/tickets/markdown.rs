//! Data as Markdown that does nothing: it mentions nobody, refers to nothing, links nowhere, closes no comment and ends no
//! block. Everything is scrubbed here, so that nothing is quoted that was not.

use crate::scrub::{scrub, scrub_organisations};

/// Breaks what GitHub would make a link of, and is not seen.
const NOTHING: char = '\u{200b}';
/// What stands at the end of a text that was cut.
const CUT: &str = "…";

/// How data is made harmless, and what in it is not shown at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Quote<'a> {
    /// The id of an organisation that may not be named.
    pub(super) hidden: Option<&'a str>,
    /// Whether organisations may be named at all.
    pub(super) organisations: bool,
    /// How many bytes each length is divided by, so that a whole page fits.
    pub(super) share: usize,
}

impl Quote<'_> {
    /// Scrubbed, without the organisation, in one line if `lines` is false, and at most so long.
    fn clean(&self, text: &str, bytes_max: usize, lines: bool) -> String {
        let kept = |character: char| match character {
            '\n' if lines => '\n',
            _ if character.is_control() || is_invisible(character) => ' ',
            _ => character,
        };
        let text = if self.organisations { scrub(text) } else { scrub_organisations(&scrub(text)) };
        // After that: within an address an organisation's name is a part of a shape.
        let text = match self.hidden.filter(|hidden| !hidden.is_empty()) {
            Some(hidden) => text.replace(hidden, "[organisation]"),
            None => text,
        };
        let text: String = text.chars().map(kept).collect();
        cut(text.trim(), bytes_max / self.share.max(1))
    }

    /// Words in a paragraph or a list.
    pub(super) fn prose(&self, text: &str, bytes_max: usize) -> String {
        let text = self.clean(text, bytes_max, false);
        let mut quoted = String::with_capacity(text.len() * 2);
        for character in text.chars() {
            match character {
                '&' => quoted.push_str("&amp;"),
                '<' => quoted.push_str("&lt;"),
                '>' => quoted.push_str("&gt;"),
                '@' | '#' => quoted.extend([character, NOTHING]),
                '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '!' | '|' | '~' => {
                    quoted.extend(['\\', character]);
                }
                _ => quoted.push(character),
            }
        }
        without_links(&quoted)
    }

    /// A name or a number in a line.
    pub(super) fn code(&self, text: &str, bytes_max: usize) -> String {
        let text = self.clean(text, bytes_max, false);
        let fence = "`".repeat(1 + longest_run(&text, '`'));
        match text.as_str() {
            "" => "–".to_owned(),
            _ if text.starts_with('`') || text.ends_with('`') => format!("{fence} {text} {fence}"),
            _ => format!("{fence}{text}{fence}"),
        }
    }

    /// A line of a block.
    pub(super) fn line(&self, text: &str, bytes_max: usize) -> String {
        self.clean(text, bytes_max, false)
    }

    /// Lines in a block of their own.
    pub(super) fn block(&self, language: &str, text: &str, bytes_max: usize) -> String {
        let text = self.clean(text, bytes_max, true);
        let fence = "`".repeat(3.max(1 + longest_run(&text, '`')));
        format!("{fence}{language}\n{text}\n{fence}\n")
    }

    /// A title: GitHub takes it as it is, but for code.
    pub(super) fn title(&self, text: &str, bytes_max: usize) -> String {
        let text = self.clean(text, bytes_max, false);
        without_links(&text.replace('`', "'").replace('@', "@\u{200b}").replace('#', "#\u{200b}"))
    }
}

/// `https://` and `www.` are links even in plain words, and `GH-7` is an issue.
fn without_links(text: &str) -> String {
    let text = text.replace("://", ":\u{200b}//");
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = first_link(rest) {
        let (before, after) = rest.split_at(at);
        let (word, further) = after.split_at_checked(2).unwrap_or((after, ""));
        quoted.extend([before, word, "\u{200b}"]);
        rest = further;
    }
    quoted + rest
}

/// Where the first address or number of an issue begins.
fn first_link(text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    let numbered =
        |at: &usize| text.get(at + 3..).is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()));
    let issue = text.match_indices("gh-").map(|(at, _)| at).find(numbered);
    text.find("www.").into_iter().chain(issue).min()
}

/// Turns writing around, or is not seen: what is read would not be what is there.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn longest_run(text: &str, wanted: char) -> usize {
    text.split(|character| character != wanted).map(str::len).max().unwrap_or_default()
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(CUT.len()));
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quote() -> Quote<'static> {
        Quote { hidden: Some("org_7"), organisations: false, share: 1 }
    }

    #[test]
    fn words_do_nothing() {
        let quoted = |text| quote().prose(text, 500).replace(NOTHING, "·");
        assert_eq!(quoted("@ann see #7 or a/b#8, GH-9"), "@·ann see #·7 or a/b#·8, GH·-9");
        assert_eq!(quoted("<!-- x --> <img src=x>"), "&lt;\\!-- x --&gt; &lt;img src=x&gt;");
        assert_eq!(
            quoted("[a](https://evil.example) WWW.evil.example"),
            "\\[a\\]\\(https:·//evil.example\\) WW·W.evil.example"
        );
        assert_eq!(quoted("a\n# b\r\n| c | `d`"), "a #· b  \\| c \\| \\`d\\`");
        assert_eq!(quoted("org_7 of ann@example.org\u{202e}x"), "\\[organisation\\] of \\[email\\] x");
    }

    #[test]
    fn code_and_blocks_cannot_be_left() {
        assert_eq!(quote().code("a`b", 99), "``a`b``");
        assert_eq!(quote().code("`", 99), "`` ` ``");
        assert_eq!(quote().code("", 99), "–");
        assert_eq!(quote().block("sql", "a\n```\n@ann", 99), "````sql\na\n```\n@ann\n````\n");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(quote().prose("ééééé", 8), "éé…");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_data_leaves_its_quotes(text in "([`@#<>!\\[\\](){}|*_~&a-c \n-]|https://a|www\\.a|<!--|-->|```){0,60}") {
            let quote = Quote { hidden: None, organisations: false, share: 1 };
            let code = quote.code(&text, 4_000);
            let fence = code.chars().take_while(|character| *character == '`').count();
            prop_assert!(!code.contains('\n'));
            if fence > 0 {
                let inner = &code[fence..code.len() - fence];
                prop_assert!(inner.split(|c| c != '`').all(|run| run.len() != fence), "{code}");
            }
            let block = quote.block("", &text, 4_000);
            let fence = block.chars().take_while(|character| *character == '`').count();
            prop_assert!(!block[fence..block.len() - fence - 1].contains(&"`".repeat(fence)), "{block}");
            let prose = quote.prose(&text, 4_000);
            prop_assert!(!prose.contains(['<', '>', '\n']) && !prose.contains("://"), "{prose}");
            for (at, _) in prose.match_indices(['@', '#']) {
                prop_assert!(prose[at + 1..].starts_with(NOTHING));
            }
            for (at, found) in prose.match_indices(['`', '[', ']', '(', ')', '!', '*', '_', '|']) {
                prop_assert!(prose[..at].ends_with('\\'), "{found} in {prose}");
            }
        }
    }
}
