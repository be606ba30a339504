//! A draft pull request for a proposed change of configuration.
//!
//! A branch of its own, files from the allow-list that are there already, a draft, and nothing else: it is never merged
//! from here, never on the default branch, and what people do with it is respected. Each step looks before it does, so that the whole can be
//! repeated after any of them.

use std::time::Duration;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Deserialize;
use serde_json::json;

use crate::config::github::{is_listed, is_path};
use crate::model::pipeline::Micros;

use super::super::base64;
use super::super::edit::NumberChange;
use super::super::proposal::{FileChange, Proposal};
use super::api::Method;
use super::{GitHub, TicketError};

/// Files of one proposal, and bytes of each. More would not be looked at by people.
const FILES_MAX: usize = 5;
const FILE_BYTES_MAX: usize = 256 * 1024;
/// When a pull request that is there, but not in the list, is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// The pull request is open and as it should be.
    Open(u64),
    /// Somebody has merged or closed it. It is left so.
    Ended(u64),
    /// The files are on the default branch as they should be already.
    NothingToChange,
}

#[derive(Deserialize)]
struct Repository {
    default_branch: String,
}

#[derive(Deserialize)]
struct Reference {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    sha: String,
    #[serde(default)]
    content: String,
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
    state: String,
    title: String,
    body: Option<String>,
}

impl GitHub {
    /// Makes the branch, its files and the draft as they should be.
    pub async fn propose(&mut self, proposal: &Proposal, now: Micros) -> Result<Proposed, TicketError> {
        self.admit(proposal)?;
        self.api.begin(now)?;
        let branch = proposal.identity.branch();
        let default = self.default_branch().await?;
        let pull = self.pull(&branch).await?;
        if let Some(pull) = pull.as_ref().filter(|pull| pull.state != "open") {
            return Ok(Proposed::Ended(pull.number));
        }
        let mut differ = false;
        for file in &proposal.files {
            differ |= self.content(&file.path, &default).await?.sha != blob_id(file.content.as_bytes());
        }
        if !differ && pull.is_none() {
            return Ok(Proposed::NothingToChange);
        }
        self.make_branch(&branch, &default).await?;
        for file in &proposal.files {
            self.write(file, &branch, &proposal.commit_message()).await?;
        }
        self.make_pull(proposal, pull, &branch, &default).await
    }

    /// Proposes a change of one number in a file as the default branch has it. `draft` says all but the file.
    pub async fn propose_number(
        &mut self,
        draft: &Proposal,
        change: &NumberChange,
        now: Micros,
    ) -> Result<Proposed, TicketError> {
        self.admit_path(&change.path)?;
        self.api.begin(now)?;
        let default = self.default_branch().await?;
        let present = self.content(&change.path, &default).await?.content;
        let path = change.path.clone();
        let not_edited = |reason: String| TicketError::NotEdited { path: path.clone(), reason };
        let text = base64::decode(&present).and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.filter(|text| text.len() <= FILE_BYTES_MAX);
        let text = text.ok_or_else(|| not_edited(format!("it is no text of at most {FILE_BYTES_MAX} bytes")))?;
        let content = change.apply(&text).map_err(|error| not_edited(error.to_string()))?;
        let file = FileChange { path: path.clone(), content, description: change.words() };
        self.propose(&Proposal { files: vec![file], ..draft.clone() }, now).await
    }

    /// Refuses what may not be proposed, before anything is sent.
    fn admit(&self, proposal: &Proposal) -> Result<(), TicketError> {
        proposal.files.iter().try_for_each(|file| self.admit_path(&file.path))?;
        if proposal.files.len() > FILES_MAX || proposal.files.iter().any(|file| file.content.len() > FILE_BYTES_MAX) {
            return Err(TicketError::TooLarge { files: FILES_MAX, bytes: FILE_BYTES_MAX });
        }
        Ok(())
    }

    fn admit_path(&self, path: &str) -> Result<(), TicketError> {
        if is_path(path) && is_listed(&self.pull_request_paths, path) {
            return Ok(());
        }
        let path = crate::scrub::scrub(&path.chars().take(100).collect::<String>());
        Err(TicketError::PathNotAllowed { path })
    }

