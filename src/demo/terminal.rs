//! What the terminal can do.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

use super::screen::Style;

/// Colour and wrapping on a terminal, plain lines otherwise or if `NO_COLOR` asks for them (<https://no-color.org>).
pub fn style() -> Style {
    let is_terminal = io::stdout().is_terminal();
    let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Style { colour: is_terminal && wants_colour, width: if is_terminal { columns() } else { None } }
}

/// The terminal's width, as POSIX's `stty` says it: the standard library does not know.
fn columns() -> Option<usize> {
    let answer = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    text.split_whitespace().nth(1)?.parse().ok().filter(|columns| *columns > 0)
}
