//! Directories for programs, and what stands beside the modules.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{Site, Web};
use crate::fixture::{Dice, MODULE, World, mirra, same, set_mtime, wait_for, walk};
use crate::interrupted::{Proxy, Trick};

#[test]
fn a_directory_as_a_page_as_json_and_as_a_plain_list() {
    let site = Site::new(|tree| {
        fs::create_dir_all(tree.join("d/e")).unwrap();
        for (name, size) in [("b2", 5), ("b10", 3), (".hidden", 1), ("<i>&\"", 2)] {
            fs::write(tree.join("d").join(name), "x".repeat(size)).unwrap();
        }
        fs::write(tree.join("d").join(std::ffi::OsStr::from_bytes(b"\xff\n")), "x").unwrap();
        fs::write(tree.join("d/README"), "what this is").unwrap();
        symlink("e", tree.join("d/to")).unwrap();
        symlink("../..", tree.join("d/out")).unwrap();
    });
    let names = |target: &str| -> Vec<String> {
        let json = site.web.get(target, &[]).expect(200).json();
        assert_eq!((&json["schema"], &json["module"]), (&"mirra.directory/1".into(), &"m".into()));
        json["rows"].as_array().unwrap().iter().map(|row| row["href"].as_str().unwrap().to_owned()).collect()
    };
    let by_name = ["./e/", "./%3Ci%3E%26%22", "./b2", "./b10", "./out", "./README", "./to", "./%FF%0A"];
    assert_eq!(names("/m/d/?json"), by_name);
    assert_eq!(names("/m/d/?json&sort=size&order=desc")[..3], ["./e/", "./README", "./b2"]);
    assert_eq!(names("/m/d/?json&page=999").len(), by_name.len());
    let json = site.web.get("/m/d/", &["Accept: application/json"]).expect(200);
    assert_eq!((json.header("vary"), json.json()["entries"].as_u64()), (Some("Accept"), Some(8)));
    // Not listed, and there all the same.
    assert_eq!(site.web.get("/m/d/.hidden", &[]).expect(200).text(), "x");
    let page = site.web.get("/m/d/", &["Accept: text/html"]).expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("what this is") && !page.text().contains("<i>") && !page.text().contains("hidden\""));
    let plain = site.web.get("/m/d/?plain", &[]).expect(200).text();
    for line in
        ["<a href=\"./e/?plain\">e/</a>", "<a href=\"./to/?plain\">to/</a>", "<a href=\"./b10\">b10</a>", "&lt;i&gt;"]
    {
        assert!(plain.contains(line), "{line}: {plain}");
    }
    assert!(!plain.contains("hidden") && !plain.contains("\"./out"), "{plain}");
    assert_eq!(site.web.get("/m/d/to/?plain", &[]).expect(302).header("location"), Some("/m/d/e/?plain"));
    assert_eq!(site.web.get("/m/d", &[]).expect(302).header("location"), Some("/m/d/"));
}

#[test]
fn an_archive_is_the_tree() {
    let site = Site::new(|tree| {
        let deep = tree.join("d").join("x".repeat(120)).join("y".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "deep").unwrap();
        fs::write(tree.join("d/.dot"), vec![7; 1_000_000]).unwrap();
        fs::write(tree.join("d/empty"), "").unwrap();
        symlink("z".repeat(150), tree.join("d/link")).unwrap();
        for i in 0..300 {
            fs::create_dir(tree.join(format!("d/s{i}"))).unwrap();
            fs::write(tree.join(format!("d/s{i}/f")), i.to_string()).unwrap();
        }
        set_mtime(&tree.join("d/.dot"), 784_111_777, 120_000_000);
        set_mtime(&tree.join("d/empty"), 784_111_777, 0);
    });
    let [one, two] = ["/m/d/?tar", "/m/d?tar"].map(|target| site.web.get(target, &[]));
    assert_eq!(two.expect(302).header("location"), Some("/m/d/?tar"));
    let one = one.expect(200);
    assert_eq!(one.header("content-type"), Some("application/x-tar"));
    assert_eq!(one.body, site.web.get("/m/d/?tar", &[]).expect(200).body);
    let place = site.world.place.path().join("unpacked");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a.tar"), &one.body).unwrap();
    let tar = Command::new("tar").args(["xf", "a.tar"]).current_dir(&place).status().unwrap();
    assert!(tar.success());
    same(&walk(&site.world.tree().join("d")), &walk(&place.join("d")), "unpacked");
}

#[test]
fn an_archive_that_cannot_be_begun_is_not_promised() {
    let site = Site::new(|tree| {
        for dir in ["d", "e"] {
            fs::create_dir(tree.join(dir)).unwrap();
            fs::write(tree.join(dir).join("f"), dir).unwrap();
        }
    });
    fs::write(site.world.tree().join("d/f"), "other").unwrap();
    for target in ["/m/d/?tar", "/m/?tar"] {
        let reply = site.web.get(target, &[]).expect(503);
        assert!(reply.header("retry-after").is_some() && reply.header("content-disposition").is_none(), "{reply:?}");
    }
    site.web.get("/m/e/?tar", &[]).expect(200);
    site.world.publish().expect(0);
    site.web.get("/m/d/?tar", &[]).expect(200);
}

