//! BLAKE3 ids, one type and one domain for each kind of object.
//!
//! A chunk is plain BLAKE3 of its bytes; everything else is BLAKE3 in `derive_key` mode with its own context
//! (BLAKE3 paper, section 2.3), so that no content can pass for structure.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of every id.
pub const ID_LEN: usize = 32;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_LEN]);

        impl $name {
            /// Takes bytes that are known to be such an id, from our own index or an object already verified.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
                &self.0
            }

            /// The first eight bytes as a number, for lookups that are checked against the whole id afterwards.
            #[must_use]
            pub fn prefix(&self) -> u64 {
                let [a, b, c, d, e, f, g, h, ..] = self.0;
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                Ok(Self(bytes.try_into()?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.to_string()[..16])
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                serde_bytes::ByteArray::<ID_LEN>::deserialize(from).map(|bytes| Self(bytes.into_array()))
            }
        }
    };
}

id! {
    /// A chunk of content: BLAKE3 of its bytes.
    ChunkId
}
id! {
    /// A page of directory entries; the id of a directory is that of its top page.
    DirId
}
id! {
    /// A page of a chunk list; the id of a file is that of its top page.
    FileId
}
id! {
    /// A signed head, by its payload.
    HeadId
}
id! {
    /// What both sides of a transfer may know: a signed head, or a tree by its top directory.
    BaseId
}
id! {
    /// A module: its authority and its name.
    ModuleId
}
id! {
    /// Who may speak for a module: version 1 of its root file, signatures excluded.
    Authority
}

/// A snapshot is named by its top directory.
pub type SnapshotId = DirId;

impl ChunkId {
    /// Hashes `bytes` as one chunk.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl DirId {
    /// Hashes an encoded directory page.
    #[must_use]
    pub fn of(page: &[u8]) -> Self {
        Self(blake3::derive_key("mirra v1 directory page", page))
    }
}

impl FileId {
    /// Hashes an encoded chunk list page.
    #[must_use]
    pub fn of(page: &[u8]) -> Self {
        Self(blake3::derive_key("mirra v1 file page", page))
    }
}

impl HeadId {
    /// Hashes the payload of a head.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(blake3::derive_key("mirra v1 head", payload))
    }
}

impl From<HeadId> for BaseId {
    fn from(head: HeadId) -> Self {
        Self(head.0)
    }
}

impl From<DirId> for BaseId {
    fn from(top: DirId) -> Self {
        Self(top.0)
    }
}

impl Authority {
    /// Hashes the payload of a root file of version 1.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(blake3::derive_key("mirra v1 authority", payload))
    }
}

impl ModuleId {
    /// The module that `authority` calls `name`.
    #[must_use]
    pub fn of(authority: &Authority, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("mirra v1 module");
        hasher.update(authority.as_bytes());
        hasher.update(name.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

/// Text of an authority: 52 characters of base32 (RFC 4648 alphabet in lower case, no padding).
#[must_use]
pub fn authority_text(authority: &Authority) -> String {
    data_encoding::BASE32_NOPAD.encode(authority.as_bytes()).to_ascii_lowercase()
}

/// Reads the text of an authority; upper case is accepted, as people copy from anywhere.
///
/// Returns `None` unless it is exactly one authority.
#[must_use]
pub fn authority_from_text(text: &str) -> Option<Authority> {
    let bytes = data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    Authority::try_from(bytes.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_apart() {
        let bytes = b"the same bytes";
        let ids = [
            *ChunkId::of(bytes).as_bytes(),
            *DirId::of(bytes).as_bytes(),
            *FileId::of(bytes).as_bytes(),
            *HeadId::of(bytes).as_bytes(),
            *Authority::of(bytes).as_bytes(),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn authority_text_round_trips() {
        let authority = Authority::of(b"x");
        let text = authority_text(&authority);
        assert_eq!(text.len(), 52);
        assert_eq!(authority_from_text(&text), Some(authority));
        assert_eq!(authority_from_text(&text[1..]), None);
        assert_eq!(authority_from_text("not a key!"), None);
    }
}
