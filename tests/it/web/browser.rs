//! The pages in a browser, where Chromium is installed: browsed, sorted, filtered, dark and light, downloaded from, and
//! nothing that their own policy forbids.

use std::fs;

use serde_json::{Value, json};

use super::Site;
use super::devtools::Browser;

/// The names in the rows that are shown.
const ROWS: &str =
    "Array.from(document.querySelectorAll('table.files tbody tr:not([hidden]) th'), r => r.textContent.trim())";

#[test]
fn a_browser_shows_sorts_filters_and_downloads() {
    let Some(mut browser) = Browser::start() else { return };
    let site = Site::new(|tree| {
        fs::create_dir_all(tree.join("d/e")).unwrap();
        for (name, size) in [("b2", 50), ("b10", 3_000), ("<img src=x onerror=alert(1)>", 2)] {
            fs::write(tree.join("d").join(name), "x".repeat(size)).unwrap();
        }
        fs::write(tree.join("d/README"), "what <b>this</b> is").unwrap();
    });
    // From the modules down into a directory, by clicks.
    browser.open(&site.web.url("/"));
    assert_eq!(browser.eval("document.querySelector('.card h2').textContent"), "m");
    assert_eq!(browser.eval("document.querySelectorAll('.take button').length"), 1);
    browser.click(".card h2 a", &site.web.url("/m/"));
    browser.click("table.files tbody a", &site.web.url("/m/d/"));
    assert_eq!(browser.eval(ROWS), json!(["e/", "<img src=x onerror=alert(1)>", "b2", "b10", "README"]));
    assert_eq!(browser.eval("document.querySelector('.readme pre').textContent.trim()"), "what <b>this</b> is");

    browser.click("table.files thead th:nth-child(2) a", &site.web.url("/m/d/?sort=size&order=desc"));
    assert_eq!(browser.eval(ROWS), json!(["e/", "b10", "b2", "README", "<img src=x onerror=alert(1)>"]));
    assert_eq!(browser.eval("document.querySelector('th[aria-sort]').ariaSort"), "descending");

    // A slash leads to the filter, and what is typed decides about the rows.
    let key = |kind: &str| json!({"type": kind, "key": "/", "code": "Slash", "text": "/"});
    for kind in ["keyDown", "keyUp"] {
        browser.call("Input.dispatchKeyEvent", key(kind));
    }
    browser.call("Input.insertText", json!({"text": "B1"}));
    assert_eq!(browser.eval(ROWS), json!(["b10"]));
    assert_eq!(browser.eval("document.querySelector('.filter output').textContent"), "1 of 5");

    // What visitors prefer: the style sheet came, and it knows both.
    let mut shown = |scheme: &str| {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", features);
        (browser.eval("getComputedStyle(document.body).backgroundColor"), browser.picture())
    };
    let (light, dark) = (shown("light"), shown("dark"));
    assert!(light.0 != dark.0 && light.1 != dark.1, "{} {}", light.0, dark.0);

    assert_eq!(browser.complaints(), Vec::<&Value>::new());
    let saved = browser.download(&site.web.url("/m/d/b10?download"), "b10");
    assert!(saved == "x".repeat(3_000).as_bytes());
}
