//! Content that came with the news of a head.

use super::Session;
use crate::mirror::dial::nonsense;
use crate::mirror::failure::Failure;
use crate::mirror::shelf::StageShelf;
use crate::mirror::take_content::fetch_failure;
use crate::mirror::take_tree::{index_failure, page_failure};
use crate::protocol::fetch::{Fetch, Wanted};
use crate::protocol::message::tag;
use crate::protocol::pack::Pack;
use crate::tree::codec::Malformed;
use crate::tree::dir::look_up;
use crate::tree::entry::Body;

impl Session<'_> {
    /// Takes the content of a pack into the stage. What does not come right is asked for afterwards like what is not in
    /// the pack.
    pub(super) fn unpack(&self, pack: &Pack) -> Result<(), Failure> {
        let Some((_, base)) = self.published.filter(|(id, _)| *id == pack.base) else { return Ok(()) };
        let index = self.node.index;
        let reader = index.reader().map_err(index_failure)?;
        let mut fetch = Fetch::default();
        for item in pack.files() {
            let entry = look_up(&*reader, self.belief.head.snapshot, &item.path).map_err(page_failure)?;
            let Some(Body::File { size, class, id }) = entry.map(|entry| entry.body) else {
                let rule = Malformed::Rule { what: "push", rule: "names a path that is no file" };
                return Err(nonsense(&self.line.host, &rule));
            };
            fetch.expect(Wanted { path: item.path.clone(), id, size, class, way: item.way });
        }
        let mut shelf = StageShelf::new(index, &self.stage, &self.target, Some(base.id));
        for message in pack.content() {
            let taken = match message.tag {
                tag::LEAVES => fetch.leaves(&message.body),
                _ => fetch.batch(&message.body, &mut shelf).map(drop),
            };
            taken.map_err(|error| fetch_failure(&self.line.host, error))?;
        }
        shelf.flush().map_err(index_failure)
    }
}
