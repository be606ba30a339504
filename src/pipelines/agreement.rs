//! What only shows when all pipelines are known: names, who reads whose windows, who inhibits whom.

use std::collections::BTreeMap;

use crate::config::document::{DocumentError, suggestion};
use crate::model::pipeline::{Pipeline, RuleName, Source};

use super::file::Written;

/// Checks that the pipelines agree, and puts each after the one whose windows it reads.
pub(super) fn check(written: Vec<Written>) -> Result<Vec<Pipeline>, DocumentError> {
    check_names(&written)?;
    let depths = depths(&written)?;
    check_inhibitions(&written)?;
    let mut ordered: Vec<(usize, Pipeline)> =
        depths.into_iter().zip(written.into_iter().map(|written| written.pipeline)).collect();
    ordered.sort_by_key(|(depth, _)| *depth);
    Ok(ordered.into_iter().map(|(_, pipeline)| pipeline).collect())
}

fn check_names(written: &[Written]) -> Result<(), DocumentError> {
    let mut pipelines = BTreeMap::new();
    for each in written {
        if let Some(first) = pipelines.insert(&each.pipeline.name, &each.name) {
            let name = &each.pipeline.name;
            return Err(each
                .name
                .error(format!("the pipeline `{name}` exists already, at {first}; rename one of them")));
        }
        let mut rules = BTreeMap::new();
        for (rule, origins) in each.pipeline.rules.iter().zip(&each.rules) {
            if let Some(first) = rules.insert(&rule.name, &origins.name) {
                let reason = format!("the rule `{}` exists already, at {first}; rename one of them", rule.name);
                return Err(origins.name.error(reason));
            }
        }
    }
    Ok(())
}

/// For each pipeline, how many pipelines lie between it and the telemetry.
fn depths(written: &[Written]) -> Result<Vec<usize>, DocumentError> {
    let by_name: BTreeMap<&str, &Written> = written.iter().map(|each| (each.pipeline.name.as_str(), each)).collect();
    let depth = |each: &Written| {
        let (mut depth, mut current) = (0, each);
        while let Source::Windows(upstream) = &current.pipeline.source {
            current = by_name.get(upstream.as_str()).ok_or_else(|| {
                let known: Vec<&str> = by_name.keys().copied().collect();
                let (file, hint) = (&current.pipeline.sql_file, suggestion(upstream, &known));
                current.source.error(format!("{file} reads `{upstream}`, which is not a pipeline; {hint}"))
            })?;
            depth += 1;
            if depth > written.len() {
                return Err(each.source.error("the pipeline reads windows that are made of its own windows"));
            }
        }
        Ok(depth)
    };
    written.iter().map(depth).collect()
}

fn check_inhibitions(written: &[Written]) -> Result<(), DocumentError> {
    let mut edges: BTreeMap<RuleName, &[RuleName]> = BTreeMap::new();
    for each in written {
        for (rule, origins) in each.pipeline.rules.iter().zip(&each.rules) {
            for inhibited in &rule.inhibits {
                check_inhibited(each, inhibited, written).map_err(|reason| origins.inhibits.error(reason))?;
            }
            edges.insert(full_name(each, &rule.name), &rule.inhibits);
        }
    }
    for each in written {
        for (rule, origins) in each.pipeline.rules.iter().zip(&each.rules) {
            if reaches_itself(&full_name(each, &rule.name), &edges) {
                return Err(origins
                    .inhibits
                    .error(format!("`{}` inhibits itself, through the rules it inhibits", rule.name)));
            }
        }
    }
    Ok(())
}

fn check_inhibited(inhibitor: &Written, inhibited: &RuleName, written: &[Written]) -> Result<(), String> {
    let Some(other) = written.iter().find(|each| each.pipeline.name == inhibited.pipeline) else {
        let known: Vec<&str> = written.iter().map(|each| each.pipeline.name.as_str()).collect();
        let hint = suggestion(&inhibited.pipeline, &known);
        return Err(format!("`inhibits` names the pipeline `{}`, which does not exist; {hint}", inhibited.pipeline));
    };
    let rules: Vec<&str> = other.pipeline.rules.iter().map(|rule| rule.name.as_str()).collect();
    if !rules.contains(&inhibited.rule.as_str()) {
        let (RuleName { pipeline, rule }, hint) = (inhibited, suggestion(&inhibited.rule, &rules));
        return Err(format!("`inhibits` names the rule `{rule}`, which `{pipeline}` does not have; {hint}"));
    }
    match inhibitor.pipeline.series.iter().find(|label| !other.pipeline.series.contains(label)) {
        Some(label) => Err(format!(
            "`inhibits` names a rule of `{}`, whose series has no `{label}`: a rule can silence only series with all of its own labels",
            inhibited.pipeline
        )),
        None => Ok(()),
    }
}

fn full_name(written: &Written, rule: &str) -> RuleName {
    RuleName { pipeline: written.pipeline.name.clone(), rule: rule.to_owned() }
}

fn reaches_itself(start: &RuleName, edges: &BTreeMap<RuleName, &[RuleName]>) -> bool {
    let mut seen: Vec<&RuleName> = vec![];
    let mut open: Vec<&RuleName> = edges.get(start).map_or(vec![], |inhibits| inhibits.iter().collect());
    while let Some(next) = open.pop() {
        if next == start {
            return true;
        }
        if !seen.contains(&next) {
            seen.push(next);
            open.extend(edges.get(next).into_iter().flat_map(|inhibits| inhibits.iter()));
        }
    }
    false
}
