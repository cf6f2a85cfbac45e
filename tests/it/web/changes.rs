//! While things change: each answer is of one snapshot, and no bytes are given under a tag that is not theirs.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Reply, Site, Web};
use crate::fixture::{Dice, World, mirra, text, wait_for};

/// Reads until the head is there and a part of the body.
fn read_some(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = vec![0; 64 * 1024];
    let mut len = 0;
    while len < bytes.len() {
        len += stream.read(&mut bytes[len..]).unwrap();
    }
    bytes
}

#[test]
fn what_is_replaced_during_a_download_is_downloaded_as_it_was() {
    let old = text(&mut Dice(1), 16 << 20);
    let site = Site::new(|tree| fs::write(tree.join("f"), &old).unwrap());
    let mut stream = site.web.begin("/m/f");
    let mut all = read_some(&mut stream);
    let tree = site.world.tree();
    fs::write(tree.join("new"), "new").unwrap();
    fs::rename(tree.join("new"), tree.join("f")).unwrap();
    // What stands there is in no snapshot yet.
    let reply = site.web.get("/m/f", &[]).expect(503);
    assert_eq!((reply.header("retry-after"), reply.header("etag")), (Some("1"), None));
    site.world.publish().expect(0);
    assert_eq!(site.web.get("/m/f", &[]).expect(200).text(), "new");
    stream.read_to_end(&mut all).unwrap();
    let reply = Reply::read(&all).unwrap();
    assert!(reply.body == old, "{} bytes", reply.body.len());
    let range = format!("If-Range: {}", reply.header("etag").unwrap());
    assert_eq!(site.web.get("/m/f", &["Range: bytes=1-", &range]).expect(200).text(), "new");
}

#[test]
fn what_is_written_to_during_a_download_ends_it() {
    let old = text(&mut Dice(2), 32 << 20);
    let site = Site::new(|tree| fs::write(tree.join("f"), &old).unwrap());
    let mut stream = site.web.begin("/m/f");
    let mut all = read_some(&mut stream);
    let file = fs::OpenOptions::new().write(true).open(site.world.tree().join("f")).unwrap();
    file.write_all_at(&vec![0; 32 << 20], 0).unwrap();
    let _ = stream.read_to_end(&mut all);
    let body = Reply::read(&all).unwrap().body;
    assert!(body.len() < old.len(), "a file that was written to came whole");
    assert!(old.starts_with(&body), "other bytes came under the old tag");
    site.web.get("/m/f", &[]).expect(503);
}

#[test]
fn what_moved_is_given_from_where_it_is() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let tree = site.world.tree();
    fs::write(tree.join("twin"), "content").unwrap();
    site.world.publish().expect(0);
    fs::remove_file(tree.join("f")).unwrap();
    assert_eq!(site.web.get("/m/f", &[]).expect(200).text(), "content");
    site.world.publish().expect(0);
    site.web.get("/m/f", &[]).expect(404);
}

#[test]
fn on_a_node_that_follows_a_tag_stands_for_one_content() {
    let mut world = World::new(|tree| fs::write(tree.join("f"), "0").unwrap());
    let node = world.node("node");
    world.sync("node").expect(0);
    let web = Web::start(&node, "127.0.0.1:0");
    let (done, mut seen) = (AtomicBool::new(false), HashMap::new());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen: HashMap<String, Vec<u8>> = HashMap::new();
            while !done.load(Ordering::Relaxed) {
                let reply = web.get("/m/f", &[]);
                if reply.status == 503 {
                    assert_eq!(reply.header("retry-after"), Some("1"));
                    continue;
                }
                assert_eq!(reply.status, 200, "{}", reply.text());
                let tag = reply.header("etag").unwrap().to_owned();
                let known = seen.entry(tag).or_insert_with(|| reply.body.clone());
                assert_eq!(*known, reply.body);
            }
            seen
        });
        for version in 1..=12 {
            fs::write(world.tree().join("f"), version.to_string().repeat(1_000)).unwrap();
            world.publish().expect(0);
            let expected = version.to_string().repeat(1_000);
            wait_for("the node's turn", || (web.get("/m/f", &[]).text() == expected).then_some(()));
        }
        done.store(true, Ordering::Relaxed);
        seen = reader.join().unwrap();
    });
    assert!(seen.len() >= 2, "{} versions seen", seen.len());
    assert_eq!(seen.values().collect::<std::collections::HashSet<_>>().len(), seen.len());
    mirra(&node, &["status"]).expect(0);
    world.kill();
}

#[test]
fn many_idle_connections_keep_nobody_out() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let mut idle: Vec<_> = (0..40).map(|_| site.web.begin("/m/f")).collect();
    for stream in &mut idle {
        // A second request that never ends.
        let _ = stream.write_all(b"GET /m/f HTTP/1.1\r\nHost:");
    }
    assert_eq!(site.web.get("/m/f", &[]).expect(200).text(), "content");
}

#[test]
fn the_status_page_says_what_changed_and_what_was_served() {
    let site = Site::new(|tree| fs::write(tree.join("f"), vec![7; 3_000_000]).unwrap());
    let tree = site.world.tree();
    for name in ["a", "b", "c"] {
        fs::write(tree.join(name), name).unwrap();
    }
    site.world.publish().expect(0);
    fs::remove_file(tree.join("a")).unwrap();
    fs::write(tree.join("b"), "more").unwrap();
    site.world.publish().expect(0);
    site.web.get("/m/f", &[]).expect(200);
    let page = site.web.get("/-/status", &[]).expect(200).text();
    // New, changed and gone, of both snapshots; of the first nothing is known.
    for said in ["<td>0</td><td>1</td><td>1</td>", "<td>3</td><td>0</td><td>0</td>", "Served"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let index = site.web.get("/", &[]).expect(200).text();
    assert!(index.contains("/-/status"), "{index}");
    // The port at which it is called, which is not that of the settings.
    let called = site.world.address().replace("127.0.0.1", "h.example");
    assert!(index.contains(&format!("mirra sync {called} m <")), "{index}");
}
