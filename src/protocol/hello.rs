//! What both ends state about themselves inside handshake messages 2 and 3.
//!
//! The payload is an array of four: `[hello.features]`, `[hello.limits]`, `[hello.certificate]`,
//! `[hello.extensions]`. Lists ascend strictly, so each thing is said once and in one way.
//! Numbers that a side does not know are kept but mean nothing to it: what is used is what both
//! have.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_bytes::ByteBuf;

use super::codec::{self, DecodeError};
use super::limits::{
    HELLO_CERTIFICATE_MAX, HELLO_EXTENSIONS_MAX, HELLO_FEATURES_MAX, HELLO_LIMITS_MAX, MESSAGE_3_MAX,
    MESSAGE_3_OVERHEAD,
};

/// One side's statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Features this side can use, ascending.
    pub features: Vec<u16>,
    /// Limits this side sets, as tag and value, ascending by tag.
    pub limits: Vec<(u16, u64)>,
    /// The certificate of the static key, opaque here.
    pub certificate: Option<Vec<u8>>,
    /// Anything else, as tag and bytes, ascending by tag.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// What two statements have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Features that both sides have, ascending.
    pub features: Vec<u16>,
    /// For each limit that both sides set, the smaller value; ascending by tag.
    pub limits: Vec<(u16, u64)>,
}

/// The array on the wire.
type Wire = (
    Bounded<u16, HELLO_FEATURES_MAX>,
    Bounded<(u16, u64), HELLO_LIMITS_MAX>,
    Option<ByteBuf>,
    Bounded<(u16, ByteBuf), HELLO_EXTENSIONS_MAX>,
);

impl Hello {
    /// The bytes of the payload. Lists are sorted here; a repeated tag keeps its first value.
    pub fn encode(&self) -> Vec<u8> {
        let extensions = self.extensions.iter().map(|(tag, b)| (*tag, ByteBuf::from(b.clone())));
        let wire: Wire = (
            Bounded(ascending(self.features.clone(), |feature| *feature)),
            Bounded(ascending(self.limits.clone(), |(tag, _)| *tag)),
            self.certificate.clone().map(ByteBuf::from),
            Bounded(ascending(extensions.collect(), |(tag, _)| *tag)),
        );
        codec::encode(&wire)
    }

    /// Reads a payload; refuses what is unsorted, repeated, too long or followed by more.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (features, limits, certificate, extensions): Wire = codec::decode(bytes)?;
        let sorted = ascends(&features.0, |feature| *feature)
            && ascends(&limits.0, |(tag, _)| *tag)
            && ascends(&extensions.0, |(tag, _)| *tag);
        let fits = certificate.as_ref().is_none_or(|c| c.len() <= HELLO_CERTIFICATE_MAX);
        if !sorted || !fits {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            features: features.0,
            limits: limits.0,
            certificate: certificate.map(ByteBuf::into_vec),
            extensions: extensions.0.into_iter().map(|(tag, b)| (tag, b.into_vec())).collect(),
        })
    }

    /// Says whether the payload fits message 3, the smaller of the two messages.
    pub fn fits(&self) -> bool {
        let bounded = self.features.len() <= HELLO_FEATURES_MAX
            && self.limits.len() <= HELLO_LIMITS_MAX
            && self.extensions.len() <= HELLO_EXTENSIONS_MAX
            && self.certificate.as_ref().is_none_or(|c| c.len() <= HELLO_CERTIFICATE_MAX);
        bounded && self.encode().len() + MESSAGE_3_OVERHEAD <= MESSAGE_3_MAX
    }

    /// What this statement and another one have in common.
    pub fn agree(&self, other: &Hello) -> Agreed {
        let features = self.features.iter().filter(|f| other.features.contains(f)).copied();
        let limits = self.limits.iter().filter_map(|(tag, ours)| {
            let (_, theirs) = other.limits.iter().find(|(other_tag, _)| other_tag == tag)?;
            Some((*tag, *ours.min(theirs)))
        });
        Agreed {
            features: ascending(features.collect(), |feature| *feature),
            limits: ascending(limits.collect(), |(tag, _)| *tag),
        }
    }
}

fn ascending<T>(mut items: Vec<T>, key: impl Fn(&T) -> u16) -> Vec<T> {
    items.sort_by_key(&key);
    items.dedup_by_key(|item| key(item));
    items
}

fn ascends<T>(items: &[T], key: impl Fn(&T) -> u16) -> bool {
    items.is_sorted_by(|a, b| key(a) < key(b))
}

/// A list of at most `MAX` items; a longer count is refused before anything is allocated.
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let count = seq.size_hint().unwrap_or(0);
        if count > MAX {
            return Err(de::Error::invalid_length(count, &self));
        }
        let mut items = Vec::with_capacity(count);
        while let Some(item) = seq.next_element()? {
            if items.len() == MAX {
                return Err(de::Error::invalid_length(MAX + 1, &self));
            }
            items.push(item);
        }
        Ok(Bounded(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Hello {
        Hello {
            features: vec![1, 300],
            limits: vec![(1, 5), (9, 1 << 40)],
            certificate: Some(vec![4; 40]),
            extensions: vec![(2, vec![]), (40_000, vec![1, 2])],
        }
    }

    #[test]
    fn golden_bytes_stay() {
        let bytes = Hello { certificate: None, ..sample() }.encode();
        let golden = "949201cd012c9292010592 09cf0000010000000000c0929202c40092cd9c40c4020102";
        assert_eq!(
            data_encoding::HEXLOWER.encode(&bytes),
            golden.replace(' ', ""),
            "the payload of every peer in the field"
        );
        assert_eq!(Hello::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn agreement_is_what_both_have_and_the_smaller_limit() {
        let other = Hello { features: vec![2, 300], limits: vec![(9, 7), (10, 1)], ..sample() };
        let agreed = sample().agree(&other);
        assert_eq!(agreed, Agreed { features: vec![300], limits: vec![(9, 7)] });
        assert_eq!(other.agree(&sample()), agreed);
    }

    #[test]
    fn unsorted_repeated_long_and_trailing_are_refused() {
        fn refused(value: &impl Serialize) {
            assert!(Hello::decode(&codec::encode(value)).is_err());
        }
        type Empty = Vec<u16>;
        let none: Option<ByteBuf> = None;
        let empty = Empty::new();
        refused(&(vec![2u16, 1], &empty, &none, &empty));
        refused(&(vec![1u16, 1], &empty, &none, &empty));
        refused(&(&empty, vec![(3u16, 1u64), (2, 1)], &none, &empty));
        refused(&(&empty, &empty, &none, vec![(1u16, ByteBuf::new()), (1, ByteBuf::new())]));
        refused(&(&empty, &empty, Some(ByteBuf::from(vec![0; 513])), &empty));
        refused(&((0..65u16).collect::<Vec<_>>(), &empty, &none, &empty));
        refused(&(vec![70_000u32], &empty, &none, &empty));
        refused(&(&empty, &empty, &none));
        refused(&(&empty, &empty, &none, &empty, 1u8));
        let mut trailing = sample().encode();
        trailing.push(0);
        assert_eq!(Hello::decode(&trailing), Err(DecodeError::Trailing { extra: 1 }));
    }

    #[test]
    fn lying_count_is_refused_before_allocation() {
        assert!(Hello::decode(&[0x94, 0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
