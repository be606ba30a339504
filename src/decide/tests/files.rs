//! What is said about files that cannot be used.

use super::with;

#[test]
fn what_is_wrong_with_a_policy_is_told_with_its_line() {
    let policy = |text: &str| with(|texts| texts.policy.text = text.to_owned()).expect_err("to be refused");
    let error = policy("// one\npermit (principal, action resource);\n");
    assert!(error.starts_with("pipelines/policy/policy.cedar:2: unexpected token `resource`"), "{error}");
    let error = policy("\n\npermit (principal, action, resource) when { context.severty == \"high\" };");
    assert!(error.starts_with("pipelines/policy/policy.cedar:3: "), "{error}");
    assert!(error.contains("severty") && !error.contains('\n'), "{error}");
    let error = policy("permit (principal, action == Action::\"drop_tables\", resource);");
    assert!(error.starts_with("pipelines/policy/policy.cedar:1: ") && error.contains("drop_tables"), "{error}");
    let error = policy("permit (principal == ?principal, action, resource);");
    assert!(error.contains("has a template, which nothing fills in"), "{error}");
    let twice = "@id(\"one\") permit (principal, action, resource);";
    let error = policy(&format!("{twice}\n{twice}"));
    assert!(error.starts_with("pipelines/policy/policy.cedar: two policies have one name: "), "{error}");
}

#[test]
fn what_is_wrong_with_a_schema_is_told() {
    let schema = |change: fn(&str) -> String| {
        let error = with(|texts| texts.schema.text = change(&texts.schema.text)).expect_err("to be refused");
        assert!(error.starts_with("pipelines/policy/policy.cedar"), "{error}");
        error
    };
    assert!(schema(|text| text.replace("entity Agent;", "entity Agent")).contains("policy.cedarschema:"));
    let error = schema(|text| text.replace("    attempt: Long, ", "    attempt: String, "));
    assert!(error.contains("does not fit what is asked about function_recycle"), "{error}");
    schema(|text| text.replace("\"cache_clear\", ", ""));
}

#[test]
fn what_is_wrong_with_a_catalogue_is_told_with_its_line() {
    let catalogue = |from: &str, to: &str| {
        let error = with(|texts| texts.actions.text = texts.actions.text.replacen(from, to, 1));
        let error = error.err().unwrap_or_else(|| panic!("{from} as {to} is taken"));
        error.strip_prefix("pipelines/policy/actions.toml:").expect("its file").to_owned()
    };
    let told = [
        (
            "\"function_recycle\"",
            "\"function_recicle\"",
            "unknown kind \"function_recicle\"; did you mean `function_recycle`?",
        ),
        ("\"cache_clear\"", "\"function_recycle\"", "`function_recycle` stands here already; remove one of them"),
        ("\"trivial\"", "\"small\"", "unknown scope \"small\"; known are trivial, "),
        ("low_risk = ", "lowrisk = ", "unknown key `lowrisk` in [[action]]; did you mean `low_risk`?"),
        ("settle = \"60s\"", "settle = \"0s\"", "`settle` must be more than 0s and 30 days at most"),
        ("overall_per_hour = 24", "overall_per_hour = 99999", "`overall_per_hour` must be from 0 to 10000, not 99999"),
        (
            "{target}/restart",
            "{modul}/restart",
            "\"/v1/functions/{modul}/restart\" has an unknown place {modul}; known are ",
        ),
        ("{target}/restart", "{organisation}/restart", "`{organisation}` needs `tenant_specific = true`"),
        ("{target}/restart", "{value}/restart", "`{value}` and `{parameter}` need a [parameter]"),
        ("'{\"enabled\": true}'", "'\"{before}\"'", "`{before}` stands only in `revert`, and needs a `snapshot`"),
        ("'{\"enabled\": true}'", "'[true]'", "`body` must be a JSON object, or \"{before}\" in quotes"),
        ("'{\"enabled\": true}'", "'{'", "`body` must be the text of JSON ("),
        ("method = \"GET\"", "method = \"POST\"", "`snapshot` only reads, so its method must be GET"),
        ("method = \"POST\"", "method = \"post\"", "unknown method \"post\"; "),
        ("\"/v1/functions/{target}\"", "\"//evil.example/{target}\"", "`path` must begin with one `/`"),
        ("due to {reason}", "due to {cause}", "`audit` has an unknown place {cause}; known are {target}, "),
        (
            "\"memory_mb\"",
            "\"access_level\"",
            "the parameter \"access_level\" names `access`, which only a person changes",
        ),
        ("max = 4096", "max = 100", "[parameter] needs 0 < `min` < `max`"),
        ("[action.http]\ncontrol", "[action.command]\ncontrol", "unknown key `control` in [command]; "),
    ];
    for (from, to, words) in told {
        let error = catalogue(from, to);
        let (line, text) = error.split_once(": ").expect("a line");
        assert!(line.parse::<usize>().is_ok() && text.starts_with(words), "{from} as {to}: {error}");
    }
}
