//! Tree before content for who wants a part of it: pages from the signed top down to what is wanted, and the part built
//! from them.

use std::collections::HashMap;

use super::failure::Failure;
use super::line::Line;
use super::monitor::Monitor;
use super::take_tree::{Base, TreeTask, descent_failure, index_failure, page_failure, refusal_of, wrong_tree};
use crate::disk::exclude::Exclude;
use crate::disk::index::{Index, ModuleNumber, Reader};
use crate::disk::stage::Stage;
use crate::protocol::descent::DescentError;
use crate::protocol::message::{Descend, Message, refusal, tag};
use crate::protocol::part::{Held, PartDescent};
use crate::tree::codec::Malformed;
use crate::tree::dir::Built;
use crate::tree::hash::{HeadId, ID_LEN};
use crate::tree::name::{Name, TreePath};
use crate::tree::page::{PageError, PageSource};
use crate::tree::part::{Part, part_of};

/// Which part of which tree is wanted, and who is asked.
pub(super) struct PartTask<'a> {
    pub(super) index: &'a Index,
    pub(super) module: ModuleNumber,
    pub(super) stage: &'a Stage,
    pub(super) line: &'a Line,
    pub(super) head: HeadId,
    /// The tree of the head.
    pub(super) whole: Built,
    pub(super) exclude: &'a Exclude,
    pub(super) monitor: &'a dyn Monitor,
}

impl PartTask<'_> {
    /// Brings the part as a tree of its own into the index, and the pages that lead to it. All that is in it was
    /// verified from the signed top down; pages of what is left out are not asked for.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn take(&self) -> Result<Part, Failure> {
        let reader = self.index.reader().map_err(index_failure)?;
        let leaves_out =
            |place: &TreePath, name: &Name, is_directory: bool| self.exclude.leaves_out(place, name, is_directory);
        let mut fetched = HashMap::new();
        let mut descent = PartDescent::new(self.whole.id, self.whole.entries, &leaves_out);
        let singles = Singles { reader: &reader, fetched: &fetched };
        let held = Held { whole: &*reader, single: &singles };
        if !descent.is_held(held).map_err(|e| descent_failure(self.line, e))? {
            self.descend(&mut descent, &reader, &mut fetched)?;
        }
        let singles = Singles { reader: &reader, fetched: &fetched };
        let pages = Both { whole: &reader, singles: &singles };
        let mut batch = self.index.batch().map_err(index_failure)?;
        let part = part_of(&pages, self.whole, &leaves_out, &mut batch).map_err(page_failure)?;
        let part = part.ok_or_else(|| wrong_tree(self.line))?;
        for id in &part.way {
            if let Some(bytes) = pages.page(id).map_err(page_failure)? {
                batch.put_part_page(self.module, id, &bytes).map_err(index_failure)?;
            }
        }
        batch.commit().map_err(index_failure)?;
        Ok(part)
    }

    fn descend(
        &self,
        descent: &mut PartDescent<'_>,
        reader: &Reader,
        fetched: &mut HashMap<[u8; ID_LEN], Vec<u8>>,
    ) -> Result<(), Failure> {
        let line = self.line;
        let request = Descend { module: line.module.clone(), head: self.head, brief: false };
        let exchange = line.ask(Message::new(tag::DESCEND, &request))?;
        loop {
            let Some(message) = exchange.receive(self.monitor)? else { return Err(wrong_tree(line)) };
            match message.tag {
                tag::PAGES => match descent.pages(&message.body, fetched) {
                    Err(DescentError::Malformed(Malformed::TooLarge { .. })) => return self.take_whole(),
                    taken => taken.map_err(|e| descent_failure(line, e))?,
                },
                tag::REFUSED if refusal_of(&message) == refusal::TOO_LARGE => return self.take_whole(),
                _ => return Err(line.unexpected(&message)),
            }
            let singles = Singles { reader, fetched };
            let next = descent.next_round(Held { whole: &**reader, single: &singles });
            match next.map_err(|e| descent_failure(line, e))? {
                None => {}
                Some(Some(want)) => exchange.send(want)?,
                Some(None) => return exchange.finish(),
            }
        }
    }

    /// A tree too wide to be walked with its paths in memory is taken with all its entries.
    fn take_whole(&self) -> Result<(), Failure> {
        let Self { index, module, stage, line, head, whole: wanted, monitor, .. } = *self;
        TreeTask { index, module, stage, line, head, wanted, monitor }.take(Base::Nothing, None).map(drop)
    }
}

/// Pages that lead to a part: those that came now, and those of earlier heads.
struct Singles<'a> {
    reader: &'a Reader,
    fetched: &'a HashMap<[u8; ID_LEN], Vec<u8>>,
}

impl PageSource for Singles<'_> {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        match self.fetched.get(id) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => Ok(self.reader.part_page(id)?),
        }
    }
}

/// All pages that are held, for who knows which of them to read.
struct Both<'a> {
    whole: &'a Reader,
    singles: &'a Singles<'a>,
}

impl PageSource for Both<'_> {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        match self.singles.page(id)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.whole.page(id),
        }
    }
}
