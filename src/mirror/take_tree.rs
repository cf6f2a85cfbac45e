//! Tree before content: getting the entries of a head, by the way that fits what this side has.

use std::collections::HashMap;

use super::dial::nonsense;
use super::failure::Failure;
use super::line::Line;
use super::monitor::Monitor;
use super::spool::Spool;
use crate::disk::index::{Index, IndexError, ModuleNumber};
use crate::disk::stage::Stage;
use crate::protocol::brief::BriefId;
use crate::protocol::change::{ChangeError, ChangeReader, records_in};
use crate::protocol::descent::{Descent, DescentError};
use crate::protocol::message::{Descend, Message, Refused, Tree, refusal, tag};
use crate::protocol::pack::Pack;
use crate::tree::codec::{Malformed, decode};
use crate::tree::count::is_whole;
use crate::tree::diff::changes;
use crate::tree::dir::Built;
use crate::tree::edit::EditError;
use crate::tree::hash::ID_LEN;
use crate::tree::hash::{BaseId, DirId, HeadId};
use crate::tree::limits::PATH_DEPTH_MAX;
use crate::tree::page::{PageError, PageSink, PageSource};

/// What this side has to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The tree of a head.
    Head(HeadId, Built),
    /// Some tree, which may be one of the sender's past.
    Tree(Built),
    /// Some tree that is no tree of the sender's.
    Unknown,
    /// No entries.
    Nothing,
}

/// A tree that both sides know, and what the sender knows it by.
pub(super) type KnownBase = (BaseId, Built);

/// How the transfer of a tree ended.
enum Came {
    /// The pages are in the index.
    Whole,
    /// Another way has to be taken.
    Not,
}

/// What is wanted, and of whom.
pub(super) struct TreeTask<'a> {
    pub(super) index: &'a Index,
    pub(super) module: ModuleNumber,
    pub(super) stage: &'a Stage,
    pub(super) line: &'a Line,
    pub(super) head: HeadId,
    /// Its tree.
    pub(super) wanted: Built,
    pub(super) monitor: &'a dyn Monitor,
}

