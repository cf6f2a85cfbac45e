//! The receiver's side of DESCEND for who wants a part of a tree: pages of directories that it leaves out are never asked
//! for.
//!
//! What is left out depends on paths, so a page is held for one place and perhaps not for another. Two stores are asked:
//! one in which a page that is held means that all below it is held, and one of single pages that lead to what is wanted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::bits;
use super::descent::DescentError;
use super::limits::{BROWSE_BYTES_MAX, DESCENT_REFERENCES_MAX};
use super::message::{Message, tag};
use super::packed::unpack;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::dir::DirKind;
use crate::tree::hash::{DirId, ID_LEN};
use crate::tree::limits::PATH_DEPTH_MAX;
use crate::tree::name::TreePath;
use crate::tree::page::{Page, PageSource, Trust, decode_sent};
use crate::tree::part::LeavesOut;

/// Where pages are held.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// A page here means that all below it is here.
    pub whole: &'a dyn PageSource,
    /// A page here means nothing of those below it.
    pub single: &'a dyn PageSource,
}

/// Takes the pages of a part that are not held, level by level.
pub struct PartDescent<'a> {
    leaves_out: LeavesOut<'a>,
    /// Pages of this round that have not come yet, in the order in which they come.
    asked: VecDeque<Wanted>,
    /// What the pages of this round refer to.
    found: Vec<Wanted>,
    /// Bytes that `found` takes.
    bytes: usize,
    /// Entries of the tree, as its head says.
    entries: u64,
}

/// A page, and the directories that it is a page of; none if it is not wanted. Directories with equal content have equal
/// pages.
struct Wanted {
    id: DirId,
    places: Vec<Arc<TreePath>>,
}

impl<'a> PartDescent<'a> {
    /// Starts at the top page of a tree with so many `entries`; the request itself asks for that page.
    #[must_use]
    pub fn new(top: DirId, entries: u64, leaves_out: LeavesOut<'a>) -> Self {
        let top = Wanted { id: top, places: vec![Arc::new(TreePath::top())] };
        Self { leaves_out, asked: [top].into(), found: Vec::new(), bytes: 0, entries }
    }

    /// Whether all of the part is held, so that nothing has to be asked for.
    ///
    /// # Errors
    /// [`DescentError`].
    pub fn is_held(&self, held: Held<'_>) -> Result<bool, DescentError> {
        let mut left = self.pages_max();
        let Some(top) = self.asked.front() else { return Ok(true) };
        self.is_complete(top.id, &Arc::new(TreePath::top()), held, &mut left)
    }

    /// Takes one PAGES body; `fetched` becomes a part of the single pages that are held.
    ///
    /// # Errors
    /// [`DescentError::Malformed`].
    pub fn pages(&mut self, body: &[u8], fetched: &mut HashMap<[u8; ID_LEN], Vec<u8>>) -> Result<(), DescentError> {
        let list: Vec<serde_bytes::ByteBuf> = decode("pages", &unpack(body)?)?;
        if list.is_empty() {
            return Err(Malformed::Rule { what: "pages", rule: "none are in the message" }.into());
        }
        for bytes in list {
            let rule = Malformed::Rule { what: "pages", rule: "more came than were asked for" };
            let Wanted { id, places } = self.asked.pop_front().ok_or(rule)?;
            let page = decode_sent::<DirKind>(id.as_bytes(), &bytes)?;
            self.refer(&page, &places)?;
            fetched.insert(*id.as_bytes(), bytes.into_vec());
        }
        Ok(())
    }

    /// The next WANT once all pages of the round have come; `Some(None)` when nothing is left to ask for.
    ///
    /// # Errors
    /// [`DescentError`].
    #[allow(clippy::option_option, reason = "a round that is not over, a round, and the end are three answers")]
    pub fn next_round(&mut self, held: Held<'_>) -> Result<Option<Option<Message>>, DescentError> {
        if !self.asked.is_empty() {
            return Ok(None);
        }
        let found = std::mem::take(&mut self.found);
        self.bytes = 0;
        let mut left = self.pages_max();
        let mut want = bits::clear(found.len());
        let mut asked: VecDeque<Wanted> = VecDeque::new();
        let mut at: HashMap<DirId, usize> = HashMap::new();
        for (i, Wanted { id, places }) in found.into_iter().enumerate() {
            let mut missing = Vec::new();
            for place in places {
                if !self.is_complete(id, &place, held, &mut left)? {
                    missing.push(place);
                }
            }
            if missing.is_empty() {
                continue;
            }
            if let Some(same) = at.get(&id).and_then(|at| asked.get_mut(*at)) {
                same.places.extend(missing);
                continue;
            }
            at.insert(id, asked.len());
            asked.push_back(Wanted { id, places: missing });
            bits::set(&mut want, i);
        }
        self.asked = asked;
        Ok(Some((!self.asked.is_empty()).then_some(Message { tag: tag::WANT, body: want })))
    }

