//! Who follows a module, where the operator of the source shows it.

use std::fs;
use std::io::Write;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Site, Web};
use crate::fixture::{mirra, wait_for};

/// Adds a line to the section of the module `m`, which is the last of the settings.
fn set(home: &Path, line: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(home.join(".mirra/Mirra.toml")).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// The nodes of the only module that shows them.
fn nodes(site: &Site) -> Option<Vec<Value>> {
    let told = site.web.get("/-/nodes.json", &[]).expect(200).json();
    assert_eq!(told["schema"], "mirra.nodes/1");
    Some(told["modules"].as_array()?.first()?["nodes"].as_array()?.clone())
}

#[test]
fn nodes_are_shown_by_the_names_that_they_tell() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "one").unwrap());
    let mut daemons = Vec::new();
    for (name, told) in [("first", true), ("second", false)] {
        let home = site.world.node(name);
        site.world.sync(name).expect(0);
        if told {
            set(&home, "show_name = true");
        }
        daemons.push(Web::start(&home, "127.0.0.1:0"));
        mirra(&home, &["sync", &site.world.address(), "m"]).expect(0);
    }
    assert_eq!(nodes(&site), None);
    assert!(!site.web.get("/-/status", &[]).expect(200).text().contains("follow m from here"));

    set(&site.world.root(), "show_nodes = true");
    let sequence = || site.web.get("/-/status.json", &[]).expect(200).json()["modules"][0]["sequence"].clone();
    let all_at = |newest: &Value| {
        let nodes = nodes(&site).filter(|nodes| nodes.len() == 2)?;
        nodes.iter().all(|node| node["sequence"] == *newest && node["behind_since_ms"].is_null()).then_some(nodes)
    };
    let shown = wait_for("both nodes", || all_at(&sequence()));
    let mut names: Vec<&str> = shown.iter().filter_map(|node| node["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["first"]);
    let page = site.web.get("/-/status", &[]).expect(200).text();
    for said in ["Nodes that follow m from here", ">first<", ">not named<", ">up to date<"] {
        assert!(page.contains(said), "{said}: {page}");
    }

    // One that is held up is behind, and catches up.
    let pid = Pid::from_child(&daemons[0].daemon);
    let before = sequence();
    kill_process(pid, Signal::STOP).unwrap();
    fs::write(site.world.tree().join("f"), "two").unwrap();
    site.world.publish().expect(0);
    let late = wait_for("the one that is behind", || {
        nodes(&site)?.into_iter().find(|node| node["behind_since_ms"].is_u64() && node["name"] == "first")
    });
    assert_eq!(late["sequence"], before);
    assert!(site.web.get("/-/status", &[]).expect(200).text().contains(" behind</td>"));
    kill_process(pid, Signal::CONT).unwrap();
    wait_for("its return", || all_at(&sequence()));
}