    async fn default_branch(&mut self) -> Result<String, TicketError> {
        let answer = self.api.call(Method::Get, "", None).await?;
        Ok(self.api.decode::<Repository>(answer)?.default_branch)
    }

    /// The pull request of the branch, open or not.
    async fn pull(&mut self, branch: &str) -> Result<Option<Pull>, TicketError> {
        let owner = self.api.repository().split('/').next().unwrap_or_default().to_owned();
        let query = format!("state=all&head={owner}%3A{}", branch.replace('/', "%2F"));
        let pulls: Vec<Pull> = self.api.pages("pulls", &query).await?;
        Ok(pulls.into_iter().min_by_key(|pull| pull.number))
    }

    /// A file on a branch.
    async fn content(&mut self, path: &str, branch: &str) -> Result<Content, TicketError> {
        let answer = self.api.call(Method::Get, &format!("contents/{path}?ref={}", reference(branch)), None).await?;
        if answer.status == 404 {
            return Err(TicketError::NoFile { path: path.to_owned() });
        }
        // A folder answers with a list, a link with another path.
        match self.api.decode::<Content>(answer) {
            Ok(content) if content.kind == "file" && content.path == path => Ok(content),
            _ => Err(TicketError::NoFile { path: path.to_owned() }),
        }
    }

    async fn make_branch(&mut self, branch: &str, default: &str) -> Result<(), TicketError> {
        let existing = self.api.call(Method::Get, &format!("git/ref/heads/{branch}"), None).await?;
        if existing.status == 200 {
            return Ok(());
        }
        let answer = self.api.call(Method::Get, &format!("git/ref/heads/{}", reference(default)), None).await?;
        let sha = self.api.decode::<Reference>(answer)?.object.sha;
        let new = json!({ "ref": format!("refs/heads/{branch}"), "sha": sha });
        let answer = self.api.call(Method::Post, "git/refs", Some(&new)).await?;
        // It is there already: an earlier answer was lost.
        if answer.status == 422 { Ok(()) } else { self.api.successful(answer).map(drop) }
    }

    async fn write(&mut self, file: &FileChange, branch: &str, message: &str) -> Result<(), TicketError> {
        let present = self.content(&file.path, branch).await?.sha;
        if present == blob_id(file.content.as_bytes()) {
            return Ok(());
        }
        let content = base64::encode(file.content.as_bytes());
        let body = json!({ "message": message, "content": content, "sha": present, "branch": branch });
        self.api.expect(Method::Put, &format!("contents/{}", file.path), &body).await.map(drop)
    }

    async fn make_pull(
        &mut self,
        proposal: &Proposal,
        pull: Option<Pull>,
        branch: &str,
        default: &str,
    ) -> Result<Proposed, TicketError> {
        let (title, body) = (proposal.title(), proposal.body());
        let Some(pull) = pull else {
            let new = json!({ "title": title, "body": body, "head": branch, "base": default, "draft": true });
            return match self.api.expect(Method::Post, "pulls", &new).await {
                Ok(answer) => Ok(Proposed::Open(self.api.decode::<Pull>(answer)?.number)),
                // An earlier answer was lost, and the list does not show it yet.
                Err(TicketError::Refused { message, .. }) if message.contains("already exists") => {
                    Err(TicketError::Later { wait: LOOK_AGAIN, reason: message })
                }
                Err(error) => Err(error),
            };
        };
        if pull.title != title || pull.body.unwrap_or_default().replace('\r', "").trim_end() != body.trim_end() {
            let patch = json!({ "title": title, "body": body });
            self.api.expect(Method::Patch, &format!("pulls/{}", pull.number), &patch).await?;
        }
        Ok(Proposed::Open(pull.number))
    }
}

/// A branch's name in an address: what is not usual there is written as its bytes.
fn reference(branch: &str) -> String {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    branch.bytes().map(|byte| if usual(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// How Git names a content.
fn blob_id(content: &[u8]) -> String {
    let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_the_name_that_git_gives_it() {
        assert_eq!(blob_id(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(reference("main"), "main");
        assert_eq!(reference("a b#c"), "a%20b%23c");
    }
}
