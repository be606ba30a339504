//! Issues, labels and comments.

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Call, World, moved, page, reply, said};

#[derive(Clone, Debug)]
pub struct Issue {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub open: bool,
    pub labels: Vec<String>,
    pub created_at: i64,
    pub closed_at: Option<i64>,
    /// Ids and texts, from the oldest.
    pub comments: Vec<(u64, String)>,
    pub deleted: bool,
    /// It is in another repository now.
    pub transferred: bool,
}

fn time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

impl Issue {
    pub(super) fn to_json(&self) -> Value {
        let labels: Vec<Value> = self.labels.iter().map(|name| json!({ "id": 1, "name": name })).collect();
        json!({
            "number": self.number,
            "title": self.title,
            // GitHub gives line ends back as forms send them.
            "body": self.body.replace('\n', "\r\n"),
            "state": if self.open { "open" } else { "closed" },
            "labels": labels,
            "created_at": time(self.created_at),
            "closed_at": self.closed_at.map(time),
            "repository_url": format!("https://api.github.com/repos/{}", if self.transferred { "acme/other" } else { "Acme/Platform" }),
            "html_url": format!("https://github.com/acme/platform/issues/{}", self.number),
        })
    }
}

impl World {
    pub(super) fn issues_call(&mut self, call: &Call, rest: &[&str]) -> Response {
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        match (call.method.clone(), rest) {
            (Method::POST, ["labels"]) => self.make_label(call),
            (Method::GET, ["issues"]) => self.list(call),
            (Method::POST, ["issues"]) => self.create(call),
            (Method::PATCH, ["issues", "comments", id]) => self.edit_comment(number(id), call),
            (Method::GET, ["issues", nth]) => match self.issues.get(&number(nth)) {
                Some(issue) if issue.deleted => said(410, "This issue was deleted"),
                Some(issue) if issue.transferred => moved(&format!("/elsewhere/{nth}")),
                Some(issue) => reply(200, issue.to_json()),
                None => said(404, "Not Found"),
            },
            (Method::PATCH, ["issues", nth]) => self.edit(number(nth), call),
            (Method::GET, ["issues", nth, "comments"]) => {
                let comments = self.issues.get(&number(nth)).map(|issue| issue.comments.clone()).unwrap_or_default();
                let comments = comments.into_iter().map(|(id, body)| json!({ "id": id, "body": body })).collect();
                page(self, call, comments)
            }
            (Method::POST, ["issues", nth, "comments"]) => self.comment(number(nth), call),
            _ => said(404, "Not Found"),
        }
    }

    fn make_label(&mut self, call: &Call) -> Response {
        let name = call.text("name").unwrap_or_default();
        if !self.token_may_write {
            return said(403, "Resource not accessible by personal access token");
        }
        if name.len() > 50 || self.labels.iter().any(|label| label.eq_ignore_ascii_case(&name)) {
            return said(422, "Validation Failed");
        }
        self.labels.push(name.clone());
        reply(201, json!({ "name": name }))
    }

    /// A list lags: what was created lately is not in it.
    fn list(&mut self, call: &Call) -> Response {
        let visible = |issue: &&Issue| !issue.deleted && !issue.transferred && issue.created_at + self.lag <= self.now;
        let wanted = call.asked("labels");
        let labelled = |issue: &&Issue| {
            wanted.split(',').all(|label| issue.labels.iter().any(|own| own.eq_ignore_ascii_case(label)))
        };
        let state = |issue: &&Issue| match call.asked("state") {
            "all" => true,
            "closed" => !issue.open,
            _ => issue.open,
        };
        let mut found: Vec<&Issue> = self.issues.values().filter(visible).filter(labelled).filter(state).collect();
        if call.asked("direction") != "asc" {
            found.reverse();
        }
        let mut items: Vec<Value> = found.into_iter().map(Issue::to_json).collect();
        // Pull requests are issues too.
        items.extend(self.pulls.iter().filter(|pull| pull.labelled).map(|pull| {
            json!({ "number": pull.number, "title": "", "body": pull.body, "state": "open", "labels": [], "pull_request": {} })
        }));
        page(self, call, items)
    }

    fn create(&mut self, call: &Call) -> Response {
        let (title, body) = (call.text("title").unwrap_or_default(), call.text("body").unwrap_or_default());
        if title.is_empty() || title.chars().count() > 256 || body.chars().count() > 65_536 {
            return said(422, "Validation Failed");
        }
        let labels = call.body["labels"].as_array().cloned().unwrap_or_default();
        // Without the right to set labels they are left out, and nothing is said.
        let labels: Vec<String> = match self.token_may_write {
            true => labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect(),
            false => vec![],
        };
        let issue = Issue {
            number: self.next(),
            title,
            body,
            open: true,
            labels,
            created_at: self.now,
            closed_at: None,
            comments: vec![],
            deleted: false,
            transferred: false,
        };
        let answer = reply(201, issue.to_json());
        self.issues.insert(issue.number, issue);
        answer
    }

    fn edit(&mut self, number: u64, call: &Call) -> Response {
        let now = self.now;
        let Some(issue) = self.issues.get_mut(&number).filter(|issue| !issue.deleted) else {
            return said(404, "Not Found");
        };
        issue.title = call.text("title").unwrap_or(issue.title.clone());
        issue.body = call.text("body").unwrap_or(issue.body.clone());
        if let Some(labels) = call.body["labels"].as_array() {
            issue.labels = labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect();
        }
        match call.body["state"].as_str() {
            Some("closed") => (issue.open, issue.closed_at) = (false, issue.closed_at.or(Some(now))),
            Some("open") => (issue.open, issue.closed_at) = (true, None),
            _ => {}
        }
        reply(200, issue.to_json())
    }

    fn comment(&mut self, number: u64, call: &Call) -> Response {
        let (id, body) = (self.next(), call.text("body").unwrap_or_default());
        match self.issues.get_mut(&number) {
            Some(issue) => {
                issue.comments.push((id, body.clone()));
                reply(201, json!({ "id": id, "body": body }))
            }
            None => said(404, "Not Found"),
        }
    }

    fn edit_comment(&mut self, id: u64, call: &Call) -> Response {
        let mut comments = self.issues.values_mut().flat_map(|issue| issue.comments.iter_mut());
        match comments.find(|comment| comment.0 == id) {
            Some(comment) => {
                comment.1 = call.text("body").unwrap_or_default();
                reply(200, json!({ "id": id, "body": comment.1 }))
            }
            None => said(404, "Not Found"),
        }
    }
}