impl TreeTask<'_> {
    /// Brings all pages of the tree into the index. Pages become visible all at once, so that one that is held always means
    /// that all below it is held too. Gives the base if it is one that the sender knows.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn take(&self, base: Base, pack: Option<&Pack>) -> Result<Option<KnownBase>, Failure> {
        let known = match base {
            Base::Head(id, built) => Some((id.into(), built)),
            _ => None,
        };
        let held = self.index.reader().and_then(|reader| Ok(reader.page(self.wanted.id.as_bytes())?.is_some()));
        if held.map_err(index_failure)? {
            return Ok(known);
        }
        if let (Some(pack), Base::Head(id, built)) = (pack, base)
            && (pack.base, pack.head) == (id, self.head)
            && let Came::Whole = self.by_pack(built, pack)?
        {
            return Ok(known);
        }
        let (asked, is_asked) = match base {
            Base::Tree(built) => (Some((built.id.into(), built)), true),
            Base::Head(..) | Base::Nothing => (known, true),
            Base::Unknown => (None, false),
        };
        if is_asked && let Came::Whole = self.by_changes(asked)? {
            return Ok(asked);
        }
        match self.by_descent()? {
            Came::Whole => Ok(known),
            Came::Not => match self.by_changes(None)? {
                Came::Whole => Ok(known),
                Came::Not => Err(wrong_tree(self.line)),
            },
        }
    }

    /// Asks for changes. They are gathered before they are applied: nobody else may wait for the index because a line is
    /// slow.
    fn by_changes(&self, base: Option<KnownBase>) -> Result<Came, Failure> {
        let line = self.line;
        let (id, built) = (base.map(|(id, _)| id), base.map(|(_, built)| built));
        let request = Tree { module: line.module.clone(), head: self.head, base: id };
        let exchange = line.ask(Message::new(tag::TREE, &request))?;
        exchange.finish()?;
        let mut left = built.map_or(0, |built| built.entries).saturating_add(self.wanted.entries);
        let mut bodies = Spool::default();
        while let Some(message) = exchange.receive(self.monitor)? {
            match message.tag {
                tag::CHANGES => {
                    // Each is of a path of one of the two trees: what goes on without end is a lie.
                    let records = records_in(&message.body).map_err(|e| nonsense(&line.host, &e))?;
                    let rule = Malformed::Rule { what: "changes", rule: "are more than the two trees have entries" };
                    left = left.checked_sub(records).ok_or_else(|| nonsense(&line.host, &rule))?;
                    bodies.push(self.stage, &message.body)?;
                }
                tag::BASE_UNKNOWN => return Ok(Came::Not),
                // Its pages say what it has.
                tag::REFUSED if refusal_of(&message) == refusal::PARTIAL => return Ok(Came::Not),
                _ => return Err(line.unexpected(&message)),
            }
        }
        apply(self.index, line, self.wanted, built, bodies.read())
    }

    fn by_pack(&self, base: Built, pack: &Pack) -> Result<Came, Failure> {
        let bodies = pack.changes().iter().map(|body| Ok(body.clone()));
        apply(self.index, self.line, self.wanted, Some(base), bodies)
    }

    /// Walks down the pages. Of the files in them only the beginnings of ids come, and the rest of those that are not here.
    fn by_descent(&self) -> Result<Came, Failure> {
        let Self { index, module, line, wanted, .. } = *self;
        let request = Descend { module: line.module.clone(), head: self.head, brief: true };
        let exchange = line.ask(Message::new(tag::DESCEND, &request))?;
        let reader = index.reader().map_err(index_failure)?;
        let mut pages = Overlay { below: &*reader, pages: HashMap::new() };
        let guess = |brief: BriefId| reader.file_id(module, &brief).map_err(PageError::from);
        let mut descent = Descent::new(wanted.id, &guess);
        loop {
            let Some(message) = exchange.receive(self.monitor)? else { return Err(wrong_tree(line)) };
            match message.tag {
                tag::PAGES => descent.pages(&message.body, &mut pages).map_err(|e| descent_failure(line, e))?,
                tag::REST => match descent.rest(&message.body, &mut pages) {
                    Err(DescentError::Mistaken) => return Ok(Came::Not),
                    rest => rest.map_err(|e| descent_failure(line, e))?,
                },
                tag::REFUSED if refusal_of(&message) == refusal::TOO_LARGE => return Ok(Came::Not),
                _ => return Err(line.unexpected(&message)),
            }
            match descent.next_round(&pages).map_err(|e| descent_failure(line, e))? {
                None => {}
                Some(Some(want)) => exchange.send(want)?,
                Some(None) => break,
            }
        }
        exchange.finish()?;
        check_totals(&pages, wanted, line)?;
        let mut batch = index.batch().map_err(index_failure)?;
        for (id, bytes) in &pages.pages {
            batch.put(id, bytes).map_err(page_failure)?;
        }
        batch.commit().map_err(index_failure)?;
        Ok(Came::Whole)
    }
}

/// Applies changes to a base, or to nothing, and keeps the tree if it is the wanted one.
fn apply(
    index: &Index,
    line: &Line,
    wanted: Built,
    base: Option<Built>,
    bodies: impl Iterator<Item = Result<Vec<u8>, Failure>>,
) -> Result<Came, Failure> {
    let mut batch = index.batch().map_err(index_failure)?;
    let mut reader = ChangeReader::new(base, wanted.entries);
    let work = || {
        for body in bodies {
            reader.apply(&body?, &mut batch).map_err(Applied::Wrong)?;
        }
        Ok(())
    };
    let done = work().and_then(|()| reader.finish(&mut batch).map_err(Applied::Wrong));
    match done {
        Ok(got) if got == wanted => {}
        Ok(_) if base.is_some() => return Ok(Came::Not),
        Ok(_) => return Err(wrong_tree(line)),
        Err(Applied::Failed(failure)) => return Err(failure),
        Err(Applied::Wrong(ChangeError::Edit(EditError::Page(error)))) => return Err(page_failure(error)),
        // The base may not be what both sides think: the descent finds out.
        Err(Applied::Wrong(ChangeError::Edit(_))) if base.is_some() => return Ok(Came::Not),
        Err(Applied::Wrong(error)) => return Err(nonsense(&line.host, &error)),
    }
    if let Some(base) = base {
        check_depth(&batch, base.id, wanted, line)?;
    }
    batch.commit().map_err(index_failure)?;
    Ok(Came::Whole)
}

