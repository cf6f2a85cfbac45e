//! One entry of a directory: its name, its metadata and what it is.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeTuple};
use serde_bytes::ByteBuf;

use super::chunker::Class;
use super::codec::{Malformed, bounded};
use super::hash::{DirId, FileId};
use super::limits::{ATTRIBUTES_MAX, ENTRY_MAX, TARGET_MAX};
use super::name::Name;

/// The permission bits that travel; set-id and sticky bits never do.
pub const MODE_MASK: u16 = 0o777;

/// A point in time as the filesystem has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mtime {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub seconds: i64,
    /// Nanoseconds within the second, below 10^9.
    pub nanos: u32,
}

/// Metadata that every entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Meta {
    /// Permission bits within [`MODE_MASK`]; 0777 for links, whose own mode means nothing.
    pub mode: u16,
    /// Time of last modification.
    pub mtime: Mtime,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// How its content is cut.
        class: Class,
        /// Its chunk list.
        id: FileId,
    },
    /// A directory.
    Directory {
        /// Entries in it and below, itself not counted.
        entries: u64,
        /// Bytes of the files in it and below.
        bytes: u64,
        /// Its entries.
        id: DirId,
    },
    /// A symbolic link, as data: never followed by a sync.
    Link {
        /// Where it points: 1 to 4,095 bytes, no NUL.
        target: Box<[u8]>,
    },
}

/// An optional fact about an entry, in a form that older versions can carry on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attribute {
    /// `[attribute.tag]`: what it is; ascending within an entry.
    pub tag: u16,
    /// `[attribute.critical]`: whether an entry must not be written by who does not know the tag.
    pub critical: bool,
    /// `[attribute.value]`
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name in the directory.
    pub name: Name,
    /// Mode and mtime.
    pub meta: Meta,
    /// What it is.
    pub body: Body,
    /// Optional facts, by ascending tag.
    pub attributes: Vec<Attribute>,
}

const KIND_FILE: u8 = 0;
const KIND_DIRECTORY: u8 = 1;
const KIND_LINK: u8 = 2;
const LINK_MODE: u16 = 0o777;

impl Entry {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    /// The id of its directory, if it is one.
    #[must_use]
    pub fn directory_id(&self) -> Option<DirId> {
        match self.body {
            Body::Directory { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Entries and bytes that it adds to the totals of the directory that holds it.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        match self.body {
            Body::File { size, .. } => (1, size),
            Body::Directory { entries, bytes, .. } => (entries.saturating_add(1), bytes),
            Body::Link { .. } => (1, 0),
        }
    }

    /// Checks what the types do not hold.
    ///
    /// # Errors
    /// [`Malformed`] with the rule that is broken.
    pub fn check(&self) -> Result<(), Malformed> {
        let rule = |rule| Err(Malformed::Rule { what: "entry", rule });
        if self.meta.mode & !MODE_MASK != 0 {
            return rule("its mode has bits beyond 0777");
        }
        if self.meta.mtime.nanos >= 1_000_000_000 {
            return rule("its mtime has 10^9 nanoseconds or more");
        }
        if let Body::Link { target } = &self.body {
            bounded("link target", target.len() as u64, TARGET_MAX as u64)?;
            if target.is_empty() || target.contains(&0) {
                return rule("its target is empty or holds a NUL byte");
            }
            if self.meta.mode != LINK_MODE {
                return rule("it is a link whose mode is not 0777");
            }
        }
        bounded("attributes", self.attributes.len() as u64, ATTRIBUTES_MAX as u64)?;
        if !self.attributes.is_sorted_by(|a, b| a.tag < b.tag) {
            return rule("its attributes are not in ascending order");
        }
        let attributes: usize = self.attributes.iter().map(|a| a.value.len() + 8).sum();
        bounded("entry", (self.name.as_bytes().len() + attributes + 64) as u64 + self.target_len(), ENTRY_MAX as u64)
    }

    fn target_len(&self) -> u64 {
        match &self.body {
            Body::Link { target } => target.len() as u64,
            _ => 0,
        }
    }
}

/// Name, kind, mode, seconds, nanos, a, b, c, attributes: one shape for all kinds.
#[derive(Deserialize)]
struct Wire(Name, u8, u16, i64, u32, u64, u64, ByteBuf, Vec<Attribute>);

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (kind, a, b, c): (u8, u64, u64, &[u8]) = match &self.body {
            Body::File { size, class, id } => (KIND_FILE, *size, u64::from(class.number()), id.as_bytes()),
            Body::Directory { entries, bytes, id } => (KIND_DIRECTORY, *entries, *bytes, id.as_bytes()),
            Body::Link { target } => (KIND_LINK, 0, 0, target),
        };
        let mut tuple = to.serialize_tuple(9)?;
        tuple.serialize_element(&self.name)?; // `[entry.name]`
        tuple.serialize_element(&kind)?; // `[entry.kind]`
        tuple.serialize_element(&self.meta.mode)?; // `[entry.mode]`
        tuple.serialize_element(&self.meta.mtime.seconds)?; // `[entry.seconds]`
        tuple.serialize_element(&self.meta.mtime.nanos)?; // `[entry.nanos]`
        tuple.serialize_element(&a)?; // `[entry.size]`
        tuple.serialize_element(&b)?; // `[entry.class]`
        tuple.serialize_element(serde_bytes::Bytes::new(c))?; // `[entry.content]`
        tuple.serialize_element(&self.attributes)?; // `[entry.attributes]`
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(from)?;
        Self::try_from(wire).map_err(serde::de::Error::custom)
    }
}

