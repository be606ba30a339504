//! A report as a ticket: the plan's template with real content, one status comment, labels.
//!
//! Pure. Every value of the report goes through [`Quote`], so what comes from telemetry is scrubbed and does nothing. Every list and
//! every text has a bound; a page that is still too long is written again with a half, a quarter and so on of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::config::GitHub;
use crate::model::detection::format_time;
use crate::model::pipeline::{Micros, Scope, Severity};

use super::Desired;
use super::markdown::Quote;
use super::report::{Affected, Attempt, Report, Source, Whom};

/// GitHub refuses 65,536 characters; a byte is at most a character.
pub const BODY_BYTES_MAX: usize = 65_000;
/// GitHub refuses titles of more than 256 characters.
const TITLE_BYTES_MAX: usize = 160;
const NAME_BYTES_MAX: usize = 120;
const WORDS_BYTES_MAX: usize = 6_000;
const STATEMENT_BYTES_MAX: usize = 8_000;
const SAMPLE_BYTES_MAX: usize = 1_000;
const SAMPLES_MAX: usize = 20;
const TRACES_MAX: usize = 20;
const ATTEMPTS_MAX: usize = 20;
const MODULES_MAX: usize = 20;
/// The smallest share of all lengths: with it the longest page is a few kilobytes.
const SHARE_MAX: usize = 64;

/// What tickets of one installation have in common.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// Who builds which module.
    pub builders: BTreeMap<String, String>,
    pub default_builder: Option<String>,
    /// Whether the id of an organisation may stand in tickets.
    pub organisation_ids: bool,
}

impl Style {
    pub fn of(config: &GitHub) -> Style {
        Style {
            builders: config.builders.clone(),
            default_builder: config.default_builder.clone(),
            organisation_ids: config.organisation_ids,
        }
    }

    /// Who builds a module, or what belongs to none.
    pub fn builder(&self, module: Option<&str>) -> Option<&str> {
        let own = module.and_then(|module| self.builders.get(module));
        own.or(self.default_builder.as_ref()).map(String::as_str)
    }
}

/// What the issue should be.
pub fn render(report: &Report, style: &Style) -> Desired {
    Desired {
        title: Page::new(report, style, 1).title(),
        body: fitting(report, style, |page| page.body()),
        comment: fitting(report, style, |page| page.comment()),
        labels: vec![
            "maturion".to_owned(),
            format!("severity:{}", severity_name(report.severity)),
            report.identity.label(),
        ],
        open: report.open,
    }
}

/// The first writing that GitHub does not refuse for its length.
fn fitting(report: &Report, style: &Style, write: impl Fn(&Page<'_>) -> String) -> String {
    let mut share = 1;
    loop {
        let text = write(&Page::new(report, style, share));
        if text.len() <= BODY_BYTES_MAX || share >= SHARE_MAX {
            return text;
        }
        share *= 2;
    }
}

/// One writing of a report.
struct Page<'a> {
    report: &'a Report,
    style: &'a Style,
    quote: Quote<'a>,
}

