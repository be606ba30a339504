//! One case's file.

use std::path::Path;

use super::{Case, Input, Lines, expectation, generate};
use crate::config::document::{DocumentError, Located, Table, suggestion};
use crate::decode;
use crate::model::pipeline::Pipeline;

/// Reads a case from the text of its file. Files that it names are in `folder`.
pub(super) fn read(
    file: &str,
    text: &str,
    folder: Option<&Path>,
    pipelines: &[Pipeline],
) -> Result<Case, DocumentError> {
    let mut table = Table::parse(file, text)?;
    table.allow_only(&["pipelines", "record", "generate", "expect"])?;
    let mut inputs = Vec::new();
    for record in table.tables("record")? {
        inputs.push(Input::Lines(lines(record, folder)?));
    }
    for generator in generators(&mut table)? {
        inputs.push(Input::Generator(generate::read(generator)?));
    }
    if inputs.is_empty() {
        return Err(table.origin.error("has no records; add [generate] or [[record]]"));
    }
    let chosen = chosen(&mut table, pipelines)?;
    let (detections, windows) = expectation::read(table.section("expect")?, pipelines)?;
    let name = Path::new(file).file_stem().map_or(file.to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok(Case { name, file: file.to_owned(), pipelines: chosen, inputs, windows, detections })
}

/// `[generate]`, or several of them as `[[generate]]`.
fn generators(table: &mut Table) -> Result<Vec<Table>, DocumentError> {
    if !table.has("generate") {
        return Ok(Vec::new());
    }
    match table.clone().section("generate") {
        Ok(section) => {
            table.section("generate")?;
            Ok(vec![section])
        }
        Err(_) => table.tables("generate"),
    }
}

/// `[[record]]`: `json`, or a `file` of lines beside the case.
fn lines(mut record: Table, folder: Option<&Path>) -> Result<Lines, DocumentError> {
    record.allow_only(&["json", "file", "source"])?;
    let table = match record.text("source")? {
        None => None,
        Some(source) => Some(match source.value.as_str() {
            "logs" => decode::Table::Logs,
            "metrics" => decode::Table::Metrics,
            other => {
                let reason = format!("`source` must be \"logs\" or \"metrics\", not \"{other}\"");
                return Err(source.origin.error(reason));
            }
        }),
    };
    match (record.text("json")?, record.text("file")?) {
        (Some(json), None) => Ok(Lines { table, position: json.origin.to_string(), text: json.value }),
        (None, Some(file)) => {
            let text = text_of(&file, folder)?;
            Ok(Lines { table, position: file.value, text })
        }
        _ => Err(record.origin.error("[[record]] needs either `json` or `file`")),
    }
}

fn text_of(file: &Located<String>, folder: Option<&Path>) -> Result<String, DocumentError> {
    let is_inside = Path::new(&file.value).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let Some(folder) = folder.filter(|_| is_inside && !file.value.is_empty()) else {
        return Err(file.origin.error(format!("`file` must name a file beside the test, not \"{}\"", file.value)));
    };
    let path = folder.join(&file.value);
    std::fs::read_to_string(&path)
        .map_err(|error| file.origin.error(format!("`file` names {}, which cannot be read ({error})", path.display())))
}

/// `pipelines`: those that are judged.
fn chosen(table: &mut Table, pipelines: &[Pipeline]) -> Result<Vec<String>, DocumentError> {
    let Some(names) = table.texts("pipelines")? else { return Ok(Vec::new()) };
    let known = pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>();
    match names.value.iter().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => {
            let hint = suggestion(unknown, &known);
            Err(names.origin.error(format!("there is no pipeline `{unknown}`; {hint}")))
        }
        None => Ok(names.value),
    }
}