#[test]
fn what_is_signed_can_be_had_and_checked() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let key = mirra(&site.world.root(), &["status", "--json"]).json()["key"].as_str().unwrap().to_owned();
    let manifest = site.web.get("/-/manifest/m", &[]).expect(200).json();
    assert_eq!((&manifest["schema"], &manifest["key"]), (&"mirra.manifest/1".into(), &key.clone().into()));
    let decode = |value: &serde_json::Value| data_encoding::BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let root = mirra::tree::signed::Envelope::decode(&decode(&manifest["roots"][0]["envelope"])).unwrap();
    let authority = mirra::authority_from_text(&key).unwrap();
    let root = mirra::tree::signed::RootFile::verify_first(&root, &authority).unwrap();
    let head = mirra::tree::signed::Envelope::decode(&decode(&manifest["head"])).unwrap();
    let head: mirra::tree::signed::Head = head.verify(&root.head_keys, 1).unwrap();
    assert_eq!(manifest["snapshot"], head.snapshot.to_string());
    let file = site.web.get("/m/f", &[]).expect(200);
    assert_eq!(file.header("x-mirra-snapshot"), manifest["snapshot"].as_str());
    let status = site.web.get("/-/status.json", &[]).expect(200).json();
    assert_eq!((&status["schema"], &status["modules"][0]["key"]), (&"mirra.status/1".into(), &key.into()));
    assert_eq!(site.web.get("/-/healthz", &[]).expect(200).text(), "ok\n");
    assert!(site.web.get("/robots.txt", &[]).expect(200).text().starts_with("User-agent: *"));
    assert_eq!(site.web.get("/favicon.ico", &[]).expect(200).header("content-type"), Some("image/svg+xml"));
    let page = site.web.get("/", &["Accept: text/html"]).expect(200).text();
    let style = page.split("href=\"").find_map(|rest| rest.split('"').next().filter(|href| href.contains("style.css")));
    let style = site.web.get(style.unwrap(), &[]).expect(200);
    assert!(style.header("cache-control").unwrap().contains("immutable"));
    for nowhere in ["/-/", "/-/none", "/-/manifest/none", "/-/manifest/m/x", "/none/", "/none"] {
        site.web.get(nowhere, &[]).expect(404);
    }
    let problem = site.web.get("/none/?json", &[]).expect(404).json();
    assert_eq!((&problem["schema"], &problem["status"]), (&"mirra.problem/1".into(), &404.into()));
}

#[test]
fn a_node_says_how_far_its_first_snapshot_is() {
    let mut dice = Dice(171);
    let world = World::new(|tree| {
        // Enough that it does not come at once.
        (0..10).for_each(|i| fs::write(tree.join(format!("big{i}")), dice.bytes(2_000_000)).unwrap());
        ["x", "y"].iter().for_each(|name| fs::write(tree.join(name), "twice").unwrap());
    });
    let node = world.node("node");
    mirra(&node, &["init", "--name", "node", "--no-web"]).expect(0);
    let web = Web::start(&node, "127.0.0.1:0");
    let proxy = Proxy::start(&world.address(), Trick::Thin(4_000));
    mirra(&node, &["sync", &proxy.address, MODULE]).expect(0);
    let progress = wait_for("progress", || {
        let status = web.get("/-/status.json", &[]).expect(200).json();
        Some(status["modules"][0]["progress"].clone()).filter(|progress| progress["bytes"].as_u64() > Some(0))
    });
    assert_eq!((&progress["files_total"], &progress["bytes_total"]), (&12.into(), &20_000_010.into()), "{progress}");
    assert!(progress["bytes"].as_u64() < Some(20_000_000) && progress["files"].as_u64() < Some(12), "{progress}");
}

#[test]
fn a_node_before_its_first_snapshot_says_so() {
    let mut world = World::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let node = world.node("node");
    mirra(&node, &["init", "--name", "node", "--no-web"]).expect(0);
    mirra(&node, &["sync", &world.address(), "m"]).expect(0);
    world.kill();
    let web = Web::start(&node, "127.0.0.1:0");
    for target in ["/m/f", "/m/", "/m/x/y", "/-/manifest/m"] {
        let reply = web.get(target, &["Accept: text/html"]).expect(503);
        assert!(reply.header("retry-after").is_some(), "{target}");
    }
    let status = web.get("/-/status.json", &[]).expect(200).json();
    assert_eq!(
        (&status["modules"][0]["sequence"], &status["modules"][0]["role"]),
        (&serde_json::Value::Null, &"node".into())
    );
    web.get("/", &["Accept: text/html"]).expect(200);
}

#[test]
fn a_part_of_a_module_gives_what_it_has_whole() {
    let mut world = World::new(|tree| {
        for dir in ["kept/deep", "left"] {
            fs::create_dir_all(tree.join(dir)).unwrap();
            fs::write(tree.join(dir).join("file"), dir).unwrap();
        }
    });
    world.sync_with("node", &world.address(), &["--exclude", "/left/"]).expect(0);
    world.kill();
    let web = Web::start(&world.node("node"), "127.0.0.1:0");
    let archive = web.get("/m/kept/?tar", &[]).expect(200);
    let place = world.place.path().join("unpacked");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a.tar"), &archive.body).unwrap();
    assert!(Command::new("tar").args(["xf", "a.tar"]).current_dir(&place).status().unwrap().success());
    same(&walk(&world.tree().join("kept")), &walk(&place.join("kept")), "unpacked");
    assert_eq!(web.get("/m/kept/deep/file", &[]).expect(200).text(), "kept/deep");
    for target in ["/m/?tar", "/m/left/?tar", "/m/left/file"] {
        let reply = web.get(target, &["Accept: text/plain"]).expect(404);
        assert!(reply.text().contains("only a part of the module"), "{target}: {}", reply.text());
    }
}
