//! Templates of calls and command lines: text with places that one intent fills in.
//!
//! A place is a word in braces. Nothing else may stand in braces, so that a slip of the pen is an error and not text.
//! How a value is encoded depends on where the template stands; that is for whoever fills it in.

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Target,
    Organisation,
    /// The new value; when something is reverted, the value before.
    Value,
    /// The name of what is changed.
    Parameter,
    /// All that the snapshot read, as JSON. Only where something is reverted.
    Before,
}

impl Place {
    pub const ALL: [Place; 5] = [Place::Target, Place::Organisation, Place::Value, Place::Parameter, Place::Before];

    /// As it is written, without the braces.
    pub fn name(self) -> &'static str {
        match self {
            Place::Target => "target",
            Place::Organisation => "organisation",
            Place::Value => "value",
            Place::Parameter => "parameter",
            Place::Before => "before",
        }
    }
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    Place(Place),
}

/// Takes a template apart, or says what is wrong with it.
pub fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = vec![];
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, braces) = rest.split_at(at);
        let (name, after) = braces
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
            .ok_or_else(|| format!("\"{template}\" has a brace without its other half"))?;
        let place = Place::ALL.into_iter().find(|place| place.name() == name).ok_or_else(|| {
            let known = Place::ALL.map(|place| format!("{{{}}}", place.name())).join(", ");
            format!("\"{template}\" has an unknown place {{{name}}}; known are {known}")
        })?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        pieces.push(Piece::Place(place));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_places() {
        let path = pieces("/modules/{target}/limits/{parameter}").expect("a template");
        let expected = [
            Piece::Text("/modules/"),
            Piece::Place(Place::Target),
            Piece::Text("/limits/"),
            Piece::Place(Place::Parameter),
        ];
        assert_eq!(path, expected);
        assert_eq!(pieces("{value}"), Ok(vec![Piece::Place(Place::Value)]));
        assert_eq!(pieces(""), Ok(vec![]));
    }

    #[test]
    fn a_slip_of_the_pen_is_an_error() {
        for wrong in ["{", "}", "a}b{", "{target", "{tarqet}", "{{target}}", "{}", "{ target }"] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
        let error = pieces("/{tenant}").expect_err("an unknown place");
        assert!(error.starts_with("\"/{tenant}\" has an unknown place {tenant}; known are {target}, "), "{error}");
    }
}
