//! Content that is read piece by piece, as its chunks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::dir::look_fd;
use crate::tree::chunker::Class;

/// Bytes read at once, unless the file is shorter; no less than the longest chunk.
const READ_LEN: usize = 1 << 20;

/// Gives the chunks of all that `file` holds, from its start whatever its read position, each with its offset.
///
/// # Errors
/// As `pread(2)`, and whatever `each` answers.
pub fn each_chunk(file: &File, class: Class, each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut at = 0;
    let fill = |buffer: &mut [u8], held| {
        let fresh = read_full(file, buffer.get_mut(held..).unwrap_or_default(), at)?;
        at += fresh as u64;
        Ok(held + fresh)
    };
    // One byte more shows that the file ends where it says. A file that grows meanwhile needs a chunk's room.
    let size = usize::try_from(look_fd(file)?.key.size).unwrap_or(READ_LEN);
    cut(&mut vec![0; size.saturating_add(1).clamp(class.longest(), READ_LEN)], 0, class, fill, each)
}

/// Reads from the offset `at` until `buffer` is full or the file ends, and says how much that was.
pub(super) fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut held = 0;
    while let Some(space) = buffer.get_mut(held..).filter(|space| !space.is_empty()) {
        match file.read_at(space, at + held as u64) {
            Ok(0) => break,
            Ok(n) => held += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(held)
}

/// Gives the chunks of what `fill` reads, each with its offset. `buffer` has space for the longest chunk, and holds the
/// first `held` bytes already; `fill` adds to those that it holds and says how many they are then. When none are added,
/// the content is at its end.
pub(super) fn cut<E>(
    buffer: &mut [u8],
    mut held: usize,
    class: Class,
    mut fill: impl FnMut(&mut [u8], usize) -> Result<usize, E>,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut offset, mut ended) = (0, false);
    loop {
        let mut at = 0;
        while let Some(rest) = buffer.get(at..held)
            && !rest.is_empty()
            && (ended || rest.len() >= class.longest())
        {
            let chunk = rest.get(..class.cut(rest)).unwrap_or(rest);
            each(offset, chunk)?;
            (at, offset) = (at + chunk.len(), offset + chunk.len() as u64);
        }
        if ended {
            return Ok(());
        }
        buffer.copy_within(at..held, 0);
        let kept = held - at;
        held = fill(buffer, kept)?;
        ended = held == kept;
    }
}