/// Why changes were not applied.
enum Applied {
    /// They do not fit.
    Wrong(ChangeError),
    /// They cannot be read back.
    Failed(Failure),
}

impl From<Failure> for Applied {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The code of a REFUSED; 0 for anything else.
pub(super) fn refusal_of(message: &Message) -> u16 {
    match message.tag {
        tag::REFUSED => decode::<Refused>("refusal", &message.body).map_or(0, |refused| refused.0),
        _ => 0,
    }
}

/// Compares the totals and the cut of every directory with what is said of it. Directories that were held are checked
/// as well: it is one pass over pages that are needed next anyway.
fn check_totals(pages: &dyn PageSource, wanted: Built, line: &Line) -> Result<(), Failure> {
    if is_whole(pages, wanted).map_err(page_failure)? { Ok(()) } else { Err(wrong_tree(line)) }
}

/// Paths that changes give are checked as they are decoded; directories taken over from elsewhere may lie deeper than
/// before. No more is walked than the signed head says is there.
fn check_depth(pages: &dyn PageSource, base: DirId, wanted: Built, line: &Line) -> Result<(), Failure> {
    let mut left = wanted.entries;
    for change in changes(pages, Some(base), Some(wanted.id)) {
        let change = change.map_err(page_failure)?;
        let rest = left.checked_sub(u64::from(change.new.is_some()));
        left = rest.filter(|_| change.path.depth() <= PATH_DEPTH_MAX).ok_or_else(|| wrong_tree(line))?;
    }
    Ok(())
}

pub(super) fn wrong_tree(line: &Line) -> Failure {
    let rule = "its entries do not make the tree of the signed head";
    nonsense(&line.host, &Malformed::Rule { what: "tree", rule })
}

/// Pages that have come, above those that are held: they are shown to others all at once.
struct Overlay<'a> {
    below: &'a dyn PageSource,
    pages: HashMap<[u8; ID_LEN], Vec<u8>>,
}

impl PageSource for Overlay<'_> {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        match self.pages.get(id) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.below.page(id),
        }
    }
}

impl PageSink for Overlay<'_> {
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError> {
        self.pages.insert(*id, bytes.to_vec());
        Ok(())
    }
}

pub(super) fn descent_failure(line: &Line, error: DescentError) -> Failure {
    match error {
        DescentError::Malformed(error) => nonsense(&line.host, &error),
        DescentError::Page(error) => page_failure(error),
        DescentError::Mistaken => wrong_tree(line),
    }
}

/// What to say when the index fails.
#[must_use]
pub(super) fn index_failure(error: IndexError) -> Failure {
    use super::failure::Exit;
    let text = super::dial::chain(&error);
    let (exit, fix) = match &error {
        IndexError::Version { .. } => (Exit::Config, "update mirra"),
        IndexError::Damaged { .. } | IndexError::Foreign { .. } => {
            (Exit::LocalFile, "move .mirra/index.db away: it is rebuilt from the trees on disk")
        }
        _ if error.is_full() => (Exit::NoSpace, "make room where .mirra lies, and try again"),
        _ => (Exit::LocalFile, "check the disk that .mirra lies on"),
    };
    Failure::new(exit, "the index cannot be used", text, fix)
}

/// What to say when a page cannot be read.
#[must_use]
pub(super) fn page_failure(error: PageError) -> Failure {
    index_failure(IndexError::from(error))
}
