//! Figures as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `12,034`
pub(crate) fn count(number: u64) -> String {
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
pub(crate) fn entries(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "entry" } else { "entries" })
}

/// `8.1 GiB`
pub(crate) fn bytes(number: u64) -> String {
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
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `3m old`
pub(crate) fn age(created_ms: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} old", span(now.saturating_sub(Duration::from_millis(created_ms))))
}

/// At most `width` characters of `text`, the last a dot-dot-dot where there were more; none of them a control character.
pub(crate) fn cut(text: &str, width: usize) -> String {
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
