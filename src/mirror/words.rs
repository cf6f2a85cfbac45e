//! Figures as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `12,034`
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 entry`, `12,034 entries`
#[must_use]
pub fn entries(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "entry" } else { "entries" })
}

/// `8.1 GiB`
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    // Tenths, in whole numbers, so that 1,023.97 KiB is not shown as 1024.0.
    let (mut tenths, mut unit) = (u128::from(number) * 10, 0);
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1_024;
        unit += 1;
    }
    match unit {
        0 => format!("{number} B"),
        _ if tenths >= 1_000 => format!("{} {}", (tenths + 5) / 10, UNITS[unit]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

/// `3m`, the largest unit alone.
#[must_use]
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `3m old`
#[must_use]
pub fn age(created_ms: u64, now: SystemTime) -> String {
    format!("{} old", since(created_ms, now))
}

/// `3m`, the time since a point in time; `0s` before it.
#[must_use]
pub fn since(at_ms: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    span(now.saturating_sub(Duration::from_millis(at_ms)))
}

/// `12s`, the time until a point in time; `0s` once it is there.
#[must_use]
pub fn until(at_ms: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    span(Duration::from_millis(at_ms).saturating_sub(now))
}

/// Bytes that should be text, as one word that can be read back: what is not printable UTF-8, or would change the order
/// of what stands around it, is `\\xNN` byte by byte, and a backslash is two.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let hex = |text: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if is_hidden(c) => hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        hex(&mut text, piece.invalid());
    }
    text
}

/// Whether a character cannot be shown as it is: it controls, or has no shape and moves or hides others.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    let shapeless = matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || shapeless
}

/// `2026-11-22T18:30:05Z`, with nanoseconds if they are given, in UTC; the year has as many digits as it takes.
#[must_use]
pub fn iso(seconds: i64, nanos: Option<u32>) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years, of which all are alike (Hinnant, "chrono-compatible
    // low-level date algorithms").
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let nanos = nanos.map_or_else(String::new, |nanos| format!(".{nanos:09}"));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{nanos}Z")
}

/// At most `width` characters of `text`, the last a dot-dot-dot where there were more; none of them a control character.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    let mut clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = clean.by_ref().take(width).collect();
    if clean.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_what_is_shown() {
        let check = |bytes: &[u8], text: &str| assert_eq!(escaped(bytes), text);
        check("Ärger 漢 e\u{301}".as_bytes(), "Ärger 漢 e\u{301}");
        check(b"a\\x0a", "a\\\\x0a");
        check(b"\n\x7f\xc2\x85", "\\x0a\\x7f\\xc2\\x85");
        check(b"\xc3(\xff", "\\xc3(\\xff");
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_372_205, "2026-11-22T18:30:05Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
            (253_402_300_800, "10000-01-01T00:00:00Z"),
        ] {
            assert_eq!(iso(seconds, None), expected);
        }
        assert_eq!(iso(0, Some(7)), "1970-01-01T00:00:00.000000007Z");
        assert!(iso(i64::MAX, None).ends_with('Z') && iso(i64::MIN, None).starts_with('-'));
    }

    #[test]
    fn figures() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2].map(entries), ["1 entry", "2 entries"]);
        let sizes = [0, 1_023, 1_024, 1_536, 102_399, 1_048_575, 1_048_576, 8_697_308_774, u64::MAX].map(bytes);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "1.0 MiB", "1.0 MiB", "8.1 GiB", "16.0 EiB"];
        assert_eq!(sizes, expected);
        assert_eq!([59, 60, 7_199, 172_800].map(|s| span(Duration::from_secs(s))), ["59s", "1m", "1h", "2d"]);
        assert_eq!(age(5_000, UNIX_EPOCH + Duration::from_secs(65)), "1m old");
        assert_eq!(age(u64::MAX, UNIX_EPOCH), "0s old");
        assert_eq!((cut("abcdef", 3), cut("abc", 3), cut("a\x1bb", 9)), ("ab…".into(), "abc".into(), "a b".into()));
    }
}
