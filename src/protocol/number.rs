//! Numbers of any size in few bytes: in groups of seven bits, lowest first, the top bit set on all bytes but the last
//! (LEB128), in the shortest form alone.

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoNumber {
    /// The bytes end before it does.
    Cut,
    /// It is not in its shortest form.
    Long,
    /// It has more than 64 bits.
    Large,
}

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front.
pub(super) fn take(rest: &mut &[u8]) -> Result<u64, NoNumber> {
    let mut number = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, behind) = rest.split_first().ok_or(NoNumber::Cut)?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        if *byte == 0 && shift > 0 {
            return Err(NoNumber::Long);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(NoNumber::Large)
}

/// A signed number, in two's complement, by its distance from zero: the sign lowest, so that small ones stay short.
pub(super) const fn fold(number: u64) -> u64 {
    (number << 1) ^ (0u64.wrapping_sub(number >> 63))
}

/// What [`fold`] was made of.
pub(super) const fn unfold(folded: u64) -> u64 {
    (folded >> 1) ^ (0u64.wrapping_sub(folded & 1))
}
