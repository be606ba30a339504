use std::collections::BTreeSet;

use super::*;
use crate::model::pipeline::{Direction, Severity, Source};

const SQL: &str = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, module, count(*) AS requests, \
                   avg(value) AS load FROM logs GROUP BY 1, 2";
const HEAD: &str = "source = \"logs\"\nsql = \"a.sql\"\nseries = [\"module\"]\n";

/// Loads a folder with these pipelines, all of them over [`SQL`], and `w.sql` that reads the windows of `a`.
fn load_texts(texts: &[&str]) -> Result<Vec<Pipeline>, String> {
    let root = tempfile::tempdir().expect("a folder");
    for (index, text) in texts.iter().enumerate() {
        std::fs::write(root.path().join(format!("p{index}.toml")), text).expect("written");
    }
    std::fs::write(root.path().join("a.sql"), SQL).expect("written");
    std::fs::write(root.path().join("w.sql"), SQL.replace("logs", "a")).expect("written");
    let files = PipelineFiles::Folder { dir: root.path().to_owned(), sql: root.path().to_owned() };
    let folder = format!("{}/", root.path().display());
    load(&files).map_err(|error| error.to_string().replace(&folder, ""))
}

/// The message for one pipeline named `a` with this text after its head, which is lines 1 to 4.
fn refused(rest: &str) -> String {
    load_texts(&[&format!("name = \"a\"\n{HEAD}{rest}")]).expect_err("to be refused")
}

fn refused_rule(keys: &str) -> String {
    refused(&format!("[[rule]]\nname = \"r\"\nmeasure = \"load\"\n{keys}"))
}

#[test]
fn the_shipped_pipelines_agree() {
    let pipelines = load(&PipelineFiles::Shipped).expect("usable");
    assert_eq!(pipelines.len(), SHIPPED.len());
    assert_eq!(pipelines.iter().map(|pipeline| pipeline.rules.len()).sum::<usize>(), 17);
}

#[test]
fn the_shipped_pipelines_are_those_of_the_folders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = PipelineFiles::Folder { dir: root.join("pipelines"), sql: root.join("sql") };
    let names = |pipelines: Vec<Pipeline>| pipelines.into_iter().map(|pipeline| pipeline.name).collect::<BTreeSet<_>>();
    assert_eq!(names(load(&files).expect("usable")), names(load(&PipelineFiles::Shipped).expect("usable")));
}

#[test]
fn each_shipped_rule_per_organisation_is_inhibited_by_the_one_over_all() {
    let pipelines = load(&PipelineFiles::Shipped).expect("usable");
    let inhibited: Vec<_> =
        pipelines.iter().flat_map(|pipeline| pipeline.rules.iter().flat_map(|rule| &rule.inhibits)).collect();
    for pipeline in pipelines.iter().filter(|pipeline| pipeline.series.contains(&"organisation_id".to_owned())) {
        for rule in &pipeline.rules {
            assert!(
                inhibited.iter().any(|name| name.rule == rule.name && name.pipeline == pipeline.name),
                "{}",
                rule.name
            );
        }
    }
}

#[test]
fn levels_are_read_with_their_own_patience() {
    let text = format!(
        "name = \"a\"\n{HEAD}[[rule]]\nname = \"r\"\nmeasure = \"load\"\ntechnique = \"threshold\"\nfor = \"1m\"\n\
         levels = [{{ severity = \"high\", below = 1 }}, {{ severity = \"low\", below = 2.5, for = \"10m\" }}]\n"
    );
    let rule = load_texts(&[&text]).expect("usable").remove(0).rules.remove(0);
    let levels: Vec<_> = rule.levels.iter().map(|level| (level.severity, level.limit, level.for_)).collect();
    assert_eq!(levels, [(Severity::High, 1.0, 60_000_000), (Severity::Low, 2.5, 600_000_000)]);
    assert_eq!(rule.direction, Direction::Below);
}

