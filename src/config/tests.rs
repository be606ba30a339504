use super::*;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, DocumentError> {
    let environment = environment.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let folder = Path::new("/nowhere");
    Config::from_table(Table::parse("maturion.toml", text)?, &environment, folder)
}

fn refused(text: &str, environment: &[(&str, &str)]) -> String {
    parse(text, environment).expect_err("to be refused").to_string()
}

#[test]
fn nothing_configured_is_the_embedded_log_and_the_shipped_pipelines() {
    let config = parse("", &[]).expect("the defaults");
    assert_eq!(config.kafka.brokers, Brokers::Embedded);
    assert_eq!(config.pipelines, PipelineFiles::Shipped);
    assert_eq!(config.serve.http.to_string(), "127.0.0.1:8080");
}

#[test]
fn every_key_of_the_documented_file_is_accepted() {
    let text = r#"
        [kafka]
        brokers = "one:9092, two:9092"
        topic_prefix = "eu-"
        [kafka.properties]
        security.protocol = "SASL_SSL"
        sasl.password_env = "PASSWORD"
        [store]
        url = "file:./maturion-data/store"
        [serve]
        http = "127.0.0.1:0"
        postgres = "127.0.0.1:5433"
        [github]
        repository = "owner/name"
        token_env = "GITHUB_TOKEN"
        api_url = "https://api.github.com"
        [mode]
        actions = "observe"
    "#;
    let config = parse(text, &[("PASSWORD", "hunter2"), ("GITHUB_TOKEN", "ghp_hunter3")]).expect("a valid file");
    assert_eq!(config.kafka.brokers, Brokers::Kafka("one:9092,two:9092".to_owned()));
    assert_eq!(config.kafka.properties["sasl.password"], "hunter2");
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.github.as_ref().map(|github| github.repository.as_str()), Some("owner/name"));
    assert!(!format!("{config:?}").contains("hunter"));
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_key() {
    assert_eq!(
        refused("[kafka]\ntopic_prefx = \"a\"\n", &[]),
        "maturion.toml:2: unknown key `topic_prefx` in [kafka]; did you mean `topic_prefix`?"
    );
}

#[test]
fn an_unknown_section_names_the_nearest_section() {
    assert_eq!(
        refused("[kakfa]\nbrokers = \"a:1\"\n", &[]),
        "maturion.toml:1: unknown section `kakfa` in the file; did you mean `kafka`?"
    );
}

#[test]
fn an_unknown_key_in_a_variable_names_the_variable() {
    assert_eq!(
        refused("", &[("MATURION__KAFKA__BROKER", "a:1")]),
        "MATURION__KAFKA__BROKER: unknown key `broker` in [kafka]; did you mean `brokers`?"
    );
}