impl<'a> Page<'a> {
    fn new(report: &'a Report, style: &'a Style, share: usize) -> Page<'a> {
        let hidden = match &report.whom {
            Whom::Organisation(organisation) if !style.organisation_ids => Some(organisation.as_str()),
            _ => None,
        };
        Page { report, style, quote: Quote { hidden, organisations: style.organisation_ids, share } }
    }

    fn title(&self) -> String {
        let severity = severity_name(self.report.severity).to_uppercase();
        format!("[{severity}] {}", self.quote.title(&self.report.summary, TITLE_BYTES_MAX))
    }

    fn body(&self) -> String {
        let sections = [
            ("Issue Description", self.description()),
            ("Detection Source", self.detection_source()),
            ("Impact Assessment", self.impact()),
            ("Root Cause Analysis", self.quote.prose(&self.report.root_cause, WORDS_BYTES_MAX)),
            ("Proposed Solution", self.proposal()),
            ("Relevant Logs/Metrics", self.evidence()),
            ("Assigned To", self.builder()),
            ("Priority", priority(self.report.severity).to_owned()),
        ];
        let mut body = self.report.identity.marker();
        body.push('\n');
        for (heading, text) in sections {
            let text = if text.is_empty() { "Nothing is known yet." } else { text.trim_end() };
            // Writing to a text cannot fail.
            let _ = write!(body, "\n## {heading}\n{text}\n");
        }
        body
    }

    fn description(&self) -> String {
        let report = self.report;
        format!(
            "{}\n\n- Rule: {} of pipeline {}, technique {}\n- Scope of a fix: {}\n- Incident: `{}`, opened {}",
            self.quote.prose(&report.description, WORDS_BYTES_MAX),
            self.name(&report.rule),
            self.name(&report.pipeline),
            self.name(&report.technique),
            scope_name(report.scope),
            report.identity.incident(),
            match report.identity.epoch() {
                0 | 1 => "for the first time".to_owned(),
                2 => "again, once".to_owned(),
                epoch => format!("again, {} times", epoch - 1),
            },
        )
    }

    fn detection_source(&self) -> String {
        let source = match self.report.source {
            Source::Logs => "Logs",
            Source::Metrics => "Metrics",
            Source::Watchdog => "Watchdog",
            Source::AnomalyDetection => "Anomaly Detection",
        };
        let organisation = match &self.report.whom {
            Whom::Platform => "Platform-wide".to_owned(),
            Whom::Unknown => "one organisation; which one is unknown".to_owned(),
            Whom::Organisation(organisation) if self.style.organisation_ids => self.name(organisation),
            Whom::Organisation(_) => "one organisation; its id stays with the agent".to_owned(),
        };
        let detected = format_time(self.report.detected_at);
        format!("- Source: {source}\n- Timestamp: {detected}\n- Organisation ID: {organisation}")
    }

    fn impact(&self) -> String {
        let report = self.report;
        let modules: Vec<String> =
            report.affected_modules.iter().take(MODULES_MAX).map(|module| self.name(module)).collect();
        let further = match report.affected_modules.len().saturating_sub(MODULES_MAX) {
            0 => String::new(),
            further => format!(" and {further} more"),
        };
        let modules = if modules.is_empty() { "unknown".to_owned() } else { modules.join(", ") + &further };
        format!(
            "- Severity: {}\n- Affected Users: {}\n- Affected Organisations: {}\n- Affected Modules: {modules}",
            capitalised(severity_name(report.severity)),
            affected(report.affected_users, "users"),
            affected(report.affected_organisations, "organisations"),
        )
    }

    fn evidence(&self) -> String {
        let mut text = self.numbers();
        text.push_str("\nThe query that shows them");
        text.push_str(match self.quote.hidden {
            Some(_) => ", with `--set organisation=…` for the organisation:\n\n",
            None => ":\n\n",
        });
        text.push_str(&self.quote.block("sql", &self.statement(), STATEMENT_BYTES_MAX));
        text.push_str(&self.samples());
        text.push_str(&self.traces());
        text.push_str(&self.attempts());
        text
    }

    /// What was measured, as a list.
    fn numbers(&self) -> String {
        let numbers = &self.report.numbers;
        let mut lines = vec![format!("- Measure: {}", self.name(&numbers.measure))];
        let mut line = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("- {name}: {value}")));
        };
        line("Value", numbers.value.map(number));
        line("Threshold", numbers.threshold.map(number));
        line("Samples", numbers.samples.map(|samples| samples.to_string()));
        line("Score", numbers.score.map(number));
        line(
            "Baseline",
            numbers.baseline.as_ref().map(|baseline| {
                format!(
                    "{} ± {}, normally {} to {}, learnt from {} windows",
                    number(baseline.center),
                    number(baseline.spread),
                    number(baseline.lower),
                    number(baseline.upper),
                    baseline.windows
                )
            }),
        );
        line("Window", numbers.window.map(|(start, end)| format!("{} to {}", format_time(start), format_time(end))));
        lines.join("\n") + "\n"
    }

    /// The statement, with a parameter in place of an organisation that is not named.
    fn statement(&self) -> String {
        match self.quote.hidden.filter(|hidden| !hidden.is_empty()) {
            Some(hidden) => {
                let literal = format!("'{}'", hidden.replace('\'', "''"));
                self.report.evidence_sql.replace(&literal, ":'organisation'")
            }
            None => self.report.evidence_sql.clone(),
        }
    }

    fn samples(&self) -> String {
        if self.report.samples.is_empty() {
            let reason = self.report.without_samples;
            return reason.map(|reason| format!("\nLog samples: none, {reason}.\n")).unwrap_or_default();
        }
        // Scrubbed before it is cut: half a token has no known shape.
        let lines =
            self.report.samples.iter().take(SAMPLES_MAX).map(|sample| self.quote.line(sample, SAMPLE_BYTES_MAX));
        let text = lines.collect::<Vec<String>>().join("\n");
        let count = self.report.samples.len();
        let shown = if count > SAMPLES_MAX { format!(", {SAMPLES_MAX} of {count}") } else { String::new() };
        format!("\nLog samples{shown}:\n\n{}", self.quote.block("text", &text, SAMPLES_MAX * SAMPLE_BYTES_MAX))
    }

    /// The type says that they are ids: scrubbed, they would be of no use.
    fn traces(&self) -> String {
        let traces = self.report.traces.iter().take(TRACES_MAX).map(|trace| format!("`{}`", trace.as_str()));
        match traces.collect::<Vec<String>>().join(", ") {
            none if none.is_empty() => none,
            traces => format!("\nTraces: {traces}\n"),
        }
    }

    /// What was tried, newest last; the oldest are left out first.
    fn attempts(&self) -> String {
        let attempts = &self.report.attempts;
        if attempts.is_empty() {
            return String::new();
        }
        let left_out = attempts.len().saturating_sub(ATTEMPTS_MAX);
        let mut text = "\nWhat was tried:\n\n".to_owned();
        if left_out > 0 {
            let _ = writeln!(text, "- {left_out} earlier attempts");
        }
        attempts.iter().skip(left_out).for_each(|attempt| text.push_str(&self.attempt(attempt)));
        text
    }

    fn attempt(&self, attempt: &Attempt) -> String {
        format!(
            "- {}: {} of {}: **{}**. {}\n",
            format_time(attempt.at),
            self.name(&attempt.action),
            self.name(&attempt.target),
            self.quote.prose(&attempt.result, NAME_BYTES_MAX),
            self.quote.prose(&attempt.words, SAMPLE_BYTES_MAX),
        )
    }

    fn proposal(&self) -> String {
        let words = self.quote.prose(&self.report.proposal, WORDS_BYTES_MAX);
        // The one reference that is meant to be a link.
        let draft = self.report.pull_request.map(|number| format!("\n\nDraft pull request: #{number}"));
        words + &draft.unwrap_or_default()
    }

    fn builder(&self) -> String {
        let module = self.report.module.as_deref();
        match (self.style.builder(module), module) {
            (Some(builder), _) => self.quote.prose(builder, NAME_BYTES_MAX),
            (None, Some(module)) => format!("Nobody: no builder is configured for module {}.", self.name(module)),
            (None, None) => "Nobody: the incident belongs to no module.".to_owned(),
        }
    }

    /// The one comment: how it stands now.
    fn comment(&self) -> String {
        let report = self.report;
        let mut text = format!(
            "{}\n**{}** as of {}, severity {}, priority {}\n\n{}",
            report.identity.comment_marker(),
            capitalised(&self.quote.prose(&report.phase, NAME_BYTES_MAX)),
            format_time(report.updated_at),
            severity_name(report.severity),
            priority(report.severity),
            self.numbers(),
        );
        if let Some(resolved) = report.resolved_at {
            let _ = writeln!(
                text,
                "- Resolved: {}, after {}",
                format_time(resolved),
                length(resolved - report.detected_at)
            );
        }
        if let Some(reason) = &report.escalation {
            let _ = write!(text, "\nPeople were called: {}\n", self.quote.prose(reason, WORDS_BYTES_MAX));
        }
        text.push_str(&self.attempts());
        text
    }

    fn name(&self, name: &str) -> String {
        self.quote.code(name, NAME_BYTES_MAX)
    }
}

/// `critical`, `high`, `medium` or `low`.
pub(super) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    }
}

fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "P0",
        Severity::High => "P1",
        Severity::Medium => "P2",
        Severity::Low => "P3",
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Trivial => "trivial",
        Scope::Configuration => "configuration",
        Scope::CodeMinor => "code, minor",
        Scope::CodeMajor => "code, major",
        Scope::Schema => "schema",
        Scope::Architecture => "architecture",
    }
}

fn affected(affected: Affected, what: &str) -> String {
    match affected {
        Affected::Unknown => "unknown".to_owned(),
        Affected::All => format!("All {what}"),
        Affected::Number(number) => number.to_string(),
    }
}

fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() >= 1e15 || value.abs() < 1e-6) { format!("{value:e}") } else { value.to_string() }
}

fn length(micros: Micros) -> String {
    let seconds = u64::try_from(micros / 1_000_000).unwrap_or_default();
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().collect::<String>() + characters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
