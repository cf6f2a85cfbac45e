//! The eight clear bytes before the handshake, the eight that refuse them, and how handshake
//! messages are framed.
//!
//! Nothing else of a connection is in the clear. The preface is also the prologue of the
//! handshake, so a changed byte that is not noticed here makes the handshake fail.

use std::ops::RangeInclusive;

use super::error::{ProtocolError, Rule};

/// Length of the preface and of its refusal, in bytes.
pub const PREFACE_LEN: usize = 8;

/// The wire version this build speaks, and the highest it knows.
pub const WIRE_VERSION: u8 = 1;

const MAGIC: [u8; 5] = *b"mirra";
const REJECT_TAIL: [u8; 2] = [0xff, 0xff];

/// What an initiator sends first: `[preface.magic]`, `[preface.version]`, `[preface.zero]`.
pub const PREFACE: [u8; PREFACE_LEN] = with_tail(WIRE_VERSION, [0, 0]);

/// What a responder answers to a version it does not speak: `[reject.magic]`,
/// `[reject.version]` (the highest it speaks), `[reject.tail]`.
pub const REJECT: [u8; PREFACE_LEN] = with_tail(WIRE_VERSION, REJECT_TAIL);

/// Judges what an initiator sent first.
///
/// `PeerIncompatible` is to be answered with [`REJECT`], everything else with silence.
pub fn check_preface(bytes: &[u8; PREFACE_LEN]) -> Result<(), ProtocolError> {
    match split(bytes) {
        (MAGIC, WIRE_VERSION, [0, 0]) => Ok(()),
        (MAGIC, theirs, [0, 0]) => Err(ProtocolError::PeerIncompatible { theirs }),
        _ => Err(ProtocolError::PeerMisbehaved { rule: Rule::Preface }),
    }
}

/// Says whether two bytes, read where the length of message 2 is due, begin a refusal.
///
/// As a length they would lie far above the bound of message 2, so both readings never meet.
pub fn begins_reject(first: [u8; 2]) -> bool {
    first == [MAGIC[0], MAGIC[1]]
}

/// Judges a refusal, as an initiator reads it.
pub fn read_reject(bytes: &[u8; PREFACE_LEN]) -> ProtocolError {
    match split(bytes) {
        (MAGIC, theirs, REJECT_TAIL) => ProtocolError::PeerIncompatible { theirs },
        _ => ProtocolError::PeerMisbehaved { rule: Rule::Preface },
    }
}

/// A handshake message behind its length: `[handshake.length]`, `[handshake.message]`.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("handshake messages are far below 64 KiB");
    [&length.to_be_bytes()[..], message].concat()
}

/// Reads `[handshake.length]` and checks it before anything is allocated for the message.
pub fn message_length(field: [u8; 2], allowed: RangeInclusive<usize>) -> Result<usize, ProtocolError> {
    let length = usize::from(u16::from_be_bytes(field));
    if allowed.contains(&length) { Ok(length) } else { Err(Rule::HandshakeLength.into()) }
}

fn split(bytes: &[u8; PREFACE_LEN]) -> ([u8; 5], u8, [u8; 2]) {
    let [a, b, c, d, e, version, y, z] = *bytes;
    ([a, b, c, d, e], version, [y, z])
}

const fn with_tail(version: u8, tail: [u8; 2]) -> [u8; PREFACE_LEN] {
    let [a, b, c, d, e] = MAGIC;
    [a, b, c, d, e, version, tail[0], tail[1]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::limits::MESSAGE_2_MAX;

    #[test]
    fn own_preface_passes_and_every_flipped_bit_fails() {
        assert_eq!(check_preface(&PREFACE), Ok(()));
        for bit in 0..64 {
            let mut flipped = PREFACE;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check_preface(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn other_version_is_incompatible_not_misbehaved() {
        assert_eq!(check_preface(b"mirra\x02\0\0"), Err(ProtocolError::PeerIncompatible { theirs: 2 }));
        assert_eq!(read_reject(b"mirra\x07\xff\xff"), ProtocolError::PeerIncompatible { theirs: 7 });
    }

    #[test]
    fn refusal_cannot_be_a_length_of_message_2() {
        assert!(begins_reject([REJECT[0], REJECT[1]]));
        assert!(usize::from(u16::from_be_bytes([REJECT[0], REJECT[1]])) > MESSAGE_2_MAX);
    }
}
