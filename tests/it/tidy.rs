//! The house rules: layers, purity, size, the map, and the tags that tie PROTOCOL.md to the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each folder of `src`, and the folders it may import.
const LAYERS: &[(&str, &[&str])] = &[
    ("tree", &[]),
    ("delta", &[]),
    ("protocol", &["tree", "delta"]),
    ("disk", &["tree", "delta"]),
    ("net", &["protocol"]),
    ("mirror", &["tree", "delta", "protocol", "disk", "net"]),
    ("control", &["mirror", "disk", "net"]),
    ("web", &["mirror", "net", "tree"]),
];
/// The one folder that is not a room: the programs.
const PROGRAMS: &str = "bin";
/// Rooms without I/O, clock and threads.
const PURE: &[&str] = &["tree", "delta", "protocol"];
const IMPURE_WORDS: &[&str] =
    &["tokio", "async fn", "std::fs", "std::net", "std::thread", "Instant::now", "SystemTime::now"];
/// A word that holds an impure one and is pure: an address as a value, in the file that reads addresses.
const PURE_AFTER_ALL: (&str, &str) = ("src/tree/address.rs", "std::net::Ipv6Addr");
/// Spellings that would hide an import from [`LAYERS`].
const HIDING: &[&str] = &["crate::*", "crate::{", "super::super"];
/// Words that say that something is left undone.
const UNDONE: &[&str] = &["todo!(", "unimplemented!(", "TODO", "FIXME"];
const LINES_MAX: usize = 600;

#[test]
fn every_folder_has_a_layer_and_stands_in_the_map() {
    let folders: BTreeSet<String> = fs::read_dir(at_home("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|folder| folder != PROGRAMS)
        .collect();
    assert_eq!(folders, LAYERS.iter().map(|(layer, _)| layer.to_string()).collect());
    let lib = read("src/lib.rs");
    let map: String = lib.lines().take_while(|line| line.starts_with("//!")).collect();
    for folder in folders.iter().map(String::as_str).chain([PROGRAMS]) {
        assert!(map.contains(&format!("{folder}/")), "the map of src/lib.rs does not name {folder}/");
    }
}

#[test]
fn rooms_import_only_rooms_below() {
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        for file in rust_files(&format!("src/{layer}")) {
            let text = read(&file);
            for used in names_behind(&text, "crate::") {
                if used != *layer && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{file}: {layer} may not import {used}"));
                }
            }
            wrong.extend(HIDING.iter().filter(|w| text.contains(**w)).map(|w| format!("{file}: {w} hides an import")));
            if PURE.contains(layer) {
                let text = if file == PURE_AFTER_ALL.0 { text.replace(PURE_AFTER_ALL.1, "") } else { text };
                wrong.extend(
                    IMPURE_WORDS.iter().filter(|w| text.contains(**w)).map(|w| format!("{file}: {w} is not pure")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn programs_use_the_names_of_the_facade_alone() {
    let lib = read("src/lib.rs");
    let rooms: BTreeSet<&str> = LAYERS.iter().map(|(layer, _)| *layer).collect();
    for file in rust_files(&format!("src/{PROGRAMS}")) {
        for used in names_behind(&read(&file), "mirra::") {
            assert!(!rooms.contains(used.as_str()), "{file} goes into the room {used}");
            assert!(lib.contains(&used), "{file} uses {used}, which src/lib.rs does not name");
        }
    }
}

#[test]
fn files_are_short_and_done() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches"].iter().flat_map(|dir| rust_files(dir)) {
        let text = read(&file);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{file}: {lines} lines, {LINES_MAX} are allowed"));
        }
        let ignored = ["#[", "ignore"].concat();
        if file != "tests/it/tidy.rs" {
            let words = UNDONE.iter().copied().chain([ignored.as_str()]).filter(|word| text.contains(word));
            wrong.extend(words.map(|word| format!("{file}: {word}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_fields_of_the_text_and_of_the_code_are_the_same() {
    let text = tags(&read("PROTOCOL.md"));
    let mut code = BTreeSet::new();
    for file in rust_files("src/tree").into_iter().chain(rust_files("src/protocol")) {
        for line in read(&file).lines() {
            if let Some((_, comment)) = line.split_once("//") {
                code.extend(tags(comment));
            }
        }
    }
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join(" ");
    assert!(text == code, "only in PROTOCOL.md: {}\nonly in the code: {}", only(&text, &code), only(&code, &text));
    assert!(text.len() > 100);
}

#[test]
fn every_limit_stands_in_the_text() {
    let text = read("PROTOCOL.md");
    let mut missing = Vec::new();
    for file in ["src/tree/limits.rs", "src/protocol/limits.rs"] {
        for line in read(file).lines() {
            let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) else { continue };
            if !text.contains(&format!("`{name}`")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "not in PROTOCOL.md: {}", missing.join(" "));
}

/// The fields in `text`: a lower-case name, a dot, a lower-case name, in brackets, in backticks.
fn tags(text: &str) -> BTreeSet<String> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    text.split("`[")
        .skip(1)
        .filter_map(|rest| rest.split_once("]`"))
        .filter(|(tag, _)| tag.split_once('.').is_some_and(|(object, field)| is_name(object) && is_name(field)))
        .map(|(tag, _)| tag.to_owned())
        .collect()
}

/// The names right behind each `path::`.
fn names_behind(text: &str, path: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    text.split(path).skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

fn at_home(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at_home(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Rust files below `dir`, as paths from the top of the repository.
fn rust_files(dir: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(at_home(dir)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{dir}/{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            files.extend(rust_files(&path));
        } else if path.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}
