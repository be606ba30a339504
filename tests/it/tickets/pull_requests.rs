//! Draft pull requests for proposed changes of configuration.

use maturion::tickets::github::{Proposed, TicketError};
use maturion::tickets::proposal::{Check, FileChange, Proposal};

use super::{Scene, identity};
use crate::github::{Fault, USUAL};

const PATHS: &str = "pull_request_paths = [\"config/\", \"limits.toml\"]\n";
const BEFORE: &str = "requests_per_minute = 100\n";
const AFTER: &str = "requests_per_minute = 150\n# für alle\n";

fn proposal(path: &str) -> Proposal {
    Proposal {
        identity: identity(1, 0),
        summary: "raise the rate limit to 150 per minute".to_owned(),
        problem: "The limit was met by ann@example.org.".to_owned(),
        ticket: Some(7),
        solution: "150 was enough.".to_owned(),
        files: vec![FileChange {
            path: path.to_owned(),
            content: AFTER.to_owned(),
            description: "100 to 150".to_owned(),
        }],
        checks: vec![Check { done: false, words: "Unit tests added/updated".to_owned() }],
        risk: "Low".to_owned(),
        rollback: "Revert".to_owned(),
        aligns_with: "Runtime Agent Plan, section 8".to_owned(),
        reviewers: vec!["Threat Module Builder (code review)".to_owned()],
    }
}

fn scene() -> Scene {
    let scene = Scene::new(PATHS);
    let files = [
        ("config/limits.toml", BEFORE),
        ("limits.toml", BEFORE),
        (".github/workflows/ci.yml", BEFORE),
        ("src/main.rs", BEFORE),
    ];
    for (path, content) in files {
        scene.fake.world().files.get_mut("main").unwrap().insert(path.to_owned(), content.to_owned());
    }
    scene
}

fn propose(scene: &mut Scene, proposal: &Proposal) -> Result<Proposed, TicketError> {
    let now = scene.fake.world().now;
    scene.runtime.block_on(scene.client.propose(proposal, now))
}

#[test]
fn a_draft_on_a_branch_of_its_own_and_nothing_else() {
    let mut scene = scene();
    let proposed = propose(&mut scene, &proposal("config/limits.toml")).unwrap();
    let world = scene.fake.world();
    let [pull] = world.pulls.as_slice() else { panic!("{:?}", world.pulls) };
    assert_eq!(proposed, Proposed::Open(pull.number));
    assert_eq!((pull.draft, pull.base.as_str(), pull.head.as_str()), (true, "main", "maturion/f0000-0"));
    assert_eq!(pull.title, "[FIX] raise the rate limit to 150 per minute");
    assert!(pull.body.contains("Ticket: #7") && pull.body.contains("- [ ] Unit tests") && !pull.body.contains("ann@"));
    assert_eq!(world.files["maturion/f0000-0"]["config/limits.toml"], AFTER);
    assert_eq!(world.files["main"]["config/limits.toml"], BEFORE, "the default branch is as it was");
    assert!(world.requests.iter().all(|request| !request.contains("merge")));
}

#[test]
fn it_is_made_once_whatever_is_lost_and_left_alone_when_somebody_ended_it() {
    for seed in 0..20 {
        let mut scene = scene();
        scene.fake.world().with_chance(seed, &USUAL);
        scene.plan(&[
            None,
            Some(Fault::After),
            None,
            None,
            None,
            None,
            Some(Fault::Lost),
            None,
            None,
            None,
            Some(Fault::After),
        ]);
        let mut number = None;
        for _ in 0..40 {
            match propose(&mut scene, &proposal("limits.toml")) {
                Ok(Proposed::Open(open)) => number = Some(open),
                Ok(other) => panic!("{other:?}"),
                Err(error) => scene.pass(error.wait().unwrap_or_else(|| panic!("{error}"))),
            }
        }
        assert_eq!(scene.fake.world().pulls.len(), 1, "seed {seed}");
        assert_eq!(number, Some(scene.fake.world().pulls[0].number));
        let mut world = scene.fake.world();
        world.chance = None;
        world.pulls[0].open = false;
        world.now += 600_000_000;
        drop(world);
        assert_eq!(propose(&mut scene, &proposal("limits.toml")), Ok(Proposed::Ended(number.unwrap())));
    }
}

#[test]
fn nothing_is_sent_for_a_path_that_is_not_allowed() {
    let mut scene = scene();
    let wrong = [
        ".github/workflows/ci.yml",
        "config/../.github/workflows/ci.yml",
        "config/.github/x",
        "src/main.rs",
        "config/./x",
        "/config/limits.toml",
        "config//limits.toml",
        "config",
        "config/",
        "limits.toml/x",
        "config/a b",
        "config/%2e%2e/x",
        "config\\..\\x",
        "config/.GIT/hooks",
        "CONFIG/limits.toml",
        "limits.toml\n",
        "",
    ];
    for path in wrong {
        let refused = propose(&mut scene, &proposal(path));
        assert!(matches!(refused, Err(TicketError::PathNotAllowed { .. })), "{path:?}: {refused:?}");
    }
    assert!(scene.fake.world().requests.is_empty());
}

#[test]
fn a_file_that_is_not_there_and_a_change_that_is_none_make_no_branch() {
    let mut scene = scene();
    assert!(matches!(propose(&mut scene, &proposal("config/other.toml")), Err(TicketError::NoFile { .. })));
    let same = FileChange { path: "limits.toml".to_owned(), content: BEFORE.to_owned(), description: String::new() };
    let same = Proposal { files: vec![same], ..proposal("limits.toml") };
    assert_eq!(propose(&mut scene, &same), Ok(Proposed::NothingToChange));
    assert_eq!(scene.fake.world().files.len(), 1);
}
