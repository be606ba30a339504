//! The shapes of what may not leave, in the order in which they are looked for: the surest first.

use super::Rule;
use super::judge::{account, card, ipv4, ipv6, kept_name, mixed, telephone, wordlike};

/// A value after `name=` or `"name":`: what was hidden already, a quoted text (also within a quoted text), or a word.
macro_rules! field {
    ($names:literal) => {
        concat!(
            r#"(?i)("#,
            $names,
            r#")(\\*["']?\s*(?:=>|[:=])\s*)"#,
            r#"(\[[a-z ]+\]|\\+["'][^"'\\]*(?:\\+["'])?|"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&}\])]+)"#
        )
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        pattern: r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
        hide: |_| shown("private key"),
    },
    // https://user:password@host and https://token@host
    Rule { pattern: r#"(://)[^\s"'<>]*@"#, hide: |_| Some("://[credentials]@".to_owned()) },
    Rule { pattern: r"hooks\.slack\.com/[^\s]+", hide: |_| shown("token") },
    // The rest of the line: such headers hold several values.
    Rule {
        pattern: r#"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(\\*["']?\s*[:=]\s*)[^\r\n]+"#,
        hide: |found| Some(format!("{}{}[secret]", found.group(1), found.group(2))),
    },
    Rule { pattern: r"eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*", hide: |_| shown("token") },
    Rule {
        pattern: concat!(
            r"(?:gh[pousr]_|github_pat_|glpat-|npm_|pypi-|sb[a-z]_|dop_v1_|hf_|shpat_)[A-Za-z0-9_-]{8,}",
            r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}",
            r"|xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}",
            r"|(?:sk|pk|rk|whsec)_[A-Za-z0-9_]{8,}|sk-[A-Za-z0-9_-]{16,}",
            r"|AIza[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]+|SG\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        ),
        hide: |_| shown("token"),
    },
    Rule {
        pattern: r"(?i)\b(bearer|basic|token)(\s+)([A-Za-z0-9._~+/=-]{8,})",
        hide: |found| (!wordlike(found.group(3))).then(|| format!("{}{}[token]", found.group(1), found.group(2))),
    },
    Rule {
        pattern: field!(
            r"[a-z0-9_.-]*(?:password|passwd|passphrase|pwd|secret|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|token|credential|session[-_ ]?id|otp|iban)[a-z0-9_]*"
        ),
        hide: |found| kept_name(found, "secret"),
    },
    Rule {
        pattern: field!(
            r"[a-z0-9_.-]*(?:user[-_ ]?id|user[-_ ]?name|e-?mail|customer[-_ ]?id|client[-_ ]?ip|remote[-_ ]?addr|ip[-_ ]?address|(?:first|last|full|sur)[-_ ]?name|phone|mobile|birth[-_ ]?date|date[-_ ]?of[-_ ]?birth|dob|ssn)\b"
        ),
        hide: |found| kept_name(found, "personal"),
    },
    // Words of plain English too, so only `user=…` and `"user": …`.
    Rule {
        pattern: r#"(?i)\b(user|uid|login|account|actor|owner)(\s*=\s*|\\*["']\s*:\s*)(\[[a-z ]+\]|\\*"[^"\\]*\\*"?|\\*'[^'\\]*\\*'?|[^\s,;&}\])]+)"#,
        hide: |found| kept_name(found, "personal"),
    },
    // As PostgreSQL says it: for user "ann".
    Rule {
        pattern: r#"(?i)\b(user|role|username) \\*"[^"]+""#,
        hide: |found| Some(format!("{} \"[personal]\"", found.group(1))),
    },
    Rule {
        pattern: r#"(?:"[^"\s]{1,64}"|[^\s@<>()\[\]{},;:"'=/|\\]+(?:'[^\s@<>()\[\]{},;:"'=/|\\]+)*)(?:@|%40)[\p{L}\p{N}](?:[\p{L}\p{N}.-]*[\p{L}\p{N}])?"#,
        hide: |_| shown("email"),
    },
    Rule { pattern: r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", hide: |_| shown("id") },
    Rule {
        pattern: r"(?i)(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}",
        hide: |found| found.stands_alone().then(|| bracketed("mac")),
    },
    Rule { pattern: r"(?:[0-9A-Fa-f]{0,4}:){2,}[0-9A-Fa-f.:]{0,45}", hide: ipv6 },
    Rule { pattern: r"[0-9]+(?:\.[0-9]+){3,}", hide: ipv4 },
    Rule { pattern: r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?", hide: account },
    Rule { pattern: r"[0-9](?:[ -]?[0-9]){12,}", hide: card },
    Rule { pattern: r"\+[0-9][0-9 ().-]{5,}[0-9]", hide: telephone },
    Rule { pattern: r"\(0?[0-9]{2,5}\)[ -]?[0-9]{3,}(?:[ -]?[0-9]{2,})*", hide: telephone },
    Rule {
        pattern: r"[0-9]{3}[-. ][0-9]{3}[-. ][0-9]{4}",
        hide: |found| found.stands_alone().then(|| bracketed("phone")),
    },
    Rule { pattern: r"[0-9]{3}-[0-9]{2}-[0-9]{4}", hide: |found| found.stands_alone().then(|| bracketed("id")) },
    Rule { pattern: r"(?i)[0-9a-f]{32,}", hide: |_| shown("hex") },
    Rule { pattern: r"[A-Za-z0-9+/_=-]{32,}", hide: mixed },
];

/// `[kind]`, in place of anything.
fn shown(kind: &str) -> Option<String> {
    Some(bracketed(kind))
}

pub(super) fn bracketed(kind: &str) -> String {
    format!("[{kind}]")
}

/// Values of fields that name an organisation. A parameter in their place names none.
pub(super) const ORGANISATIONS: &[Rule] = &[Rule {
    pattern: field!(r"[a-z0-9_.-]*(?:organi[sz]ation|org|tenant)(?:[-_ ]?(?:id|name))?"),
    hide: |found| if found.group(3).starts_with(':') { None } else { kept_name(found, "organisation") },
}];
