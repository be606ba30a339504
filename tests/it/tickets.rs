//! Tickets against a server that behaves as GitHub does: one issue per epoch of an incident, whatever is lost.

mod desk;
mod exactly_once;
mod proposals;
mod pull_requests;
mod witness;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use maturion::config::{self, Config};
use maturion::model::pipeline::{Scope, Severity};
use maturion::tickets::github::{Done, GitHub, Outcome, TicketError};
use maturion::tickets::render::{Style, render};
use maturion::tickets::report::{Affected, Numbers, Report, Source, Whom};
use maturion::tickets::{Desired, Identity};
use tokio::runtime::Runtime;

use crate::github::{FakeGitHub, Fault, Issue, REPOSITORY, SECOND, TEN, TOKEN};
use crate::kafka::skip;

/// The configuration as a user writes it, for the server of a test.
fn config(fake: &FakeGitHub, more: &str) -> config::GitHub {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    configured(folder.path(), &format!("token_file = \"token\"\napi_url = \"{}\"\n{more}", fake.url()))
}

fn configured(folder: &Path, keys: &str) -> config::GitHub {
    let lag = if keys.contains("list_lag") { "" } else { "list_lag = \"30s\"\n" };
    let text = format!("[github]\nrepository = \"{REPOSITORY}\"\n{lag}{keys}");
    std::fs::write(folder.join("maturion.toml"), text).unwrap();
    Config::load(Some(&folder.join("maturion.toml")), &Default::default()).unwrap().github.unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// For servers.
fn runtime_with_threads() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn identity(nth: usize, epoch: u64) -> Identity {
    // Neighbours share a fingerprint, as incidents of one series do.
    Identity::new(&format!("incident{nth}"), epoch, &format!("f{:04}", nth / 3)).unwrap()
}

fn desired(identity: &Identity, severity: Severity, open: bool) -> Desired {
    let report = Report {
        identity: identity.clone(),
        summary: format!("{} fails", identity.incident()),
        description: "It fails for ann@example.org at 203.0.113.7.".to_owned(),
        pipeline: "api_errors".to_owned(),
        rule: "error_rate".to_owned(),
        technique: "threshold".to_owned(),
        severity,
        scope: Scope::CodeMinor,
        phase: if open { "firing" } else { "resolved" }.to_owned(),
        open,
        source: Source::Logs,
        whom: Whom::Platform,
        module: Some("threat-analysis".to_owned()),
        affected_users: Affected::All,
        affected_organisations: Affected::All,
        affected_modules: vec!["threat-analysis".to_owned()],
        detected_at: TEN,
        updated_at: TEN,
        resolved_at: None,
        numbers: Numbers { measure: "error_rate".to_owned(), value: Some(0.1), ..Numbers::default() },
        evidence_sql: "SELECT 1".to_owned(),
        samples: vec!["Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln".to_owned()],
        without_samples: None,
        traces: vec![],
        attempts: vec![],
        root_cause: "unknown".to_owned(),
        proposal: "look".to_owned(),
        pull_request: None,
        escalation: None,
    };
    render(&report, &Style::default())
}

/// A client, the server, and the time of both.
struct Scene {
    fake: FakeGitHub,
    runtime: Runtime,
    config: config::GitHub,
    client: GitHub,
}

impl Scene {
    fn new(more: &str) -> Scene {
        let (fake, runtime) = (FakeGitHub::start(), runtime());
        let config = config(&fake, more);
        // As after the first half minute: nobody was here before.
        let client = runtime.block_on(async { GitHub::new(&config, TEN - 60 * SECOND) }).unwrap();
        Scene { fake, runtime, config, client }
    }

    /// A process that was killed, and its successor that remembers nothing.
    fn restart(&mut self) {
        let now = self.fake.world().now;
        self.client = self.runtime.block_on(async { GitHub::new(&self.config, now) }).unwrap();
    }

    fn once(&mut self, identity: &Identity, known: Option<u64>, desired: &Desired) -> Result<Outcome, TicketError> {
        let now = self.fake.world().now;
        self.runtime.block_on(self.client.reconcile(identity, known, desired, now))
    }

    /// Calls again when it is told to.
    fn until_done(&mut self, identity: &Identity, known: Option<u64>, desired: &Desired) -> Outcome {
        for _ in 0..100 {
            match self.once(identity, known, desired) {
                Ok(outcome) => return outcome,
                Err(error) => self.pass(error.wait().unwrap_or_else(|| panic!("{error}"))),
            }
        }
        panic!("it is never done");
    }

    fn pass(&self, time: Duration) {
        self.fake.world().now += i64::try_from(time.as_micros()).unwrap() + 1;
    }

    fn issues(&self) -> Vec<Issue> {
        self.fake.world().issues.values().cloned().collect()
    }

    fn plan(&self, faults: &[Option<Fault>]) {
        self.fake.world().planned = faults.iter().copied().collect();
    }
}

#[test]
fn an_incident_from_its_ticket_to_its_end() {
    let mut scene = Scene::new("");
    let one = identity(1, 0);
    let created = scene.until_done(&one, None, &desired(&one, Severity::High, true));
    assert_eq!(created.done, Done::Created);
    let issue = scene.issues().remove(0);
    assert_eq!((issue.title.as_str(), issue.open), ("[HIGH] incident1 fails", true));
    assert_eq!(issue.labels, ["maturion", "severity:high", "maturion:f0000"]);
    assert_eq!(issue.comments.len(), 1);
    for private in ["ann@example.org", "203.0.113.7", "eyJ"] {
        assert!(!issue.body.contains(private), "{}", issue.body);
    }

    assert_eq!(scene.until_done(&one, created.number, &desired(&one, Severity::High, true)).done, Done::Unchanged);
    let worse = scene.until_done(&one, created.number, &desired(&one, Severity::Critical, true));
    assert_eq!((worse.done, worse.number), (Done::Updated, created.number));
    assert_eq!(scene.issues()[0].labels, ["maturion", "severity:critical", "maturion:f0000"]);

    assert_eq!(scene.until_done(&one, None, &desired(&one, Severity::Critical, false)).done, Done::Closed);
    assert!(!scene.issues()[0].open && scene.issues()[0].comments[0].1.contains("**Resolved**"));
    scene.pass(Duration::from_secs(6 * 86_400));
    assert_eq!(scene.until_done(&one, None, &desired(&one, Severity::High, true)).done, Done::Reopened);
    scene.until_done(&one, None, &desired(&one, Severity::High, false));
    scene.pass(Duration::from_secs(8 * 86_400));
    assert_eq!(scene.until_done(&one, None, &desired(&one, Severity::High, true)).done, Done::LeftClosed);

    let next = identity(1, 1);
    assert_eq!(scene.until_done(&next, None, &desired(&next, Severity::High, true)).done, Done::Created);
    let issues = scene.issues();
    assert_eq!((issues.len(), issues[0].comments.len(), issues[1].comments.len()), (2, 1, 1));
}

#[test]
fn what_people_do_is_respected() {
    let mut scene = Scene::new("");
    let one = identity(1, 0);
    let number = scene.until_done(&one, None, &desired(&one, Severity::High, true)).number;
    scene.fake.world().issues.get_mut(&number.unwrap()).unwrap().labels.push("no-auto-close".to_owned());
    assert_eq!(scene.until_done(&one, number, &desired(&one, Severity::High, false)).done, Done::KeptOpen);
    {
        let mut world = scene.fake.world();
        let (now, issue) = (world.now, world.issues.get_mut(&number.unwrap()).unwrap());
        issue.labels.push("wontfix".to_owned());
        (issue.open, issue.closed_at, issue.title) = (false, Some(now), "mine".to_owned());
    }
    assert_eq!(scene.until_done(&one, number, &desired(&one, Severity::Low, true)).done, Done::LeftClosed);
    assert_eq!(scene.issues()[0].title, "mine");
    scene.fake.world().issues.get_mut(&number.unwrap()).unwrap().deleted = true;
    assert_eq!(scene.until_done(&one, number, &desired(&one, Severity::High, true)).done, Done::Deleted);
    assert_eq!(scene.issues().len(), 1, "what somebody deleted is not created again");
}

#[test]
fn an_issue_that_was_moved_away_leaves_its_number_to_nobody() {
    let mut scene = Scene::new("");
    let one = identity(1, 0);
    let number = scene.until_done(&one, None, &desired(&one, Severity::High, true)).number;
    scene.fake.world().issues.get_mut(&number.unwrap()).unwrap().transferred = true;
    let before = scene.fake.world().requests.len();
    assert_eq!(scene.until_done(&one, number, &desired(&one, Severity::Low, true)).done, Done::Deleted);
    assert!(
        scene.fake.world().requests[before..].iter().all(|request| request.starts_with("GET ")),
        "nothing is written"
    );
}

#[test]
fn the_issue_is_found_on_any_page_and_the_search_is_never_asked() {
    let mut scene = Scene::new("");
    scene.fake.world().page_most = 2;
    let epochs: Vec<Identity> = (0..9).map(|epoch| identity(1, epoch)).collect();
    for epoch in &epochs {
        scene.until_done(epoch, None, &desired(epoch, Severity::High, true));
    }
    scene.restart();
    for epoch in &epochs {
        assert_eq!(scene.until_done(epoch, None, &desired(epoch, Severity::High, false)).done, Done::Closed);
    }
    assert_eq!(scene.issues().len(), 9);
    assert!(scene.fake.world().requests.iter().all(|request| !request.contains("/search")));
}

#[test]
fn a_create_whose_answer_is_lost_is_not_repeated_while_the_list_lags() {
    for fault in [Fault::After, Fault::Lost, Fault::Slow] {
        for restart in [false, true] {
            // Long enough for a busy machine, and waited for only by the slow answer.
            let mut scene = Scene::new("timeout = \"4s\"\n");
            scene.fake.world().lag = 25 * SECOND;
            let one = identity(1, 0);
            // The look, the hour's issues, three labels; then the issue.
            scene.plan(&[None, None, None, None, None, Some(fault)]);
            let error = scene.once(&one, None, &desired(&one, Severity::High, true)).unwrap_err();
            assert!(matches!(error, TicketError::Unreachable { .. }), "{error:?}");
            assert_eq!(scene.issues().len(), 1, "it took effect: {:?}", scene.fake.world().requests);
            if restart {
                scene.restart();
            }
            let outcome = scene.until_done(&one, None, &desired(&one, Severity::High, true));
            assert_eq!((outcome.number, scene.issues().len()), (Some(1), 1), "{fault:?}, restart {restart}");
            assert_eq!(scene.issues()[0].comments.len(), 1);
        }
    }
}

#[test]
fn a_create_that_had_no_effect_is_repeated() {
    let mut scene = Scene::new("");
    let one = identity(1, 0);
    scene.plan(&[None, None, None, None, None, Some(Fault::Before)]);
    assert!(scene.once(&one, None, &desired(&one, Severity::High, true)).is_err());
    assert_eq!(scene.until_done(&one, None, &desired(&one, Severity::High, true)).done, Done::Created);
    assert_eq!(scene.issues().len(), 1);
}

#[test]
fn limits_are_waited_for_and_nothing_is_sent_meanwhile() {
    let mut scene = Scene::new("");
    let one = identity(1, 0);
    for (fault, seconds) in [(Fault::Secondary, 7), (Fault::SecondaryUnsaid, 60), (Fault::Primary, 90)] {
        scene.plan(&[Some(fault)]);
        let error = scene.once(&one, None, &desired(&one, Severity::High, true)).unwrap_err();
        assert!(matches!(error, TicketError::Later { .. }), "{error}");
        assert_eq!(
            error.wait().map(|wait| wait.as_secs().div_ceil(10)),
            Some(u64::div_ceil(seconds, 10)),
            "{fault:?}: {error}"
        );
        let sent = scene.fake.world().requests.len();
        assert!(scene.once(&one, None, &desired(&one, Severity::High, true)).is_err());
        assert_eq!(scene.fake.world().requests.len(), sent);
        scene.pass(error.wait().unwrap());
    }
    assert_eq!(scene.until_done(&one, None, &desired(&one, Severity::High, true)).done, Done::Created);
}

#[test]
fn failures_are_tried_again_less_and_less_often() {
    let mut scene = Scene::new("");
    let one = identity(1, 0);
    scene.plan(&[Some(Fault::Before); 12]);
    let mut waits = vec![];
    for _ in 0..12 {
        let error = scene.once(&one, None, &desired(&one, Severity::High, true)).unwrap_err();
        waits.push(error.wait().unwrap().as_secs());
        scene.pass(error.wait().unwrap());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
}

#[test]
fn too_many_new_issues_become_one_digest_that_closes_itself() {
    let mut scene = Scene::new("");
    let incidents: Vec<Identity> = (0..14).map(|nth| identity(nth, 0)).collect();
    let outcomes: Vec<Outcome> =
        (incidents.iter()).map(|one| scene.until_done(one, None, &desired(one, Severity::High, true))).collect();
    let digested: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| matches!(outcome.done, Done::Digested { .. })).collect();
    assert_eq!((digested.len(), scene.issues().len()), (4, 11));
    let digest = scene.issues().into_iter().find(|issue| issue.labels == ["maturion:digest"]).unwrap();
    assert_eq!(digest.body.matches("- [ ] ").count(), 4);
    assert!(digested.iter().all(|outcome| outcome.number == Some(digest.number)));

    // One is over; after a restart, which gives no issue away, another is still one too many.
    scene.until_done(&incidents[13], None, &desired(&incidents[13], Severity::High, false));
    scene.restart();
    let again = scene.until_done(&incidents[12], None, &desired(&incidents[12], Severity::High, true));
    let Done::Digested { again } = again.done else { panic!("{again:?}") };
    scene.pass(again);
    scene.pass(Duration::from_secs(600));
    for one in &incidents[10..13] {
        assert_eq!(scene.until_done(one, None, &desired(one, Severity::High, true)).done, Done::Created);
    }
    let digest = scene.fake.world().issues[&digest.number].clone();
    assert_eq!((digest.body.matches("- [x] ").count(), digest.open), (4, false), "{}", digest.body);
    assert_eq!(scene.issues().len(), 14);
}

#[test]
fn errors_say_what_to_do_and_no_secret() {
    let one = identity(1, 0);
    let said = |change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new("");
        change(&mut scene);
        let error = scene.once(&one, None, &desired(&one, Severity::High, true)).unwrap_err();
        assert!(error.wait().is_some(), "a person can change it: {error}");
        assert!(!format!("{error} {error:?}").contains("ghp_"));
        (error.to_string(), scene.issues().len())
    };
    let refused = said(&|scene| scene.fake.world().token_may_write = false);
    assert_eq!(
        refused,
        (
            "GitHub forbids it (403: Resource not accessible by personal access token): the token needs write access to \
             issues, contents and pull requests of acme/platform"
                .to_owned(),
            0
        ),
        "labels would be left out in silence, and the issue never found again"
    );
    assert_eq!(
        said(&|scene| scene.fake.world().exists = false).0,
        "GitHub shows no repository acme/platform (404): check `repository` in [github], and that the token may see it"
    );
    assert_eq!(
        said(&|scene| scene.fake.world().issues_enabled = false).0,
        "issues are disabled in acme/platform (410): enable them in the repository's settings"
    );
    assert_eq!(
        said(&|scene| scene.fake.world().moved = true).0,
        "acme/platform was moved: give `repository` in [github] its new name"
    );
    let wrong = said(&|scene| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "ghp_wrong").unwrap();
        scene.config =
            configured(folder.path(), &format!("token_file = \"token\"\napi_url = \"{}\"\n", scene.fake.url()));
        scene.restart();
    });
    assert_eq!(
        wrong.0,
        "GitHub does not accept the credentials (401): give [github] a token, or an app's key, that is valid"
    );
    let nobody = said(&|scene| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "ghp_x").unwrap();
        scene.config = configured(folder.path(), "token_file = \"token\"\napi_url = \"http://127.0.0.1:1\"\n");
        scene.restart();
    });
    assert!(nobody.0.starts_with("GitHub did not answer as it should ("), "{}", nobody.0);
}

#[test]
fn an_app_signs_in_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
    if !made.is_ok_and(|made| made.status.success()) {
        return skip("openssl cannot make a key");
    }
    let mut scene = Scene::new("");
    let keys = format!("app_id = 7\napp_key_file = \"key.pem\"\napi_url = \"{}\"\n", scene.fake.url());
    scene.config = configured(folder.path(), &keys);
    scene.restart();
    let one = identity(1, 0);
    assert_eq!(scene.until_done(&one, None, &desired(&one, Severity::High, true)).done, Done::Created);
    let tokens = scene.fake.world().requests.iter().filter(|request| request.contains("access_tokens")).count();
    assert_eq!(tokens, 1, "the token is kept");
}

#[test]
fn enterprise_addresses_with_a_path_keep_it() {
    let mut scene = Scene::new("");
    scene.config.api_url = format!("{}/api/v3", scene.fake.url()).parse().unwrap();
    scene.restart();
    let one = identity(1, 0);
    let _ = scene.once(&one, None, &desired(&one, Severity::High, true));
    let requests = scene.fake.world().requests.clone();
    assert!(requests[0].starts_with("GET /api/v3/repos/acme/platform/issues?labels=maturion%3Af0000"), "{requests:?}");
}
