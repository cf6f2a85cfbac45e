//! The demonstration on a directory of the caller, without a terminal.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

use tempfile::tempdir;

fn demo() -> assert_cmd::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mirra"));
    command.arg("demo").env_remove("MIRRA_LOG").stdin(Stdio::null());
    let mut command = assert_cmd::Command::from(command);
    command.timeout(Duration::from_secs(120));
    command
}

#[test]
fn every_step_is_shown_and_nothing_is_left_behind() {
    let (dir, place) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/text"), "text ".repeat(100)).unwrap();
    fs::write(dir.path().join("large"), "a larger file ".repeat(20_000)).unwrap();
    fs::write(dir.path().join("small"), "x").unwrap();
    symlink("large", dir.path().join("link")).unwrap();
    let output = demo().arg(dir.path()).arg("--once").env("TMPDIR", place.path()).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let steps = ["step", "share", "first sync", "nothing changed", "rename", "delete", "20 edits", "a new small file"];
    let lines: Vec<_> = text.lines().collect();
    let live = ["", "live", "follow", "a new file of 1 KiB", "a line", "it is replaced", "a new file of 1 MiB"];
    let live = live.into_iter().chain(["a directory of 100", "that directory", "and deleted"]);
    let steps: Vec<_> = steps.into_iter().chain(live).collect();
    assert_eq!(lines.len(), steps.len() + 1, "{text}");
    for (line, step) in lines.iter().zip(&steps) {
        assert!(line.starts_with(step) && line.len() <= 80, "{text}");
    }
    assert!(lines[2..8].iter().all(|line| line.ends_with("  equal")), "{text}");
    assert!(lines[10..18].iter().all(|line| line.ends_with("  equal")), "{text}");
    assert!(lines[18].trim_start().starts_with("demo "), "{text}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    assert_eq!(fs::read(dir.path().join("small")).unwrap(), b"x");
}

#[test]
fn a_directory_that_is_not_there_is_said_in_three_lines() {
    let place = tempdir().unwrap();
    let output = demo().arg(place.path().join("none")).env("TMPDIR", place.path()).assert().code(11);
    let said = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(said.contains("error: ") && said.contains("\n  why: ") && said.contains("\n  fix: "), "{said}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
