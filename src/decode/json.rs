//! The JSON reader: one object, member by member, without building a tree (grammar: RFC 8259).
//!
//! Values of no interest are checked and kept as text. Nothing here recurses, copies or allocates, and the whole grammar is
//! checked, so that whatever is kept as text can be read back by any JSON parser.
//! Written by hand because sonic-rs (0.5) checks a skipped value by unbounded recursion: a record of nested brackets
//! would overflow the stack of the process.

use std::borrow::Cow;

/// How deep objects and arrays may nest, the record itself included: as deep as `serde_json` reads.
pub const DEPTH_MAX: u32 = 127;

/// Where the text stops being JSON, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} at byte {at}")]
pub struct SyntaxError {
    /// Offset from the start of the text, in bytes.
    pub at: usize,
    pub expected: &'static str,
}

/// What a value is. As large as a word, because a [`Value`] is copied by words, and the processor waits when it reads a word
/// of which it has just written one byte: with `fields::Slot`, a quarter of the decoder's whole time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    /// Text without escapes.
    Plain,
    /// Text with escapes, all valid.
    Escaped,
    Array,
    Object,
}

/// A value as it is written, text without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub kind: Kind,
    pub raw: &'a str,
}

/// Reads the members of one object in turn.
pub struct Members<'a> {
    scanner: Scanner<'a>,
    first: bool,
}

impl<'a> Members<'a> {
    /// Starts reading; `None` if the text does not begin with an object. A byte order mark before it is skipped.
    pub fn open(text: &'a str) -> Option<Self> {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let mut scanner = Scanner { text, bytes: text.as_bytes(), at };
        if scanner.skip_space() != b'{' {
            return None;
        }
        scanner.at += 1;
        Some(Members { scanner, first: true })
    }

    /// Goes to the next member and returns where it begins; `None` after the last, when nothing but white space follows the
    /// object. Its key comes next, by [`Members::key`] or [`Members::skip_key`], and then its value.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<usize>, SyntaxError> {
        let scanner = &mut self.scanner;
        match scanner.skip_space() {
            b'}' => return scanner.end().map(|()| None),
            b',' if !self.first => {
                scanner.at += 1;
                scanner.skip_space();
            }
            _ if !self.first => return Err(scanner.error("expected `,` or `}`")),
            _ => {}
        }
        self.first = false;
        Ok(Some(scanner.at))
    }

    /// The key of the member, and its colon.
    pub fn key(&mut self) -> Result<Value<'a>, SyntaxError> {
        self.scanner.key()
    }

    /// Goes behind the key and its colon if they are `written`, which [`Members::key`] has read elsewhere: where a key ends
    /// depends on nothing but its own bytes.
    #[inline(always)]
    pub fn skip_key(&mut self, written: &[u8]) -> bool {
        let scanner = &mut self.scanner;
        let is_it = scanner.bytes.get(scanner.at..).is_some_and(|rest| rest.starts_with(written));
        scanner.at += if is_it { written.len() } else { 0 };
        is_it
    }

    /// The value of the member.
    #[inline(always)]
    pub fn value(&mut self) -> Result<Value<'a>, SyntaxError> {
        self.scanner.value()
    }

    /// What was read since a position, as written.
    pub fn since(&self, start: usize) -> &'a str {
        self.scanner.slice(start, self.scanner.at)
    }
}

impl<'a> Value<'a> {
    /// What it is, in words.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::True | Kind::False => "true or false",
            Kind::Number => "a number",
            Kind::Plain | Kind::Escaped => "text",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }

    /// The text with its escapes resolved.
    pub fn text(&self) -> Cow<'a, str> {
        if self.kind != Kind::Escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::new();
        unescape(self.raw, &mut text);
        Cow::Owned(text)
    }
}

/// Appends escaped text with its escapes resolved.
pub fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some((before, after)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        // The scanner has read every escape, so that `None` does not occur.
        let Some((character, length)) = read_escape(after.as_bytes()) else { return };
        out.push(character);
        rest = after.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
}

