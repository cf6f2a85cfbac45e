//! Whether a visitor has already what he asks for: entity tags and dates, in the order that RFC 9110 sets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};

/// The last second that a date of HTTP can name.
const LAST_SECOND: u64 = 253_402_300_799;

/// What is known of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its strong entity tag, quotes included.
    pub tag: String,
    /// When it was last modified, if HTTP can say so: not before 1970, not in the future.
    pub modified: Option<SystemTime>,
}

impl Version {
    /// A content that `tag` names, quotes excluded, from `seconds` after 1970, as seen at `now`.
    #[must_use]
    pub fn new(tag: &str, seconds: i64, now: SystemTime) -> Self {
        let modified = u64::try_from(seconds).ok().filter(|seconds| *seconds <= LAST_SECOND);
        let modified = modified.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        Self { tag: format!("\"{tag}\""), modified: modified.filter(|modified| *modified <= now) }
    }

    /// Whether the visitor who sent `headers` has this one: 304.
    #[must_use]
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(header::IF_NONE_MATCH) {
            let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
            return tags.any(|tags| self.is_among(tags));
        }
        let since = one(headers, &header::IF_MODIFIED_SINCE).and_then(date);
        matches!((since, self.modified), (Some(since), Some(modified)) if modified <= since)
    }

    /// Whether this is not the one that the visitor who sent `headers` wants: 412.
    #[must_use]
    pub fn is_unwanted(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(header::IF_MATCH) {
            let mut tags = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
            return !tags.any(|tags| tags.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == self.tag));
        }
        let since = one(headers, &header::IF_UNMODIFIED_SINCE).and_then(date);
        matches!((since, self.modified), (Some(since), Some(modified)) if modified > since)
    }

    /// Whether a range of this one goes with what the visitor has of it: `If-Range`.
    #[must_use]
    pub fn continues(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else { return true };
        let Ok(value) = value.to_str() else { return false };
        // A date names a second in which there may have been two contents: what has a tag is named by that.
        value.trim() == self.tag
    }

    fn is_among(&self, tags: &str) -> bool {
        let weak = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == self.tag;
        tags.split(',').map(str::trim).any(|tag| tag == "*" || weak(tag))
    }
}

/// The only header of that name, as text.
#[must_use]
pub fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_known() {
        let now = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let version = Version::new("abc", 784_111_777, now);
        let check = |lines: &[(&'static str, &'static str)], expected| {
            assert_eq!(version.is_known(&headers(lines)), expected, "{lines:?}");
        };
        check(&[], false);
        check(&[("if-none-match", "\"abc\"")], true);
        check(&[("if-none-match", "W/\"abc\"")], true);
        check(&[("if-none-match", "\"x\", \"abc\"")], true);
        check(&[("if-none-match", "*")], true);
        check(&[("if-none-match", "abc")], false);
        check(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], true);
        check(&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], true);
        check(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], false);
        check(&[("if-modified-since", "yesterday")], false);
        // The tag decides where there is one.
        check(&[("if-none-match", "\"x\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], false);
        assert!(version.continues(&headers(&[])) && version.continues(&headers(&[("if-range", "\"abc\"")])));
        for other in ["\"x\"", "W/\"abc\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert!(!version.continues(&headers(&[("if-range", other)])), "{other}");
        }
        assert!(version.is_unwanted(&headers(&[("if-match", "\"x\"")])));
        assert!(!version.is_unwanted(&headers(&[("if-match", "\"x\", \"abc\"")])));
        assert!(version.is_unwanted(&headers(&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")])));
        for seconds in [i64::MIN, -1, 2_000_000_001, i64::MAX] {
            assert_eq!(Version::new("abc", seconds, now).modified, None);
        }
    }
}
