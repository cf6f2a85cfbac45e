//! A hash that rolls: Rabin's fingerprint by a random irreducible polynomial over GF(2) (Rabin, "Fingerprinting by Random
//! Polynomials", TR-15-81, Harvard 1981).
//!
//! The polynomial is drawn from a secret, so that nobody who writes files can prepare bytes that collide: two different
//! blocks of n bytes agree for 8n in 2^52 polynomials at most. (Sums of powers modulo 2^64 collide on Thue-Morse strings
//! whatever their base is.) What is kept of a fingerprint is the upper part of its product with an odd number from the
//! same secret.

/// Degree of the polynomial. It is prime, so that a single power decides whether the polynomial is irreducible.
const DEGREE: u32 = 53;
/// Bytes that a fingerprint takes.
const BYTES: usize = 7;

/// The hash of blocks under one secret.
pub struct Rabin {
    polynomial: u64,
    /// What the byte that is pushed out at the top amounts to, with that byte itself.
    shifted: [u64; 256],
    /// What byte `i` of a fingerprint amounts to eight bytes later.
    ahead: [[u64; 256]; BYTES],
    /// What the two upper bytes of eight amount to.
    upper: [[u64; 256]; 2],
    factor: u64,
}

/// What a byte amounts to when it leaves a window of some length.
pub struct Window {
    len: usize,
    leaving: [u64; 256],
}

impl Rabin {
    /// Draws the polynomial from `secret`.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut numbers = blake3::Hasher::new_keyed(secret).update(b"mirra v1 rabin").finalize_xof();
        let mut draw = || {
            let mut bytes = [0; 8];
            numbers.fill(&mut bytes);
            u64::from_be_bytes(bytes)
        };
        let factor = draw() | 1;
        // About one in 13 of those with a constant term and an odd number of terms.
        let polynomial = loop {
            let candidate = (draw() & ((1 << DEGREE) - 1)) | (1 << DEGREE) | 1;
            if is_irreducible(candidate) {
                break candidate;
            }
        };
        let table = |shift: u32| -> [u64; 256] {
            let power = power_of_x(shift, polynomial);
            std::array::from_fn(|byte| multiply(byte as u64, power, polynomial))
        };
        let mut shifted = table(DEGREE);
        for (byte, value) in shifted.iter_mut().enumerate() {
            *value |= (byte as u64) << DEGREE;
        }
        let ahead = std::array::from_fn(|i| table(64 + 8 * i as u32));
        let upper = [table(48), table(56)];
        Self { polynomial, shifted, ahead, upper, factor }
    }

    /// The hash of `block`.
    #[must_use]
    pub fn of(&self, block: &[u8]) -> u32 {
        self.mixed(self.fingerprint(block))
    }

    /// The fingerprint of `block`: the remainder of its bits, the first byte highest.
    fn fingerprint(&self, block: &[u8]) -> u64 {
        let (words, rest) = block.as_chunks::<8>();
        let print = words.iter().fold(0, |print, word| self.push_word(print, *word));
        rest.iter().fold(print, |print, byte| self.push(print, *byte))
    }

    /// The hashes of as many blocks, side by side: each step of one waits for the step before it, and not for the others.
    #[must_use]
    pub fn of_several<const N: usize>(&self, blocks: [&[u8]; N]) -> [u32; N] {
        let split = blocks.map(|block| block.as_chunks::<8>());
        let shortest = split.iter().map(|(words, _)| words.len()).min().unwrap_or(0);
        let mut prints = [0; N];
        for at in 0..shortest {
            for (print, (words, _)) in prints.iter_mut().zip(&split) {
                *print = self.push_word(*print, words.get(at).copied().unwrap_or_default());
            }
        }
        let mut ended = prints.iter().zip(split).map(|(print, (words, rest))| {
            let words = words.get(shortest..).unwrap_or_default();
            let print = words.iter().fold(*print, |print, word| self.push_word(print, *word));
            self.mixed(rest.iter().fold(print, |print, byte| self.push(print, *byte)))
        });
        std::array::from_fn(|_| ended.next().unwrap_or_default())
    }

    #[inline]
    fn push_word(&self, print: u64, word: [u8; 8]) -> u64 {
        let word = u64::from_be_bytes(word);
        let [upper, next, ..] = word.to_be_bytes();
        let mut sum = word & ((1 << 48) - 1);
        sum ^= at(&self.upper[0], next) ^ at(&self.upper[1], upper);
        for (table, byte) in self.ahead.iter().zip(print.to_le_bytes()) {
            sum ^= at(table, byte);
        }
        sum
    }

    fn push(&self, print: u64, byte: u8) -> u64 {
        let wide = print << 8 | u64::from(byte);
        wide ^ at(&self.shifted, (wide >> DEGREE) as u8)
    }

    fn mixed(&self, print: u64) -> u32 {
        // Twice, with the upper half into the lower one between: equal differences of fingerprints, which blocks of a table
        // have, must not be equal hashes.
        let once = print.wrapping_mul(self.factor);
        ((once ^ once >> 32).wrapping_mul(self.factor) >> 32) as u32
    }

    /// Prepares for rolling over blocks of `len` bytes.
    #[must_use]
    pub fn window(&self, len: usize) -> Window {
        let power = power_of_x(8 * u32::try_from(len.max(1) - 1).unwrap_or(0), self.polynomial);
        let leaving = std::array::from_fn(|byte| multiply(byte as u64, power, self.polynomial));
        Window { len, leaving }
    }

    /// Gives `each` the hash of every block of the window's length in `data` with the offset where it begins, in order,
    /// until it says to stop.
    pub fn roll(&self, window: &Window, data: &[u8], mut each: impl FnMut(usize, u32) -> bool) {
        let Some(first) = data.get(..window.len) else { return };
        let mut print = self.fingerprint(first);
        if !each(0, self.mixed(print)) {
            return;
        }
        let coming = data.get(window.len..).unwrap_or_default();
        for (at_offset, (leaves, comes)) in data.iter().zip(coming).enumerate() {
            print = self.push(print ^ at(&window.leaving, *leaves), *comes);
            if !each(at_offset + 1, self.mixed(print)) {
                return;
            }
        }
    }
}

