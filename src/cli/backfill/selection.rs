//! Which pipelines run when some are named: those, and what they cannot do without.

use crate::cli::Failure;
use crate::config::document::suggestion;
use crate::model::pipeline::{Pipeline, Source};

/// The named pipelines, those whose windows they read, and those whose rules silence them. Without names all.
pub(super) fn choose(all: Vec<Pipeline>, names: &[String]) -> Result<Vec<Pipeline>, Failure> {
    if names.is_empty() {
        return Ok(all);
    }
    let known = all.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let hint = suggestion(unknown, &known);
        return Err(Failure::Unusable(format!("--pipelines: there is no pipeline `{unknown}`; {hint}")));
    }
    let mut chosen = names.to_vec();
    loop {
        let more = all.iter().filter(|pipeline| !chosen.contains(&pipeline.name) && is_needed(pipeline, &all, &chosen));
        let more = more.map(|pipeline| pipeline.name.clone()).collect::<Vec<_>>();
        if more.is_empty() {
            return Ok(all.into_iter().filter(|pipeline| chosen.contains(&pipeline.name)).collect());
        }
        chosen.extend(more);
    }
}

fn is_needed(pipeline: &Pipeline, all: &[Pipeline], chosen: &[String]) -> bool {
    let is_chosen = |name: &String| chosen.contains(name);
    let is_read = all.iter().any(|reader| {
        is_chosen(&reader.name) && matches!(&reader.source, Source::Windows(name) if *name == pipeline.name)
    });
    is_read || pipeline.rules.iter().flat_map(|rule| &rule.inhibits).any(|silenced| is_chosen(&silenced.pipeline))
}
