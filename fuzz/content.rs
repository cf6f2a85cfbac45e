//! Content by copies of bytes: steps, what they rebuild, and the blocks that both sides name.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use mirra::delta::blocks::Range;
use mirra::delta::diff::{Around, Hashing, Search, Step as Found};
use mirra::delta::rabin::Rabin;
use mirra::protocol::batch::{Batch, context};
use mirra::protocol::fetch::{Fetch, Have, Landing, Outcome, Shelf, Wanted};
use mirra::protocol::limits::{
    BATCH_STEPS_MAX, BLOCKS_MAX, GAP_BYTES_MAX, LOOK_BLOCKS_MAX, LOOKS_AHEAD_MAX, LOOKS_MAX,
};
use mirra::protocol::message::{Blocks, Content, Look, Message, body_max, tag};
use mirra::protocol::packed::pack;
use mirra::protocol::sender::{Answer, Output};
use mirra::protocol::short::{first_look, pack_gaps, unpack_gaps};
use mirra::protocol::step::{Step, decode_steps, encode_steps};
use mirra::tree::chunker::Class;
use mirra::tree::codec::decode;
use mirra::tree::dir::look_up;
use mirra::tree::entry::Body;
use mirra::tree::hash::HeadId;
use mirra::tree::name::TreePath;
use mirra::tree::page::{Discard, PageSink, Pages};

/// Steps are refused, or are what encodes to the same bytes.
pub(crate) fn steps(data: &[u8]) {
    let Ok(steps) = decode_steps(data) else { return };
    assert!(steps.len() <= BATCH_STEPS_MAX);
    assert_eq!(encode_steps(&steps), data, "steps have one form");
    let parts = context(&steps);
    assert!(parts.len() <= 2 * steps.len() && parts.is_sorted_by_key(|part| part.step));
    for part in parts {
        if let Step::Copy { len, .. } | Step::Old { len, .. } = &steps[part.step] {
            let (offset, taken) = part.side.of(*len, true);
            assert!(offset + taken <= *len, "context within its step");
        }
    }
}

