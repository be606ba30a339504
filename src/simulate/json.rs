//! JSON objects written straight into a buffer: a record costs no allocation and no tree.

/// One JSON object under construction at the end of a buffer. Names are the caller's own and must need no escaping.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> ObjectWriter<'a> {
    /// Appends one object whose fields `fill` writes.
    pub fn write(out: &'a mut Vec<u8>, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        out.push(b'{');
        let mut object = ObjectWriter { out };
        fill(&mut object);
        object.out.push(b'}');
    }

    /// A text field, escaped as RFC 8259 demands.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_text(self.out, value);
    }

    /// A text field, or nothing if there is none.
    pub fn optional_text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A text field whose content `fill` appends; it must need no escaping.
    pub fn plain_text(&mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        self.out.push(b'"');
        fill(self.out);
        self.out.push(b'"');
    }

    pub fn integer(&mut self, name: &str, value: i64) {
        self.name(name);
        push_integer(self.out, value);
    }

    /// A number in thousandths, written with as many decimals as it needs.
    pub fn thousandths(&mut self, name: &str, value: i64) {
        self.name(name);
        if value < 0 {
            self.out.push(b'-');
        }
        push_integer(self.out, (value / 1_000).abs());
        push_decimals(self.out, (value % 1_000).unsigned_abs());
    }

    /// A number in the shortest form that reads back the same. What JSON cannot say (NaN, infinity) becomes null.
    pub fn number(&mut self, name: &str, value: f64) {
        use std::io::Write as _;
        self.name(name);
        let written = if value.is_finite() { write!(self.out, "{value}") } else { write!(self.out, "null") };
        debug_assert!(written.is_ok(), "a Vec takes every byte");
    }

    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A field of any shape, if its names are not the caller's own.
    pub fn value(&mut self, name: &str, value: &serde_json::Value) {
        use std::io::Write as _;
        self.name(name);
        let written = write!(self.out, "{value}");
        debug_assert!(written.is_ok(), "a Vec takes every byte");
    }

    /// A field that is an object itself.
    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        self.name(name);
        ObjectWriter::write(self.out, fill);
    }

    fn name(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// Appends a whole number in decimal digits.
pub fn push_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let (mut rest, start) = (value.unsigned_abs(), out.len());
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// Appends `.` and the digits of a number of thousandths, without closing zeros.
fn push_decimals(out: &mut Vec<u8>, thousandths: u64) {
    let mut rest = thousandths;
    let mut unit = 100;
    while rest > 0 && unit > 0 {
        if unit == 100 {
            out.push(b'.');
        }
        out.push(b'0' + (rest / unit) as u8);
        rest %= unit;
        unit /= 10;
    }
}

/// Appends a quoted text.
fn push_text(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn written(fill: impl FnOnce(&mut ObjectWriter<'_>)) -> String {
        let mut out = Vec::new();
        ObjectWriter::write(&mut out, fill);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_separated_and_nested() {
        let text = written(|object| {
            object.integer("a", -12);
            object.object("b", |inner| inner.boolean("c", true));
            object.optional_text("absent", None);
            object.thousandths("d", -50);
            object.number("e", f64::NAN);
        });
        assert_eq!(text, r#"{"a":-12,"b":{"c":true},"d":-0.05,"e":null}"#);
    }

    proptest! {
        #[test]
        fn every_text_reads_back(value in any::<String>()) {
            let text = written(|object| object.text("text", &value));
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read["text"].as_str(), Some(value.as_str()));
        }

        #[test]
        fn every_number_reads_back(integer in any::<i64>(), thousandths in -1_000_000_000_i64..1_000_000_000) {
            let text = written(|object| {
                object.integer("integer", integer);
                object.thousandths("thousandths", thousandths);
            });
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read["integer"].as_i64(), Some(integer));
            prop_assert!((read["thousandths"].as_f64().unwrap() - thousandths as f64 / 1_000.0).abs() < 1e-9);
        }
    }
}
