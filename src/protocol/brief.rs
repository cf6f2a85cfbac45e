//! Brief pages: directory pages in which the ids of files are cut short, for a receiver that has most of those files under
//! whatever names and times. What it takes for an id is proved by the id of the page.

use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{FileId, ID_LEN};

/// Bytes of an id that a brief page keeps; in the place of the others it has zeros. Of a million files that a receiver has,
/// one in a million is taken for another, which the page's id shows.
pub const BRIEF_LEN: usize = 5;
/// Bytes that it leaves out.
pub const REST_LEN: usize = ID_LEN - BRIEF_LEN;

/// What is left of an id.
pub type BriefId = [u8; BRIEF_LEN];

/// The ids of files among the entries of a page, in order.
pub fn files(entries: &mut [Entry]) -> impl Iterator<Item = &mut FileId> {
    entries.iter_mut().filter_map(|entry| match &mut entry.body {
        Body::File { id, .. } => Some(id),
        _ => None,
    })
}

/// Cuts them short, and says how many there are.
pub fn cut(entries: &mut [Entry]) -> usize {
    files(entries).map(|id| *id = whole(brief(id), [0; REST_LEN])).count()
}

/// What a brief page keeps of an id.
#[must_use]
pub fn brief(id: &FileId) -> BriefId {
    id.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// What it leaves out.
#[must_use]
pub fn rest(id: &FileId) -> [u8; REST_LEN] {
    id.as_bytes().last_chunk().copied().unwrap_or([0; REST_LEN])
}

/// An id of both.
#[must_use]
pub fn whole(brief: BriefId, rest: [u8; REST_LEN]) -> FileId {
    let mut bytes = [0; ID_LEN];
    bytes.iter_mut().zip(brief.into_iter().chain(rest)).for_each(|(to, from)| *to = from);
    FileId::from_bytes(bytes)
}
