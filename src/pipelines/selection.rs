//! Which pipelines run when some are named.

use crate::model::pipeline::{Pipeline, Source};

/// The named pipelines, and what they cannot do without: those whose windows they read, and those whose rules silence
/// them. Without names all.
pub fn choose(all: Vec<Pipeline>, names: &[String]) -> Vec<Pipeline> {
    if names.is_empty() {
        return all;
    }
    let mut chosen = names.to_vec();
    loop {
        let more = all.iter().filter(|pipeline| !chosen.contains(&pipeline.name) && is_needed(pipeline, &all, &chosen));
        let more = more.map(|pipeline| pipeline.name.clone()).collect::<Vec<_>>();
        if more.is_empty() {
            return all.into_iter().filter(|pipeline| chosen.contains(&pipeline.name)).collect();
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
