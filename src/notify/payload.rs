//! Deliveries as each channel wants them. Pure.

use serde_json::{Map, Value, json};

use crate::model::detection::format_time;
use crate::model::pipeline::{Micros, Severity};
use crate::model::series::stable_id;

use super::{Delivery, Entry, Kind};

/// PagerDuty cuts summaries at 1,024 characters.
const SUMMARY_CHARACTERS_MAX: usize = 1_000;
/// What Alertmanager writes for an end that is not known.
const NO_END: &str = "0001-01-01T00:00:00Z";
/// Breaks what would become a link, and is not seen.
const NOTHING: &str = "\u{200b}";

/// The generic webhook: everything that is known.
pub(super) fn webhook(delivery: &Delivery) -> Value {
    let incidents: Vec<Value> = delivery.entries.iter().map(incident).collect();
    json!({
        "id": delivery.id,
        "kind": delivery.kind.name(),
        "contact": delivery.contact,
        "alert": delivery.alert,
        "group": delivery.group,
        "at": format_time(delivery.at),
        "reason": delivery.reason,
        "incidents": incidents,
        "more": delivery.more,
    })
}

fn incident(entry: &Entry) -> Value {
    json!({
        "incident_id": entry.incident,
        "epoch": entry.epoch,
        "issue": entry.issue,
        "severity": entry.severity,
        "title": entry.title,
        "module": entry.module,
        "ticket": entry.ticket,
        "opened_at": format_time(entry.opened),
        "resolved_at": entry.resolved.map(format_time),
        "acknowledged_by": entry.acknowledged,
        "respond_within_seconds": entry.respond_within / 1_000_000,
    })
}

/// Slack's incoming webhooks, and what is compatible with them.
pub(super) fn slack(delivery: &Delivery) -> Value {
    let bold = |text: &str| format!("*{}*", escaped(text));
    let mut lines = vec![bold(&headline(delivery))];
    lines.extend(delivery.entries.iter().map(|entry| {
        let ticket = entry.ticket.as_deref().filter(|ticket| is_link(ticket));
        let ticket = ticket.map(|ticket| format!(" <{}|ticket>", escaped(ticket))).unwrap_or_default();
        format!("• {}{ticket}", escaped(&line(entry)))
    }));
    lines.extend(more(delivery));
    json!({ "text": lines.join("\n"), "unfurl_links": false, "unfurl_media": false })
}

/// Slack's three special characters; without them nobody is mentioned and nothing is linked.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// True for an address that can stand between angle brackets.
fn is_link(text: &str) -> bool {
    text.starts_with("https://")
        && text.chars().all(|character| character.is_ascii_graphic() && !"<>|".contains(character))
}

/// PagerDuty's Events API v2.
pub(super) fn pagerduty(delivery: &Delivery, routing_key: &str) -> Value {
    let action = match delivery.kind {
        Kind::Trigger | Kind::Update => "trigger",
        Kind::Acknowledge => "acknowledge",
        Kind::Resolve => "resolve",
    };
    let mut event = json!({ "routing_key": routing_key, "event_action": action, "dedup_key": delivery.alert });
    if action == "trigger"
        && let Some(event) = event.as_object_mut()
    {
        let worst = delivery.entries.iter().max_by_key(|entry| entry.severity);
        let summary: String = summary(delivery).chars().take(SUMMARY_CHARACTERS_MAX).collect();
        let details: Vec<Value> = delivery.entries.iter().map(incident).collect();
        let module = worst.and_then(|entry| entry.module.as_deref());
        let payload = json!({
            "summary": summary,
            "source": module.unwrap_or("platform"),
            "severity": pagerduty_severity(worst.map_or(Severity::Medium, |entry| entry.severity)),
            "timestamp": format_time(worst.map_or(delivery.at, |entry| entry.opened)),
            "component": module,
            "group": delivery.group,
            "class": worst.map(|entry| entry.issue),
            "custom_details": { "incidents": details, "more": delivery.more, "reason": delivery.reason },
        });
        event.insert("payload".to_owned(), payload);
        let ticket = worst.and_then(|entry| entry.ticket.as_deref()).filter(|ticket| is_link(ticket));
        let links: Vec<Value> = ticket.map(|href| json!({ "href": href, "text": "Ticket" })).into_iter().collect();
        event.insert("links".to_owned(), links.into());
    }
    event
}

fn pagerduty_severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "info",
    }
}