#[test]
fn a_pipeline_comes_after_the_one_whose_windows_it_reads() {
    let reader = HEAD.replace("logs", "windows").replace("a.sql", "w.sql");
    let pipelines =
        load_texts(&[&format!("name = \"b\"\n{reader}"), &format!("name = \"a\"\n{HEAD}")]).expect("usable");
    assert_eq!(pipelines[0].name, "a");
    assert_eq!(pipelines[1].source, Source::Windows("a".to_owned()));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    assert_eq!(refused("latness = \"1s\"\n"), "p0.toml:5: unknown key `latness` in the file; did you mean `lateness`?");
    assert_eq!(refused_rule("mesure = 1\n"), "p0.toml:8: unknown key `mesure` in [[rule]]; did you mean `measure`?");
}

#[test]
fn two_pipelines_of_one_name_are_refused() {
    let text = format!("name = \"a\"\n{HEAD}");
    assert_eq!(
        load_texts(&[&text, &text]).expect_err("refused"),
        "p1.toml:1: the pipeline `a` exists already, at p0.toml:1; rename one of them"
    );
}

#[test]
fn two_rules_of_one_name_are_refused() {
    let rule = "[[rule]]\nname = \"r\"\nmeasure = \"load\"\ntechnique = \"threshold\"\nabove = 1\nseverity = \"low\"\n";
    assert_eq!(
        refused(&format!("{rule}{rule}")),
        "p0.toml:12: the rule `r` exists already, at p0.toml:6; rename one of them"
    );
}

#[test]
fn what_a_rule_lacks_is_named() {
    assert_eq!(refused_rule(""), "p0.toml:5: [[rule]] has no `technique`, which it needs");
    assert_eq!(
        refused_rule("technique = \"threshold\"\n"),
        "p0.toml:5: [[rule]] has no `above` or `below`, which it needs"
    );
    assert_eq!(
        refused_rule("technique = \"threshold\"\nabove = 1\n"),
        "p0.toml:5: [[rule]] has no `severity`, which it needs"
    );
}

#[test]
fn an_unknown_word_names_the_nearest() {
    assert_eq!(
        refused_rule("technique = \"z-score\"\n"),
        "p0.toml:8: unknown technique \"z-score\"; did you mean `zscore`?"
    );
    assert_eq!(
        refused_rule("technique = \"new_fingerprint\"\nseverity = \"hihg\"\n"),
        "p0.toml:9: unknown severity \"hihg\"; did you mean `high`?"
    );
}

#[test]
fn a_key_that_the_technique_ignores_is_refused() {
    assert_eq!(
        refused_rule("technique = \"new_fingerprint\"\nabove = 1\n"),
        "p0.toml:9: `above` means nothing to new_fingerprint; remove it"
    );
    assert_eq!(
        refused_rule("technique = \"threshold\"\nrobust = true\n"),
        "p0.toml:9: `robust` means nothing to threshold; remove it"
    );
}

#[test]
fn levels_out_of_order_are_refused() {
    assert_eq!(
        refused_rule(
            "technique = \"threshold\"\n\
             levels = [{ severity = \"low\", above = 1 }, { severity = \"high\", above = 2 }]\n"
        ),
        "p0.toml:9: `levels` must go from the most to the least severe, each with a milder limit than the one before"
    );
}

#[test]
fn evidence_needs_its_column() {
    assert_eq!(
        refused_rule("technique = \"threshold\"\nmin_samples = 10\n"),
        "p0.toml:9: `min_samples` and `rate` need `samples`, the column that counts the evidence"
    );
}

#[test]
fn a_column_that_the_sql_does_not_give_names_the_nearest() {
    assert_eq!(
        refused("[[rule]]\nname = \"r\"\nmeasure = \"request\"\ntechnique = \"threshold\"\n"),
        "p0.toml:7: `measure` names the column `request`, which the SQL does not give; did you mean `requests`?"
    );
}

#[test]
fn an_sql_file_outside_its_folder_is_refused() {
    let text = format!("name = \"a\"\n{HEAD}").replace("a.sql", "../a.sql");
    let message = load_texts(&[&text]).expect_err("refused");
    assert!(message.starts_with("p0.toml:3: `sql` must name a file within "), "{message}");
    assert!(message.ends_with(", not \"../a.sql\""), "{message}");
}

