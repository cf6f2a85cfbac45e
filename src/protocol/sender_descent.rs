//! The sender's side of DESCEND: pages round by round, with the ids of files cut short for who asks for that.

use std::collections::VecDeque;

use super::bits::is_set;
use super::brief::{self, REST_LEN};
use super::limits::{BRIEF_IDS_MAX, DESCENT_REFERENCES_MAX, PACKED_TARGET, REST_IDS_TARGET};
use super::message::{Message, refusal, tag};
use super::packed::pack;
use super::sender::internal;
use crate::tree::codec::encode;
use crate::tree::dir::DirKind;
use crate::tree::entry::Entry;
use crate::tree::hash::DirId;
use crate::tree::page::{Page, PageSource, Trust};

/// One descent.
pub(super) struct DescentAnswer {
    /// Pages of this round that were not sent yet.
    round: VecDeque<DirId>,
    /// What those that were sent refer to.
    references: Vec<DirId>,
    /// Pages of this round that were sent brief, and the ids that were cut in them; `None` where none shall be.
    brief: Option<Brief>,
    /// What is still to be said of the last round.
    rests: Option<Rests>,
    /// The code for a page that is not held.
    absent: u16,
}

#[derive(Default)]
struct Brief {
    pages: Vec<DirId>,
    ids: usize,
}

/// Ids of which the rest is wanted: those whose bits are set, counted over all brief pages of a round.
struct Rests {
    pages: std::vec::IntoIter<DirId>,
    bits: Vec<u8>,
    at: usize,
}

impl DescentAnswer {
    pub(super) fn new(top: DirId, brief: bool, absent: u16) -> Self {
        let brief = brief.then(Brief::default);
        Self { round: [top].into(), references: Vec::new(), brief, rests: None, absent }
    }

    /// Takes a later message, or `None` for the end of the receiver's direction; says whether everything is said.
    pub(super) fn handle(&mut self, message: Option<&Message>) -> Result<bool, u16> {
        match message {
            _ if self.is_busy() => Err(refusal::BAD_REQUEST),
            None => Ok(true),
            Some(message) if message.tag == tag::WANT => self.want(&message.body).map(|()| false),
            Some(_) => Err(refusal::BAD_REQUEST),
        }
    }

    /// The next message; `None` when it is the receiver's turn.
    pub(super) fn next_message(&mut self, pages: &dyn PageSource) -> Result<Option<Message>, u16> {
        if let Some(rests) = &mut self.rests {
            let body = rests.next_body(pages, self.absent)?;
            if !body.is_empty() {
                return Ok(Some(Message { tag: tag::REST, body }));
            }
            self.rests = None;
        }
        if self.round.is_empty() { Ok(None) } else { self.pages_message(pages).map(Some) }
    }

    fn is_busy(&self) -> bool {
        !self.round.is_empty() || self.rests.is_some()
    }

    /// Takes the bits of references, and those of ids behind them; the first of each is in the highest bit.
    fn want(&mut self, body: &[u8]) -> Result<(), u16> {
        let brief = self.brief.as_mut().map(std::mem::take).unwrap_or_default();
        let references = std::mem::take(&mut self.references);
        let (for_references, for_ids) = (references.len().div_ceil(8), brief.ids.div_ceil(8));
        if body.len() != for_references + for_ids {
            return Err(refusal::BAD_REQUEST);
        }
        let (bits, ids) = body.split_at(for_references);
        self.round = references.iter().enumerate().filter(|(i, _)| is_set(bits, *i)).map(|(_, id)| *id).collect();
        if ids.iter().any(|byte| *byte != 0) {
            self.rests = Some(Rests { pages: brief.pages.into_iter(), bits: ids.to_vec(), at: 0 });
        }
        Ok(())
    }

    fn pages_message(&mut self, pages: &dyn PageSource) -> Result<Message, u16> {
        let (mut list, mut size) = (Vec::new(), 0);
        while size < PACKED_TARGET {
            let Some(id) = self.round.pop_front() else { break };
            let bytes = pages.page(id.as_bytes()).map_err(|e| internal(&e))?.ok_or(self.absent)?;
            let page = Page::<DirKind>::decode(&bytes, Trust::Index).map_err(|e| internal(&e))?;
            self.references.extend(references(&page));
            if self.references.len() > DESCENT_REFERENCES_MAX {
                return Err(refusal::TOO_LARGE);
            }
            size += bytes.len();
            list.push(serde_bytes::ByteBuf::from(self.brief(id, page).unwrap_or(bytes)));
        }
        Ok(Message { tag: tag::PAGES, body: pack(&encode(&list)) })
    }

    /// The page with the ids of its files cut short, if that is asked for and there are some.
    fn brief(&mut self, id: DirId, page: Page<DirKind>) -> Option<Vec<u8>> {
        let (brief, Page::Leaf(mut entries)) = (self.brief.as_mut()?, page) else { return None };
        let ids = brief::cut(&mut entries);
        if ids == 0 || brief.ids + ids > BRIEF_IDS_MAX {
            return None;
        }
        brief.ids += ids;
        brief.pages.push(id);
        Some(Page::<DirKind>::Leaf(entries).encode())
    }
}

impl Rests {
    /// The rests of the next ids that are wanted; none when no more are.
    fn next_body(&mut self, pages: &dyn PageSource, absent: u16) -> Result<Vec<u8>, u16> {
        let mut body = Vec::new();
        while body.len() < REST_IDS_TARGET * REST_LEN {
            let Some(id) = self.pages.next() else { break };
            let bytes = pages.page(id.as_bytes()).map_err(|e| internal(&e))?.ok_or(absent)?;
            let page = Page::<DirKind>::decode(&bytes, Trust::Index).map_err(|e| internal(&e))?;
            let Page::Leaf(mut entries) = page else { continue };
            for file in brief::files(&mut entries) {
                if is_set(&self.bits, self.at) {
                    body.extend(brief::rest(file));
                }
                self.at += 1;
            }
        }
        Ok(body)
    }
}

/// The directories and pages that a directory page refers to, in order: what WANT counts.
#[must_use]
pub fn references(page: &Page<DirKind>) -> Vec<DirId> {
    match page {
        Page::Leaf(entries) => entries.iter().filter_map(Entry::directory_id).collect(),
        Page::Upper(_, ups) => ups.iter().map(|up| up.1).collect(),
    }
}