/// An entry of a table that has one for every byte.
#[inline]
fn at(table: &[u64; 256], byte: u8) -> u64 {
    #[allow(clippy::indexing_slicing, reason = "a byte is within 256")]
    table[usize::from(byte)]
}

/// The product of two polynomials of less than [`DEGREE`], modulo `polynomial`.
fn multiply(mut a: u64, mut b: u64, polynomial: u64) -> u64 {
    let mut product = 0;
    while a != 0 {
        if a & 1 != 0 {
            product ^= b;
        }
        a >>= 1;
        b <<= 1;
        if b >> DEGREE != 0 {
            b ^= polynomial;
        }
    }
    product
}

/// x to the power `n`.
fn power_of_x(n: u32, polynomial: u64) -> u64 {
    let (mut power, mut square, mut rest) = (1, 2, n);
    while rest > 0 {
        if rest & 1 != 0 {
            power = multiply(power, square, polynomial);
        }
        square = multiply(square, square, polynomial);
        rest >>= 1;
    }
    power
}

/// Rabin's test for a prime degree p: x^(2^p) = x, and no factor of degree one, which a constant term and an odd number
/// of terms exclude.
fn is_irreducible(polynomial: u64) -> bool {
    if polynomial.count_ones().is_multiple_of(2) {
        return false;
    }
    let mut power = 2;
    for _ in 0..DEGREE {
        power = multiply(power, power, polynomial);
    }
    power == 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn polynomials_with_factors_are_refused() {
        // x^53 + x^6 + x^2 + x + 1 is irreducible: Seroussi, "Table of Low-Weight Binary Irreducible Polynomials",
        // HPL-98-135, 1998.
        assert!(is_irreducible(1 << 53 | 1 << 6 | 1 << 2 | 1 << 1 | 1));
        // A trinomial has an odd number of terms; of degree 53 none is irreducible (the same table).
        for k in 1..53 {
            assert!(!is_irreducible(1 << 53 | 1 << k | 1), "{k}");
        }
    }

    #[test]
    fn a_secret_draws_one_polynomial() {
        let drawn = |n: u8| Rabin::new(&[n; 32]);
        assert_eq!(drawn(1).of(b"block"), drawn(1).of(b"block"));
        let different: std::collections::HashSet<u64> = (0..8).map(|n| drawn(n).polynomial).collect();
        assert_eq!(different.len(), 8);
    }

    proptest! {
        #[test]
        fn rolling_gives_the_hash_of_each_block(data in proptest::collection::vec(any::<u8>(), 0..400), len in 1usize..80) {
            let rabin = Rabin::new(&[7; 32]);
            let mut rolled = Vec::new();
            rabin.roll(&rabin.window(len), &data, |at, hash| {
                rolled.push((at, hash));
                true
            });
            let wanted: Vec<_> = data.windows(len).map(|block| rabin.of(block)).enumerate().collect();
            prop_assert_eq!(rolled, wanted);
        }

        #[test]
        fn several_at_once_are_one_after_another(
            a in proptest::collection::vec(any::<u8>(), 0..200), b in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let rabin = Rabin::new(&[8; 32]);
            prop_assert_eq!(rabin.of_several([&a, &b]), [rabin.of(&a), rabin.of(&b)]);
        }

        #[test]
        fn the_fast_way_is_the_slow_one(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let rabin = Rabin::new(&[9; 32]);
            let slow = data.iter().fold(0, |print, byte| rabin.push(print, *byte));
            prop_assert_eq!(rabin.fingerprint(&data), slow);
        }
    }
}
