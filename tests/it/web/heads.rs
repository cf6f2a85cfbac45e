//! Heads of all shapes (R37): what is refused ends the connection, and nothing behind it is taken for a request.

use std::fs;

use super::{Reply, Site};

/// Each: what it is, the bytes, and the statuses that may come; none for none at all.
#[test]
fn heads_are_refused_or_answered_once() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let second = "GET /m/f HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = |lines: &str| format!("GET /m/f HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes();
    let line = |bytes: &[u8]| [b"GET /m/f HTTP/1.1\r\nHost: h\r\nX: ", bytes, b"\r\n\r\n"].concat();
    let long = "a".repeat(1 << 20);
    let table: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("a header line of a megabyte", line(long.as_bytes()), &[431]),
        ("a header that never ends", [&b"GET / HTTP/1.1\r\nHost: h\r\nX: "[..], long.as_bytes()].concat(), &[431]),
        ("many headers", head(&"A: b\r\n".repeat(1_000)), &[431]),
        ("65 headers", head(&"A: b\r\n".repeat(64)), &[431]),
        ("64 headers", head(&("A: b\r\n".repeat(62) + "Connection: close\r\n")), &[200]),
        ("a bare CR", line(b"a\rb"), &[400]),
        ("a NUL", line(b"a\0b"), &[400]),
        ("a folded line", head("A: b\r\n c\r\n"), &[400]),
        ("a space before the colon", head("A : b\r\n"), &[400]),
        ("a line without a colon", head("A\r\n"), &[400]),
        ("chunks", head("Transfer-Encoding: chunked\r\n"), &[400]),
        ("a length and chunks", head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), &[400]),
        ("an odd coding", head("Transfer-Encoding: xchunked\r\n"), &[400]),
        ("two lengths", head("Content-Length: 0\r\nContent-Length: 5\r\n"), &[400]),
        ("no number for a length", head("Content-Length: x\r\n"), &[400]),
        ("a signed length", head("Content-Length: +5\r\n"), &[400]),
        ("no version", b"GET /\r\n\r\n".to_vec(), &[400]),
        ("version 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400]),
        ("another version", b"GET / HTTP/3.0\r\n\r\n".to_vec(), &[400]),
        ("noise", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &[400]),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("two hosts", head("Host: other\r\n"), &[400]),
        ("no such host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_vec(), &[400]),
        ("version 1.0", b"GET /m/f HTTP/1.0\r\n\r\n".to_vec(), &[200]),
        ("a whole address", b"GET http://other/m/f HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(), &[200]),
        ("a whole address elsewhere", b"GET ftp://other/m/f HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[400]),
        ("a tunnel", b"CONNECT other:80 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[405]),
        ("all of it", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[405]),
        ("another method", b"DELETE /m/f HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[405]),
        ("a small method", b"get /m/f HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[405]),
        ("a promise", head("Expect: 100-continue\r\nConnection: close\r\n"), &[200]),
        ("another promise", head("Expect: more\r\n"), &[417]),
        ("an upgrade", head("Connection: Upgrade, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), &[200]),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(4_097)).into_bytes(), &[414]),
        ("a longer one", format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(65_536)).into_bytes(), &[414, 431]),
        (
            "a request in a body",
            [head(&format!("Content-Length: {}\r\n", second.len())), second.into()].concat(),
            &[400],
        ),
        (
            "a request behind chunks",
            [head("Transfer-Encoding: chunked\r\n"), b"0\r\n\r\n".to_vec(), second.into()].concat(),
            &[400],
        ),
        ("a body", b"POST /m/f HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".to_vec(), &[400]),
        (
            "a request behind a refused one",
            [&b"PUT /m/f HTTP/1.1\r\nHost: h\r\n\r\n"[..], second.as_bytes()].concat(),
            &[405],
        ),
    ];
    for (what, bytes, statuses) in table {
        let all = site.web.raw(&bytes);
        let answers = all.windows(9).filter(|part| *part == b"HTTP/1.1 " || *part == b"HTTP/1.0 ").count();
        assert!(answers <= 1, "{what}: {}", String::from_utf8_lossy(&all));
        let text = String::from_utf8_lossy(&all).into_owned();
        let status: Option<u16> = text.get(9..12).and_then(|status| status.parse().ok());
        // The end of a connection whose head was not read may overtake the answer.
        assert!(status.is_none_or(|status| statuses.contains(&status)), "{what}: {text}");
        assert_eq!(text.contains("content\n") || text.ends_with("content"), status == Some(200), "{what}: {text}");
    }
    assert_eq!(site.web.ask("PUT", "/m/f", &[]).expect(405).header("allow"), Some("GET, HEAD"));
    assert_eq!(site.web.get("/m/f", &[]).expect(200).text(), "content");
}

/// Ways to say that there is a body, or something like one: whoever stands before this server may take another end of the
/// request for true than it does.
#[test]
fn what_may_have_a_body_is_refused_with_all_that_follows() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let codings = [
        "chunked",
        " chunked",
        "\tchunked",
        "CHUNKED",
        "chunked, identity",
        "identity, chunked",
        "x",
        "gzip",
        "",
        "\"chunked\"",
    ];
    let lengths = ["5", "05", " 5", "5, 5", "5,6", "+5", "-1", "0x5", "1e1", "5 5", "x", "", "99999999999999999999999"];
    let codings = codings.iter().flat_map(|value| {
        ["Transfer-Encoding: ", "transfer-encoding:", "Content-Length: 0\r\nTransfer-Encoding: "]
            .map(|name| format!("{name}{value}"))
    });
    let lengths = lengths.iter().flat_map(|value| {
        ["Content-Length: ", "content-length:", "Content-Length: 5\r\nContent-Length: "]
            .map(|name| format!("{name}{value}"))
    });
    let second = "GET /m/f HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let mut asked = 0;
    for lines in codings.chain(lengths) {
        for (before, after) in [("", ""), ("A: b\r\n", "C: d\r\n"), ("Connection: close\r\n", "")] {
            let head = format!("GET /m/f HTTP/1.1\r\nHost: h\r\n{before}{lines}\r\n{after}\r\n");
            let text = String::from_utf8(site.web.raw(format!("{head}{second}").as_bytes())).unwrap();
            assert!(
                text.is_empty() || text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.1 501 "),
                "{head}{text}"
            );
            assert!(
                text.matches("HTTP/1.1 ").count() <= 1 && !text.contains("content\n") && !text.ends_with("content"),
                "{head}{text}"
            );
            asked += 1;
        }
    }
    assert!(asked >= 200);
}

#[test]
fn one_connection_answers_one_after_the_other() {
    let site = Site::new(|tree| fs::write(tree.join("f"), "content").unwrap());
    let one = "GET /m/f HTTP/1.1\r\nHost: h\r\n\r\nHEAD /m/f HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET /m/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let all = site.web.raw(format!("{one}{last}").as_bytes());
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!((text.matches("HTTP/1.1 404").count(), text.matches("\r\n\r\ncontent").count()), (1, 1), "{text}");
    assert!(Reply::read(text.as_bytes()).is_some());
}
