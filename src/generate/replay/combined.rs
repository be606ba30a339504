//! Apache's combined log format, `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`, as `http_request` records.
//! See <https://httpd.apache.org/docs/2.4/mod/mod_log_config.html>. The common format, without the last two, is read too.

use chrono::DateTime;

use super::{Labels, Replayed};
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;
use crate::simulate::Kind;
use crate::simulate::json::ObjectWriter;

/// The parts of one line, unescaped where they were quoted.
struct Line<'a> {
    host: &'a str,
    user: Option<&'a str>,
    time: Micros,
    request: String,
    status: i64,
    bytes: Option<i64>,
    referrer: Option<String>,
    user_agent: Option<String>,
}

/// Writes the record of one line. The key is the client, so that each client's requests stay in order.
pub(super) fn convert(line: &str, labels: &Labels, shift: Micros, out: &mut Vec<u8>) -> Result<Replayed, String> {
    let line = parse(line)?;
    let time = line.time + shift;
    let request = Request::parse(&line.request);
    ObjectWriter::write(out, |object| {
        object.text("timestamp", &format_time(time));
        object.optional_text("organisation_id", labels.organisation.as_deref());
        object.text("module", labels.module.as_deref().unwrap_or("web"));
        object.text("source", "apache");
        object.text("level", level(line.status));
        object.text("event", "http_request");
        object.integer("status_code", line.status);
        match &request {
            Some(request) => {
                object.text("route", request.path);
                object.text("method", request.method);
            }
            None => object.text("message", &line.request),
        }
        object.optional_text("user_id", line.user);
        object.text("client_ip", line.host);
        object.object("attributes", |attributes| line.write_attributes(request.as_ref(), attributes));
    });
    Ok(Replayed { kind: Kind::Logs, key: Some(line.host.to_owned()), time: Some(time) })
}

fn level(status: i64) -> &'static str {
    match status {
        500.. => "ERROR",
        400.. => "WARN",
        _ => "INFO",
    }
}

impl Line<'_> {
    fn write_attributes(&self, request: Option<&Request<'_>>, attributes: &mut ObjectWriter<'_>) {
        if let Some(bytes) = self.bytes {
            attributes.integer("bytes", bytes);
        }
        if let Some(request) = request {
            attributes.optional_text("query", request.query);
            attributes.text("protocol", request.protocol);
        }
        attributes.optional_text("referrer", self.referrer.as_deref());
        attributes.optional_text("user_agent", self.user_agent.as_deref());
    }
}

/// A request line that is one. Servers also log what port scanners send.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    protocol: &'a str,
}

impl<'a> Request<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (method, rest) = text.split_once(' ')?;
        let (target, protocol) = rest.rsplit_once(' ')?;
        if !protocol.starts_with("HTTP/") || target.is_empty() {
            return None;
        }
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Some(Self { method, path, query, protocol })
    }
}

fn parse(line: &str) -> Result<Line<'_>, String> {
    let (host, rest) = word(line).ok_or("no client address")?;
    let (_identity, rest) = word(rest).ok_or("no identity")?;
    let (user, rest) = rest.split_once(" [").ok_or("no time in brackets")?;
    let (time, rest) = rest.split_once("] ").ok_or("no end of the time's brackets")?;
    let time = DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z").map_err(|_| format!("no time: `{time}`"))?;
    let (request, rest) = quoted(rest).ok_or("no request in quotes")?;
    let (status, rest) = word_or_all(rest.trim_start());
    let status = status.parse().ok().filter(|status| (100..1_000).contains(status));
    let status = status.ok_or("no status code after the request")?;
    let (bytes, rest) = word_or_all(rest);
    let bytes = if bytes == "-" { None } else { Some(bytes.parse().map_err(|_| "no size after the status code")?) };
    let (referrer, rest) = quoted(rest).map_or((None, rest), |(text, rest)| (present(text), rest));
    let user_agent = quoted(rest.trim_start()).and_then(|(text, _)| present(text));
    let user = if user == "-" { None } else { Some(user) };
    Ok(Line { host, user, time: time.timestamp_micros(), request, status, bytes, referrer, user_agent })
}

/// The text up to the next space, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    text.split_once(' ').filter(|(word, _)| !word.is_empty())
}

fn word_or_all(text: &str) -> (&str, &str) {
    word(text).unwrap_or((text, ""))
}

/// A quoted text, its `\"` and `\\` undone, and what follows it. Apache's other escapes (`\xhh`) stay as they are, for
/// the byte they stand for need not be UTF-8.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut plain = String::new();
    let mut characters = inner.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((plain, inner.get(at + 1..)?)),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => plain.push(escaped),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    None
}

/// `-` stands for a header that was not sent.
fn present(text: String) -> Option<String> {
    if text == "-" || text.is_empty() { None } else { Some(text) }
}
