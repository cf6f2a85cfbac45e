//! Paths that want out (R38): whatever is asked for, only what is in the tree is given.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Site, Web};

const CANARY: &str = "this must never be seen";

#[test]
fn no_path_leads_out() {
    let site = Site::new(|tree| {
        fs::create_dir_all(tree.join("d/e")).unwrap();
        fs::write(tree.join("d/f"), "fine").unwrap();
        for (name, target) in
            [("out", "../secret"), ("abs", "/etc/passwd"), ("up", ".."), ("d/far", "../../../../etc/passwd")]
        {
            symlink(target, tree.join(name)).unwrap();
        }
        fs::write(tree.parent().unwrap().join("secret"), CANARY).unwrap();
    });
    // Not published: it is in the directory, and not in the tree.
    fs::write(site.world.tree().join("later"), CANARY).unwrap();
    let ups = [
        "..",
        "%2e%2e",
        ".%2E",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "..%00",
        "..;",
        "...",
        "%2e%2e%2f..",
        ".",
        "%e0%80%ae.",
        "%ff",
    ];
    let joins = ["/", "//", "%2f", "\\", "%5c", "/./"];
    let ends = ["secret", "etc/passwd", "root/.mirra/Mirra.toml", ".mirra/keys", "later"];
    let starts = ["/", "/m/", "/m/d/", "/m/up/", "/-/"];
    let mut asked = 0;
    for start in starts {
        for up in ups {
            for join in joins {
                for end in ends {
                    for depth in 1..=3 {
                        refused(&site.web, &format!("{start}{}{end}", format!("{up}{join}").repeat(depth)));
                        asked += 1;
                    }
                }
            }
        }
    }
    assert!(asked >= 5_000);
    for path in [
        "/m/out",
        "/m/abs",
        "/m/up/",
        "/m/d/far",
        "/m/later",
        "/m/.mirra",
        "/m/.mirra/",
        "/m/d/f/",
        "/m/d/f/x",
        "/M/d/f",
        "/m/D",
    ] {
        refused(&site.web, path);
    }
    refused(&site.web, &format!("/m/{}", "a".repeat(4_000)));
    assert_eq!(site.web.get("/m/d/f", &[]).expect(200).text(), "fine");
    assert_eq!(site.web.get("/m/%64/%66", &[]).expect(200).text(), "fine");
}

#[track_caller]
fn refused(web: &Web, path: &str) {
    let reply = web.get(path, &[]);
    assert!(matches!(reply.status, 400 | 404 | 414), "{path}: {} {}", reply.status, reply.text());
    assert!(!reply.text().contains(CANARY) && !reply.text().contains("root:"), "{path}");
}

#[test]
fn nothing_of_a_path_comes_back_as_a_header() {
    let site = Site::new(|tree| {
        fs::create_dir_all(tree.join("d\r\nSet-Cookie: a=b")).unwrap();
        symlink("d\r\nSet-Cookie: a=b", tree.join("l")).unwrap();
    });
    let host = "X-Forwarded-Host: evil.example";
    for path in ["/m/d%0d%0aSet-Cookie:%20a=b", "/m/l", "/m/l/"] {
        let reply = site.web.get(path, &[host, "X-Forwarded-Proto: https"]).expect(302);
        assert_eq!(reply.header("location"), Some("/m/d%0D%0ASet-Cookie:%20a=b/"), "{path}");
        assert_eq!(reply.header("set-cookie"), None);
    }
    assert_eq!(site.web.get("/m?x=%0d%0a", &[]).expect(302).header("location"), Some("/m/"));
    assert_eq!(site.web.get("/m?json&x=//evil", &[]).expect(302).header("location"), Some("/m/?json"));
    site.web.get("//evil.example/%2e%2e", &[]).expect(400);
}