/// Gaps are refused, or are in order, apart, and within the bounds; those of a first look are never refused.
pub(crate) fn gaps(data: &[u8]) {
    let [shift, rest @ ..] = data else { return };
    let numbers: Vec<u64> = rest.chunks(1 + usize::from(shift % 8)).map(number).collect();
    for blocks_max in [BLOCKS_MAX, LOOK_BLOCKS_MAX] {
        let block = 1u32 << (shift >> 3);
        let Some((gaps, blocks)) = unpack_gaps(&numbers, block, blocks_max) else { continue };
        assert!(blocks <= blocks_max);
        assert!(gaps.iter().map(|gap| gap.1).sum::<u64>() <= GAP_BYTES_MAX);
        assert!(gaps.is_sorted_by(|a, b| a.0 + a.1 <= b.0));
        assert_eq!(pack_gaps(&gaps), numbers);
    }
    let any = numbers.as_chunks::<2>().0.iter().map(|[start, len]| Some((start >> 2, len >> 2)));
    let (block, chosen) = first_look(any);
    assert!(unpack_gaps(&pack_gaps(&chosen), block, BLOCKS_MAX).is_some(), "our own look is allowed");
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

static RABIN: LazyLock<Arc<Rabin>> = LazyLock::new(|| Arc::new(Rabin::new(&[6; 32])));

/// Whatever the hashes of old blocks are, what is found makes the new bytes in number, from within the old ranges.
pub(crate) fn search(data: &[u8]) {
    let [mode, old, before, after, rest @ ..] = data else { return };
    let (block, bits) = (2usize << (mode % 8), 16 + u32::from(mode / 16));
    let (hashes, new) = rest.split_at(usize::from(*old).min(rest.len()));
    // The last part of the new bytes is a place of the old ones, so that something is found.
    let mut lying: Vec<u32> = hashes.iter().map(|byte| RABIN.of(&[*byte; 4])).collect();
    RABIN.list(new, block, &mut lying);
    let (first, second) = lying.split_at(lying.len() / 2);
    let range = |start: u64, hashes: &[u32]| start + (hashes.len() * block) as u64;
    let start = u64::from(*before);
    let second_start = range(start, first) + u64::from(*after);
    let ranges = [
        Range { start, len: (first.len() * block) as u64, hashes: first },
        Range { start: second_start, len: (second.len() * block) as u64, hashes: second },
    ];
    let search = Search::new(Hashing { rabin: RABIN.clone(), block, bits }, &ranges);
    let end = range(second_start, second);
    let around = Around { before: (*before > 0).then_some(start), after: (*after > 0).then_some(end) };
    let steps = search.steps(new, around);
    let made: u64 = steps
        .iter()
        .map(|step| match step {
            Found::Copy { from, len } => {
                let within = |range: &Range<'_>| *from >= range.start && from + len <= range.start + range.len;
                let across = *from >= start && from + len <= end && *after == 0;
                assert!(*len > 0 && (across || ranges.iter().any(within)), "{from} {len}");
                *len
            }
            Found::Literal { len } => *len,
        })
        .sum();
    assert_eq!(made, new.len() as u64);
}

/// A receiver takes any steps for files asked for in any way: what lands is what was wanted, and what is said of a file is
/// bounded by its size. The first bytes choose the ways and the prefix.
pub(crate) fn content(data: &[u8]) {
    let [ways, prefix, packing, encoded @ ..] = data else { return };
    let library = super::Library::new();
    let mut fetch = Fetch::default();
    let mut total = 0;
    for (place, path) in ["d/b", "d/e/c", "empty"].iter().enumerate() {
        let path = TreePath::new(path.as_bytes()).expect("a path of the library");
        let entry = look_up(&library.pages, library.new.id, &path).ok().flatten().expect("a file of the library");
        let Body::File { id, size, class } = entry.body else { panic!("it is a file") };
        total += size;
        fetch.expect(Wanted { path, id, size, class, way: ways >> (2 * place) & 3 });
    }
    let mut shelf = Here { library: &library, pages: Pages::new() };
    // What is left of the bytes is said in a second batch, which may begin within a file.
    let middle = encoded.len() * usize::from(ways >> 6) / 4;
    for part in [&encoded[..middle], &encoded[middle..]] {
        let Some(body) = batch(part, usize::from(*prefix) * 64, *packing) else { continue };
        let Ok(outcomes) = fetch.batch(&body, &mut shelf) else { return };
        assert!(outcomes.len() <= 3);
        assert!(outcomes.iter().all(|outcome| !matches!(outcome, Outcome::Done(wanted) if wanted.size > total)));
        // Chunks that are here count as one byte each.
        assert!(
            fetch.counts.literal <= total
                && fetch.counts.from_basis + fetch.counts.from_chunks <= total * Class::Fine.longest() as u64
        );
    }
}

/// A body of these steps, with literals from the new version, as honest bytes may be.
fn batch(encoded: &[u8], prefix: usize, packing: u8) -> Option<Vec<u8>> {
    let steps = decode_steps(encoded).ok()?;
    let literals: u64 = steps.iter().map(Step::literal_bytes).fold(0, u64::saturating_add);
    let len = usize::try_from(literals).ok().filter(|len| *len <= 1 << 20)?;
    let text = b"some text that shrinks. ".repeat(len / 24 + 1);
    let frame = mirra::protocol::packed::pack_with(&text[..len], 1, &[])?;
    let (rest, bits, prefix) = if packing & 1 == 1 { (frame.as_slice(), 1, prefix) } else { (&text[..len], 0, 0) };
    let mut body = Vec::new();
    for length in [encoded.len(), len, prefix] {
        body.extend(u32::try_from(length).ok()?.to_be_bytes());
    }
    body.push(bits);
    body.extend_from_slice(encoded);
    body.extend_from_slice(rest);
    assert!(Batch::decode(&body).is_ok() || steps.is_empty() || prefix > 0 || has_late_basis(&steps));
    Some(body)
}

fn has_late_basis(steps: &[Step]) -> bool {
    steps.windows(2).any(|pair| matches!(pair[1], Step::Basis(_)) && !pair[0].ends_file())
}

/// A shelf that has the old version of each file.
struct Here<'l> {
    library: &'l super::Library,
    pages: Pages,
}

