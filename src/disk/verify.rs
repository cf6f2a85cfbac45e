//! The id of what is really on disk: read, cut and hashed, and copied on the way if a copy is wanted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::ioctl_ficlone;

use super::chunks::{each_chunk, read_full};
use crate::tree::chunker::Class;
use crate::tree::hash::FileId;
use crate::tree::list::{Chunk, ListBuilder};
use crate::tree::page::Discard;

/// The id and the length in bytes of all that `file` holds, cut as `class` says.
///
/// # Errors
/// As `pread(2)`.
pub fn file_id(file: &File, class: Class) -> io::Result<(FileId, u64)> {
    named(file, class, |_, _| Ok(()))
}

/// All that `file` holds if that is the content `id` of `size` bytes, cut as `class` says: for what is small.
///
/// # Errors
/// As `pread(2)`.
pub(super) fn read_all(file: &File, id: &FileId, size: usize, class: Class) -> io::Result<Option<Vec<u8>>> {
    // One byte more shows that the file ends there.
    let mut bytes = vec![0; size.saturating_add(1)];
    let len = read_full(file, &mut bytes, 0)?;
    bytes.truncate(len);
    let mut list = ListBuilder::default();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at_checked(class.cut(rest)).unwrap_or((rest, &[]));
        list.push(Chunk::of(chunk), &mut Discard).map_err(io::Error::other)?;
        rest = more;
    }
    let (found, _) = list.finish(&mut Discard).map_err(io::Error::other)?;
    Ok((len == size && found == *id).then_some(bytes))
}

/// Copies `source` into the empty file `target`, and gives the id and the length of
/// what was copied. Where the filesystem can share the bytes, none are written.
///
/// # Errors
/// As `pread(2)` and `pwrite(2)`.
pub(super) fn copy(source: &File, target: &File, class: Class) -> io::Result<(FileId, u64)> {
    if ioctl_ficlone(target, source).is_ok() {
        // What is verified is the clone itself: the source may change under us.
        return file_id(target, class);
    }
    let (id, bytes) = named(source, class, |offset, bytes| {
        // A run of zeros stays a hole.
        if bytes.iter().all(|b| *b == 0) { Ok(()) } else { target.write_all_at(bytes, offset) }
    })?;
    target.set_len(bytes)?;
    Ok((id, bytes))
}

/// The id and the length of what `file` holds; `each` gets its chunks with their offsets.
fn named(file: &File, class: Class, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<(FileId, u64)> {
    let mut list = ListBuilder::default();
    each_chunk(file, class, |offset, bytes| {
        list.push(Chunk::of(bytes), &mut Discard).map_err(io::Error::other)?;
        each(offset, bytes)
    })?;
    list.finish(&mut Discard).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn filed(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn expected(mut bytes: &[u8], class: Class) -> FileId {
        let mut list = ListBuilder::default();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(class.cut(bytes));
            list.push(Chunk::of(chunk), &mut Discard).unwrap();
            bytes = rest;
        }
        list.finish(&mut Discard).unwrap().0
    }

    #[test]
    fn copies_equal_their_source_and_are_named_by_it() {
        let holed = [noise(300_000), vec![0; 3 << 20], noise(9)].concat();
        for bytes in [vec![], noise(1), noise(1 << 20), noise((1 << 20) + 1), vec![0; 5 << 20], holed] {
            for class in [Class::Fine, Class::Coarse] {
                let (source, mut target) = (filed(&bytes), filed(b""));
                let got = copy(&source, &target, class).unwrap();
                assert_eq!(got, (expected(&bytes, class), bytes.len() as u64));
                let mut copied = Vec::new();
                target.rewind().unwrap();
                target.read_to_end(&mut copied).unwrap();
                assert!(copied == bytes);
            }
        }
    }
}