#[test]
fn an_sql_file_that_does_not_exist_is_refused() {
    let text = format!("name = \"a\"\n{HEAD}").replace("a.sql", "b.sql");
    let message = load_texts(&[&text]).expect_err("refused");
    assert!(message.starts_with("p0.toml:3: `sql` names b.sql, which cannot be read ("), "{message}");
}

#[test]
fn source_and_sql_must_agree() {
    let text = format!("name = \"a\"\n{HEAD}").replace("logs", "metrics");
    assert_eq!(
        load_texts(&[&text]).expect_err("refused"),
        "p0.toml:2: `source` is metrics, but a.sql reads logs; make them agree"
    );
}

#[test]
fn windows_of_a_pipeline_that_does_not_exist_are_refused() {
    let reader = HEAD.replace("logs", "windows").replace("a.sql", "w.sql");
    assert_eq!(
        load_texts(&[&format!("name = \"ab\"\n{reader}")]).expect_err("refused"),
        "p0.toml:2: w.sql reads `a`, which is not a pipeline; did you mean `ab`?"
    );
    assert_eq!(
        load_texts(&[&format!("name = \"a\"\n{reader}")]).expect_err("refused"),
        "p0.toml:2: the pipeline reads windows that are made of its own windows"
    );
}

#[test]
fn inhibiting_what_does_not_exist_is_refused() {
    let rule = "technique = \"threshold\"\nabove = 1\nseverity = \"low\"\n";
    assert_eq!(
        refused_rule(&format!("{rule}inhibits = [\"rr\"]\n")),
        "p0.toml:11: `inhibits` names the rule `rr`, which `a` does not have; did you mean `r`?"
    );
    assert_eq!(
        refused_rule(&format!("{rule}inhibits = [\"b.r\"]\n")),
        "p0.toml:11: `inhibits` names the pipeline `b`, which does not exist; known are a"
    );
}

#[test]
fn inhibition_in_a_circle_is_refused() {
    let rule = |name: &str, inhibits: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nmeasure = \"load\"\ntechnique = \"threshold\"\nabove = 1\n\
             severity = \"low\"\ninhibits = [\"{inhibits}\"]\n"
        )
    };
    assert_eq!(
        refused(&format!("{}{}", rule("r", "s"), rule("s", "r"))),
        "p0.toml:11: `r` inhibits itself, through the rules it inhibits"
    );
}

#[test]
fn a_rule_cannot_silence_a_series_that_lacks_its_labels() {
    let rule = |inhibits: &str| {
        format!(
            "[[rule]]\nname = \"r\"\nmeasure = \"load\"\ntechnique = \"threshold\"\nabove = 1\nseverity = \"low\"\n{inhibits}"
        )
    };
    let narrow = format!("name = \"a\"\n{HEAD}{}", rule("inhibits = [\"b.r\"]\n"));
    let wide = format!("name = \"b\"\n{HEAD}{}", rule("")).replace("[\"module\"]", "[]");
    assert_eq!(
        load_texts(&[&narrow, &wide]).expect_err("refused"),
        "p0.toml:11: `inhibits` names a rule of `b`, whose series has no `module`: \
         a rule can silence only series with all of its own labels"
    );
}

#[test]
fn the_name_of_the_rule_that_every_pipeline_has_is_taken() {
    let rule = "[[rule]]\nname = \"series_limit\"\nmeasure = \"load\"\ntechnique = \"threshold\"\nabove = 1\nseverity = \"low\"\n";
    assert!(refused(rule).ends_with("`name` may not be \"series_limit\", a rule that every pipeline has"));
}

#[test]
fn limits_are_checked() {
    assert!(refused("max_series = 0\n").ends_with("`max_series` must be from 1 to 10000000, not 0"));
    assert!(
        refused("max_open_windows = 100001\n").ends_with("`max_open_windows` must be from 1 to 100000, not 100001")
    );
}

#[test]
fn a_folder_without_pipelines_is_refused() {
    assert!(load_texts(&[]).expect_err("refused").ends_with(": has no pipeline; put at least one TOML file there"));
}
