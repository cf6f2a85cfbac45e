//! Checked names and paths: the only way from bytes of a peer to something a directory may be asked for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{NAME_MAX, PATH_DEPTH_MAX};

/// The directory where mirra keeps its own state; never part of a module.
pub const HOME_NAME: &[u8] = b".mirra";

/// Why bytes are not a name or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between two slashes, or an empty name.
    #[error("a name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("a name is \".\" or \"..\"")]
    Dots,
    /// A slash or a NUL inside one name.
    #[error("a name holds a slash or a NUL byte")]
    Forbidden,
    /// Longer than the limit on names.
    #[error("a name is {0} bytes long, {max} are allowed", max = NAME_MAX)]
    TooLong(usize),
    /// `.mirra`, which is never part of a module.
    #[error("\".mirra\" is never part of a module")]
    Reserved,
    /// More components than the limit.
    #[error("a path is {0} directories deep, {max} are allowed", max = PATH_DEPTH_MAX)]
    TooDeep(usize),
}

/// One component of a path: 1 to 255 bytes, no slash, no NUL, not `.`, `..` or `.mirra`. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`NameError`] says which rule they break.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            HOME_NAME => Err(NameError::Reserved),
            _ if bytes.len() > NAME_MAX => Err(NameError::TooLong(bytes.len())),
            _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(NameError::Forbidden),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A relative path inside a module: names joined by slashes, at most [`PATH_DEPTH_MAX`] of them; empty for the top.
///
/// The order is that of the sequences of names, so a directory comes right before what it holds.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The top directory.
    #[must_use]
    pub const fn top() -> Self {
        Self(Vec::new())
    }

    /// Checks every component of `bytes`.
    ///
    /// # Errors
    /// [`NameError`] of the first component that breaks a rule, or [`NameError::TooDeep`].
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Ok(Self::top());
        }
        let mut depth = 0;
        for part in bytes.split(|b| *b == b'/') {
            Name::new(part)?;
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX { Err(NameError::TooDeep(depth)) } else { Ok(Self(bytes.to_vec())) }
    }

    /// The path of `name` in this directory.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(&name.0);
        Self(bytes)
    }

    /// The bytes, names joined by slashes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the top directory.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names the path has.
    #[must_use]
    pub fn depth(&self) -> usize {
        if self.0.is_empty() { 0 } else { 1 + self.0.iter().filter(|b| **b == b'/').count() }
    }

    /// The names from the top down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// The directory that holds this path, and the name in it; `None` for the top.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, Name)> {
        if self.0.is_empty() {
            return None;
        }
        let at = self.0.iter().rposition(|b| *b == b'/');
        let (parent, name) = match at {
            Some(at) => (self.0.get(..at)?, self.0.get(at + 1..)?),
            None => (&[][..], self.0.as_slice()),
        };
        Some((Self(parent.to_vec()), Name(name.into())))
    }

    /// Whether `self` is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_top()
            || self
                .0
                .strip_prefix(other.0.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    }

    /// The first name on the way from `above` down to this path; `None` when it does not lie below.
    #[must_use]
    pub fn name_below(&self, above: &Self) -> Option<Name> {
        let rest = match above.0.as_slice() {
            [] => self.0.as_slice(),
            above => self.0.strip_prefix(above)?.strip_prefix(b"/")?,
        };
        rest.split(|b| *b == b'/').next().filter(|name| !name.is_empty()).map(|name| Name(name.into()))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.names().cmp(other.names())
    }
}

/// Writes bytes for a terminal or a log: UTF-8 as it is, control characters, marks that reorder text and broken bytes
/// as `\xNN`.
fn write_shown(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            let reorders =
                matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}');
            if c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}') {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
            } else {
                write!(f, "{c}")?;
            }
        }
        part.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
    }
    Ok(())
}

macro_rules! shown_as_bytes {
    ($name:ident) => {
        impl fmt::Display for $name {
            /// Safe to print: no control character of the bytes reaches the terminal.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_shown(self.as_bytes(), f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(self.as_bytes())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let bytes = serde_bytes::ByteBuf::deserialize(from)?;
                Self::new(&bytes).map_err(serde::de::Error::custom)
            }
        }
    };
}

shown_as_bytes!(Name);
shown_as_bytes!(TreePath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = [b'a'; 256];
        for bytes in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", b".mirra", &long] {
            assert!(Name::new(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&b"a"[..], b"...", b"-rf", b"\xff\xfe", b".mirra2", b"a b", b"\x1b[2J", &long[..255]] {
            assert!(Name::new(bytes).is_ok(), "{bytes:?}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let deep = vec!["a"; 1_025].join("/");
        for bytes in ["/a", "a/", "a//b", "../a", "a/../b", "a/.mirra/b", "./a", &deep] {
            assert!(TreePath::new(bytes.as_bytes()).is_err(), "{bytes}");
        }
        assert!(TreePath::new(vec!["a"; 1_024].join("/").as_bytes()).is_ok());
    }

    #[test]
    fn a_directory_comes_right_before_its_children() {
        let mut paths: Vec<_> =
            ["a-b", "a/b", "a", "a/b/c", "a.b"].iter().map(|p| TreePath::new(p.as_bytes()).unwrap()).collect();
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a", "a/b", "a/b/c", "a-b", "a.b"]);
    }

    #[test]
    fn nothing_printed_moves_the_cursor() {
        let name = Name::new("x\x1b[2J\n\u{202e}\u{9b}é".as_bytes()).unwrap();
        let shown = format!("{name} {}", Name::new(b"\xff!").unwrap());
        assert_eq!(shown, r"x\x1b[2J\x0a\xe2\x80\xae\xc2\x9bé \xff!");
    }

    #[test]
    fn within_and_split() {
        let path = |p: &str| TreePath::new(p.as_bytes()).unwrap();
        assert!(path("a/b").is_within(&path("a")) && path("a").is_within(&path("a")) && path("a").is_within(&path("")));
        assert!(!path("ab").is_within(&path("a")));
        let (parent, name) = path("a/b/c").split_last().unwrap();
        assert_eq!((parent, name.as_bytes()), (path("a/b"), &b"c"[..]));
        assert_eq!(path("a/b").depth(), 2);
        assert_eq!(path("a").split_last().unwrap().0.depth(), 0);
        let below = |p: &str, above: &str| path(p).name_below(&path(above)).map(|name| name.to_string());
        assert_eq!(below("ab/c/d", "").as_deref(), Some("ab"));
        assert_eq!(below("ab/c/d", "ab").as_deref(), Some("c"));
        for (p, above) in [("", ""), ("a", "a"), ("ab/c", "a"), ("b/c", "a")] {
            assert_eq!(below(p, above), None);
        }
    }
}
