//! In which order a directory is shown, and which page of it: what stands in a query.

use std::cmp::Ordering;
use std::fmt;
use std::iter;

use super::model::{Kind, Row};
use super::text::row_bytes;

/// Rows of a page.
pub const ROWS_MAX: usize = 1_000;
/// HTML of the rows of a page, in bytes.
pub const ROWS_BYTES_MAX: usize = 256_000;

/// What the rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Name, numbers in it by their value.
    #[default]
    Name,
    /// Bytes, those below a directory counted.
    Size,
    /// Time of last modification.
    Date,
}

impl Sort {
    const ALL: [Self; 3] = [Self::Name, Self::Size, Self::Date];

    /// The word in a query.
    fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Date => "date",
        }
    }
}

/// An order and a page of it. Directories come first in each order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// By what.
    pub sort: Sort,
    /// Whether the largest, latest or last comes first.
    pub descending: bool,
    /// The page, from 1 up.
    pub page: u64,
}

impl Default for View {
    fn default() -> Self {
        Self { sort: Sort::Name, descending: false, page: 1 }
    }
}

impl View {
    /// Reads `sort=name|size|date`, `order=asc|desc` and `page=N` from a query, without the question mark; what is
    /// something else is as if it were not there. Without an order, the largest and the latest come first.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let sort = Sort::ALL.into_iter().find(|sort| value("sort") == Some(sort.word())).unwrap_or_default();
        let descending = match value("order") {
            Some("asc") => false,
            Some("desc") => true,
            _ => sort != Sort::Name,
        };
        let page = value("page").and_then(|page| page.parse().ok()).filter(|page| *page > 0).unwrap_or(1);
        Self { sort, descending, page }
    }

    /// The view behind a column's title: that order, or the other way round if it is the order now.
    #[must_use]
    pub fn turned(self, sort: Sort) -> Self {
        let descending = if self.sort == sort { !self.descending } else { sort != Sort::Name };
        Self { sort, descending, page: 1 }
    }

    /// The same order, at another page.
    #[must_use]
    pub fn at(self, page: u64) -> Self {
        Self { page, ..self }
    }
}

/// The query that asks for it, with its question mark; a link that leads back to itself from any view.
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.descending { "desc" } else { "asc" };
        write!(f, "?sort={}&order={order}", self.sort.word())?;
        if self.page > 1 { write!(f, "&page={}", self.page) } else { Ok(()) }
    }
}

/// What of an entry decides about its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Whether it is a directory.
    pub directory: bool,
    /// Bytes of the file, or of the files below.
    pub bytes: u64,
    /// Unix seconds of the last modification.
    pub mtime: i64,
}

impl Row {
    /// What decides about its place.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let (directory, bytes) = match &self.kind {
            Kind::Directory { bytes, .. } => (true, *bytes),
            Kind::File { size } => (false, *size),
            Kind::Link { .. } => (false, 0),
        };
        Facts { name: &self.name, directory, bytes, mtime: self.mtime }
    }
}

/// The order of two entries in `view`; equal only if their names are.
#[must_use]
pub fn compare(view: View, a: &Facts<'_>, b: &Facts<'_>) -> Ordering {
    let by = match view.sort {
        Sort::Name => Ordering::Equal,
        Sort::Size => a.bytes.cmp(&b.bytes),
        Sort::Date => a.mtime.cmp(&b.mtime),
    };
    let turned = |order: Ordering| if view.descending { order.reverse() } else { order };
    let name = || match view.sort {
        Sort::Name => turned(natural(a.name, b.name)),
        Sort::Size | Sort::Date => natural(a.name, b.name),
    };
    b.directory.cmp(&a.directory).then(turned(by)).then_with(name)
}

/// Puts the page that `view` asks for in order and returns it; the last page for one behind it. Of the other items only
/// so much is ordered as that takes.
pub fn page_of<T>(items: &mut [T], view: View, rows: usize, facts: impl Fn(&T) -> Facts<'_>) -> &[T] {
    let rows = rows.max(1);
    let last = items.len().div_ceil(rows).max(1);
    let page = usize::try_from(view.page).unwrap_or(last).clamp(1, last);
    let (from, to) = ((page - 1) * rows, (page * rows).min(items.len()));
    let order = |a: &T, b: &T| compare(view, &facts(a), &facts(b));
    if to < items.len() {
        items.select_nth_unstable_by(to, order);
    }
    let (head, _) = items.split_at_mut(to);
    if 0 < from && from < head.len() {
        head.select_nth_unstable_by(from, order);
    }
    let (_, window) = head.split_at_mut(from.min(to));
    window.sort_unstable_by(order);
    window
}

/// How many rows go on a page of a directory with these names and targets of links (empty for all else), so that the
/// rows of no page take more than [`ROWS_BYTES_MAX`].
#[must_use]
pub fn rows_per_page<'a>(entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    let longest = entries.into_iter().map(|(name, target)| row_bytes(name, target)).max().unwrap_or(0);
    (ROWS_BYTES_MAX / longest.max(1)).clamp(1, ROWS_MAX)
}

