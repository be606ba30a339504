use proptest::prelude::*;

use super::*;

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(scrub(text), *expected, "{text}");
        assert_eq!(scrub(expected), *expected, "what was hidden stays as it is");
    }
}

#[test]
fn every_pattern_can_be_used() {
    assert_eq!(COMPILED.as_ref().map(Vec::len), Some(RULES.len()));
    assert_eq!(COMPILED_ORGANISATIONS.as_ref().map(Vec::len), Some(ORGANISATIONS.len()));
}

#[test]
fn addresses_of_people_and_machines_are_hidden() {
    check(&[
        ("mail from ann.o'neil+x@mail.example.co.uk failed", "mail from [email] failed"),
        ("to=<ann@example.org>,", "to=<[email]>,"),
        ("GET /confirm?m=ann%40example.org HTTP/1.1", "GET /confirm?m=[email] HTTP/1.1"),
        ("jörg@müller.example kam", "[email] kam"),
        ("root@localhost", "[email]"),
        ("from 203.0.113.7:5432, then 10.0.0.1.", "from [ip]:5432, then [ip]."),
        ("peer [2001:db8::8a2e:370:7334]:443 and fe80::1%eth0", "peer [[ip]]:443 and [ip]%eth0"),
        ("addr:2001:db8::1, 12 4111111111111111 call +49 30 123456 12345678", "addr:[ip], [card] call [phone]"),
        ("::1 spoke, ::ffff:192.0.2.1 too", "[ip] spoke, [ip] too"),
        ("card of 3c:22:fb:aa:bb:cc", "card of [mac]"),
        ("call +49 (30) 1234-5678 or (030) 123456 or 415-555-2671", "call [phone] or [phone] or [phone]"),
    ]);
}

#[test]
fn secrets_are_hidden() {
    check(&[
        ("Bearer abcDEF123456", "Bearer [token]"),
        ("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Authorization: [secret]"),
        ("{\"authorization\":\"Bearer x\",\"a\":1}", "{\"authorization\":[secret]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN end", "jwt [token] end"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[token]"),
        ("github_pat_11ABCDEFG0abcdefghij_klmnopqrstuvwxyz", "[token]"),
        ("key AKIAIOSFODNN7EXAMPLE", "key [token]"),
        ("xoxb-123456789012-abcdefghijkl", "[token]"),
        ("sk_live_abcdefgh12345678", "[token]"),
        ("postgres://app:s3cr/et@db.internal:5432/x", "postgres://[credentials]@db.internal:5432/x"),
        ("https://tok3n@git.example/x.git", "https://[credentials]@git.example/x.git"),
        ("password=hunter2&x=1", "password=[secret]&x=1"),
        ("\"db_password\": \"a \\\" b\", \"n\": 1", "\"db_password\": [secret], \"n\": 1"),
        ("{\\\"api_key\\\":\\\"abc\\\",\\\"n\\\":1}", "{\\\"api_key\\\":[secret],\\\"n\\\":1}"),
        ("client_secret => 'abc'", "client_secret => [secret]"),
        ("https://hooks.slack.com/services/T0/B0/x", "https://[token]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- done", "[private key] done"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[private key]"),
        ("deadbeefdeadbeefdeadbeefdeadbeef", "[hex]"),
        ("wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY1", "[token]"),
    ]);
}

#[test]
fn people_are_hidden() {
    check(&[
        ("user_id=42, rows=3", "user_id=[personal], rows=3"),
        ("{\"userId\": 42}", "{\"userId\": [personal]}"),
        ("{\"user\":\"ann\",\"n\":1}", "{\"user\":[personal],\"n\":1}"),
        ("login for user \"ann\" failed", "login for user \"[personal]\" failed"),
        ("user 0b8f1f0e-9c7e-4f39-8b1d-2a4a5a6b7c8d left", "user [id] left"),
        ("card 4111 1111 1111 1111 declined", "card [card] declined"),
        ("DE89 3704 0044 0532 0130 00 refused", "[account] refused"),
        ("first_name='Ann' last_name=\"Lee\"", "first_name=[personal] last_name=[personal]"),
        ("ssn 078-05-1120", "ssn [id]"),
    ]);
}

#[test]
fn organisations_are_hidden_where_a_field_names_them() {
    let cases = [
        ("organisation_id=org_7 rows=3", "organisation_id=[organisation] rows=3"),
        ("{\"tenantId\": \"t-1\", \"n\": 1}", "{\"tenantId\": [organisation], \"n\": 1}"),
        ("WHERE organisation_id = :'organisation' AND n = 1", "WHERE organisation_id = :'organisation' AND n = 1"),
        ("all organisations failed", "all organisations failed"),
    ];
    for (text, expected) in cases {
        assert_eq!(scrub_organisations(text), expected);
    }
}

#[test]
fn harmless_text_survives() {
    let texts = [
        "2025-12-03T10:00:00.123456Z and 2025-12-03 10:00:00+02:00",
        "1764756000000 ms, 1764756000000000 µs, 1764756000000000000 ns",
        "GET /api/v1/organisations/{organisation_id}/threats/:threat_id 500 in 1200 ms",
        "error[E0433]: failed to resolve: use of std::fs::read_to_string at src/main.rs:10:5",
        "query timed out: canceling statement due to statement timeout",
        "password authentication failed; token validation failed; Basic authentication required",
        "p95 5,120.25 ms over 4,210 samples, 0.101 > 0.01, 1e-9, version 1.2.3",
        "TypeError: cannot read properties of undefined (reading 'length')",
        "SELECT window_start, count(*) FILTER (WHERE status_code >= 500) AS errors FROM logs WHERE timestamp >= \
         '2025-12-03T10:00:00Z' AND module = 'threat-analysis' GROUP BY 1 ORDER BY user_id LIMIT 20",
        "10:00:00 the user was not found: no owner",
        "function_recycle threat-analysis-background-worker-for-long-imports",
    ];
    for text in texts {
        assert_eq!(scrub(text), text);
    }
}

#[test]
fn a_cut_goes_through_no_word() {
    let text = format!("{} ann@example.org", "a ".repeat(INPUT_BYTES_MAX / 2 - 4));
    let scrubbed = scrub(&text);
    assert!(scrubbed.len() <= INPUT_BYTES_MAX && !scrubbed.contains("ann"), "{}", &scrubbed[scrubbed.len() - 20..]);
    assert_eq!(scrub(&"x".repeat(INPUT_BYTES_MAX + 1)), WITHHELD);
}

/// Something personal or secret, of every shape that the rules know.
fn private() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9._%+-]{0,12}[a-z0-9]@[a-z0-9]{1,10}\\.(org|example|co\\.uk)",
        any::<[u8; 4]>().prop_map(|four| std::net::Ipv4Addr::from(four).to_string()),
        any::<[u16; 8]>().prop_map(|eight| std::net::Ipv6Addr::from(eight).to_string()),
        "eyJ[A-Za-z0-9_-]{10,40}\\.eyJ[A-Za-z0-9_-]{10,40}\\.[A-Za-z0-9_-]{10,40}",
        "(ghp|gho|ghs)_[A-Za-z0-9]{36}",
        "AKIA[A-Z0-9]{16}",
        "xox[bp]-[0-9]{10}-[A-Za-z0-9]{20}",
        "sk_(live|test)_[A-Za-z0-9]{24}",
        "[0-9a-f]{40}",
        "[A-Z][a-z][0-9][A-Za-z0-9+]{37}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "\\+[1-9][0-9]{1,2} [0-9]{3} [0-9]{4,6}",
        "[2-6][0-9]{14}".prop_map(|digits| with_check_digit(&digits)),
    ]
}

