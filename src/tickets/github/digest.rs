//! The digest: one issue that lists the incidents of an hour that had too many for an issue each.
//!
//! It has one line per incident with the incident's marker at its end, a box that is ticked once the incident is resolved or has an
//! issue of its own, and is closed when all boxes are ticked. What stands in it is always read before it is changed.

use std::time::Duration;

use serde_json::json;

use crate::model::pipeline::Micros;

use super::super::markdown::Quote;
use super::super::{Desired, Identity};
use super::api::Method;
use super::issue::{Issue, State};
use super::{Done, GitHub, Outcome, TicketError};

const LABEL: &str = "maturion:digest";
const MARKER: &str = "<!-- maturion digest -->";
const TITLE: &str = "[DIGEST] More incidents than tickets";
const WORDS: &str = "\nMore incidents were opened within an hour than may have an issue of their own. Those that still last get one as \
                     soon as that is possible.\n\n";
const MORE: &str = "\nMore incidents are open than are listed here; `maturion status` shows all.\n";
/// Incidents that are listed; each takes a line of the body, which has 65,536 characters at most.
const LINES_MAX: usize = 150;
const TITLE_BYTES_MAX: usize = 160;
/// Digests that a list shows as open; there is one, and lists lag.
const CANDIDATES_MAX: usize = 5;

/// What is known of the digest.
#[derive(Default)]
pub(super) struct Digest {
    looked: bool,
    /// The one that was open when it was last seen.
    page: Option<Page>,
}

#[derive(Clone)]
struct Page {
    number: u64,
    body: String,
}

impl GitHub {
    /// Puts an incident that may have no issue yet into the digest.
    pub(super) async fn digest_line(
        &mut self,
        identity: &Identity,
        desired: &Desired,
        again: Duration,
        now: Micros,
    ) -> Result<Outcome, TicketError> {
        let outcome = |number| Outcome { number: Some(number), done: Done::Digested { again } };
        let line = line(identity, desired);
        let Some(page) = self.open_digest().await? else {
            self.doubts.look(MARKER, now)?;
            let labels = [LABEL.to_owned()];
            self.make_labels(&labels).await?;
            let body = format!("{MARKER}\n{WORDS}{line}\n");
            let issue = self.create_issue(MARKER, TITLE, &body, &labels, now).await?;
            self.doubts.settled(MARKER);
            self.digest = Digest { looked: true, page: Some(Page { number: issue.number, body }) };
            return Ok(outcome(issue.number));
        };
        let body = with_line(&page.body, &identity.marker(), &line);
        self.write_digest(&page, body).await?;
        Ok(outcome(page.number))
    }

    /// Ticks the line of an incident that has an issue now, or is over, if the digest has one.
    pub(super) async fn out_of_digest(&mut self, identity: &Identity, now: Micros) -> Result<(), TicketError> {
        if !self.digest.looked {
            self.open_digest().await?;
            // Soon after a start the list may not show it yet.
            self.digest.looked = self.digest.page.is_some() || self.doubts.look(MARKER, now).is_ok();
        }
        let unticked = |page: &Page| has_unticked(&page.body, &identity.marker());
        if !self.digest.page.as_ref().is_some_and(unticked) {
            return Ok(());
        }
        let Some(page) = self.open_digest().await? else { return Ok(()) };
        let body = ticked(&page.body, &identity.marker());
        self.write_digest(&page, body).await
    }

