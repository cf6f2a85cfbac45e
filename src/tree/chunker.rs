//! Where content is cut: FastCDC in its 2020 form (Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", IEEE TPDS 2020), normalisation level 1, in two classes.

use fastcdc::v2020::{FastCDC, Normalization};

/// How a file's content is cut. It stands in the entry and stays with a path from version to version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Chunks of 2, 8 and 32 KiB at least, on average and at most: data that changes in place.
    Fine,
    /// Chunks of 16, 64 and 256 KiB: data that is packed already, most of a mirror.
    Coarse,
}

impl Class {
    /// The number that stands in an entry.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Coarse => 1,
        }
    }

    /// The class of a number, if it has one.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Fine),
            1 => Some(Self::Coarse),
            _ => None,
        }
    }

    /// Bytes of a chunk: at least (but for the last of a file), on average, at most.
    #[must_use]
    pub const fn sizes(self) -> (usize, usize, usize) {
        match self {
            Self::Fine => (2 * 1024, 8 * 1024, 32 * 1024),
            Self::Coarse => (16 * 1024, 64 * 1024, 256 * 1024),
        }
    }

    /// Bytes of the longest chunk.
    #[must_use]
    pub const fn longest(self) -> usize {
        self.sizes().2
    }

    /// Where the next chunk of a file ends: the length of the first chunk of `data`, which holds at least
    /// [`longest`](Self::longest) bytes or else all that is left of the file. 0 only for empty data.
    #[must_use]
    pub fn cut(self, data: &[u8]) -> usize {
        let (min, average, max) = self.sizes();
        let data = data.get(..max).unwrap_or(data);
        FastCDC::with_level(data, min, average, max, Normalization::Level1).cut(0, data.len()).1
    }

    /// The class for a new path, from samples of its content: coarse when the bytes look packed.
    #[must_use]
    pub fn of_samples<'a>(size: u64, samples: impl IntoIterator<Item = &'a [u8]>) -> Self {
        if size < COARSE_FROM {
            return Self::Fine;
        }
        let mut counts = [0u32; 256];
        let mut total = 0u32;
        for byte in samples.into_iter().flatten() {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count += 1;
                total += 1;
            }
        }
        if entropy(&counts, total) >= PACKED_BITS { Self::Coarse } else { Self::Fine }
    }
}

/// Cuts content that comes in pieces of any size.
#[derive(Debug)]
pub struct Cutter {
    class: Class,
    held: Vec<u8>,
    /// Bytes of it that are cut.
    at: usize,
}

/// Bytes that a [`Cutter`] has cut before it forgets them.
const FORGET_FROM: usize = 512 * 1024;

impl Cutter {
    /// Begins a file.
    #[must_use]
    pub fn new(class: Class) -> Self {
        Self { class, held: Vec::new(), at: 0 }
    }

    /// Takes the next bytes of the file, and gives `each` the chunks that are complete with them.
    ///
    /// # Errors
    /// Whatever `each` answers.
    pub fn push<E>(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        // In parts, so that a long piece is not held whole.
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(FORGET_FROM));
            self.held.extend_from_slice(part);
            bytes = rest;
            while let Some(rest) = self.held.get(self.at..).filter(|rest| rest.len() >= self.class.longest()) {
                let chunk = rest.get(..self.class.cut(rest)).unwrap_or(rest);
                each(chunk)?;
                self.at += chunk.len();
            }
            if self.at >= FORGET_FROM {
                self.held.drain(..self.at);
                self.at = 0;
            }
        }
        Ok(())
    }

    /// Gives the chunks at the end of the file.
    ///
    /// # Errors
    /// Whatever `each` answers.
    pub fn finish<E>(self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut rest = self.held.get(self.at..).unwrap_or_default();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(self.class.cut(rest).clamp(1, rest.len()));
            each(chunk)?;
            rest = behind;
        }
        Ok(())
    }
}

/// Files below this many bytes are always fine: their list is one short page either way.
const COARSE_FROM: u64 = 256 * 1024;
/// Bits of entropy a byte from which data counts as packed; text has about 5, machine code 6, deflate 7.99.
const PACKED_BITS: f64 = 7.9;
/// Bytes of one sample.
pub const SAMPLE_LEN: usize = 16 * 1024;

/// Where to read samples of a file of `size` bytes: begin, middle and end.
#[must_use]
pub fn sample_offsets(size: u64) -> [u64; 3] {
    let last = size.saturating_sub(SAMPLE_LEN as u64);
    // The first bytes of a packed file are often a plain header.
    [last.min(4_096), last / 2, last]
}

fn entropy(counts: &[u32; 256], total: u32) -> f64 {
    let total = f64::from(total.max(1));
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn chunks_keep_their_bounds_and_follow_the_content() {
        let data = noise(1 << 21);
        for class in [Class::Fine, Class::Coarse] {
            let cut = |data: &[u8]| {
                let (mut at, mut ends) = (0, Vec::new());
                while at < data.len() {
                    let len = class.cut(&data[at..]);
                    assert!(len > 0 && len <= class.longest());
                    at += len;
                    assert!(at == data.len() || len >= class.sizes().0);
                    ends.push(data.len() - at);
                }
                ends
            };
            let (whole, shifted) = (cut(&data), cut(&data[100..]));
            let common = whole.iter().filter(|end| shifted.contains(end)).count();
            assert!(common * 10 > whole.len() * 8, "{common} of {}", whole.len());
        }
    }

    #[test]
    fn content_in_pieces_is_cut_like_content_in_one() {
        let data = noise(3 << 20);
        for (class, piece) in [(Class::Fine, 1_000), (Class::Fine, 3 << 20), (Class::Coarse, 77_777)] {
            let (mut at, mut whole) = (0, Vec::new());
            while at < data.len() {
                whole.push(class.cut(&data[at..]));
                at += whole.last().unwrap();
            }
            let (mut cutter, mut lengths) = (Cutter::new(class), Vec::new());
            let mut each = |chunk: &[u8]| {
                lengths.push(chunk.len());
                Ok::<(), ()>(())
            };
            for piece in data.chunks(piece) {
                cutter.push(piece, &mut each).unwrap();
            }
            cutter.finish(&mut each).unwrap();
            assert_eq!(lengths, whole);
        }
    }

    #[test]
    fn packed_data_is_coarse_and_text_is_not() {
        let packed = noise(SAMPLE_LEN);
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(400);
        assert_eq!(Class::of_samples(1 << 20, [&packed[..]]), Class::Coarse);
        assert_eq!(Class::of_samples(1 << 20, [&text[..]]), Class::Fine);
        assert_eq!(Class::of_samples(1 << 10, [&packed[..]]), Class::Fine);
    }
}
