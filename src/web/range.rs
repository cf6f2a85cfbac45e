//! Which part of a file is asked for: one range at most, as RFC 9110 has it.

/// What a `Range` header comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it: nothing, many parts, or something that cannot be read was asked for.
    Whole,
    /// The bytes from the first number up to and with the second.
    Bytes(u64, u64),
    /// None of its bytes.
    Outside,
}

/// Reads `header` for a file of `size` bytes.
#[must_use]
pub fn part(header: Option<&str>, size: u64) -> Part {
    header.and_then(|header| read(header, size)).unwrap_or(Part::Whole)
}

fn read(header: &str, size: u64) -> Option<Part> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let last_byte = size.checked_sub(1);
    Some(match (number(first.trim()), number(last.trim())) {
        (Text::Nothing, Text::Number(0)) => Part::Outside,
        (Text::Nothing, Text::Number(suffix)) => match last_byte {
            Some(last) => Part::Bytes(size.saturating_sub(suffix), last),
            None => Part::Outside,
        },
        (Text::Number(first), Text::Nothing) => match last_byte {
            Some(last) if first <= last => Part::Bytes(first, last),
            _ => Part::Outside,
        },
        (Text::Number(first), Text::Number(last)) if first <= last => match last_byte {
            Some(end) if first <= end => Part::Bytes(first, last.min(end)),
            _ => Part::Outside,
        },
        _ => return None,
    })
}

enum Text {
    Nothing,
    /// Numbers beyond all files count as the largest.
    Number(u64),
    Other,
}

fn number(text: &str) -> Text {
    match text {
        "" => Text::Nothing,
        text if text.bytes().all(|b| b.is_ascii_digit()) => Text::Number(text.parse().unwrap_or(u64::MAX)),
        _ => Text::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let table = [
            ("bytes=0-0", Part::Bytes(0, 0)),
            ("bytes=0-9", Part::Bytes(0, 9)),
            ("bytes=3-99", Part::Bytes(3, 9)),
            ("bytes=9-", Part::Bytes(9, 9)),
            ("bytes=0-", Part::Bytes(0, 9)),
            ("bytes=-3", Part::Bytes(7, 9)),
            ("bytes=-99", Part::Bytes(0, 9)),
            ("BYTES=1-2", Part::Bytes(1, 2)),
            ("bytes= 1 - 2 ", Part::Bytes(1, 2)),
            ("bytes=0-99999999999999999999999", Part::Bytes(0, 9)),
            ("bytes=10-", Part::Outside),
            ("bytes=10-11", Part::Outside),
            ("bytes=99999999999999999999999-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=0-1,", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes", Part::Whole),
            ("", Part::Whole),
            ("items=0-1", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=1-2-3", Part::Whole),
            ("bytes=--1", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=0x1-2", Part::Whole),
        ];
        for (header, expected) in table {
            assert_eq!(part(Some(header), 10), expected, "{header}");
        }
        assert_eq!(part(None, 10), Part::Whole);
        for header in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(part(Some(header), 0), Part::Outside, "{header}");
        }
        assert_eq!(part(Some("bytes=0-18446744073709551615"), u64::MAX), Part::Bytes(0, u64::MAX - 1));
    }

    #[test]
    fn all_pairs_of_small_numbers() {
        for (first, last) in (0..15_u64).flat_map(|first| (0..15).map(move |last| (first, last))) {
            let expected = match first {
                _ if first > last => Part::Whole,
                10.. => Part::Outside,
                _ => Part::Bytes(first, last.min(9)),
            };
            assert_eq!(part(Some(&format!("bytes={first}-{last}")), 10), expected, "{first}-{last}");
        }
    }

    #[test]
    fn many_ranges_cost_no_more_than_one() {
        let many = format!("bytes={}", (0..1_000).map(|at| format!("{at}-{at},")).collect::<String>());
        assert_eq!(part(Some(&many), 10), Part::Whole);
    }
}
