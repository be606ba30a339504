//! How an action is carried out, as the catalogue writes it.

use crate::config::document::{DocumentError, Located, Origin, Table, suggestion};
use crate::model::action::{AdapterSpec, CommandSpec, HttpCall, HttpSpec};
use crate::model::template::{Piece, Place, pieces};

use super::{length, required};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// What the templates of one action may speak of.
#[derive(Clone, Copy)]
struct Allowed {
    organisation: bool,
    value: bool,
    before: bool,
}

impl Allowed {
    fn check(self, template: &str) -> Result<(), String> {
        let allowed = |place: Place| match place {
            Place::Target => Ok(()),
            Place::Organisation if self.organisation => Ok(()),
            Place::Organisation => Err("`{organisation}` needs `tenant_specific = true`"),
            Place::Value | Place::Parameter if self.value => Ok(()),
            Place::Value | Place::Parameter => Err("`{value}` and `{parameter}` need a [parameter]"),
            Place::Before if self.before => Ok(()),
            Place::Before => Err("`{before}` stands only in `revert`, and needs a `snapshot`"),
        };
        let mut places = pieces(template)?.into_iter().filter_map(|piece| match piece {
            Piece::Place(place) => Some(place),
            Piece::Text(_) => None,
        });
        places.try_for_each(allowed).map_err(str::to_owned)
    }
}

/// Reads `[action.http]` or `[action.command]`, of which there is one.
pub(super) fn read(table: &mut Table, organisation: bool, value: bool) -> Result<AdapterSpec, DocumentError> {
    let allowed = Allowed { organisation, value, before: false };
    match (table.has("http"), table.has("command")) {
        (true, false) => Ok(AdapterSpec::Http(http(table.section("http")?, allowed)?)),
        (false, true) => Ok(AdapterSpec::Command(command(table.section("command")?, allowed)?)),
        _ => Err(table.origin.error("[[action]] needs either [action.http] or [action.command]")),
    }
}

fn http(mut table: Table, allowed: Allowed) -> Result<HttpSpec, DocumentError> {
    table.allow_only(&["control", "snapshot", "apply", "revert", "timeout"])?;
    let snapshot = call(&mut table, "snapshot", allowed)?;
    let reverting = Allowed { before: snapshot.is_some(), ..allowed };
    Ok(HttpSpec {
        control: required(&mut table, "control")?.value,
        apply: call(&mut table, "apply", allowed)?.ok_or_else(|| table.missing("apply"))?,
        revert: call(&mut table, "revert", reverting)?,
        snapshot,
        timeout: length(&mut table, "timeout")?,
    })
}

fn call(table: &mut Table, key: &str, allowed: Allowed) -> Result<Option<HttpCall>, DocumentError> {
    if !table.has(key) {
        return Ok(None);
    }
    let mut table = table.section(key)?;
    table.allow_only(&["method", "path", "body"])?;
    let method = required(&mut table, "method")?;
    if !METHODS.contains(&method.value.as_str()) {
        let hint = suggestion(&method.value, &METHODS);
        return Err(method.origin.error(format!("unknown method \"{}\"; {hint}", method.value)));
    }
    if key == "snapshot" && method.value != "GET" {
        return Err(method.origin.error("`snapshot` only reads, so its method must be GET"));
    }
    let path = required(&mut table, "path")?;
    check_path(&path, allowed)?;
    let body = table.text("body")?;
    if let Some(body) = &body {
        let json = serde_json::from_str(&body.value)
            .map_err(|error| body.origin.error(format!("`body` must be the text of JSON ({error})")))?;
        check_body(&json, allowed).map_err(|reason| body.origin.error(reason))?;
    }
    Ok(Some(HttpCall { method: method.value, path: path.value, body: body.map(|body| body.value) }))
}

fn check_path(path: &Located<String>, allowed: Allowed) -> Result<(), DocumentError> {
    let refuse = |reason: String| Err(path.origin.error(reason));
    let is_plain = |character: char| character.is_ascii_graphic() && !"\\#".contains(character);
    if !path.value.starts_with('/') || path.value.starts_with("//") || !path.value.chars().all(is_plain) {
        return refuse("`path` must begin with one `/`, in ASCII without spaces".to_owned());
    }
    match (Allowed { before: false, ..allowed }).check(&path.value) {
        Ok(()) => Ok(()),
        Err(reason) => refuse(reason),
    }
}

/// Every text within the JSON is a template; an object, or the whole state before, is what is sent.
fn check_body(json: &serde_json::Value, allowed: Allowed) -> Result<(), String> {
    match json {
        serde_json::Value::Object(_) => check_texts(json, allowed),
        serde_json::Value::String(text) if text == "{before}" => allowed.check(text),
        _ => Err("`body` must be a JSON object, or \"{before}\" in quotes".to_owned()),
    }
}

/// The JSON was parsed, so its depth is bounded by the parser's.
fn check_texts(json: &serde_json::Value, allowed: Allowed) -> Result<(), String> {
    match json {
        serde_json::Value::String(text) => allowed.check(text),
        serde_json::Value::Array(items) => items.iter().try_for_each(|item| check_texts(item, allowed)),
        serde_json::Value::Object(entries) => entries.values().try_for_each(|value| check_texts(value, allowed)),
        _ => Ok(()),
    }
}

fn command(mut table: Table, allowed: Allowed) -> Result<CommandSpec, DocumentError> {
    table.allow_only(&["command", "snapshot", "apply", "revert", "timeout"])?;
    let snapshot = arguments(&mut table, "snapshot", allowed)?;
    let reverting = Allowed { before: snapshot.is_some(), ..allowed };
    Ok(CommandSpec {
        command: required(&mut table, "command")?.value,
        apply: arguments(&mut table, "apply", allowed)?.ok_or_else(|| table.missing("apply"))?,
        revert: arguments(&mut table, "revert", reverting)?,
        snapshot,
        timeout: length(&mut table, "timeout")?,
    })
}

fn arguments(table: &mut Table, key: &str, allowed: Allowed) -> Result<Option<Vec<String>>, DocumentError> {
    let Some(texts) = table.texts(key)? else { return Ok(None) };
    let check = |origin: &Origin, text: &String| allowed.check(text).map_err(|reason| origin.error(reason));
    texts.value.iter().try_for_each(|text| check(&texts.origin, text))?;
    Ok(Some(texts.value))
}