/// The number with the digit that makes it a card's (ISO/IEC 7812-1).
fn with_check_digit(digits: &str) -> String {
    let sum: u32 = digits
        .chars()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = digit.to_digit(10).unwrap_or_default() * if at % 2 == 0 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// Text around it, ending in something that is not part of it.
fn around() -> impl Strategy<Value = String> {
    "([ -~äé€\n]{0,40}[ ,;\"'<>()\n\t|])?"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_private_never_survives(before in around(), private in private(), after in around()) {
        let after: String = after.chars().rev().collect();
        let text = format!("{before}{private}{after}");
        prop_assert!(!scrub(&text).contains(&private), "{text:?} became {:?}", scrub(&text));
    }

    #[test]
    fn values_of_private_fields_never_survive(
        name in "(password|access_token|user_id|userName|email|client_ip|apiKey)",
        value in "[a-z]{4}[A-Za-z0-9]{4,12}",
        form in 0..4,
    ) {
        let text = match form {
            0 => format!("a {name}={value} b"),
            1 => format!("{{\"{name}\": \"{value}\", \"n\": 1}}"),
            2 => format!("{{\\\"{name}\\\":\\\"{value}\\\"}}"),
            _ => format!("/x?{name}={value}&n=1"),
        };
        prop_assert!(!scrub(&text).contains(&value), "{text:?} became {:?}", scrub(&text));
    }

    #[test]
    fn any_text_can_be_scrubbed(text in "\\PC{0,200}") {
        let once = scrub(&text);
        prop_assert!(once.len() <= text.len() * 8 + 64);
    }

    #[test]
    fn times_and_counts_survive(year in 1970..2100, month in 1..=12, day in 1..=28, second in 0..86_400, count in 0..1_000_000) {
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let text = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z {count} rows /api/v2/items/{{id}} in {count}.{second} ms");
        prop_assert_eq!(scrub(&text), text);
    }
}