impl TryFrom<Wire> for Entry {
    type Error = Malformed;

    fn try_from(wire: Wire) -> Result<Self, Malformed> {
        let Wire(name, kind, mode, seconds, nanos, a, b, c, attributes) = wire;
        let rule = |rule| Malformed::Rule { what: "entry", rule };
        let id_length = || rule("its id is not 32 bytes long");
        let body = match kind {
            KIND_FILE => Body::File {
                size: a,
                class: Class::from_number(b).ok_or_else(|| rule("its class is unknown"))?,
                id: FileId::try_from(c.as_slice()).map_err(|_| id_length())?,
            },
            KIND_DIRECTORY => {
                Body::Directory { entries: a, bytes: b, id: DirId::try_from(c.as_slice()).map_err(|_| id_length())? }
            }
            KIND_LINK if a == 0 && b == 0 => Body::Link { target: c.into_vec().into() },
            KIND_LINK => return Err(rule("it is a link with a size")),
            _ => return Err(rule("its kind is unknown")),
        };
        let entry = Self { name, meta: Meta { mode, mtime: Mtime { seconds, nanos } }, body, attributes };
        entry.check()?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::codec::{decode_canonical, encode};

    fn entries() -> Vec<Entry> {
        let meta = Meta { mode: 0o644, mtime: Mtime { seconds: -5, nanos: 999_999_999 } };
        let name = Name::new(b"n\xff").unwrap();
        let link = Meta { mode: 0o777, ..meta };
        let attributes = vec![Attribute { tag: 3, critical: false, value: vec![1, 2] }];
        vec![
            Entry {
                name: name.clone(),
                meta,
                body: Body::File { size: 1 << 40, class: Class::Coarse, id: FileId::of(b"") },
                attributes: vec![],
            },
            Entry {
                name: name.clone(),
                meta,
                body: Body::Directory { entries: 3, bytes: 9, id: DirId::of(b"") },
                attributes,
            },
            Entry { name, meta: link, body: Body::Link { target: (*b"../x").into() }, attributes: vec![] },
        ]
    }

    #[test]
    fn every_kind_round_trips() {
        for entry in entries() {
            assert_eq!(decode_canonical::<Entry>("entry", &encode(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn broken_rules_are_refused() {
        let break_with = |i: usize, f: &dyn Fn(&mut Entry)| {
            let mut entry = entries().swap_remove(i);
            f(&mut entry);
            decode_canonical::<Entry>("entry", &encode(&entry)).unwrap_err()
        };
        break_with(0, &|e| e.meta.mode = 0o4755);
        break_with(0, &|e| e.meta.mtime.nanos = 1_000_000_000);
        break_with(2, &|e| e.meta.mode = 0o644);
        break_with(2, &|e| e.body = Body::Link { target: Box::default() });
        break_with(2, &|e| e.body = Body::Link { target: (*b"a\0").into() });
        break_with(2, &|e| e.body = Body::Link { target: vec![b'a'; 4_096].into() });
        break_with(1, &|e| e.attributes.push(Attribute { tag: 3, critical: true, value: vec![] }));
        break_with(1, &|e| e.attributes[0].value = vec![0; 9_000]);
    }
}