#[test]
fn a_variable_overrides_the_file() {
    let environment = [
        ("MATURION__KAFKA__BROKERS", "kafka:9092"),
        ("MATURION__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
        ("MATURION__INTAKE__COMMIT_INTERVAL", "1s"),
        ("UNRELATED", "1"),
    ];
    let config = parse("[kafka]\nbrokers = \"embedded\"\n", &environment).expect("valid");
    assert_eq!(config.kafka.brokers, Brokers::Kafka("kafka:9092".to_owned()));
    assert_eq!(config.kafka.properties["sasl.password"], "hunter2");
    assert_eq!(config.intake.commit_interval, Duration::from_secs(1));
}

#[test]
fn a_broker_needs_a_port() {
    assert_eq!(
        refused("[kafka]\nbrokers = \"one:9092,two\"\n", &[]),
        "maturion.toml:2: `two` is not a broker; write \"host:port,host:port\", or \"embedded\""
    );
}

#[test]
fn a_secret_in_plain_text_is_refused_without_showing_it() {
    let message = refused("[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n", &[]);
    assert_eq!(
        message,
        "maturion.toml:2: `sasl.password` is a secret and may not stand in the file; \
         write `sasl.password_env` or `sasl.password_file`"
    );
}

#[test]
fn a_secret_whose_variable_is_not_set_is_refused() {
    assert_eq!(
        refused("[kafka.properties]\nsasl.password_env = \"NOPE\"\n", &[]),
        "maturion.toml:2: `sasl.password_env` names the variable NOPE, which is not set"
    );
}

#[test]
fn a_property_that_exactly_once_needs_is_refused() {
    assert_eq!(
        refused("[kafka.properties]\nisolation.level = \"read_uncommitted\"\n", &[]),
        "maturion.toml:2: `isolation.level` is set by Maturion itself; remove it from [kafka.properties]"
    );
}

#[test]
fn a_value_out_of_range_names_the_range() {
    assert_eq!(
        refused("[intake]\ncommit_interval = \"2h\"\n", &[]),
        "maturion.toml:2: `commit_interval` must be from 10ms to 60s, not 2h"
    );
    assert_eq!(
        refused("[kafka]\npartitions = 0\n", &[]),
        "maturion.toml:2: `partitions` must be from 1 to 1000, not 0"
    );
}

#[test]
fn an_address_without_a_port_is_refused() {
    assert_eq!(
        refused("[serve]\nhttp = \"localhost\"\n", &[]),
        "maturion.toml:2: `http` must be an IP address and a port such as \"127.0.0.1:8080\", not \"localhost\""
    );
}

#[test]
fn a_folder_that_does_not_exist_is_refused() {
    assert_eq!(
        refused("[pipelines]\ndir = \"gone\"\n", &[]),
        "maturion.toml:2: `dir` names the folder /nowhere/gone, which does not exist"
    );
}

#[test]
fn a_mode_that_does_not_exist_is_refused() {
    assert_eq!(
        refused("[mode]\nactions = \"destroy\"\n", &[]),
        "maturion.toml:2: `actions` must be \"observe\" or \"act\", not \"destroy\""
    );
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let error = Config::load(Some(Path::new("/nowhere/maturion.toml")), &BTreeMap::new()).expect_err("no such file");
    assert!(error.to_string().starts_with("/nowhere/maturion.toml: cannot be read ("), "{error}");
}

#[test]
fn a_token_comes_from_the_environment_and_is_never_empty_or_shown() {
    let text = "[serve]\ntoken_env = \"DOOR\"\n";
    let config = parse(text, &[("DOOR", "hunter2\n")]).expect("valid");
    assert_eq!(config.serve.token.as_ref().map(Secret::reveal), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(refused(text, &[]), "maturion.toml:2: `token_env` names the variable DOOR, which is not set");
    assert_eq!(refused(text, &[("DOOR", " ")]), "maturion.toml:2: `token_env` leads to an empty secret");
    assert_eq!(
        refused("[serve]\ntoken = \"hunter2\"\n", &[]),
        "maturion.toml:2: unknown key `token` in [serve]; did you mean `token_env`?"
    );
}

/// The configuration in the reference shows every key with its default; what is commented out has none to show.
#[test]
fn the_reference_shows_the_defaults() {
    let reference = include_str!("../../docs/reference.md");
    let shown = reference.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of TOML");
    let (shown, defaults) = (parse(shown, &[]).expect("valid"), parse("", &[]).expect("valid"));
    assert_eq!(format!("{shown:?}"), format!("{defaults:?}"));
}

const USER: &str = "[[user]]\nname = \"ann\"\n";

#[test]
fn a_user_has_a_name_something_to_see_and_a_password() {
    let text = format!(
        "{USER}organisation = \"org_1\"\npassword_env = \"ANN\"\n[[user]]\nname = \"ops\"\noperator = true\npassword_env = \"OPS\"\n"
    );
    let config = parse(&text, &[("ANN", "secret of ann"), ("OPS", "secret of ops")]).expect("valid");
    let seen: Vec<_> = config.users.iter().map(|user| (user.name.as_str(), user.sees.clone())).collect();
    assert_eq!(seen, [("ann", Sees::Organisation("org_1".to_owned())), ("ops", Sees::Everything)]);
    assert_eq!(config.users[0].password.reveal(), "secret of ann");
    assert!(!format!("{config:?}").contains("secret of"));
}

#[test]
fn a_user_that_lacks_something_is_refused() {
    let environment = [("ANN", "secret")];
    for (rest, words) in [
        ("organisation = \"a\"\n", "has no `password_env`"),
        ("password_env = \"ANN\"\n", "has no `organisation` or `operator`"),
        ("organisation = \"a\"\noperator = true\npassword_env = \"ANN\"\n", "exclude each other"),
        ("organisation = \"a\"\npassword_env = \"BOB\"\n", "the variable BOB, which is not set"),
        ("organisation = \"a\"\npassword = \"plain\"\n", "unknown key `password`"),
    ] {
        let said = refused(&format!("{USER}{rest}"), &environment);
        assert!(said.contains(words) && !said.contains("plain"), "{rest}: {said}");
    }
    let twice = format!("{USER}operator = true\npassword_env = \"ANN\"\n");
    assert!(refused(&format!("{twice}{twice}"), &environment).contains("no other [[user]] has"));
}

#[test]
fn the_parts_of_a_certificate_need_each_other() {
    let said = refused("[serve]\npostgres_key_file = \"key.pem\"\n", &[]);
    assert!(said.contains("need each other"), "{said}");
    assert!(parse("[serve]\npostgres_key_file = \"k\"\npostgres_certificate_file = \"c\"\n", &[]).is_ok());
}

#[test]
fn all_sessions_have_at_least_as_much_memory_as_one() {
    let said = refused("[query]\nmemory_total_bytes_max = 1048576\n", &[]);
    assert!(said.contains("at least `memory_bytes_max`"), "{said}");
}

#[test]
fn the_audit_is_signed_with_a_key_from_elsewhere_and_never_shows_it() {
    let (secret, public) = ("ab".repeat(32), "cd".repeat(32));
    let text = format!("[audit]\nkey_env = \"KEY\"\ncheckpoint_interval = \"1m\"\npublic_keys = [\"{public}\"]\n");
    let config = parse(&text, &[("KEY", &secret)]).expect("a valid file");
    assert_eq!(config.audit.key.as_ref().map(Secret::reveal), Some(secret.as_str()));
    assert_eq!(config.audit.checkpoint_interval, Duration::from_secs(60));
    assert_eq!(config.audit.public_keys, [public]);
    assert!(!format!("{config:?}").contains(&secret));
    let said = refused("[audit]\nkey_env = \"KEY\"\n", &[("KEY", "hunter2")]);
    assert_eq!(said, "maturion.toml:2: `key_env` leads to no key for signing; `maturion audit keygen FILE` makes one");
    let said = refused("[audit]\npublic_keys = [\"AB\"]\n", &[]);
    assert_eq!(said, "maturion.toml:2: `public_keys` are of 64 hexadecimal digits in lower case, not \"AB\"");
}

#[test]
fn tickets_need_a_repository_and_one_way_to_sign_in() {
    let refusals = [
        ("token_env = \"T\"\n", "maturion.toml:1: [github] has no `repository`, which it needs"),
        ("repository = \"a\"\n", "maturion.toml:2: `repository` must be \"owner/name\", not \"a\""),
        ("repository = \"a/b/c\"\n", "maturion.toml:2: `repository` must be \"owner/name\", not \"a/b/c\""),
        ("repository = \"a/..\"\n", "maturion.toml:2: `repository` must be \"owner/name\", not \"a/..\""),
        ("repository = \"a/b\"\n", "maturion.toml:1: [github] has no `token_env` or `app_id`, which it needs"),
        (
            "repository = \"a/b\"\ntoken_env = \"T\"\napi_url = \"http://github.example\"\n",
            "maturion.toml:4: `api_url` must begin with https://, or lead to this machine",
        ),
        (
            "repository = \"a/b\"\ntoken_env = \"T\"\napi_url = \"https://user@github.example\"\n",
            "maturion.toml:4: `api_url` may have a host, a port and a path only",
        ),
        ("repository = \"a/b\"\napp_id = 7\n", "maturion.toml:3: `app_id` needs `app_key_file` or `app_key_env`"),
    ];
    for (keys, expected) in refusals {
        assert_eq!(refused(&format!("[github]\n{keys}"), &[("T", "t")]), expected);
    }
    let odd = refused("[github]\nrepository = \"a/b\"\ntoken_env = \"T\"\n", &[("T", "a\u{7f}b")]);
    assert!(odd.contains("visible ASCII") && !odd.contains("a\u{7f}b"), "{odd}");
}

#[test]
fn a_pull_request_may_never_reach_what_git_keeps() {
    for path in ["../x", ".github/", "a/.git/x", "/x", "a//b", "a b", ""] {
        let text = format!("[github]\nrepository = \"a/b\"\ntoken_env = \"T\"\npull_request_paths = [\"{path}\"]\n");
        assert!(refused(&text, &[("T", "t")]).starts_with("maturion.toml:4: `pull_request_paths` has "), "{path}");
    }
}

#[test]
fn a_proposal_names_a_file_of_the_allow_list_and_a_number_in_it() {
    let parsed = |proposal: &str| {
        let github =
            "[github]\nrepository = \"a/b\"\ntoken_env = \"T\"\npull_request_paths = [\"config/\", \"ci.yml\"]\n";
        parse(&format!("{github}{proposal}"), &[("T", "t")])
    };
    let one = |path: &str, key: &str| {
        let action = "action = \"raise_rate_limit\"";
        format!("[[github.proposal]]\n{action}\npath = \"{path}\"\nkey = \"{key}\"\n")
    };
    let good = one("config/limits.toml", "limits.{target}.requests_per_minute");
    let config = parsed(&good).expect("a valid file").github.expect("tickets");
    assert_eq!(config.proposals[0].key("exports"), ["limits", "exports", "requests_per_minute"]);
    assert_eq!(config.proposals[0].key("a.b\"]")[1], "a.b\"]", "a module is one part of a key, whatever it is called");
    let refused = |proposal: &str| parsed(proposal).expect_err("a refusal").to_string();
    for path in [
        "limits.toml",
        "config/../limits.toml",
        "config/{target}.toml",
        "config/.github/x.toml",
        "ci.yml",
        "/config/a.toml",
        "config/",
    ] {
        let said = refused(&one(path, "a"));
        assert!(
            said.starts_with(&format!("maturion.toml:7: `path` is \"{path}\", which must be a file in TOML")),
            "{said}"
        );
    }
    for key in ["", "a..b", "a b", "{organisation}.a", "x{target}", "a.b.c.d.e.f.g.h.i"] {
        let said = refused(&one("config/a.toml", key));
        assert!(said.starts_with(&format!("maturion.toml:8: `key` is \"{key}\"; write names such as")), "{said}");
    }
    assert_eq!(
        refused(&format!("{good}{good}")),
        "maturion.toml:10: `raise_rate_limit` stands here already; remove one of them"
    );
    let other = good.replace("raise_rate_limit", "drop_tables");
    assert!(refused(&other).starts_with("maturion.toml:6: unknown action \"drop_tables\""));
}

#[test]
fn an_escalation_names_contacts_that_are_there() {
    let contact = "[[contact]]\nname = \"a\"\nchannel = \"slack\"\nurl_env = \"URL\"\n";
    let hidden = [("URL", "http://slack.example/s3cret")];
    assert_eq!(
        refused(contact, &hidden),
        "maturion.toml:4: the URL of this [[contact]] must begin with https://, or lead to this machine"
    );
    let environment = [("URL", "https://slack.example/s3cret")];
    let unknown = format!("{contact}[[escalation]]\nissue = \"high\"\nprimary = \"b\"\n");
    assert_eq!(refused(&unknown, &environment), "maturion.toml:7: there is no [[contact]] \"b\"");
    let twice = "[[escalation]]\nissue = \"high\"\nprimary = \"a\"\n".repeat(2);
    assert_eq!(
        refused(&format!("{contact}{twice}"), &environment),
        "maturion.toml:9: `issue` must be one of critical_platform, high, medium, architecture, security, each once, not \"high\""
    );
    let wrong = refused("[[contact]]\nname = \"a\"\nchannel = \"pigeon\"\n", &[]);
    assert!(wrong.starts_with("maturion.toml:3: `channel` must be \"webhook\", "), "{wrong}");
    let config = parse(contact, &environment).expect("a contact");
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn planned_maintenance_has_an_owner_a_reason_and_an_end() {
    let with = |from: &str, until: &str, labels: &str| {
        format!(
            "[[silence]]\nname = \"s\"\nlabels = {{ {labels} }}\nowner = \"mia\"\nreason = \"upgrade\"\nfrom = \"{from}\"\nuntil = \"{until}\"\n"
        )
    };
    let (from, until, module) = ("2026-01-10T20:00:00Z", "2026-01-10T22:00:00Z", "module = \"exports\"");
    let config = parse(&with(from, until, module), &[]).expect("a silence");
    assert_eq!(config.silences[0].labels["module"], "exports");
    assert_eq!(config.silences[0].until - config.silences[0].from, 7_200_000_000);
    for (text, expected) in [
        (with(from, from, module), "ends after it begins"),
        (with(from, "2027-01-10T22:00:00Z", module), "within 30 days"),
        (with("today", until, module), "`from` must be a time"),
        (with(from, until, ""), "1 to 16 labels"),
    ] {
        let said = refused(&text, &[]);
        assert!(said.starts_with("maturion.toml:") && said.contains(expected), "{said}");
    }
}
