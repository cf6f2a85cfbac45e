//! MessagePack to values and back: the one door to the serializer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::CODEC_DEPTH_MAX;

/// Why bytes of a peer are not the value they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not MessagePack of the expected shape, or break a bound of it.
    #[error("malformed MessagePack value")]
    Malformed,
    /// A whole value is followed by more bytes.
    #[error("{extra} bytes after the MessagePack value")]
    Trailing {
        /// How many bytes are left over.
        extra: usize,
    },
}

/// Encodes a value; structs become arrays.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("a vector takes all bytes, and our values have known lengths")
}

/// Decodes exactly one value that fills all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    reader.set_max_depth(CODEC_DEPTH_MAX);
    let value = T::deserialize(&mut reader).map_err(|_| DecodeError::Malformed)?;
    match reader.get_ref().len() {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing { extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_comes_back_as_it_went() {
        let value = (7u16, vec![1u64, 300], Some(String::from("x")));
        assert_eq!(decode(&encode(&value)), Ok(value));
    }

    #[test]
    fn trailing_byte_is_refused() {
        let mut bytes = encode(&5u8);
        bytes.push(0xc0);
        assert_eq!(decode::<u8>(&bytes), Err(DecodeError::Trailing { extra: 1 }));
    }

    #[test]
    fn cut_bytes_are_refused() {
        let bytes = encode(&(1u64 << 40, vec![1u8, 2, 3]));
        for end in 0..bytes.len() {
            assert_eq!(decode::<(u64, Vec<u8>)>(&bytes[..end]), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn nesting_beyond_the_bound_is_refused() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct Nest(Vec<Nest>);
        let mut bytes = vec![0x91; CODEC_DEPTH_MAX + 1];
        bytes.push(0x90);
        assert_eq!(decode::<Nest>(&bytes).unwrap_err(), DecodeError::Malformed);
    }
}
