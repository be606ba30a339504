//! The words and characters of the floor: what nothing may be called that something is done to.
//!
//! The kinds of actions are a closed list, so nothing here can be argued with by a friendly name. This second net is for names
//! that come from outside: a module of the platform, a parameter, an organisation. It refuses too much rather than too little.

/// The longest name of a module, a parameter or an organisation, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// What stands for "nobody knows which organisation" or for more than one.
const NO_ORGANISATION: [&str; 9] =
    ["unknown", "null", "none", "nil", "undefined", "all", "any", "everyone", "everything"];

/// Words, or beginnings of words, that name what the plan prohibits. `authorisation` is covered by `authori`.
const PROTECTED_BEGINNINGS: [&str; 18] = [
    "authe",
    "authn",
    "authz",
    "authori",
    "oauth",
    "encrypt",
    "decrypt",
    "crypt",
    "credential",
    "secret",
    "password",
    "permission",
    "privilege",
    "certificate",
    "migrat",
    "schema",
    "dependenc",
    "governance",
];

/// Whole words that do. Shorter than the others, so that they would be part of much that is harmless.
const PROTECTED_WORDS: [&str; 37] = [
    "auth",
    "access",
    "acl",
    "acls",
    "rbac",
    "iam",
    "mfa",
    "2fa",
    "sso",
    "saml",
    "oidc",
    "jwt",
    "tls",
    "ssl",
    "kms",
    "cipher",
    "key",
    "keys",
    "token",
    "tokens",
    "role",
    "roles",
    "policy",
    "policies",
    "firewall",
    "data",
    "database",
    "table",
    "tables",
    "record",
    "records",
    "backup",
    "backups",
    "code",
    "contract",
    "contracts",
    "ddl",
];

/// Checks the name of a module that something is done to.
pub(super) fn target_name(name: &str) -> Result<(), String> {
    name_in_ascii(name).map_err(|reason| format!("the target {}: {reason}", shown(name)))?;
    unprotected(name)
        .map_err(|word| format!("the target {} names `{word}`: nothing is done there without a person", shown(name)))
}

/// Checks the name of what is changed.
pub(super) fn parameter_name(name: &str) -> Result<(), String> {
    name_in_ascii(name).map_err(|reason| format!("the parameter {}: {reason}", shown(name)))?;
    unprotected(name)
        .map_err(|word| format!("the parameter {} names `{word}`, which only a person changes", shown(name)))
}

/// Checks that an organisation is one, and known.
pub(super) fn organisation(id: &str) -> Result<(), String> {
    name_in_ascii(id).map_err(|reason| format!("the organisation {}: {reason}", shown(id)))?;
    if NO_ORGANISATION.iter().any(|word| id.eq_ignore_ascii_case(word)) {
        return Err(format!("the organisation is {}", shown(id)));
    }
    Ok(())
}

/// A name from outside, as a message may show it: quoted, escaped and cut.
pub(super) fn shown(name: &str) -> String {
    let cut: String = name.chars().take(64).collect();
    let rest = if cut.len() < name.len() { "…" } else { "" };
    format!("\"{}{rest}\"", cut.escape_default())
}

/// Letters, digits, `_`, `-` and single dots between them, all ASCII: no look-alike, no path, no list, no pattern.
fn name_in_ascii(name: &str) -> Result<(), &'static str> {
    let bytes = name.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let is_solid = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
        return Err("a name has 1 to 128 characters");
    }
    if !bytes.iter().all(is_plain) || !is_solid(bytes.first()) || !is_solid(bytes.last()) || name.contains("..") {
        return Err("a name is made of a-z A-Z 0-9 _ - and single dots, and begins and ends with a letter or a digit");
    }
    Ok(())
}

/// The first word of the name that is protected is the error.
fn unprotected(name: &str) -> Result<(), String> {
    let is_protected = |word: &&str| {
        PROTECTED_WORDS.contains(word) || PROTECTED_BEGINNINGS.iter().any(|beginning| word.starts_with(beginning))
    };
    let small = name.to_ascii_lowercase();
    let squeezed: String = small.chars().filter(char::is_ascii_alphanumeric).collect();
    let found = std::iter::once(squeezed.as_str()).chain(words(name, &small)).find(is_protected);
    found.map_or(Ok(()), |word| Err(word.to_owned()))
}

/// The words of a name, out of the same name in small letters: `risk-matrix`, `risk.matrix` and `riskMatrix` are two, and the
/// parts between marks are words too, in which letters change their size.
fn words<'a>(name: &str, small: &'a str) -> impl Iterator<Item = &'a str> {
    let bytes = name.as_bytes().iter();
    let changes: Vec<usize> = bytes
        .clone()
        .zip(bytes.skip(1))
        .enumerate()
        .filter(|(_, (before, after))| !before.is_ascii_uppercase() && after.is_ascii_uppercase())
        .map(|(at, _)| at + 1)
        .collect();
    let begins = std::iter::once(0).chain(changes.clone());
    let ends = changes.into_iter().chain(std::iter::once(small.len()));
    let pieces = begins.zip(ends).filter_map(|(begin, end)| small.get(begin..end));
    std::iter::once(small).chain(pieces).flat_map(|piece| piece.split(|each: char| !each.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_a_platform_are_names() {
        for name in ["threat-analysis", "risk-matrix", "pit", "external-api", "exports", "v2.reports", "keyboard"] {
            assert_eq!(target_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_is_no_plain_name_is_refused() {
        let long = "a".repeat(129);
        let wrong = [
            "",
            ".",
            "..",
            "../etc",
            "a/b",
            "a..b",
            "a b",
            "a\0",
            "a\n",
            "-rf",
            "a-",
            "*",
            "a,b",
            "a;b",
            "$(a)",
            "%2e%2e",
            "pаyments",
            "ａuth",
            "a\u{202e}b",
            "{target}",
            "org_1|org_2",
            &long,
        ];
        for name in wrong {
            assert!(target_name(name).is_err(), "{name:?}");
            assert!(organisation(name).is_err(), "{name:?}");
            assert!(parameter_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_the_plan_protects_is_refused_in_every_spelling() {
        for name in [
            "auth",
            "AUTH",
            "auth-service",
            "userAuth",
            "a-u-t-h",
            "authentication",
            "authorisation",
            "authorization",
            "oauth2",
            "access-control",
            "tenant_data",
            "tenantData",
            "schema-registry",
            "schemas",
            "db.migration",
            "encryption",
            "tls",
            "dependency-check",
            "integration-contracts",
            "rolePolicies",
            "disable.encryption",
        ] {
            assert!(target_name(name).is_err(), "{name}");
            assert!(parameter_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_organisation_that_is_none_is_refused() {
        for id in ["unknown", "Unknown", "UNKNOWN", "null", "all", "none"] {
            assert!(organisation(id).is_err(), "{id}");
        }
        assert_eq!(organisation("org_12345"), Ok(()));
        assert_eq!(organisation("5f0c1c3e-9c1b-4f57-8e0a-3a2b1c0d9e8f"), Ok(()));
    }

    #[test]
    fn what_a_message_shows_is_escaped_and_cut() {
        assert_eq!(shown("a\n\u{202e}"), "\"a\\n\\u{202e}\"");
        assert!(shown(&"a".repeat(1_000)).len() < 100);
    }
}
