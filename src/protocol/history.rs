//! The literals of many batches as one zstd stream: each is packed with those before it as its history, which both ends
//! remember as far as the window reaches.
//!
//! The stream is RFC 8878 frames one behind the other. It is flushed at the end of each batch, so that a batch can be
//! read when it comes, and a frame may end between two batches: the level is changed there.

use std::fmt;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::{self, ZSTD_e_end, ZSTD_e_flush};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound};

use super::compress::Level;
use super::limits::HISTORY_WINDOW_LOG;

/// Bytes that a flush and the end of a frame may take beside what is bounded.
const FRAME_ENDS: usize = 64;

/// The end that packs.
pub struct Packer {
    context: CCtx<'static>,
    /// The level of the frame that is open.
    level: Option<Level>,
}

/// The end that unpacks.
pub struct Unpacker {
    context: DCtx<'static>,
}

impl Packer {
    /// A stream that begins; `None` if there is no memory for it.
    #[must_use]
    pub fn new() -> Option<Self> {
        Some(Self { context: CCtx::try_create()?, level: None })
    }

    /// The level of the frame that is open.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// The next part of the stream, which is `literals`. Another level than before ends the frame, and with it the history.
    /// After `None` the stream is of no further use.
    #[must_use]
    pub fn pack(&mut self, literals: &[u8], level: Level) -> Option<Vec<u8>> {
        let mut part = Vec::with_capacity(compress_bound(literals.len()) + FRAME_ENDS);
        if self.level.is_some_and(|begun| begun != level) {
            self.drive(&[], ZSTD_e_end, &mut part)?;
            self.level = None;
        }
        if self.level.is_none() {
            self.context.reset(ResetDirective::SessionAndParameters).ok()?;
            let (zstd, tables) = level.for_streams();
            let plain = [
                CParameter::CompressionLevel(zstd),
                CParameter::ContentSizeFlag(false),
                CParameter::ChecksumFlag(false),
                CParameter::WindowLog(HISTORY_WINDOW_LOG),
            ];
            for parameter in plain.into_iter().chain(tables) {
                self.context.set_parameter(parameter).ok()?;
            }
            self.level = Some(level);
        }
        self.drive(literals, ZSTD_e_flush, &mut part)?;
        Some(part)
    }

    fn drive(&mut self, literals: &[u8], directive: ZSTD_EndDirective, part: &mut Vec<u8>) -> Option<()> {
        let mut input = InBuffer::around(literals);
        loop {
            let at = part.len();
            let mut output = OutBuffer::around_pos(part, at);
            let left = self.context.compress_stream2(&mut output, &mut input, directive).ok()?;
            if left == 0 && input.pos() == literals.len() {
                return Some(());
            }
            part.reserve(left.max(FRAME_ENDS));
        }
    }
}

impl Unpacker {
    /// A stream that begins; `None` if there is no memory for it.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::WindowLogMax(HISTORY_WINDOW_LOG)).ok()?;
        Some(Self { context })
    }

    /// The literals of which `part` is the next part of the stream, if they are `length` bytes and all of it is used.
    /// After `None` the stream is of no further use.
    #[must_use]
    pub fn unpack(&mut self, part: &[u8], length: usize) -> Option<Vec<u8>> {
        // One byte more than is wanted: with room left, the library keeps nothing back, and what is too long shows.
        let mut literals = Vec::with_capacity(length + 1);
        let mut input = InBuffer::around(part);
        loop {
            let (read, at) = (input.pos(), literals.len());
            let mut output = OutBuffer::around_pos(&mut literals, at);
            self.context.decompress_stream(&mut output, &mut input).ok()?;
            if literals.len() > length {
                return None;
            }
            if input.pos() == read && literals.len() == at {
                return (read == part.len() && at == length).then_some(literals);
            }
        }
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("level", &self.level).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compress::tests::noise;

    fn level(number: u8) -> Level {
        Level::new(number).unwrap()
    }

    #[test]
    fn what_came_before_is_not_sent_again() {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new().unwrap());
        for (round, number) in [3, 3, 9, 9, 19].into_iter().enumerate() {
            let data = [noise(1, 500_000), noise(round as u32 + 2, 1_000)].concat();
            let part = packer.pack(&data, level(number)).unwrap();
            let begins = round == 0 || [2, 4].contains(&round);
            assert_eq!(part.len() > 10_000, begins, "{round}: {}", part.len());
            assert!(unpacker.unpack(&part, data.len()) == Some(data));
        }
    }

    #[test]
    fn parts_of_any_length_come_out_as_they_went_in() {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new().unwrap());
        let sizes = [1, 0, 131_072, 131_073, 3_000_000, 5, 8_000_000, 1_000_000, 8_388_608, 70_000];
        for (round, size) in sizes.into_iter().cycle().take(20).enumerate() {
            let mut data = noise(round as u32 % 3, size);
            data.iter_mut().step_by(3).for_each(|byte| *byte = 7);
            let part = packer.pack(&data, level(1 + round as u8 / 7)).unwrap();
            assert!(unpacker.unpack(&part, size) == Some(data), "{round}");
        }
    }

    #[test]
    fn lies_are_found() {
        let data = noise(1, 300_000);
        let mut packer = Packer::new().unwrap();
        let part = packer.pack(&data, level(3)).unwrap();
        let unpack = |part: &[u8], length| Unpacker::new().unwrap().unpack(part, length);
        assert!(unpack(&part, data.len()).is_some());
        for length in [0, 1, data.len() - 1, data.len() + 1] {
            assert!(unpack(&part, length).is_none(), "{length}");
        }
        assert!(unpack(part.split_last().unwrap().1, data.len()).is_none());
        assert!(unpack(&[&part[..], b"more"].concat(), data.len()).is_none());
        assert_eq!(unpack(b"no frame at all", 10), None);
        // Without what came before, a part is none.
        let next = packer.pack(&data, level(3)).unwrap();
        assert!(unpack(&next, data.len()).is_none());
        // A frame that asks for more memory than is given.
        let mut wide = CCtx::create();
        wide.set_parameter(CParameter::WindowLog(HISTORY_WINDOW_LOG + 1)).unwrap();
        let (mut frame, long) = (Vec::with_capacity(40_000_000), vec![0; 20_000_000]);
        let mut input = InBuffer::around(&long);
        wide.compress_stream2(&mut OutBuffer::around(&mut frame), &mut input, ZSTD_e_flush).unwrap();
        assert!(unpack(&frame, long.len()).is_none());
        // One that grows is stopped at the named length.
        let bomb = Packer::new().unwrap().pack(&vec![0; 50_000_000], level(3)).unwrap();
        assert!(bomb.len() < 20_000);
        assert!(unpack(&bomb, 64 * 1024).is_none());
    }
}
