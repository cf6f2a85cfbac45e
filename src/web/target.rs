//! What a request names: a path as names in bytes, and a query. Decoded once, here; nothing else reads it.

use super::limits::TARGET_MAX;

/// A path, name by name, and the query behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The names: never empty, `.` or `..`, without slashes and NUL.
    pub names: Vec<Vec<u8>>,
    /// Whether a slash stands behind the last, or there is no name at all.
    pub slash: bool,
    /// The query, without its question mark, as it was sent.
    pub query: String,
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than [`TARGET_MAX`].
    Long,
    /// It is none that leads anywhere.
    Path,
}

impl Target {
    /// Reads the path and the query of a request.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, Refused> {
        if path.len() + query.map_or(0, str::len) > TARGET_MAX {
            return Err(Refused::Long);
        }
        let rest = path.strip_prefix('/').ok_or(Refused::Path)?;
        let (rest, slash) = match rest.strip_suffix('/') {
            Some(rest) if !rest.is_empty() => (rest, true),
            _ => (rest, rest.is_empty()),
        };
        // A dot is the directory before it (RFC 3986, 5.2.4); clients such as apt send it as it stands in their settings.
        let slash = slash || rest.rsplit('/').next() == Some(".");
        let names = match rest {
            "" => Ok(Vec::new()),
            rest => rest.split('/').filter(|part| *part != ".").map(name).collect::<Result<_, _>>(),
        };
        Ok(Self { names: names?, slash, query: query.unwrap_or_default().to_owned() })
    }

    /// Whether the query has `key`, with or without a value.
    #[must_use]
    pub fn asks(&self, key: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(key))
    }
}

/// One name.
fn name(text: &str) -> Result<Vec<u8>, Refused> {
    let name = decode(text.as_bytes()).ok_or(Refused::Path)?;
    let refused = matches!(name.as_slice(), b"" | b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0));
    if refused { Err(Refused::Path) } else { Ok(name) }
}

/// `%XX` as bytes; `None` where a sign stands for nothing.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let (high, low) = (digit(*rest.next()?)?, digit(*rest.next()?)?);
                name.push(high << 4 | low);
            }
            byte => name.push(*byte),
        }
    }
    Some(name)
}

fn digit(sign: u8) -> Option<u8> {
    char::from(sign).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_names() {
        let check = |path: &str, names: &[&[u8]], slash: bool| {
            let target = Target::parse(path, None).unwrap();
            assert_eq!(
                (target.names.as_slice(), target.slash),
                (names.iter().map(|n| n.to_vec()).collect::<Vec<_>>().as_slice(), slash),
                "{path}"
            );
        };
        check("/", &[], true);
        check("/a", &[b"a"], false);
        check("/a/", &[b"a"], true);
        check("/a/b%20c/%c3%A4/", &[b"a", b"b c", "ä".as_bytes()], true);
        check("/%252e%252e/x", &[b"%2e%2e", b"x"], false);
        check("/%c0%ae%c0%ae/x", &[&[0xc0, 0xae, 0xc0, 0xae], b"x"], false);
        check("/a;b/c\\d/..a/...", &[b"a;b", b"c\\d", b"..a", b"..."], false);
        check("/a%0d%0ab", &[b"a\r\nb"], false);
        check("/a+b", &[b"a+b"], false);
        check("/a/./b", &[b"a", b"b"], false);
        check("/./a/.", &[b"a"], true);
        check("/.", &[], true);
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let wrong = [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "//a",
            "/a//",
            "/..",
            "/../a",
            "/a/..",
            "/a/../b",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e",
            "/a%2fb",
            "/%2f",
            "/a%00",
            "/%",
            "/%4",
            "/%zz",
            "/%%41",
            "/a/%2e%2e/%2e%2e/etc/passwd",
        ];
        for path in wrong {
            assert_eq!(Target::parse(path, None), Err(Refused::Path), "{path}");
        }
        let long = format!("/{}", "a".repeat(TARGET_MAX));
        assert_eq!(Target::parse(&long, None), Err(Refused::Long));
        assert_eq!(Target::parse("/a", Some(&long)), Err(Refused::Long));
        assert!(Target::parse(long.get(..TARGET_MAX).unwrap(), None).is_ok());
    }

    #[test]
    fn a_query_has_words() {
        let target = Target::parse("/a", Some("json&sort=size&=x&download=")).unwrap();
        for (word, expected) in [("json", true), ("sort", true), ("download", true), ("tar", false), ("size", false)] {
            assert_eq!(target.asks(word), expected, "{word}");
        }
    }
}
