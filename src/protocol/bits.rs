//! Bitmaps, as they travel: the first bit is the highest of the first byte, and what is left of the last byte is clear.

/// Bits that are clear, for so many things.
#[must_use]
pub fn clear(count: usize) -> Vec<u8> {
    vec![0; count.div_ceil(8)]
}

/// Sets bit `i`; one beyond the end is not there.
pub fn set(bits: &mut [u8], i: usize) {
    if let Some(byte) = bits.get_mut(i / 8) {
        *byte |= 0x80 >> (i % 8);
    }
}

/// Whether bit `i` is set; one beyond the end is not.
#[must_use]
pub fn is_set(bits: &[u8], i: usize) -> bool {
    bits.get(i / 8).is_some_and(|byte| byte & (0x80 >> (i % 8)) != 0)
}
