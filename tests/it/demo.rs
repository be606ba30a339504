//! `maturion demo` as the README has it, but shorter: what it injects is detected, and it ends by itself.

use std::process::Command;

#[test]
fn the_demo_detects_the_worked_example_and_ends_by_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_maturion")).args(["demo", "--seconds", "40"]).output().unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(told.contains("INJECTED threat_errors"), "{told}\n{errors}");
    let summary = told.split_once("\n\nthreat_errors").map(|(_, summary)| summary).unwrap_or_default();
    let worked_example = summary.split("\nnew_exception").next().unwrap_or_default();
    for rule in ["module_exceptions.unhandled_exception", "module_api_errors.error_rate"] {
        let is_found = worked_example.lines().any(|line| line.contains("detected") && line.contains(rule));
        assert!(is_found, "{rule} did not fire:\n{told}\n{errors}");
    }
    assert!(told.contains("ce_type: maturion.detection.opened.v1"), "{told}");
    assert!(!told.contains('\x1b'), "plain lines where there is no terminal: {told}");
}