/// A position in the text. What reads values is always inlined, as is what takes them up to a column: a value that is
/// handed on in memory is written by halves and read whole, for which the processor waits longer than reading it takes.
/// Between calls it is always beside an ASCII byte or at the end, so on a character's boundary.
struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The byte at the position. At the end it is NUL, which occurs nowhere in JSON's grammar.
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) -> u8 {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.peek()
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        let ended = self.at >= self.bytes.len();
        SyntaxError { at: self.at, expected: if ended { "the text ends in the middle" } else { expected } }
    }

    /// At the closing brace of the record.
    fn end(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        self.skip_space();
        if self.at < self.bytes.len() { Err(self.error("unexpected text after the object")) } else { Ok(()) }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<Value<'a>, SyntaxError> {
        if self.peek() != b'"' {
            return Err(self.error("expected a key in quotes"));
        }
        let key = self.string()?;
        if self.skip_space() != b':' {
            return Err(self.error("expected `:`"));
        }
        self.at += 1;
        Ok(key)
    }

    #[inline(always)]
    fn value(&mut self) -> Result<Value<'a>, SyntaxError> {
        let first = self.skip_space();
        let start = self.at;
        let kind = match first {
            b'"' => return self.string(),
            b'{' => self.skip_nested().map(|()| Kind::Object),
            b'[' => self.skip_nested().map(|()| Kind::Array),
            _ => self.word(first),
        }?;
        Ok(Value { kind, raw: self.slice(start, self.at) })
    }

    /// A number or one of the three literals.
    fn word(&mut self, first: u8) -> Result<Kind, SyntaxError> {
        match first {
            b'-' | b'0'..=b'9' => self.number().map(|()| Kind::Number),
            b't' => self.literal("true").map(|()| Kind::True),
            b'f' => self.literal("false").map(|()| Kind::False),
            b'n' => self.literal("null").map(|()| Kind::Null),
            _ => Err(self.error("expected a value")),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), SyntaxError> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return Err(self.error("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// At the opening quote.
    #[inline(always)]
    fn string(&mut self) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let start = self.at;
        let mut kind = Kind::Plain;
        loop {
            self.at += plain_length(self.bytes.get(self.at..).unwrap_or_default());
            match self.peek() {
                b'"' => {
                    let raw = self.slice(start, self.at);
                    self.at += 1;
                    return Ok(Value { kind, raw });
                }
                b'\\' => {
                    let escape = self.bytes.get(self.at..).and_then(read_escape);
                    let (_, length) = escape.ok_or_else(|| self.error("invalid escape"))?;
                    self.at += length;
                    kind = Kind::Escaped;
                }
                _ => return Err(self.error("unescaped control character")),
            }
        }
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    /// At the opening bracket of an object or array: goes behind its end, checking everything inside.
    fn skip_nested(&mut self) -> Result<(), SyntaxError> {
        let mut nesting = Nesting::default();
        loop {
            let first = self.skip_space();
            match first {
                b'{' | b'[' => {
                    nesting.open(first == b'{').ok_or_else(|| self.error("nested deeper than 127 levels"))?;
                    self.at += 1;
                    let empty = self.skip_space() == nesting.closing();
                    if !empty {
                        self.next_element(&nesting)?;
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                _ => drop(self.word(first)?),
            }
            if self.close(&mut nesting)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here and goes to the next value. True if everything is closed.
    fn close(&mut self, nesting: &mut Nesting) -> Result<bool, SyntaxError> {
        loop {
            let next = self.skip_space();
            if next == nesting.closing() {
                self.at += 1;
                nesting.close();
                if nesting.depth == 0 {
                    return Ok(true);
                }
            } else if next == b',' {
                self.at += 1;
                self.skip_space();
                self.next_element(nesting)?;
                return Ok(false);
            } else {
                return Err(self.error("expected `,` or a closing bracket"));
            }
        }
    }

    /// Before an element: in an object, reads its key.
    fn next_element(&mut self, nesting: &Nesting) -> Result<(), SyntaxError> {
        if nesting.closing() == b'}' { self.key().map(|_| ()) } else { Ok(()) }
    }
}

/// Which brackets are open: one bit for each level, set for an object.
#[derive(Default)]
struct Nesting {
    objects: u128,
    depth: u32,
}

impl Nesting {
    /// `None` if that is too deep; the record itself is the level above the first.
    fn open(&mut self, object: bool) -> Option<()> {
        self.objects = (self.objects << 1) | u128::from(object);
        self.depth += 1;
        (self.depth < DEPTH_MAX).then_some(())
    }

    fn close(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn closing(&self) -> u8 {
        if self.objects & 1 == 1 { b'}' } else { b']' }
    }
}

/// How many bytes come before the first quote, backslash or control character: eight at a time, by the test for a zero
/// byte in a word (Mycroft 1987). Its false positives lie above a true one, and only the lowest counts.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let mut length = 0;
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | backslash | below(word, 0x20);
        if found != 0 {
            return length + (found.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length + tail.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count()
}

/// The character of the escape sequence that `bytes` begins with, and the sequence's length. `None` if it is not valid,
/// which includes half of a surrogate pair: no text in UTF-8 can hold it.
fn read_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = |character| Some((character, 2));
    match bytes.get(1)? {
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => {
            let unit = read_hex(bytes.get(2..6)?)?;
            if !(0xd800..0xdc00).contains(&unit) {
                return char::from_u32(unit).map(|character| (character, 6));
            }
            let low = bytes.get(6..12)?.strip_prefix(b"\\u").and_then(read_hex)?;
            let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low).map(|character| (character, 12))
        }
        _ => None,
    }
}

fn read_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}