/// Alertmanager's webhook, version 4.
pub(super) fn alertmanager(delivery: &Delivery) -> Value {
    let labels: Vec<Map<String, Value>> = delivery.entries.iter().map(alert_labels).collect();
    let common = |key: &String, value: &Value| labels.iter().all(|labels| labels.get(key) == Some(value));
    let first = labels.first().cloned().unwrap_or_default();
    let common: Map<String, Value> = first.into_iter().filter(|(key, value)| common(key, value)).collect();
    let alerts: Vec<Value> = delivery.entries.iter().zip(&labels).map(|(entry, labels)| alert(entry, labels)).collect();
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alert=\"{}\"}}", delivery.alert),
        "truncatedAlerts": delivery.more,
        "status": if delivery.kind == Kind::Resolve { "resolved" } else { "firing" },
        "receiver": delivery.contact,
        "groupLabels": { "group": delivery.group },
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": "",
        "alerts": alerts,
    })
}

fn alert_labels(entry: &Entry) -> Map<String, Value> {
    let labels = [
        ("alertname", Some("MaturionIncident".to_owned())),
        ("incident", Some(entry.incident.clone())),
        ("epoch", Some(entry.epoch.to_string())),
        ("issue", Some(entry.issue.name().to_owned())),
        ("severity", Some(severity_name(entry.severity).to_owned())),
        ("module", entry.module.clone()),
    ];
    labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

fn alert(entry: &Entry, labels: &Map<String, Value>) -> Value {
    let annotations: Map<String, Value> =
        [("summary", Some(entry.title.clone())), ("acknowledged_by", entry.acknowledged.clone())]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
            .collect();
    let fingerprint = stable_id(&[entry.incident.as_bytes(), &entry.epoch.to_be_bytes()]);
    json!({
        "status": if entry.resolved.is_some() { "resolved" } else { "firing" },
        "labels": labels,
        "annotations": annotations,
        "startsAt": format_time(entry.opened),
        "endsAt": entry.resolved.map_or(NO_END.to_owned(), format_time),
        "generatorURL": entry.ticket.as_deref().unwrap_or_default(),
        "fingerprint": fingerprint.get(..16),
    })
}

/// Subject and text of a mail.
pub(super) fn mail(delivery: &Delivery) -> (String, String) {
    let mut text = format!("{}\n\n", headline(delivery));
    for entry in &delivery.entries {
        text.push_str(&format!("- {}\n", line(entry)));
        if let Some(ticket) = entry.ticket.as_deref().filter(|ticket| is_link(ticket)) {
            text.push_str(&format!("  {ticket}\n"));
        }
    }
    if let Some(more) = more(delivery) {
        text.push_str(&format!("- {more}\n"));
    }
    (format!("[maturion] {}", summary(delivery)), text)
}

/// What happened, before the list.
fn headline(delivery: &Delivery) -> String {
    let what = match delivery.kind {
        Kind::Trigger => "Needs attention",
        Kind::Update => "Still needs attention",
        Kind::Acknowledge => "Somebody looks after it",
        Kind::Resolve => "Resolved",
    };
    delivery.reason.map_or_else(|| what.to_owned(), |reason| format!("{what}: {}", reason.words()))
}

/// The whole message in a line.
fn summary(delivery: &Delivery) -> String {
    let count = delivery.entries.len() as u64 + delivery.more;
    let resolved = if delivery.kind == Kind::Resolve { "resolved: " } else { "" };
    match delivery.entries.as_slice() {
        [only] if delivery.more == 0 => {
            let severity = severity_name(only.severity).to_uppercase();
            format!("{resolved}[{severity}] {}", unlinked(&only.title))
        }
        _ => format!("{resolved}{count} incidents in {}", unlinked(&delivery.group)),
    }
}

/// One incident in a line.
fn line(entry: &Entry) -> String {
    let severity = severity_name(entry.severity).to_uppercase();
    let module = entry.module.as_deref().map(|module| format!(" in {}", unlinked(module))).unwrap_or_default();
    let begun = format!("[{severity}] {}{module}, since {}", unlinked(&entry.title), format_time(entry.opened));
    match (entry.resolved, &entry.acknowledged) {
        (Some(resolved), _) => format!("{begun}, resolved {}", format_time(resolved)),
        (None, Some(by)) => format!("{begun}, {} looks after it", unlinked(by)),
        (None, None) => format!("{begun}, to be answered {}", within(entry.respond_within)),
    }
}

fn within(micros: Micros) -> String {
    match u64::try_from(micros / 1_000_000).unwrap_or_default() {
        0 => "at once".to_owned(),
        seconds => format!("within {}", humantime::format_duration(std::time::Duration::from_secs(seconds))),
    }
}

fn more(delivery: &Delivery) -> Option<String> {
    (delivery.more > 0).then(|| format!("and {} more; `maturion status` shows all", delivery.more))
}

/// An address in data is not one to click on.
fn unlinked(text: &str) -> String {
    text.replace("://", &format!(":{NOTHING}//")).replace("www.", &format!("www{NOTHING}."))
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    }
}
