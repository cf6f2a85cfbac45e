//! MessagePack, the one door to the serializer: arrays only, shortest forms, nothing behind the end.
//!
//! What is hashed or signed goes through [`decode_canonical`], so that one value has one name.

use serde::{Serialize, de::DeserializeOwned};

use super::limits::CODEC_DEPTH_MAX;

/// Bytes that are not what the format says: always the fault of whoever made them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not MessagePack of the expected shape.
    #[error("{what} does not decode: {why}")]
    Shape {
        /// The object that was expected.
        what: &'static str,
        /// What the decoder met.
        why: String,
    },
    /// Bytes follow the object, or the object is not in its one canonical form.
    #[error("{what} is not in canonical form")]
    NotCanonical {
        /// The object that was expected.
        what: &'static str,
    },
    /// A bound of [`limits`](super::limits) is broken.
    #[error("{what} is {found}, over the limit of {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// A name that may not stand in a tree.
    #[error("{0}")]
    Name(#[from] super::name::NameError),
    /// A rule of the format, named, is broken.
    #[error("{what}: {rule}")]
    Rule {
        /// The object.
        what: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
}

/// The canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: they hold neither maps of unknown length nor foreign `Serialize` code.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("values of this crate always encode")
}

/// Decodes exactly one `T` from all of `bytes`.
///
/// # Errors
/// [`Malformed`] when the bytes are not one `T` and nothing else. Not-shortest integers pass here; what is hashed goes
/// through [`decode_canonical`].
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    let (value, len) = decode_first(what, bytes)?;
    if len != bytes.len() {
        return Err(Malformed::NotCanonical { what });
    }
    Ok(value)
}

/// Decodes one `T` from the start of `bytes`, and says how many of them it took.
///
/// # Errors
/// [`Malformed::Shape`].
pub fn decode_first<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<(T, usize), Malformed> {
    let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    decoder.set_max_depth(CODEC_DEPTH_MAX);
    let value = T::deserialize(&mut decoder).map_err(|e| Malformed::Shape { what, why: e.to_string() })?;
    let len = usize::try_from(decoder.position()).unwrap_or(bytes.len());
    Ok((value, len))
}

/// Decodes one `T` from the start of bytes that are canonical by other knowledge: our own, or compared afterwards.
///
/// # Errors
/// [`Malformed::Shape`].
pub fn decode_prefix<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(CODEC_DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(|e| Malformed::Shape { what, why: e.to_string() })
}

/// Decodes one `T` and requires that `bytes` are the one way to write it.
///
/// # Errors
/// As [`decode`], and [`Malformed::NotCanonical`] when another encoding of the same value was sent.
pub fn decode_canonical<T: Serialize + DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    let value: T = decode_prefix(what, bytes)?;
    if encode(&value) != bytes {
        return Err(Malformed::NotCanonical { what });
    }
    Ok(value)
}

/// Refuses a `found` over `limit`.
///
/// # Errors
/// [`Malformed::TooLarge`].
pub fn bounded(what: &'static str, found: u64, limit: u64) -> Result<(), Malformed> {
    if found > limit { Err(Malformed::TooLarge { what, found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_and_long_forms_are_refused() {
        assert_eq!(decode::<(u8, u8)>("pair", &[0x92, 1, 2]).unwrap(), (1, 2));
        assert!(decode::<(u8, u8)>("pair", &[0x92, 1, 2, 0]).is_err());
        assert!(decode::<(u8, u8)>("pair", &[0x92, 1]).is_err());
        assert!(decode_canonical::<(u8, u8)>("pair", &[0x92, 0xcc, 1, 2]).is_err());
        assert!(decode_canonical::<(u8, u8)>("pair", &[0xdc, 0, 2, 1, 2]).is_err());
    }

    #[test]
    fn cut_bytes_are_refused() {
        let bytes = encode(&(1u64 << 40, vec![1u8, 2, 3]));
        for end in 0..bytes.len() {
            assert!(decode::<(u64, Vec<u8>)>("cut", &bytes[..end]).is_err());
        }
    }

    #[test]
    fn nesting_beyond_the_bound_is_refused() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct Nest(Vec<Nest>);
        let nest = |depth: usize| [vec![0x91; depth], vec![0x90]].concat();
        assert!(decode::<Nest>("nest", &nest(CODEC_DEPTH_MAX - 2)).is_ok());
        for depth in [CODEC_DEPTH_MAX + 1, 10_000] {
            assert!(decode::<Nest>("nest", &nest(depth)).is_err());
        }
    }
}