    /// The digest that is open, as it is now: lists lag, an issue by its number does not.
    async fn open_digest(&mut self) -> Result<Option<Page>, TicketError> {
        let mut candidates: Vec<u64> = self.digest.page.take().map(|page| page.number).into_iter().collect();
        if candidates.is_empty() {
            let query = format!("labels={}&state=open", LABEL.replace(':', "%3A"));
            let listed: Vec<Issue> = self.api.pages("issues", &query).await?;
            candidates = listed.iter().filter(|issue| is_open(issue)).map(|issue| issue.number).collect();
            candidates.sort_unstable();
        }
        for number in candidates.into_iter().take(CANDIDATES_MAX) {
            let answer = self.api.call(Method::Get, &format!("issues/{number}"), None).await?;
            if answer.status != 200 {
                continue;
            }
            let issue: Issue = self.api.decode(answer)?;
            if is_open(&issue) {
                self.doubts.settled(MARKER);
                let page = Page { number, body: issue.body.unwrap_or_default().replace('\r', "") };
                self.digest.page = Some(page.clone());
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    async fn write_digest(&mut self, page: &Page, body: String) -> Result<(), TicketError> {
        if body == page.body {
            return Ok(());
        }
        let over = !body.lines().any(|line| line.starts_with("- [ ] "));
        let patch = match over {
            true => json!({ "body": body, "state": "closed", "state_reason": "completed" }),
            false => json!({ "body": body }),
        };
        self.api.expect(Method::Patch, &format!("issues/{}", page.number), &patch).await?;
        self.digest.page = (!over).then_some(Page { number: page.number, body });
        Ok(())
    }
}

fn is_open(issue: &Issue) -> bool {
    issue.state == State::Open && issue.has_marker(MARKER)
}

fn line(identity: &Identity, desired: &Desired) -> String {
    // The title was scrubbed when it was made.
    let quote = Quote { hidden: None, organisations: true, share: 1 };
    format!("- [ ] {} {}", quote.prose(&desired.title, TITLE_BYTES_MAX), identity.marker())
}

fn with_line(body: &str, marker: &str, line: &str) -> String {
    let is_its = |existing: &&str| existing.trim_end().ends_with(marker);
    if body.lines().any(|existing| is_its(&existing)) {
        let lines: Vec<&str> = body.lines().map(|existing| if is_its(&existing) { line } else { existing }).collect();
        return lines.join("\n") + "\n";
    }
    if body.lines().filter(|existing| existing.starts_with("- [")).count() >= LINES_MAX {
        return if body.ends_with(MORE) { body.to_owned() } else { format!("{}\n{MORE}", body.trim_end()) };
    }
    format!("{}\n{line}\n", body.trim_end())
}

fn has_unticked(body: &str, marker: &str) -> bool {
    body.lines().any(|line| line.starts_with("- [ ] ") && line.trim_end().ends_with(marker))
}

fn ticked(body: &str, marker: &str) -> String {
    let line = |line: &str| match line.strip_prefix("- [ ] ") {
        Some(rest) if rest.trim_end().ends_with(marker) => format!("- [x] {rest}"),
        _ => line.to_owned(),
    };
    body.lines().map(line).collect::<Vec<String>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "<!-- maturion incident=a epoch=0 -->";

    #[test]
    fn a_line_is_added_once_replaced_and_ticked() {
        let body = with_line("intro\n", ONE, &format!("- [ ] x {ONE}"));
        let body = with_line(&body, ONE, &format!("- [ ] y {ONE}"));
        assert_eq!(body, format!("intro\n- [ ] y {ONE}\n"));
        assert!(has_unticked(&body, ONE) && !has_unticked(&body, "<!-- maturion incident=a epoch=1 -->"));
        assert_eq!(ticked(&body, ONE), format!("intro\n- [x] y {ONE}\n"));
    }

    #[test]
    fn a_full_digest_says_so_once() {
        let mut body = "intro\n".to_owned();
        for nth in 0..LINES_MAX + 20 {
            let marker = format!("<!-- maturion incident=a epoch={nth} -->");
            body = with_line(&body, &marker, &format!("- [ ] x {marker}"));
        }
        assert_eq!(body.matches("- [ ]").count(), LINES_MAX);
        assert_eq!(body.matches(MORE.trim()).count(), 1);
        assert!(body.len() < 65_000);
    }
}
