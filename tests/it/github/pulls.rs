//! Branches, files and pull requests.

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Call, World, page, reply, said};

#[derive(Clone, Debug)]
pub struct Pull {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub head: String,
    pub base: String,
    pub draft: bool,
    pub open: bool,
    /// Somebody has labelled it as an issue of ours.
    pub labelled: bool,
}

impl Pull {
    fn to_json(&self) -> Value {
        let state = if self.open { "open" } else { "closed" };
        json!({ "number": self.number, "title": self.title, "body": self.body, "state": state, "draft": self.draft })
    }
}

/// The name that Git gives a content.
fn blob_id(content: &str) -> String {
    let blob = format!("blob {}\0{content}", content.len());
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, blob.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64_decoded(text: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> =
        text.chars().filter_map(|character| alphabet.find(character)).map(|digit| digit as u32).collect();
    let mut bytes = vec![];
    for four in digits.chunks(4) {
        let group = (0..4).fold(0, |group, at| group << 6 | four.get(at).copied().unwrap_or_default());
        bytes.extend(group.to_be_bytes()[1..four.len()].iter());
    }
    String::from_utf8(bytes).unwrap()
}

/// In lines of sixty characters, as GitHub writes it.
fn base64_encoded(text: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let group = (0..3).fold(0, |group, at| group << 8 | u32::from(three.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let digit = char::from(alphabet[(group >> (18 - 6 * at) & 63) as usize]);
            encoded.push(if at <= three.len() { digit } else { '=' });
            if encoded.len() % 61 == 60 {
                encoded.push('\n');
            }
        }
    }
    encoded + "\n"
}

impl World {
    pub(super) fn pulls_call(&mut self, call: &Call, rest: &[&str]) -> Response {
        match (call.method.clone(), rest) {
            (Method::GET, ["git", "ref", "heads", branch @ ..]) => match self.files.contains_key(&branch.join("/")) {
                true => reply(200, json!({ "object": { "sha": format!("head of {}", branch.join("/")) } })),
                false => said(404, "Not Found"),
            },
            (Method::POST, ["git", "refs"]) => self.make_branch(call),
            (Method::GET, ["contents", path @ ..]) => {
                let files = self.files.get(call.asked("ref"));
                match files.and_then(|files| files.get(&path.join("/"))) {
                    Some(content) => {
                        let (path, sha) = (path.join("/"), blob_id(content));
                        let content = base64_encoded(content);
                        reply(
                            200,
                            json!({ "type": "file", "path": path, "sha": sha, "encoding": "base64", "content": content }),
                        )
                    }
                    None => said(404, "Not Found"),
                }
            }
            (Method::PUT, ["contents", path @ ..]) => self.write(call, path.join("/")),
            (Method::GET, ["pulls"]) => {
                let head = call.asked("head").trim_start_matches("acme:").to_owned();
                let found = self.pulls.iter().filter(|pull| pull.head == head).map(Pull::to_json).collect();
                page(self, call, found)
            }
            (Method::POST, ["pulls"]) => self.make_pull(call),
            (Method::PATCH, ["pulls", number]) => {
                let number = number.parse().unwrap_or(0);
                let Some(pull) = self.pulls.iter_mut().find(|pull| pull.number == number) else {
                    return said(404, "Not Found");
                };
                pull.title = call.text("title").unwrap_or(pull.title.clone());
                pull.body = call.text("body").unwrap_or(pull.body.clone());
                reply(200, pull.to_json())
            }
            _ => said(404, "Not Found"),
        }
    }

    fn make_branch(&mut self, call: &Call) -> Response {
        let branch = call.text("ref").unwrap_or_default().trim_start_matches("refs/heads/").to_owned();
        let from = call.text("sha").unwrap_or_default().trim_start_matches("head of ").to_owned();
        match (self.files.contains_key(&branch), self.files.get(&from).cloned()) {
            (true, _) => said(422, "Reference already exists"),
            (false, None) => said(422, "Object does not exist"),
            (false, Some(files)) => {
                self.files.insert(branch, files);
                reply(201, json!({}))
            }
        }
    }

    fn write(&mut self, call: &Call, path: String) -> Response {
        let branch = call.text("branch").unwrap_or_else(|| "main".to_owned());
        let Some(files) = self.files.get_mut(&branch) else { return said(404, "Branch not found") };
        if files.get(&path).map(|content| blob_id(content)) != call.text("sha") {
            return said(409, "does not match");
        }
        files.insert(path, base64_decoded(&call.text("content").unwrap_or_default()));
        reply(200, json!({}))
    }

    fn make_pull(&mut self, call: &Call) -> Response {
        let head = call.text("head").unwrap_or_default();
        if self.pulls.iter().any(|pull| pull.open && pull.head == head) {
            return said(422, "A pull request already exists for acme:maturion.");
        }
        let pull = Pull {
            number: self.next(),
            title: call.text("title").unwrap_or_default(),
            body: call.text("body").unwrap_or_default(),
            head,
            base: call.text("base").unwrap_or_default(),
            draft: call.body["draft"].as_bool().unwrap_or(false),
            open: true,
            labelled: false,
        };
        let answer = reply(201, pull.to_json());
        self.pulls.push(pull);
        answer
    }
}