struct Old(Vec<u8>);

impl Have for Old {
    fn chunk(&self, index: u64) -> Option<Vec<u8>> {
        let (mut rest, mut left) = (&self.0[..], index);
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(Class::Fine.cut(rest));
            if left == 0 {
                return Some(chunk.to_vec());
            }
            (rest, left) = (tail, left - 1);
        }
        None
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> bool {
        let bytes = usize::try_from(from).ok().and_then(|from| self.0.get(from..from.checked_add(buffer.len())?));
        bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

impl Shelf for Here<'_> {
    fn begin(&mut self, _: &Wanted) -> std::io::Result<Box<dyn Landing>> {
        Ok(Box::new(super::push::Nowhere(Discard)))
    }
    fn basis(&mut self, path: &TreePath) -> Option<Rc<dyn Have>> {
        Some(Rc::new(Old(self.library.old_files.get(&path.to_string())?.clone())))
    }
    fn own(&mut self, wanted: &Wanted) -> Option<Rc<dyn Have>> {
        let path = wanted.path.clone();
        self.basis(&path)
    }
    fn pages(&mut self) -> &mut dyn PageSink {
        &mut self.pages
    }
}

/// A sender takes any FILES, and any answers to its LOOKs: it says what is within bounds, and comes to an end. The first
/// bytes choose how LOOKs are answered and how long the FILES are, unpacked; the rest stands for hashes.
pub(crate) fn blocks(data: &[u8]) {
    const OUTPUTS_MAX: usize = 20_000;
    let [mode, high, low, rest @ ..] = data else { return };
    let (files, hashes) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
    let library = super::Library::new();
    let (head, base) = (HeadId::from_bytes([2; 32]), Some(HeadId::from_bytes([1; 32])));
    let request = Message::new(tag::CONTENT, &Content { module: "m".into(), head, base: base.map(Into::into) });
    let mut answer = Answer::start(&library, &request);
    let mut queue = VecDeque::from([Message { tag: tag::FILES, body: pack(files) }]);
    let mut looks = std::collections::HashMap::new();
    let mut ended = false;
    for _ in 0..OUTPUTS_MAX {
        match answer.next_output() {
            Output::Message(message) => {
                assert!(message.body.len() <= body_max(message.tag).unwrap_or(0) as usize, "tag {}", message.tag);
                if message.tag == tag::LOOK {
                    let look: Look = decode("look", &message.body).expect("our own LOOK is good");
                    let (_, blocks) =
                        unpack_gaps(&look.gaps, look.block, LOOK_BLOCKS_MAX).expect("our own LOOK is allowed");
                    let count = looks.entry(look.file).or_insert(0u8);
                    *count += 1;
                    assert!(*count <= LOOKS_MAX && looks.len() <= LOOKS_AHEAD_MAX.max(4_096));
                    let wanted = if mode & 1 == 0 { 3 * blocks } else { hashes.len() };
                    let hashes = hashes.iter().copied().chain([*mode; 3]).cycle().take(wanted).collect();
                    let file = if mode & 2 == 0 { look.file } else { look.file + 1 };
                    if mode & 4 == 0 {
                        queue.push_back(Message::new(tag::BLOCKS, &Blocks { file, hashes }));
                    }
                }
            }
            Output::Wait => {
                assert!(!ended, "it waits for more behind the end");
                let next = queue.pop_front();
                ended = next.is_none();
                answer.handle(next.as_ref());
            }
            Output::Done => return,
        }
    }
    panic!("the answer does not end");
}
