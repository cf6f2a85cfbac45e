//! Files: whole and in parts (R39), again and not again, with their hashes.

use std::fs;
use std::os::unix::fs::symlink;

use super::Site;
use crate::fixture::{Dice, set_mtime, text};

fn content() -> Vec<u8> {
    text(&mut Dice(5), 300_000)
}

fn site() -> Site {
    Site::new(|tree| {
        fs::write(tree.join("big.bin"), content()).unwrap();
        fs::write(tree.join("page.html"), "<script>alert(1)</script>").unwrap();
        fs::write(tree.join("empty"), "").unwrap();
        fs::write(tree.join("n\u{e4}m\ne"), "odd").unwrap();
        fs::create_dir(tree.join("d")).unwrap();
        symlink("../big.bin", tree.join("d/latest.txt")).unwrap();
        set_mtime(&tree.join("page.html"), 784_111_777, 5);
        set_mtime(&tree.join("empty"), -5, 0);
    })
}

#[test]
fn a_file_comes_whole_or_in_one_part() {
    let (site, whole) = (site(), content());
    let reply = site.web.get("/m/big.bin", &[]).expect(200);
    assert_eq!(reply.body, whole);
    let tag = reply.header("etag").unwrap().to_owned();
    let if_range = format!("If-Range: {tag}");
    let table: &[(&str, u16, std::ops::Range<usize>)] = &[
        ("bytes=0-0", 206, 0..1),
        ("bytes=100-99999", 206, 100..100_000),
        ("bytes=299999-", 206, 299_999..300_000),
        ("bytes=-1000", 206, 299_000..300_000),
        ("bytes=-999999", 206, 0..300_000),
        ("bytes=0-999999", 206, 0..300_000),
        ("bytes=0-1,5-6", 200, 0..300_000),
        ("bytes=5-4", 200, 0..300_000),
        ("lines=1-2", 200, 0..300_000),
        ("bytes=300000-", 416, 0..0),
        ("bytes=-0", 416, 0..0),
    ];
    for (range, status, part) in table {
        for more in [None, Some(if_range.as_str())] {
            let headers: Vec<String> =
                std::iter::once(format!("Range: {range}")).chain(more.map(str::to_owned)).collect();
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let reply = site.web.get("/m/big.bin", &headers).expect(*status);
            let shown = reply.header("content-range").map(str::to_owned);
            match status {
                206 => assert_eq!(shown, Some(format!("bytes {}-{}/300000", part.start, part.end - 1))),
                416 => assert_eq!(shown.as_deref(), Some("bytes */300000")),
                _ => assert_eq!(shown, None),
            }
            if *status != 416 {
                assert_eq!(reply.header("content-length"), Some(part.len().to_string().as_str()));
                assert_eq!(reply.body, whole[part.clone()], "{range}");
            }
        }
        let other = ["Range: bytes=0-0", "If-Range: \"other\""];
        assert_eq!(site.web.get("/m/big.bin", &other).expect(200).body.len(), 300_000);
    }
    let many = format!("Range: bytes={}", (0..1_500).map(|i| format!("{i}-,")).collect::<String>());
    assert_eq!(site.web.get("/m/big.bin", &[&many]).expect(200).body.len(), 300_000);
    let head = site.web.ask("HEAD", "/m/big.bin", &["Range: bytes=1-3"]).expect(206);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("3"), 0));
    let empty = site.web.get("/m/empty", &[]).expect(200);
    assert_eq!((empty.header("content-length"), empty.header("last-modified")), (Some("0"), None));
    site.web.get("/m/empty", &["Range: bytes=0-"]).expect(416);
}

#[test]
fn what_is_known_is_not_sent_again() {
    let site = site();
    let reply = site.web.get("/m/page.html", &[]).expect(200);
    assert_eq!(reply.header("last-modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(reply.header("content-security-policy"), Some("sandbox"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert!(reply.header("x-mirra-snapshot").is_some_and(|id| id.len() == 64));
    let tag = reply.header("etag").unwrap();
    let known = site.web.get("/m/page.html", &[&format!("If-None-Match: \"x\", W/{tag}")]).expect(304);
    assert_eq!((known.header("etag"), known.body.len()), (Some(tag), 0));
    site.web.get("/m/page.html", &["If-None-Match: \"x\""]).expect(200);
    site.web.get("/m/page.html", &["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]).expect(304);
    site.web.get("/m/page.html", &["If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT"]).expect(200);
    site.web.get("/m/page.html", &["If-Match: \"x\""]).expect(412);
    // What a link leads to has its content and its tag, and the kind that the link's name says.
    let [linked, plain] = ["/m/d/latest.txt", "/m/big.bin"].map(|path| site.web.get(path, &[]).expect(200));
    assert_eq!((linked.header("etag"), &linked.body), (plain.header("etag"), &plain.body));
    assert_eq!(linked.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn hashes_are_those_of_the_content() {
    let site = site();
    assert_eq!(site.web.get("/m/big.bin", &[]).expect(200).header("repr-digest"), None);
    let blake3 = site.web.get("/m/big.bin?b3", &[]).expect(200);
    assert_eq!(blake3.text(), format!("{}  big.bin\n", blake3::hash(&content()).to_hex()));
    let sha256 = site.web.get("/m/big.bin?sha256", &[]).expect(200).text();
    let digest = site.web.get("/m/big.bin", &["Range: bytes=0-0"]).expect(206);
    let digest = digest.header("repr-digest").unwrap().to_owned();
    let bytes = data_encoding::HEXLOWER.decode(&sha256.as_bytes()[..64]).unwrap();
    assert_eq!(digest, format!("sha-256=:{}:", data_encoding::BASE64.encode(&bytes)));
    let empty = site.web.get("/m/empty?sha256", &[]).expect(200).text();
    assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  empty\n");
    assert!(site.web.get("/m/n%C3%A4m%0ae?sha256", &[]).expect(200).text().ends_with("  n\u{e4}m\\ne\n"));
    site.web.get("/m/?sha256", &[]).expect(200);
    let saved = site.web.get("/m/n%C3%A4m%0Ae?download", &[]).expect(200);
    let expected = "attachment; filename=\"n_m_e\"; filename*=UTF-8''n%C3%A4m%0Ae";
    assert_eq!(saved.header("content-disposition"), Some(expected));
}