    /// Notes what a page refers to, and for which places that is wanted.
    fn refer(&mut self, page: &Page<DirKind>, places: &[Arc<TreePath>]) -> Result<(), DescentError> {
        match page {
            Page::Upper(_, ups) => {
                for up in ups {
                    self.note(up.1, places.to_vec(), 0)?;
                }
            }
            Page::Leaf(entries) => {
                for entry in entries {
                    let Some(id) = entry.directory_id() else { continue };
                    let (mut below, mut bytes) = (Vec::new(), 0);
                    for place in places.iter().filter(|place| !(self.leaves_out)(place, &entry.name, true)) {
                        let path = deeper(place.join(&entry.name))?;
                        bytes += path.as_bytes().len();
                        below.push(path);
                    }
                    self.note(id, below, bytes)?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, id: DirId, places: Vec<Arc<TreePath>>, bytes: usize) -> Result<(), DescentError> {
        self.bytes += bytes + size_of::<Wanted>() + places.len() * size_of::<[usize; 6]>();
        bounded("bytes of a round of a descent", self.bytes as u64, BROWSE_BYTES_MAX as u64)?;
        self.found.push(Wanted { id, places });
        bounded("references of a round", self.found.len() as u64, DESCENT_REFERENCES_MAX as u64)?;
        Ok(())
    }

    /// Pages of a tree of so many entries, counted by place: each directory has a page, and each page but that of an
    /// empty directory holds an entry or stands above two of them.
    fn pages_max(&self) -> u64 {
        self.entries.saturating_mul(3).saturating_add(1)
    }

    /// Whether all that is wanted of the page, as a page of the directory `place`, and below it is held.
    fn is_complete(
        &self,
        id: DirId,
        place: &Arc<TreePath>,
        held: Held<'_>,
        left: &mut u64,
    ) -> Result<bool, DescentError> {
        let mut todo = vec![(id, place.clone())];
        while let Some((id, place)) = todo.pop() {
            let rule = Malformed::Rule { what: "tree", rule: "has more pages than its entries fill" };
            *left = left.checked_sub(1).ok_or(rule)?;
            if held.whole.page(id.as_bytes())?.is_some() {
                continue;
            }
            let Some(bytes) = held.single.page(id.as_bytes())? else { return Ok(false) };
            match Page::<DirKind>::decode(&bytes, Trust::Index)? {
                Page::Upper(_, ups) => todo.extend(ups.iter().map(|up| (up.1, place.clone()))),
                Page::Leaf(entries) => {
                    for entry in &entries {
                        if let Some(id) = entry.directory_id()
                            && !(self.leaves_out)(&place, &entry.name, true)
                        {
                            todo.push((id, deeper(place.join(&entry.name))?));
                        }
                    }
                }
            }
        }
        Ok(true)
    }
}

fn deeper(path: TreePath) -> Result<Arc<TreePath>, Malformed> {
    bounded("names of a path", path.depth() as u64, PATH_DEPTH_MAX as u64)?;
    Ok(Arc::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::packed::pack;
    use crate::protocol::sender_descent::references;
    use crate::tree::codec::encode;
    use crate::tree::dir::{Built, build};
    use crate::tree::entry::{Body, Entry, Meta};
    use crate::tree::name::Name;
    use crate::tree::page::{PageSink, Pages};
    use crate::tree::part::part_of;

    fn entry(name: &str, body: Body) -> Entry {
        let meta = Meta { mode: 0o777, ..Meta::default() };
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta, body, attributes: vec![] }
    }

    fn link(name: &str) -> Entry {
        entry(name, Body::Link { target: b"target".to_vec().into() })
    }

    /// `a/x` and `b/x` with the same 700 links, and `c` with one.
    fn tree(pages: &mut Pages) -> (Built, DirId) {
        let many: Vec<_> = (0..700).map(|i| link(&format!("l{i:03}"))).collect();
        let x = build(&many, pages).unwrap();
        let a = build(&[entry("x", x.body())], pages).unwrap();
        let b = build(&[entry("x", x.body()), link("y")], pages).unwrap();
        let c = build(&[link("one")], pages).unwrap();
        let top = [entry("a", a.body()), entry("b", b.body()), entry("c", c.body())];
        (build(&top, pages).unwrap(), x.id)
    }

    fn page(pages: &Pages, id: &DirId) -> Vec<u8> {
        pages.page(id.as_bytes()).unwrap().unwrap()
    }

    /// Lets a descent ask for what it lacks; gives the pages that came.
    fn run(tree: Built, pages: &Pages, whole: &Pages, single: &Pages, leaves_out: LeavesOut<'_>) -> Vec<DirId> {
        let mut descent = PartDescent::new(tree.id, tree.entries, leaves_out);
        let (mut round, mut came) = (vec![tree.id], Vec::new());
        let mut fetched = single.clone();
        if descent.is_held(Held { whole, single }).unwrap() {
            return came;
        }
        loop {
            let list: Vec<_> = round.iter().map(|id| serde_bytes::ByteBuf::from(page(pages, id))).collect();
            let found: Vec<DirId> = list
                .iter()
                .flat_map(|bytes| references(&Page::<DirKind>::decode(bytes, Trust::Peer).unwrap()))
                .collect();
            descent.pages(&pack(&encode(&list)), &mut fetched).unwrap();
            came.append(&mut round);
            let next = descent.next_round(Held { whole, single: &fetched }).unwrap();
            let Some(want) = next.expect("the round is over") else { break };
            assert_eq!(want.body.len(), found.len().div_ceil(8));
            round =
                found.into_iter().enumerate().filter(|(i, _)| bits::is_set(&want.body, *i)).map(|(_, id)| id).collect();
        }
        assert!(part_of(&fetched, tree, leaves_out, &mut Pages::new()).unwrap().is_some());
        came
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn pages_of_what_is_left_out_are_not_asked_for_and_equal_ones_once() {
        let mut pages = Pages::new();
        let (top, x) = tree(&mut pages);
        let none = Pages::new();
        let all = run(top, &pages, &none, &none, &|_, _, _| false);
        assert_eq!(all.len(), pages.len());
        let no_x = run(top, &pages, &none, &none, &|_, name, _| name.as_bytes() == b"x");
        assert!(no_x.len() == 4 && !no_x.contains(&x));
        // It is wanted at one of its two places.
        let one_x = run(top, &pages, &none, &none, &|place, name, _| place == &path("a") && name.as_bytes() == b"x");
        assert_eq!(one_x.len(), pages.len());
    }

    #[test]
    fn what_is_held_is_not_asked_for_where_all_below_it_is() {
        let mut pages = Pages::new();
        let (top, x) = tree(&mut pages);
        let none = Pages::new();
        let no_x = |_: &TreePath, name: &Name, _: bool| name.as_bytes() == b"x";
        let first = run(top, &pages, &none, &none, &no_x);
        let mut single = Pages::new();
        first.iter().for_each(|id| single.put(id.as_bytes(), &page(&pages, id)).unwrap());
        assert!(run(top, &pages, &none, &single, &no_x).is_empty());
        // With other rules something is missing below pages that are held.
        let more = run(top, &pages, &none, &single, &|_, _, _| false);
        assert!(more.contains(&x) && more.len() == pages.len() - 1, "all but c");
        assert!(run(top, &pages, &pages, &none, &no_x).is_empty());
    }

    #[test]
    fn a_tree_of_more_pages_than_its_head_says_is_refused() {
        let mut pages = Pages::new();
        let (top, _) = tree(&mut pages);
        let held = Held { whole: &Pages::new(), single: &pages };
        let is_held = |entries| PartDescent::new(top.id, entries, &|_, _, _| false).is_held(held);
        assert!(is_held(top.entries).unwrap());
        assert!(matches!(is_held(2), Err(DescentError::Malformed(_))));
    }
}