/// The order of names as people count: `b2` before `b10`, `A` beside `a`. Equal only if the names are.
#[must_use]
pub fn natural(a: &[u8], b: &[u8]) -> Ordering {
    pieces(a).cmp(pieces(b)).then_with(|| a.cmp(b))
}

/// A run of digits, or any other byte.
#[derive(PartialEq, Eq)]
enum Piece<'a> {
    /// Without zeros in front.
    Number(&'a [u8]),
    /// In lower case.
    Byte(u8),
}

impl Ord for Piece<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Byte(a), Self::Byte(b)) => a.cmp(b),
            // Digits keep their place among the other bytes, none of which is one.
            (Self::Number(_), Self::Byte(b)) => b'0'.cmp(b),
            (Self::Byte(a), Self::Number(_)) => a.cmp(&b'0'),
        }
    }
}

impl PartialOrd for Piece<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn pieces(name: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = name;
    iter::from_fn(move || {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (piece, behind) = rest.split_at_checked(digits.max(1))?;
        rest = behind;
        Some(match piece {
            [byte] if digits == 0 => Piece::Byte(byte.to_ascii_lowercase()),
            _ => Piece::Number(without_zeros(piece)),
        })
    })
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.split_at_checked(zeros).map_or(digits, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let sorted = ["", " a", "1", "01", "2", "10", "a", "A1", "a2", "a02b", "a10", "B", "z", "Ä"];
        for (at, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                let expected =
                    if (*a, *b) == ("1", "01") || (*a, *b) == ("01", "1") { None } else { Some(at.cmp(&other)) };
                if let Some(expected) = expected {
                    assert_eq!(natural(a.as_bytes(), b.as_bytes()), expected, "{a:?} {b:?}");
                }
            }
        }
        assert_ne!(natural(b"1", b"01"), Ordering::Equal);
    }

    #[test]
    fn a_view_is_what_its_query_says() {
        let check = |query: &str, sort, descending, page| {
            let view = View { sort, descending, page };
            assert_eq!(View::parse(query), view, "{query}");
            assert_eq!(View::parse(view.to_string().trim_start_matches('?')), view);
        };
        check("", Sort::Name, false, 1);
        check("sort=size", Sort::Size, true, 1);
        check("sort=date&order=asc&page=7", Sort::Date, false, 7);
        check("json&order=desc&x=%ff", Sort::Name, true, 1);
        check("sort=colour&order=up&page=0", Sort::Name, false, 1);
        check("sortsize&page=-1&page=99999999999999999999", Sort::Name, false, 1);
        let view = View::default();
        assert!(view.turned(Sort::Name).descending && view.turned(Sort::Size).descending);
        assert!(!view.turned(Sort::Size).turned(Sort::Size).descending);
        assert_eq!(view.at(9).turned(Sort::Date).page, 1);
    }

    #[test]
    fn long_names_make_short_pages() {
        let rows = |name: &[u8], target: &[u8]| rows_per_page([(b"short".as_slice(), b"".as_slice()), (name, target)]);
        assert_eq!(rows_per_page([]), ROWS_MAX);
        assert_eq!(rows(b"linux-image-6.12.0-amd64_6.12.1-2_amd64.deb", b""), ROWS_MAX);
        assert!((100..200).contains(&rows(&[0xff; 255], b"")));
        assert!((200..500).contains(&rows(b"a", &[b'<'; 4_095])));
    }

    type Item = (Vec<u8>, bool, u8, i8);

    fn facts(item: &Item) -> Facts<'_> {
        Facts { name: &item.0, directory: item.1, bytes: item.2.into(), mtime: item.3.into() }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_whole_in_order(
            names in proptest::collection::btree_set("[a-cA-C0-2]{0,4}", 0..40),
            facts_of in proptest::collection::vec((any::<bool>(), 0..3u8, 0..3i8), 40),
            (rows, descending, sort) in (1..9usize, any::<bool>(), 0..3usize),
        ) {
            let mut items: Vec<Item> =
                names.into_iter().zip(facts_of).map(|(name, (dir, bytes, mtime))| (name.into_bytes(), dir, bytes, mtime)).collect();
            let view = View { sort: Sort::ALL[sort], descending, page: 1 };
            let mut whole = items.clone();
            whole.sort_by(|a, b| compare(view, &facts(a), &facts(b)));
            let pages = whole.len().div_ceil(rows).max(1);
            let mut together = Vec::new();
            for page in 1..=pages {
                together.extend_from_slice(page_of(&mut items, view.at(page as u64), rows, facts));
            }
            prop_assert_eq!(&together, &whole);
            let last = page_of(&mut items, view.at(pages as u64), rows, facts).to_vec();
            prop_assert_eq!(page_of(&mut items, view.at(u64::MAX), rows, facts), last);
            prop_assert!(whole.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        }

        #[test]
        fn the_order_of_names_is_one(a in "[a-bA-B0-1.]{0,4}", b in "[a-bA-B0-1.]{0,4}", c in "[a-bA-B0-1.]{0,4}") {
            let [a, b, c] = [a.as_bytes(), b.as_bytes(), c.as_bytes()];
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);
            if natural(a, b).is_le() && natural(b, c).is_le() {
                prop_assert!(natural(a, c).is_le());
            }
        }
    }
}
