//! Bytes, figures and times as the pages write them.

use std::time::Duration;

use crate::mirror::words;

/// What a page shows of a text file, in bytes of HTML.
pub const README_MAX: usize = 24 * 1024;
/// What a row shows of where a link points, in characters.
const TARGET_MAX: usize = 120;
/// A row without its name and its target: tags, exact and human size, date and age.
const ROW_FRAME: usize = 150;
/// What stands around a target.
const TARGET_FRAME: usize = 40;

/// One name as a part of a path: what is not plain in a path is `%XX`, byte by byte.
#[must_use]
pub fn encoded(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b if is_plain(*b) => text.push(char::from(*b)),
            b => text.push_str(&format!("%{b:02X}")),
        }
    }
    text
}

/// What the row of `name` takes in the page, in bytes; `target` is empty for all but links.
pub(super) fn row_bytes(name: &[u8], target: &[u8]) -> usize {
    // Most names of a large directory are plain, and then both their forms are as long as they are.
    if target.is_empty() && name.iter().all(|b| is_plain(*b)) {
        return ROW_FRAME + 2 * name.len();
    }
    let html = |text: &str| text.chars().map(html_bytes).sum::<usize>();
    let href: usize = name.iter().map(|b| if is_plain(*b) { 1 } else { 3 }).sum();
    let around = if target.is_empty() { 0 } else { TARGET_FRAME };
    ROW_FRAME + href + html(&words::escaped(name)) + around + html(&target_shown(target))
}

/// Where a link points, as a row shows it.
pub(super) fn target_shown(target: &[u8]) -> String {
    words::cut(&words::escaped(target), TARGET_MAX)
}

/// `/module/a/b/`, as a link.
pub(super) fn directory_href(module: &str, path: &[Vec<u8>]) -> String {
    let mut href = format!("/{}/", encoded(module.as_bytes()));
    for name in path {
        href.push_str(&encoded(name));
        href.push('/');
    }
    href
}

/// `1,234,567 bytes`
pub(super) fn exact(bytes: u64) -> String {
    counted(bytes, "byte", "bytes")
}

/// `1 file`, `2,000 files`
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", words::count(number), if number == 1 { one } else { many })
}

/// `2026-11-22 18:30`, in UTC.
pub(super) fn date(seconds: i64) -> String {
    // The day and the time stand around a `T`, seconds and zone behind a colon that is the last one.
    let iso = words::iso(seconds, None);
    let (minutes, _) = iso.rsplit_once(':').unwrap_or((&iso, ""));
    minutes.replace('T', " ")
}

/// `2026-11-22T18:30:05Z`, for machines.
pub(super) fn iso(ms: u64) -> String {
    words::iso(seconds_of(ms), None)
}

/// [`date`] of a time in milliseconds.
pub(super) fn date_ms(ms: u64) -> String {
    date(seconds_of(ms))
}

/// `3 hours ago`; `just now` also for what is yet to come.
pub(super) fn ago(then_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(then_ms) / 1_000 {
        0..10 => "just now".to_owned(),
        seconds => format!("{} ago", long(seconds)),
    }
}

/// `3 hours`, the largest unit alone.
pub(super) fn long(seconds: u64) -> String {
    const UNITS: [(u64, &str, &str); 4] =
        [(365 * 86_400, "year", "years"), (86_400, "day", "days"), (3_600, "hour", "hours"), (60, "minute", "minutes")];
    // A unit is taken from two of it on: "90 minutes" says more than "1 hour".
    let unit = UNITS.into_iter().find(|(length, ..)| seconds >= 2 * length);
    unit.map_or_else(
        || counted(seconds, "second", "seconds"),
        |(length, one, many)| counted(seconds / length, one, many),
    )
}

/// `3m`, for a lag in a table.
pub(super) fn short(ms: u64) -> String {
    words::span(Duration::from_millis(ms))
}

/// The text of a file, and whether there is more: lines and tabs kept, other control characters shown as such, broken
/// bytes replaced, and no more of it than [`README_MAX`].
pub(super) fn readme(bytes: &[u8]) -> (String, bool) {
    let mut text = String::new();
    let mut room = README_MAX;
    for c in String::from_utf8_lossy(bytes).replace("\r\n", "\n").chars() {
        let shown = match c {
            '\n' | '\t' => c.to_string(),
            c if words::is_hidden(c) => words::escaped(c.encode_utf8(&mut [0; 4]).as_bytes()),
            c => c.to_string(),
        };
        let cost = shown.chars().map(html_bytes).sum();
        let Some(left) = room.checked_sub(cost) else { return (text, true) };
        room = left;
        text.push_str(&shown);
    }
    (text, false)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b',' | b':' | b'=' | b'@')
}

/// What a character takes once it is escaped.
fn html_bytes(c: char) -> usize {
    match c {
        '<' | '>' | '&' | '"' | '\'' => 5,
        c => c.len_utf8(),
    }
}

fn seconds_of(ms: u64) -> i64 {
    i64::try_from(ms / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_link_is_a_name_in_a_link() {
        let check = |name: &[u8], expected: &str| assert_eq!(encoded(name), expected);
        check(b"libstdc++6_14.2~rc1-1:2_amd64.deb", "libstdc++6_14.2~rc1-1:2_amd64.deb");
        check("é \"<>&'%?#\\".as_bytes(), "%C3%A9%20%22%3C%3E%26%27%25%3F%23%5C");
        check(b"\xff\n\x1b;", "%FF%0A%1B%3B");
        assert_eq!(directory_href("m", &[b"a b".to_vec(), b"c".to_vec()]), "/m/a%20b/c/");
    }

    #[test]
    fn times() {
        assert_eq!(
            [date(0), date(-1), date_ms(1_795_372_205_999)],
            ["1970-01-01 00:00", "1969-12-31 23:59", "2026-11-22 18:30"]
        );
        assert_eq!(iso(1_795_372_205_000), "2026-11-22T18:30:05Z");
        assert!(date(i64::MIN).starts_with('-') && !date_ms(u64::MAX).is_empty());
        let check = |seconds: u64, expected: &str| assert_eq!(ago(1_000, 1_000 + seconds * 1_000), expected);
        check(9, "just now");
        check(10, "10 seconds ago");
        check(119, "119 seconds ago");
        check(120, "2 minutes ago");
        check(47 * 3_600, "47 hours ago");
        check(48 * 3_600, "2 days ago");
        check(800 * 86_400, "2 years ago");
        assert_eq!(ago(u64::MAX, 0), "just now");
    }

    #[test]
    fn a_readme_is_text_and_has_an_end() {
        assert_eq!(
            readme("a\r\n\tb\\ \u{1b}[0m\u{202e}\n".as_bytes()),
            ("a\n\tb\\ \\x1b[0m\\xe2\\x80\\xae\n".to_owned(), false)
        );
        assert_eq!(readme(b"\xff.").0, "\u{fffd}.");
        let (text, more) = readme(&[b'<'; README_MAX]);
        assert!(more && text.len() == README_MAX / 5);
        assert_eq!(readme(&[b'x'; README_MAX]).0.len(), README_MAX);
    }
}
